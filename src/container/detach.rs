//! The keys by which a user leaves a container's terminal.

use std::str::FromStr;

use super::Error;

/// A sequence of keys: `ctrl-p,ctrl-q` unless the user says otherwise.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DetachKeys {
    keys: Vec<u8>,
    /// How many of them were typed last.
    typed: usize,
}

/// What was typed, as far as it is for the program.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Typed {
    pub(super) bytes: Vec<u8>,
    /// Whether the keys were among it; what came behind them is for nobody.
    pub(super) leaves: bool,
}

impl Default for DetachKeys {
    fn default() -> Self {
        Self { keys: vec![16, 17], typed: 0 }
    }
}

impl FromStr for DetachKeys {
    type Err = Error;

    /// Parses a list with commas of single characters and `ctrl-` with a letter or one of `@[\]^_`; empty for none.
    fn from_str(text: &str) -> Result<Self, Error> {
        let key = |key: &str| match (key.strip_prefix("ctrl-"), key.as_bytes()) {
            (Some(letter), _) => match letter.to_ascii_uppercase().as_bytes() {
                [letter @ b'@'..=b'_'] => Some(letter - b'@'),
                _ => None,
            },
            (None, [byte]) if byte.is_ascii() => Some(*byte),
            _ => None,
        };
        let keys = if text.is_empty() {
            Some(Vec::new())
        } else {
            text.split(',').map(key).collect::<Option<Vec<u8>>>()
        };
        let keys = keys.ok_or_else(|| Error::Value {
            what: "detach keys",
            value: text.to_owned(),
            why: "expected single characters and ctrl-LETTER, with commas between them",
        })?;
        Ok(Self { keys, typed: 0 })
    }
}

impl DetachKeys {
    /// Takes the keys out of what was typed. The begin of the sequence is held back until it is clear what it is.
    pub(super) fn filter(&mut self, typed: &[u8]) -> Typed {
        let mut bytes = Vec::with_capacity(typed.len());
        for byte in typed {
            if self.keys.get(self.typed) != Some(byte) {
                // What was held back was no such thing; this byte may begin one.
                bytes.extend_from_slice(self.keys.get(..self.typed).unwrap_or_default());
                self.typed = 0;
            }
            if self.keys.get(self.typed) == Some(byte) {
                self.typed += 1;
                if self.typed == self.keys.len() {
                    return Typed { bytes, leaves: true };
                }
            } else {
                bytes.push(*byte);
            }
        }
        Typed { bytes, leaves: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_wherever_they_are_cut() {
        let mut keys = DetachKeys::default();
        assert_eq!(keys.filter(b"a\x10b"), Typed { bytes: b"a\x10b".to_vec(), leaves: false });
        assert_eq!(keys.filter(b"x\x10"), Typed { bytes: b"x".to_vec(), leaves: false });
        assert_eq!(keys.filter(b"\x10"), Typed { bytes: b"\x10".to_vec(), leaves: false });
        assert_eq!(keys.filter(b"\x11y"), Typed { bytes: Vec::new(), leaves: true });
    }

    #[test]
    fn keys_by_name() {
        let keys = |text: &str| text.parse::<DetachKeys>().map(|keys| keys.keys);
        assert_eq!(keys("ctrl-a,d").unwrap(), [1, b'd']);
        assert_eq!(keys("ctrl-@,ctrl-_").unwrap(), [0, 31]);
        assert!(keys("").unwrap().is_empty());
        for bad in ["ctrl-", "ctrl-1", "ab", ",", "ä"] {
            assert!(keys(bad).is_err(), "{bad}");
        }
        let mut none: DetachKeys = "".parse().unwrap();
        assert_eq!(none.filter(b"\x10\x11"), Typed { bytes: vec![16, 17], leaves: false });
    }
}
