//! `--mount type=…,src=…,dst=…`, with docker's grammar: one line of comma-separated values, of which each is a key and
//! its value.

use super::csv;
use super::device::parse_options;
use super::error::{MountFault, VolumeError};
use super::name;
use super::request::{
    MountRequest, Ownership, Propagation, Recursion, RequestedSource, RequestedVolume,
    clean_destination,
};
use crate::container::settings::parse_bytes;

/// The keys of one `--mount`, before it is known whether they belong together.
#[derive(Debug, Default)]
struct Keys {
    kind: Kind,
    source: Option<String>,
    destination: Option<String>,
    read_only: bool,
    owner: Ownership,
    propagation: Option<Propagation>,
    recursion: Option<Recursion>,
    /// `bind-recursive=readonly`.
    all_read_only: bool,
    volume: RequestedVolume,
    image_subpath: Option<String>,
    tmpfs: Vec<String>,
    /// Keys that are for one kind alone.
    special: Vec<(Kind, String)>,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Kind {
    Bind,
    #[default]
    Volume,
    Tmpfs,
    Image,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Volume => "volume",
            Self::Tmpfs => "tmpfs",
            Self::Image => "image",
        }
    }
}

impl MountRequest {
    /// Parses the value of `--mount`.
    ///
    /// # Errors
    /// [`VolumeError::Mount`], [`VolumeError::Name`].
    pub fn from_mount(text: &str) -> Result<Self, VolumeError> {
        let refuse = |source| VolumeError::Mount { text: text.to_owned(), source };
        let mut keys = Keys::default();
        for field in csv::fields(text).map_err(refuse)? {
            keys.set(&field).map_err(refuse)?;
        }
        keys.check().map_err(refuse)?;
        let destination = keys.destination.as_deref().ok_or(MountFault::Missing("target"));
        let destination = destination.and_then(clean_destination).map_err(refuse)?;
        let source = keys.source().map_err(|error| match error {
            Fault::Mount(fault) => refuse(fault),
            Fault::Other(error) => error,
        })?;
        Ok(Self {
            destination,
            source,
            read_only: keys.read_only,
            mode: String::new(),
            recursion: keys.recursion.unwrap_or_default(),
            propagation: keys.propagation.unwrap_or_default(),
            owner: keys.owner,
        })
    }
}

enum Fault {
    Mount(MountFault),
    Other(VolumeError),
}

impl From<MountFault> for Fault {
    fn from(fault: MountFault) -> Self {
        Self::Mount(fault)
    }
}

impl From<VolumeError> for Fault {
    fn from(error: VolumeError) -> Self {
        Self::Other(error)
    }
}

impl Keys {
    fn set(&mut self, field: &str) -> Result<(), MountFault> {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_ascii_lowercase(), Some(value)),
            None => (field.to_ascii_lowercase(), None),
        };
        let flag = || value.map_or(Ok(true), |value| boolean(&key, value));
        match key.as_str() {
            "readonly" | "ro" => self.read_only = flag()?,
            "volume-nocopy" => self.volume.no_copy = flag()?,
            "bind-nonrecursive" => self.recursion = flag()?.then_some(Recursion::Disabled),
            // Podman's.
            "u" | "chown" => {
                self.owner = if flag()? { Ownership::Match } else { Ownership::Keep };
            }
            _ => {
                let value = value.ok_or_else(|| MountFault::NoValue(field.to_owned()))?;
                self.set_value(&key, value)?;
            }
        }
        for kind in [Kind::Bind, Kind::Volume, Kind::Tmpfs, Kind::Image] {
            if key.strip_prefix(kind.name()).is_some_and(|rest| rest.starts_with('-')) {
                self.special.push((kind, key.clone()));
            }
        }
        Ok(())
    }

    fn set_value(&mut self, key: &str, value: &str) -> Result<(), MountFault> {
        let wrong =
            |wanted| MountFault::Value { key: key.to_owned(), value: value.to_owned(), wanted };
        match key {
            "type" => self.kind = kind(value)?,
            "source" | "src" => self.source = Some(value.to_owned()),
            "target" | "dst" | "destination" => self.destination = Some(value.to_owned()),
            // Of Docker Desktop, and without meaning where there is no virtual machine between.
            "consistency" => {}
            "owner" => {
                self.owner = match value {
                    "match" => Ownership::Match,
                    "keep" => Ownership::Keep,
                    _ => return Err(wrong("match or keep")),
                }
            }
            "bind-propagation" => {
                let known = Propagation::of(value);
                let names = "rprivate, private, rshared, shared, rslave or slave";
                self.propagation = Some(known.ok_or_else(|| wrong(names))?);
            }
            "bind-recursive" => {
                (self.recursion, self.all_read_only) = match value {
                    "enabled" => (Some(Recursion::Enabled), false),
                    "readonly" => (Some(Recursion::Enabled), true),
                    "writable" => (Some(Recursion::Writable), false),
                    "disabled" => (Some(Recursion::Disabled), false),
                    _ => return Err(wrong("enabled, disabled, writable or readonly")),
                }
            }
            "volume-subpath" => self.volume.subpath = Some(subpath(key, value)?),
            "volume-label" => {
                let (name, value) = value.split_once('=').unwrap_or((value, ""));
                self.volume.labels.push((name.to_owned(), value.to_owned()));
            }
            "volume-driver" if matches!(value, "" | "local") => {}
            "volume-driver" => return Err(MountFault::Driver(value.to_owned())),
            "volume-opt" => self.volume.options.push(value.to_owned()),
            "image-subpath" => self.image_subpath = Some(subpath(key, value)?),
            "tmpfs-size" => {
                let size = parse_bytes(value).ok_or_else(|| wrong("a size, as in 64m"))?;
                self.tmpfs.push(format!("size={size}"));
            }
            "tmpfs-mode" => {
                let mode = u32::from_str_radix(value, 8).ok().filter(|mode| *mode <= 0o7777);
                let mode = mode.ok_or_else(|| wrong("an octal mode, as in 1777"))?;
                self.tmpfs.push(format!("mode={mode:o}"));
            }
            _ => return Err(MountFault::Key(key.to_owned())),
        }
        Ok(())
    }

    /// Whether the keys belong together.
    fn check(&self) -> Result<(), MountFault> {
        parse_options(&self.volume.options)?;
        if let Some((_, key)) = self.special.iter().find(|(kind, _)| *kind != self.kind) {
            return Err(MountFault::Mixed { option: key.clone(), kind: self.kind.name() });
        }
        if self.kind == Kind::Tmpfs && self.owner == Ownership::Match {
            return Err(MountFault::Mixed { option: "owner".to_owned(), kind: "tmpfs" });
        }
        if self.recursion == Some(Recursion::Writable) && !self.read_only {
            return Err(MountFault::Recursive("writable", "readonly"));
        }
        if self.all_read_only && !self.read_only {
            return Err(MountFault::Recursive("readonly", "readonly"));
        }
        if self.all_read_only && self.propagation.unwrap_or_default() != Propagation::Rprivate {
            return Err(MountFault::Recursive("readonly", "bind-propagation=rprivate"));
        }
        Ok(())
    }

    fn source(&self) -> Result<RequestedSource, Fault> {
        let source = self.source.as_deref().filter(|source| !source.is_empty());
        match self.kind {
            Kind::Bind => {
                let path = source.ok_or(MountFault::Missing("source"))?;
                if !path.starts_with(['/', '.']) || path.contains('\0') {
                    return Err(MountFault::Source.into());
                }
                let path = std::path::absolute(path).map_err(|source| VolumeError::Io {
                    verb: "find",
                    path: path.into(),
                    source,
                })?;
                Ok(RequestedSource::Bind { path, create: false })
            }
            Kind::Volume => {
                source.map(name::check).transpose()?;
                let name = source.map(str::to_owned);
                Ok(RequestedSource::Volume(RequestedVolume { name, ..self.volume.clone() }))
            }
            Kind::Tmpfs if source.is_some() => {
                Err(MountFault::Mixed { option: "source".to_owned(), kind: "tmpfs" }.into())
            }
            Kind::Tmpfs => Ok(RequestedSource::Tmpfs(self.tmpfs.clone())),
            Kind::Image => Ok(RequestedSource::Image {
                name: source.ok_or(MountFault::Missing("source"))?.to_owned(),
                found: None,
                subpath: self.image_subpath.clone(),
            }),
        }
    }
}

fn kind(value: &str) -> Result<Kind, MountFault> {
    let lower = value.to_ascii_lowercase();
    let kinds = [Kind::Bind, Kind::Volume, Kind::Tmpfs, Kind::Image];
    let found = kinds.into_iter().find(|kind| kind.name() == lower);
    found.ok_or_else(|| MountFault::Kind(value.to_owned()))
}

/// Go's `strconv.ParseBool`.
fn boolean(key: &str, value: &str) -> Result<bool, MountFault> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(MountFault::Value {
            key: key.to_owned(),
            value: value.to_owned(),
            wanted: "true or false",
        }),
    }
}

/// A path below a volume or an image: relative, and nowhere with `..`. Where its links lead is seen when it is opened.
fn subpath(key: &str, value: &str) -> Result<String, MountFault> {
    let good = !value.is_empty()
        && !value.starts_with('/')
        && !value.contains('\0')
        && value.split('/').all(|part| part != "..");
    if good {
        return Ok(value.to_owned());
    }
    Err(MountFault::Value {
        key: key.to_owned(),
        value: value.to_owned(),
        wanted: "a relative path without `..`",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<MountRequest, VolumeError> {
        MountRequest::from_mount(text)
    }

    #[test]
    fn each_type_with_its_keys() {
        let bind =
            parse("type=bind,\"src=/a,b\",dst=/c,readonly,bind-propagation=rshared").unwrap();
        let source = RequestedSource::Bind { path: "/a,b".into(), create: false };
        assert_eq!((bind.source, bind.read_only), (source, true));
        assert_eq!(bind.propagation, Propagation::Rshared);
        let volume =
            parse("source=data,target=/x,volume-nocopy=true,volume-subpath=a/b,ro=0").unwrap();
        assert!(!volume.read_only);
        let RequestedSource::Volume(volume) = volume.source else { panic!() };
        assert_eq!((volume.name.as_deref(), volume.no_copy), (Some("data"), true));
        assert_eq!(volume.subpath.as_deref(), Some("a/b"));
        let tmpfs = parse("type=tmpfs,destination=/t,tmpfs-size=1m,tmpfs-mode=0700").unwrap();
        let options = ["size=1048576".to_owned(), "mode=700".to_owned()];
        assert_eq!(tmpfs.source, RequestedSource::Tmpfs(options.into()));
        let image = parse("type=image,src=debian,dst=/d,image-subpath=etc").unwrap();
        let RequestedSource::Image { name, subpath, .. } = image.source else { panic!() };
        assert_eq!((name.as_str(), subpath.as_deref()), ("debian", Some("etc")));
    }

    #[test]
    fn recursion_as_docker_has_it() {
        let recursion = |text: &str| {
            parse(&format!("type=bind,src=/a,dst=/b,{text}")).map(|mount| mount.recursion).ok()
        };
        assert_eq!(recursion("ro"), Some(Recursion::Enabled));
        assert_eq!(recursion("ro,bind-recursive=readonly"), Some(Recursion::Enabled));
        assert_eq!(recursion("ro,bind-recursive=writable"), Some(Recursion::Writable));
        assert_eq!(recursion("bind-recursive=disabled"), Some(Recursion::Disabled));
        assert_eq!(recursion("bind-nonrecursive"), Some(Recursion::Disabled));
        assert_eq!(recursion("bind-recursive=writable"), None);
        assert_eq!(recursion("bind-recursive=readonly"), None);
        assert_eq!(recursion("ro,bind-recursive=readonly,bind-propagation=rslave"), None);
    }

    #[test]
    fn what_docker_refuses_is_refused() {
        for bad in [
            "",
            "type=bind",
            "type=bind,src=/a",
            "type=bind,dst=/b",
            "type=nfs,dst=/b",
            "src=/a,dst=/b",
            "type=bind,src=a,dst=/b",
            "src=a,dst=b",
            "src=aa,dst=/",
            "src=aa,dst=/b,nosuch=1",
            "src=aa,dst=/b,readonly=x",
            "src=aa,dst=/b,x",
            "type=tmpfs,src=aa,dst=/b",
            "type=image,dst=/b",
            "type=bind,src=/a,dst=/b,volume-nocopy",
            "src=aa,dst=/b,tmpfs-size=1m",
            "dst=/b,volume-subpath=../x",
            "dst=/b,volume-subpath=/x",
            "type=tmpfs,dst=/b,tmpfs-mode=9",
            "type=tmpfs,dst=/b,tmpfs-size=x",
            "dst=/b,volume-driver=nfs",
            "dst=/b,volume-opt=type=nfs",
            "dst=/b,\"src=aa",
            "dst=/b,s\"rc=aa\"",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
