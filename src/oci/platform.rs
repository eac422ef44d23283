//! Platforms, and the choice of one from an index.
//!
//! Specification: image-spec, `image-index.md`, property `platform`; names are Go's `GOOS` and `GOARCH`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An operating system and a processor architecture.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct Platform {
    /// The processor, in Go's words: `amd64`, `arm64`, `arm`, `riscv64`.
    pub architecture: String,
    /// The operating system, in Go's words: `linux`.
    pub os: String,
    /// The version of the processor: `v7` for `arm`, `v8` for `arm64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// Why a text is not a platform.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("invalid platform `{0}`: expected OS/ARCH or OS/ARCH/VARIANT, as in linux/arm64/v8")]
pub struct PlatformError(String);

impl Platform {
    /// The platform that this program was built for, and so the one it runs on.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "x86" => ("386", None),
            "aarch64" => ("arm64", None),
            "arm" => ("arm", Some("v7")),
            "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", None),
            "powerpc64" => ("ppc64", None),
            "loongarch64" => ("loong64", None),
            other => (other, None),
        };
        Self {
            architecture: architecture.to_owned(),
            os: "linux".to_owned(),
            variant: variant.map(str::to_owned),
        }
    }

    /// How well an image for `offered` serves a machine that is `self`: `None` not at all, else the lower the better.
    ///
    /// An `arm` machine runs images of its own and of every earlier version, the newest preferred (containerd's
    /// order); everywhere else the variants must agree, with `arm64` meaning `arm64/v8` and `amd64` meaning `amd64/v1`.
    pub fn rank(&self, offered: &Self) -> Option<u32> {
        if self.os != offered.os || self.architecture != offered.architecture {
            return None;
        }
        let (wanted, got) = (self.variant_number(), offered.variant_number());
        match (wanted, got) {
            (Some(wanted), Some(got)) if got <= wanted => match self.architecture.as_str() {
                "arm" | "amd64" => Some(wanted - got),
                _ => (wanted == got).then_some(0),
            },
            (Some(_), Some(_)) => None,
            _ => (self.variant == offered.variant).then_some(0),
        }
    }

    fn variant_number(&self) -> Option<u32> {
        match (self.architecture.as_str(), self.variant.as_deref()) {
            ("arm", None) => Some(7),
            ("arm64", None) => Some(8),
            ("amd64", None) => Some(1),
            (_, Some(variant)) => variant.strip_prefix('v').unwrap_or(variant).parse().ok(),
            (_, None) => None,
        }
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let mut parts = text.split('/');
        let (os, architecture, variant) = (parts.next(), parts.next(), parts.next());
        let word = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        };
        let (Some(os), Some(architecture), None) = (os, architecture, parts.next()) else {
            return Err(PlatformError(text.to_owned()));
        };
        if ![Some(os), Some(architecture), variant].into_iter().flatten().all(word) {
            return Err(PlatformError(text.to_owned()));
        }
        let architecture = match architecture {
            "x86_64" | "x86-64" => "amd64",
            "aarch64" => "arm64",
            "i386" => "386",
            other => other,
        };
        Ok(Self {
            architecture: architecture.to_owned(),
            os: os.to_owned(),
            variant: variant.map(str::to_owned),
        })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn ranks() {
        let rank = |machine: &str, image: &str| platform(machine).rank(&platform(image));
        assert_eq!(rank("linux/amd64", "linux/amd64"), Some(0));
        assert_eq!(rank("linux/amd64", "linux/amd64/v3"), None);
        assert_eq!(rank("linux/amd64/v3", "linux/amd64"), Some(2));
        assert_eq!(rank("linux/arm64", "linux/arm64/v8"), Some(0));
        assert_eq!(rank("linux/arm/v7", "linux/arm/v6"), Some(1));
        assert_eq!(rank("linux/arm/v6", "linux/arm/v7"), None);
        assert_eq!(rank("linux/amd64", "windows/amd64"), None);
        assert_eq!(rank("linux/riscv64", "linux/riscv64"), Some(0));
    }

    #[test]
    fn what_is_no_platform() {
        for bad in ["", "linux", "linux/", "/amd64", "linux/amd64/v1/x", "linux/a b"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad:?}");
        }
    }
}
