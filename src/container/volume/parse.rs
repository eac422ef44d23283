//! `-v [SOURCE:]DESTINATION[:OPTIONS]`, as docker and podman understand it.

use super::error::{MountFault, VolumeError};
use super::name;
use super::request::{
    MountRequest, Ownership, Propagation, Recursion, RequestedSource, RequestedVolume,
    clean_destination,
};

/// The options of a `-v`, each matter at most once.
#[derive(Debug, Default)]
struct Options {
    access: Option<bool>,
    label: Option<()>,
    consistency: Option<()>,
    propagation: Option<Propagation>,
    no_copy: Option<()>,
    owner: Option<Ownership>,
}

impl MountRequest {
    /// Parses the value of `-v`.
    ///
    /// # Errors
    /// [`VolumeError::Mount`], [`VolumeError::Name`].
    pub fn from_volume(text: &str) -> Result<Self, VolumeError> {
        let refuse = |source| VolumeError::Mount { text: text.to_owned(), source };
        let parts: Vec<&str> = text.split(':').collect();
        if parts.iter().any(|part| part.is_empty()) {
            return Err(refuse(MountFault::EmptySection));
        }
        let (source, destination, mode) = match parts[..] {
            [destination] => (None, destination, ""),
            [source, destination] => (Some(source), destination, ""),
            [source, destination, mode] => (Some(source), destination, mode),
            _ => return Err(refuse(MountFault::Colons)),
        };
        let destination = clean_destination(destination).map_err(refuse)?;
        let options = Options::parse(mode).map_err(refuse)?;
        let source = match source {
            Some(path) if path.starts_with(['/', '.']) => {
                if options.no_copy.is_some() {
                    let option = "nocopy".to_owned();
                    return Err(refuse(MountFault::Mixed { option, kind: "bind" }));
                }
                let path = std::path::absolute(path).map_err(|source| VolumeError::Io {
                    verb: "find",
                    path: path.into(),
                    source,
                })?;
                RequestedSource::Bind { path, create: true }
            }
            name => {
                if let Some(propagation) = options.propagation {
                    let option = propagation.name().to_owned();
                    return Err(refuse(MountFault::Mixed { option, kind: "volume" }));
                }
                if name.is_some_and(|name| name.contains('/')) {
                    return Err(refuse(MountFault::Source));
                }
                name.map(name::check).transpose()?;
                RequestedSource::Volume(RequestedVolume {
                    name: name.map(str::to_owned),
                    no_copy: options.no_copy.is_some(),
                    ..RequestedVolume::default()
                })
            }
        };
        Ok(Self {
            destination,
            source,
            read_only: options.access.unwrap_or_default(),
            mode: mode.to_owned(),
            recursion: Recursion::Enabled,
            propagation: options.propagation.unwrap_or_default(),
            owner: options.owner.unwrap_or_default(),
        })
    }
}

impl Options {
    fn parse(mode: &str) -> Result<Self, MountFault> {
        let mut options = Self::default();
        for option in mode.split(',').filter(|option| !option.is_empty()) {
            let new = match option {
                "ro" | "rro" => options.access.replace(true).is_none(),
                "rw" => options.access.replace(false).is_none(),
                // Labels of SELinux, which is off.
                "z" | "Z" => options.label.replace(()).is_none(),
                // Of Docker Desktop, and without meaning where there is no virtual machine between.
                "cached" | "consistent" | "delegated" => options.consistency.replace(()).is_none(),
                "nocopy" => options.no_copy.replace(()).is_none(),
                "U" | "owner=match" => options.owner.replace(Ownership::Match).is_none(),
                "owner=keep" => options.owner.replace(Ownership::Keep).is_none(),
                name => match Propagation::of(name) {
                    Some(kind) => options.propagation.replace(kind).is_none(),
                    None => return Err(MountFault::Option(option.to_owned())),
                },
            };
            if !new {
                return Err(MountFault::Twice(option.to_owned()));
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<MountRequest, VolumeError> {
        MountRequest::from_volume(text)
    }

    #[test]
    fn paths_names_and_neither() {
        let bind = parse("/a b:/c/../d//e:ro,rslave").unwrap();
        let source = RequestedSource::Bind { path: "/a b".into(), create: true };
        assert_eq!((bind.source, bind.destination.as_str()), (source, "/d/e"));
        assert_eq!((bind.read_only, bind.propagation), (true, Propagation::Rslave));
        let RequestedSource::Bind { path, .. } = parse("./x:/y").unwrap().source else { panic!() };
        assert!(path.is_absolute());
        let named = parse("data:/x:nocopy,Z,owner=match").unwrap();
        let RequestedSource::Volume(volume) = named.source else { panic!() };
        assert_eq!((volume.name.as_deref(), volume.no_copy), (Some("data"), true));
        assert_eq!(named.owner, Ownership::Match);
        let RequestedSource::Volume(volume) = parse("/x").unwrap().source else { panic!() };
        assert_eq!(volume, RequestedVolume::default());
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for bad in [
            "",
            "/a:b",
            "/a:/",
            "/a:/..",
            "/a:/b:rx",
            "/a:/b:ro:x",
            ":/x",
            "/a::ro",
            "a/b:/x",
            "a:/x",
            "~:/x",
            "-x:/x",
            "/a:/b:ro,rw",
            "/a:/b:shared,slave",
            "/a:/b:nocopy",
            "vol:/b:shared",
            "/a:/b\0c",
            "data:data",
            "..x:",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
