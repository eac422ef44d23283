//! Annotations that set a property of the container's unit: `org.systemd.property.TimeoutStopSec: "uint64 5"`.
//!
//! Engines copy annotations from what users, and some of them images, write (CVE-2024-3154). So only such properties are
//! taken as concern how the unit itself ends and is ordered: none that names a command, starts or stops another unit, or
//! moves a limit.

use std::collections::BTreeMap;

use super::message::{Property, Value};
use crate::runtime::error::Error;

/// What their names begin with.
pub(in crate::runtime) const PREFIX: &str = "org.systemd.property.";

const ALLOWED: [&str; 16] = [
    "After",
    "Before",
    "CollectMode",
    "DefaultDependencies",
    "Description",
    "FinalKillSignal",
    "KillMode",
    "KillSignal",
    "ManagedOOMMemoryPressure",
    "ManagedOOMMemoryPressureLimit",
    "ManagedOOMPreference",
    "ManagedOOMSwap",
    "RuntimeMaxUSec",
    "SendSIGHUP",
    "SendSIGKILL",
    "TimeoutStopUSec",
];

/// The properties that annotations set.
pub(super) fn properties(annotations: &BTreeMap<String, String>) -> Result<Vec<Property>, Error> {
    let ours =
        annotations.iter().filter_map(|(key, value)| Some((key, key.strip_prefix(PREFIX)?, value)));
    ours.map(|(key, name, text)| {
        // A time in seconds, as people write it.
        let seconds = name.strip_suffix("Sec").filter(|rest| !rest.ends_with('U'));
        let name = seconds.map_or_else(|| name.to_owned(), |name| format!("{name}USec"));
        if !ALLOWED.contains(&name.as_str()) {
            return Err(Error::Unsupported { field: format!("annotations.{key}") });
        }
        let value = parse(text.trim()).and_then(|value| match seconds {
            Some(_) => microseconds(&value),
            None => Some(value),
        });
        value.map(|value| (name, value)).ok_or_else(|| Error::Invalid {
            field: format!("annotations.{key}"),
            reason: format!(
                "`{text}` is not a value such as `true`, `'text'`, `['a', 'b']` or `uint64 5`"
            ),
        })
    })
    .collect()
}

fn microseconds(seconds: &Value) -> Option<Value> {
    let seconds = match seconds {
        Value::I32(number) => u64::try_from(*number).ok(),
        Value::I64(number) => u64::try_from(*number).ok(),
        Value::U32(number) => Some(u64::from(*number)),
        Value::U64(number) => Some(*number),
        _ => None,
    };
    seconds?.checked_mul(1_000_000).map(Value::U64)
}

/// A value as GVariant writes it in text, of the types that properties of units have.
fn parse(text: &str) -> Option<Value> {
    match text {
        "true" => return Some(Value::Bool(true)),
        "false" => return Some(Value::Bool(false)),
        _ => {}
    }
    if let Some(list) = text.strip_prefix('[') {
        let list = list.strip_suffix(']')?.trim();
        let items = list.split(',').filter(|_| !list.is_empty());
        return items.map(|item| quoted(item.trim())).collect::<Option<_>>().map(Value::Texts);
    }
    if text.starts_with(['\'', '"']) {
        return quoted(text).map(Value::Text);
    }
    match text.split_once(' ') {
        None => text.parse().ok().map(Value::I32),
        Some(("int32", number)) => number.parse().ok().map(Value::I32),
        Some(("int64", number)) => number.parse().ok().map(Value::I64),
        Some(("uint32", number)) => number.parse().ok().map(Value::U32),
        Some(("uint64", number)) => number.parse().ok().map(Value::U64),
        Some(_) => None,
    }
}

/// A text in quotes, with nothing in it that would need to be escaped.
fn quoted(text: &str) -> Option<String> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    let plain = !inner.contains([quote, '\\']) && !inner.contains(char::is_control);
    plain.then(|| inner.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, value: &str) -> Result<Vec<Property>, Error> {
        properties(&BTreeMap::from([(format!("{PREFIX}{name}"), value.to_owned())]))
    }

    #[test]
    fn values_are_typed() {
        for (name, text, property, value) in [
            (
                "CollectMode",
                "'inactive-or-failed'",
                "CollectMode",
                Value::Text("inactive-or-failed".into()),
            ),
            ("SendSIGHUP", "true", "SendSIGHUP", Value::Bool(true)),
            ("KillSignal", "15", "KillSignal", Value::I32(15)),
            ("TimeoutStopUSec", "uint64 123456789", "TimeoutStopUSec", Value::U64(123_456_789)),
            ("TimeoutStopSec", "uint32 5", "TimeoutStopUSec", Value::U64(5_000_000)),
            ("RuntimeMaxSec", "7", "RuntimeMaxUSec", Value::U64(7_000_000)),
            (
                "After",
                "['a.service', \"b.service\"]",
                "After",
                Value::Texts(vec!["a.service".into(), "b.service".into()]),
            ),
        ] {
            assert_eq!(of(name, text).unwrap(), [(property.to_owned(), value)], "{name}");
        }
        for bad in
            ["", "'", "'a", "['a'", "[a]", "uint64 -1", "uint64", "'a'b'", "int16 1", "'\\''"]
        {
            assert!(of("Description", bad).is_err(), "{bad}");
        }
        assert!(of("TimeoutStopSec", "'x'").is_err() && of("TimeoutStopSec", "-1").is_err());
    }

    #[test]
    fn what_would_reach_beyond_the_unit_is_refused() {
        for name in [
            "ExecStart",
            "OnFailure",
            "Wants",
            "Conflicts",
            "Slice",
            "PIDs",
            "MemoryMax",
            "DevicePolicy",
            "",
        ] {
            assert!(matches!(of(name, "'x'"), Err(Error::Unsupported { .. })), "{name}");
        }
        let others = BTreeMap::from([("run.oci.handler".to_owned(), "x".to_owned())]);
        assert!(properties(&others).unwrap().is_empty());
    }
}
