//! Times as users give them: docker's forms.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::failure::Failure;

/// Nanoseconds in a second.
const SECOND: f64 = 1e9;

/// Nanoseconds since 1970: from a time in RFC 3339 with less of it, seconds since 1970, or how long ago as in `1h30m`.
pub(super) fn parse(text: &str, what: &str) -> Result<i128, Failure> {
    at(text).ok_or_else(|| {
        let cause = format!("invalid time `{text}`");
        Failure::new(what, cause, "as in 2026-01-02T15:04:05, 1767366245 or 10m")
    })
}

/// The same in seconds, for what is made at a whole one.
pub(super) fn seconds_at(text: &str) -> Option<i64> {
    i64::try_from(at(text)?.div_euclid(1_000_000_000)).ok()
}

fn at(text: &str) -> Option<i128> {
    let now = OffsetDateTime::now_utc().unix_timestamp_nanos();
    let ago = || duration(text).map(|ago| now.saturating_sub(ago));
    seconds(text).or_else(ago).or_else(|| parse_rfc3339(&completed(text)))
}

/// Nanoseconds since 1970 of a time in RFC 3339.
pub(super) fn parse_rfc3339(text: &str) -> Option<i128> {
    OffsetDateTime::parse(text, &Rfc3339).ok().map(OffsetDateTime::unix_timestamp_nanos)
}

/// A time in RFC 3339 with all nine digits of its nanoseconds, as docker shows those of events.
pub(super) fn with_nanoseconds(nanoseconds: i128) -> String {
    let seconds = i64::try_from(nanoseconds.div_euclid(1_000_000_000)).unwrap_or_default();
    let whole = super::output::timestamp(seconds);
    format!("{}.{:09}Z", whole.trim_end_matches('Z'), nanoseconds.rem_euclid(1_000_000_000))
}

/// `2026-01-02` and `2026-01-02T15:04` with what is missing, in UTC.
fn completed(text: &str) -> String {
    let mut text = text.trim().to_owned();
    match text.len() {
        10 => text.push_str("T00:00:00Z"),
        16 => text.push_str(":00Z"),
        _ if text.ends_with('Z') || text.get(19..).is_some_and(|end| end.contains(['+', '-'])) => {}
        _ => text.push('Z'),
    }
    text
}

fn seconds(text: &str) -> Option<i128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return None;
    }
    let nanos = format!("{:0<9}", fraction.get(..9).unwrap_or(fraction));
    Some(whole.parse::<i64>().ok().map(i128::from)? * 1_000_000_000 + nanos.parse::<i128>().ok()?)
}

/// Nanoseconds of a duration as Go writes it, `1h30m`, `1.5s`, `300ms`, and of days.
pub(super) fn duration(text: &str) -> Option<i128> {
    const UNITS: [(&str, f64); 7] = [
        ("ns", 1.0),
        ("us", 1e3),
        ("ms", 1e6),
        ("s", SECOND),
        ("m", 60e9),
        ("h", 3600e9),
        ("d", 86_400e9),
    ];
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, behind) = rest.split_at(end);
        let end = behind.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(end);
        let (_, factor) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
        total += number.parse::<f64>().ok()? * factor;
        rest = behind;
    }
    #[expect(clippy::cast_possible_truncation, reason = "a time of thousands of years still fits")]
    (!text.is_empty()).then_some(total as i128)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_in_all_forms() {
        let at = |text: &str| parse(text, "logs").unwrap();
        let day = 1_767_312_000_000_000_000;
        assert_eq!(at("2026-01-02"), day);
        assert_eq!(at("2026-01-02T01:00"), day + 3_600_000_000_000);
        assert_eq!(at("2026-01-02T01:00:00"), day + 3_600_000_000_000);
        assert_eq!(at("2026-01-02T01:00:00.5+01:00"), day + 500_000_000);
        assert_eq!(at("1767312000"), day);
        assert_eq!(at("1767312000.25"), day + 250_000_000);
        assert_eq!(duration("1h30m"), Some(5_400_000_000_000));
        assert_eq!(duration("300ms"), Some(300_000_000));
        assert_eq!(duration("2d"), Some(172_800_000_000_000));
        assert_eq!(seconds_at("1970-01-01T00:01:00Z"), Some(60));
        assert_eq!(seconds_at("61"), Some(61));
        let now = OffsetDateTime::now_utc().unix_timestamp();
        assert!((5400..5402).contains(&(now - seconds_at("1h30m").unwrap())));
        for bad in ["", "x", "1y", "1h2", "9999999999999999999h"] {
            assert_eq!(seconds_at(bad), None, "{bad}");
        }
        for bad in ["", "yesterday", "10", "m", "2026-13-01", "1x"] {
            assert!(duration(bad).is_none(), "{bad}");
        }
        assert!(parse("yesterday", "logs").is_err());
    }
}
