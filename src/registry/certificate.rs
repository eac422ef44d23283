//! The few fields of an X.509 certificate that the TLS library keeps to itself: who issued it, and until when it is
//! valid.
//!
//! Nothing is decided here about trust in a chain. The issuer is for the error message; the dates are for a server whose
//! very certificate the user has put among the trusted ones.
//!
//! Specification: RFC 5280, section 4.1; DER is X.690.

use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time};

use super::error::Issuer;
use super::foreign::printable;

const INTEGER: u8 = 0x02;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const EXPLICIT_0: u8 = 0xa0;
/// `id-at-commonName`, 2.5.4.3.
const COMMON_NAME: [u8; 3] = [0x55, 4, 3];
/// `id-at-organizationName`, 2.5.4.10.
const ORGANIZATION_NAME: [u8; 3] = [0x55, 4, 10];

/// The parts of a certificate, still encoded.
struct Fields<'a> {
    issuer: &'a [u8],
    not_before: (u8, &'a [u8]),
    not_after: (u8, &'a [u8]),
    subject: &'a [u8],
}

/// Who issued the certificate `der`.
pub(super) fn issuer(der: &[u8]) -> Issuer {
    let Some(fields) = fields(der) else { return Issuer::Unknown };
    if fields.issuer == fields.subject {
        return Issuer::Itself;
    }
    let name = attribute(fields.issuer, COMMON_NAME)
        .or_else(|| attribute(fields.issuer, ORGANIZATION_NAME));
    name.map_or(Issuer::Unknown, |name| Issuer::Named(printable(&name)))
}

/// Whether `unix_time`, in seconds, lies within the dates of the certificate `der`.
pub(super) fn is_valid_at(der: &[u8], unix_time: u64) -> bool {
    let valid = || {
        let fields = fields(der)?;
        let now = i64::try_from(unix_time).ok()?;
        let (from, until) = (seconds(fields.not_before)?, seconds(fields.not_after)?);
        Some((from..=until).contains(&now))
    };
    valid().unwrap_or(false)
}

fn fields(der: &[u8]) -> Option<Fields<'_>> {
    let mut outer = Reader(Reader(der).take(SEQUENCE)?);
    let mut tbs = Reader(outer.take(SEQUENCE)?);
    if tbs.peek() == Some(EXPLICIT_0) {
        tbs.take(EXPLICIT_0)?;
    }
    tbs.take(INTEGER)?;
    tbs.take(SEQUENCE)?;
    let issuer = tbs.take(SEQUENCE)?;
    let mut validity = Reader(tbs.take(SEQUENCE)?);
    let (not_before, not_after) = (validity.next()?, validity.next()?);
    let subject = tbs.take(SEQUENCE)?;
    Some(Fields { issuer, not_before, not_after, subject })
}

/// The first value of the attribute `kind` in a `Name`.
fn attribute(name: &[u8], kind: [u8; 3]) -> Option<String> {
    let mut sets = Reader(name);
    while let Some(set) = sets.take(SET) {
        let mut pair = Reader(Reader(set).take(SEQUENCE)?);
        if pair.take(OBJECT_IDENTIFIER)? == kind {
            return Some(String::from_utf8_lossy(pair.next()?.1).into_owned());
        }
    }
    None
}

/// `YYMMDDHHMMSSZ` and `YYYYMMDDHHMMSSZ`, the only forms that RFC 5280 allows.
fn seconds((tag, text): (u8, &[u8])) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u8>().ok();
    let (year, at) = match (tag, text.len()) {
        (UTC_TIME, 12) => match i32::from(number(0, 2)?) {
            year @ 0..50 => (2000 + year, 2),
            year => (1900 + year, 2),
        },
        (GENERALIZED_TIME, 14) => (text.get(..4)?.parse().ok()?, 4),
        _ => return None,
    };
    let month = Month::try_from(number(at, at + 2)?).ok()?;
    let date = Date::from_calendar_date(year, month, number(at + 2, at + 4)?).ok()?;
    let (hour, minute) = (number(at + 4, at + 6)?, number(at + 6, at + 8)?);
    let time = Time::from_hms(hour, minute, number(at + 8, at + 10)?).ok()?;
    let moment: OffsetDateTime = PrimitiveDateTime::new(date, time).assume_utc();
    Some(moment.unix_timestamp())
}

/// Reads DER values one after another.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// The content of the next value, which must have the tag `tag`.
    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (found, content) = self.next()?;
        (found == tag).then_some(content)
    }

    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let mut length = usize::from(first);
        if first & 0x80 != 0 {
            let (bytes, behind) = rest.split_at_checked(usize::from(first & 0x7f))?;
            if bytes.is_empty() || bytes.len() > 4 {
                return None;
            }
            length = bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
            rest = behind;
        }
        let (content, behind) = rest.split_at_checked(length)?;
        self.0 = behind;
        Some((tag, content))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    const LEAF: &[u8] = include_bytes!("../../tests/support/fake_registry/leaf.crt");
    const ITSELF: &[u8] = include_bytes!("../../tests/support/fake_registry/self-signed.crt");

    #[test]
    fn reads_issuer_and_dates() {
        let leaf = CertificateDer::from_pem_slice(LEAF).unwrap();
        assert_eq!(issuer(&leaf), Issuer::Named("mydocker test CA".into()));
        assert!(is_valid_at(&leaf, 1_900_000_000));
        assert!(!is_valid_at(&leaf, 900_000_000));
        assert!(!is_valid_at(&leaf, 1 << 40));
        let own = CertificateDer::from_pem_slice(ITSELF).unwrap();
        assert_eq!(issuer(&own), Issuer::Itself);
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_survived() {
        let leaf = CertificateDer::from_pem_slice(LEAF).unwrap();
        for cut in 0..leaf.len() {
            let _ = (issuer(&leaf[..cut]), is_valid_at(&leaf[..cut], 0));
        }
        for at in 0..leaf.len() {
            for value in [0, 0x7f, 0x80, 0x84, 0xff] {
                let mut broken = leaf.to_vec();
                broken[at] = value;
                let _ = (issuer(&broken), is_valid_at(&broken, 1_900_000_000));
            }
        }
    }
}
