//! Capabilities by the names that `capabilities(7)` gives them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The names in the order of their numbers (`linux/capability.h`), without `CAP_`.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// One capability.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Capability(u8);

#[allow(missing_docs)]
impl Capability {
    pub const AUDIT_WRITE: Self = Self(29);
    pub const BPF: Self = Self(39);
    pub const CHOWN: Self = Self(0);
    pub const DAC_OVERRIDE: Self = Self(1);
    pub const DAC_READ_SEARCH: Self = Self(2);
    pub const FOWNER: Self = Self(3);
    pub const FSETID: Self = Self(4);
    pub const KILL: Self = Self(5);
    pub const MKNOD: Self = Self(27);
    pub const NET_ADMIN: Self = Self(12);
    pub const NET_BIND_SERVICE: Self = Self(10);
    pub const NET_RAW: Self = Self(13);
    pub const PERFMON: Self = Self(38);
    pub const SETFCAP: Self = Self(31);
    pub const SETGID: Self = Self(6);
    pub const SETPCAP: Self = Self(8);
    pub const SETUID: Self = Self(7);
    pub const SYS_ADMIN: Self = Self(21);
    pub const SYS_BOOT: Self = Self(22);
    pub const SYS_CHROOT: Self = Self(18);
    pub const SYS_MODULE: Self = Self(16);
    pub const SYS_NICE: Self = Self(23);
    pub const SYS_PACCT: Self = Self(20);
    pub const SYS_PTRACE: Self = Self(19);
    pub const SYS_RAWIO: Self = Self(17);
    pub const SYS_RESOURCE: Self = Self(24);
    pub const SYS_TIME: Self = Self(25);
    pub const SYS_TTY_CONFIG: Self = Self(26);
    pub const SYSLOG: Self = Self(34);
}

impl Capability {
    /// The number of capabilities that this program has names for.
    pub const COUNT: u8 = NAMES.len() as u8;

    /// The capability with this number, if it has a name.
    pub fn from_number(number: u8) -> Option<Self> {
        (number < Self::COUNT).then_some(Self(number))
    }

    /// Its number, which is its bit in the kernel's masks.
    pub fn number(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CAP_{}", NAMES[usize::from(self.0)])
    }
}

/// A name that is no capability's.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("unknown capability `{0}`")]
pub struct UnknownCapability(pub String);

impl FromStr for Capability {
    type Err = UnknownCapability;

    /// Takes `CAP_CHOWN`, `CHOWN` and `chown`, as docker does.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        let number = NAMES.iter().position(|known| *known == name);
        let number = number.and_then(|number| u8::try_from(number).ok());
        number.map(Self).ok_or_else(|| UnknownCapability(text.to_owned()))
    }
}

/// A set of capabilities, which also keeps the names that it did not know.
///
/// The runtime-spec asks that unknown names are warned about and not refused: a newer engine may ask for what a newer
/// kernel has.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CapabilitySet {
    bits: u64,
    unknown: Vec<String>,
}

impl CapabilitySet {
    /// Every capability that has a name.
    pub fn all() -> Self {
        Self { bits: (1 << Capability::COUNT) - 1, unknown: Vec::new() }
    }

    /// The kernel's mask: bit n for capability n.
    pub fn bits(&self) -> u64 {
        self.bits
    }

    /// Whether `capability` is in the set.
    pub fn contains(&self, capability: Capability) -> bool {
        self.bits & (1 << capability.0) != 0
    }

    /// Adds one.
    pub fn insert(&mut self, capability: Capability) {
        self.bits |= 1 << capability.0;
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.bits == 0 && self.unknown.is_empty()
    }

    /// The members in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = Capability> {
        let bits = self.bits;
        (0..Capability::COUNT).filter(move |number| bits & (1 << number) != 0).map(Capability)
    }

    /// Takes one out.
    pub fn remove(&mut self, capability: Capability) {
        self.bits &= !(1 << capability.0);
    }

    /// Takes out what is not in the kernel's mask `bits`.
    pub fn retain(&mut self, bits: u64) {
        self.bits &= bits;
    }

    /// The names that were asked for and that nobody here knows.
    pub fn unknown(&self) -> &[String] {
        &self.unknown
    }
}

impl FromIterator<Capability> for CapabilitySet {
    fn from_iter<I: IntoIterator<Item = Capability>>(capabilities: I) -> Self {
        let mut set = Self::default();
        capabilities.into_iter().for_each(|capability| set.insert(capability));
        set
    }
}

impl<'de> Deserialize<'de> for CapabilitySet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names: Option<Vec<String>> = Option::deserialize(deserializer)?;
        let mut set = Self::default();
        for name in names.unwrap_or_default() {
            // The runtime-spec has the names as the kernel writes them, and no other form.
            match name.strip_prefix("CAP_").and_then(|name| NAMES.iter().position(|n| *n == name)) {
                Some(number) => set.bits |= 1 << number,
                None => set.unknown.push(name),
            }
        }
        Ok(set)
    }
}

impl Serialize for CapabilitySet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let known = self.iter().map(|capability| capability.to_string());
        serializer.collect_seq(known.chain(self.unknown.iter().cloned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_their_kernel_numbers() {
        for (name, number) in [
            ("CAP_CHOWN", 0),
            ("setpcap", 8),
            ("CAP_SYS_ADMIN", 21),
            ("MKNOD", 27),
            ("CAP_SETFCAP", 31),
            ("CAP_SYSLOG", 34),
            ("CAP_BPF", 39),
            ("CAP_CHECKPOINT_RESTORE", 40),
        ] {
            assert_eq!(name.parse::<Capability>().map(Capability::number), Ok(number), "{name}");
        }
        assert!("CAP_CAP_CHOWN".parse::<Capability>().is_err());
        assert!("".parse::<Capability>().is_err());
    }

    #[test]
    fn sets_keep_what_they_do_not_know() {
        let text = r#"["CAP_KILL","CAP_TELEPORT"]"#;
        let set: CapabilitySet = serde_json::from_str(text).unwrap();
        assert!(set.contains(Capability::KILL));
        assert_eq!(set.bits(), 1 << 5);
        assert_eq!(set.unknown(), ["CAP_TELEPORT"]);
        assert_eq!(serde_json::to_string(&set).unwrap(), text);
    }
}
