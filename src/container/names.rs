//! Names of containers: which are allowed, and made-up ones.

use super::Error;

/// The longest name, in bytes; it is a file name.
const MAX_NAME: usize = 128;

const ADJECTIVES: [&str; 32] = [
    "able", "agile", "amber", "bold", "brave", "bright", "calm", "clever", "crisp", "eager",
    "early", "fair", "fresh", "gentle", "happy", "humble", "keen", "kind", "lively", "lucid",
    "merry", "neat", "noble", "proud", "quick", "quiet", "sharp", "steady", "swift", "tidy",
    "warm", "wise",
];

const NOUNS: [&str; 32] = [
    "alder", "badger", "beacon", "birch", "bridge", "brook", "cedar", "comet", "crane", "delta",
    "ember", "falcon", "fern", "harbor", "heron", "island", "kestrel", "lantern", "maple",
    "meadow", "orchard", "otter", "pine", "puffin", "river", "robin", "sparrow", "summit",
    "thistle", "valley", "willow", "wren",
];

/// A name for the container `id`: the same for the same id and attempt.
pub(super) fn generate(id: &str, attempt: usize) -> String {
    let digits =
        |at: usize| usize::from_str_radix(id.get(at..at + 4).unwrap_or("0"), 16).unwrap_or(0);
    let (adjective, noun) = (ADJECTIVES[digits(0) % 32], NOUNS[digits(4) % 32]);
    match attempt {
        0 => format!("{adjective}_{noun}"),
        attempt => format!("{adjective}_{noun}{}", attempt.wrapping_add(digits(8)) % 10_000),
    }
}

/// Refuses what is not `[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}`, docker's rule.
pub(super) fn check(name: &str) -> Result<(), Error> {
    let word = |b: u8| b.is_ascii_alphanumeric();
    let good = name.len() <= MAX_NAME
        && name.bytes().next().is_some_and(word)
        && name.bytes().all(|b| word(b) || matches!(b, b'_' | b'.' | b'-'));
    if good {
        return Ok(());
    }
    Err(Error::Value {
        what: "container name",
        value: name.chars().take(MAX_NAME).collect(),
        why: "it must be letters, digits, `_`, `.` and `-`, at most 128, and start with a letter or digit",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_no_file_names_are_refused() {
        for bad in ["", ".", "..", "a/b", "-x", "a b", "a\n", "a\0", "ä", &"x".repeat(129)] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
        for attempt in 0..3 {
            let name = generate(&"0123456789abcdef".repeat(4), attempt);
            assert!(check(&name).is_ok(), "{name}");
        }
    }
}
