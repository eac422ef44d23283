//! Names of volumes.

use super::error::VolumeError;

/// The longest name, in bytes: a file's.
const MAX_NAME: usize = 255;

/// Refuses what is not `[a-zA-Z0-9][a-zA-Z0-9_.-]+`, docker's rule: such a name is a file name that leads nowhere.
pub(super) fn check(name: &str) -> Result<(), VolumeError> {
    let refuse = |why| {
        let name = name.chars().take(MAX_NAME).collect();
        Err(VolumeError::Name { name, why })
    };
    let word = |b: u8| b.is_ascii_alphanumeric();
    let good = name.bytes().next().is_some_and(word)
        && name.bytes().all(|b| word(b) || matches!(b, b'_' | b'.' | b'-'));
    match name.len() {
        _ if !good => refuse(
            "it must be letters, digits, `_`, `.` and `-`, and start with a letter or digit; paths begin with / or .",
        ),
        1 => refuse("it must have at least two characters"),
        length if length > MAX_NAME => refuse("it must have at most 255 characters"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_somewhere_are_refused() {
        for bad in [
            "",
            ".",
            "..",
            "a",
            "a/b",
            "-xx",
            ".new",
            "a b",
            "aa\n",
            "aa\0",
            "ää",
            &"x".repeat(256),
        ] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
        for good in ["ab", "a.", "1-2_3", &"x".repeat(255)] {
            assert!(check(good).is_ok(), "{good:?}");
        }
    }
}
