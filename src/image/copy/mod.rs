//! `copy`: from one place to another, without the store.

mod archive;
mod docker;
mod files;
mod layout;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::transfer::{Origin, Remote, Transfer, parse, select};
use super::{Error, Observer};
use crate::oci::manifest::Document;
use crate::oci::platform::Platform;
use crate::oci::reference::{Reference, ReferenceError};
use crate::registry::{self, Client, RawManifest};

use files::Files;
use layout::Layout;

/// A place that images are copied from or to, in the words of containers-transports(5).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Place {
    /// `docker://REFERENCE`: a registry; the transport may be left out.
    Registry(Reference),
    /// `oci:DIR[:TAG]`: an OCI image layout.
    Layout(PathBuf, Option<String>),
    /// `oci-archive:FILE[:TAG]`: a tar archive of such a layout.
    Archive(PathBuf, Option<String>),
    /// `docker-archive:FILE[:REFERENCE]`: an archive of `docker save`.
    Docker(PathBuf, Option<Reference>),
}

impl FromStr for Place {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if let Some(reference) = text.strip_prefix("docker://") {
            return reference.parse().map(Self::Registry);
        }
        let file = |rest: &str| match rest.split_once(':') {
            Some((path, name)) => (PathBuf::from(path), Some(name.to_owned())),
            None => (PathBuf::from(rest), None),
        };
        match text.split_once(':') {
            Some(("oci", rest)) => {
                let (path, tag) = file(rest);
                Ok(Self::Layout(path, tag))
            }
            Some(("oci-archive", rest)) => {
                let (path, tag) = file(rest);
                Ok(Self::Archive(path, tag))
            }
            Some(("docker-archive", rest)) => {
                let (path, reference) = file(rest);
                let reference = reference.map(|reference| reference.parse()).transpose()?;
                Ok(Self::Docker(path, reference))
            }
            _ => text.parse().map(Self::Registry),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut file = |kind: &str, path: &Path, name: Option<&dyn fmt::Display>| {
            write!(f, "{kind}:{}", path.display())?;
            name.map_or(Ok(()), |name| write!(f, ":{name}"))
        };
        match self {
            Self::Registry(reference) => write!(f, "docker://{reference}"),
            Self::Layout(path, tag) => file("oci", path, tag.as_ref().map(|tag| tag as _)),
            Self::Archive(path, tag) => file("oci-archive", path, tag.as_ref().map(|tag| tag as _)),
            Self::Docker(path, name) => {
                file("docker-archive", path, name.as_ref().map(|name| name as _))
            }
        }
    }
}

/// What a copy is told.
#[derive(Clone, Debug)]
pub struct CopyOptions {
    /// Take the image for this platform alone; else all that there are.
    pub platform: Option<Platform>,
    /// How many blobs are on their way at a time.
    pub parallel: usize,
}

/// Copies an image, or all images of an index, byte for byte, and returns the manifest or index that came to `to`.
///
/// An archive of `docker save` holds one image: of an index, that for the platform asked for or for this machine.
pub fn copy(
    client: &Client,
    from: &Place,
    to: &Place,
    options: &CopyOptions,
    observer: &dyn Observer,
) -> Result<RawManifest, Error> {
    match from {
        Place::Registry(reference) => {
            let origin = Remote { client, reference };
            let top = client.manifest(reference)?;
            Copy { client, origin: &origin, from, to, options, observer }.run(&top)
        }
        Place::Layout(path, tag) | Place::Archive(path, tag) => {
            let files = match from {
                Place::Layout(..) => Files::folder(path)?,
                _ => Files::archive(path)?,
            };
            let origin = Layout::new(files);
            let top = origin.top(tag.as_deref())?;
            Copy { client, origin: &origin, from, to, options, observer }.run(&top)
        }
        Place::Docker(path, reference) => {
            let (origin, top) = docker::open(Files::archive(path)?, reference.as_ref())?;
            Copy { client, origin: &origin, from, to, options, observer }.run(&top)
        }
    }
}

struct Copy<'a> {
    client: &'a Client,
    origin: &'a dyn Origin,
    from: &'a Place,
    to: &'a Place,
    options: &'a CopyOptions,
    observer: &'a dyn Observer,
}

impl Copy<'_> {
    fn run(&self, top: &RawManifest) -> Result<RawManifest, Error> {
        let top = &self.chosen(top)?;
        let (origin, observer, parallel) = (self.origin, self.observer, self.options.parallel);
        match self.to {
            Place::Registry(reference) => {
                if let Some(expected) = reference.digest().filter(|digest| **digest != top.digest) {
                    let (expected, actual) = (expected.clone(), top.digest.clone());
                    return Err(registry::Error::DigestMismatch { expected, actual }.into());
                }
                let target = Remote { client: self.client, reference };
                Transfer { origin, target: &target, observer, parallel }.run(top)?;
            }
            Place::Layout(path, tag) => {
                let target = layout::Folder::open(path, tag.as_deref())?;
                Transfer { origin, target: &target, observer, parallel }.run(top)?;
            }
            Place::Archive(path, tag) => {
                let target = archive::Target::create(path, tag.as_deref())?;
                Transfer { origin, target: &target, observer, parallel: 1 }.run(top)?;
                target.finish()?;
            }
            Place::Docker(path, name) => {
                let own = match self.from {
                    Place::Registry(reference) => Some(reference),
                    Place::Docker(_, reference) => reference.as_ref(),
                    _ => None,
                };
                docker::write(path, name.as_ref().or(own), origin, top, observer)?;
            }
        }
        Ok(top.clone())
    }

    /// What of `top` is wanted: all of it, unless one platform was asked for or there is room for one only.
    fn chosen(&self, top: &RawManifest) -> Result<RawManifest, Error> {
        let host = Platform::host();
        match (&self.options.platform, parse(top)?, self.to) {
            (Some(platform), ..) => select(self.origin, top, platform),
            (None, Document::Index(_), Place::Docker(..)) => select(self.origin, top, &host),
            _ => Ok(top.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        for (text, full) in [
            ("busybox", "docker://docker.io/library/busybox:latest"),
            ("docker://localhost:5000/a:v1", "docker://localhost:5000/a:v1"),
            ("localhost:5000/a", "docker://localhost:5000/a:latest"),
            ("oci:/a/b", "oci:/a/b"),
            ("oci:a:v1", "oci:a:v1"),
            ("oci-archive:a.tar:v1", "oci-archive:a.tar:v1"),
            ("docker-archive:a.tar", "docker-archive:a.tar"),
            ("docker-archive:a.tar:org/app", "docker-archive:a.tar:docker.io/org/app:latest"),
            ("docker://oci:v1", "docker://docker.io/library/oci:v1"),
        ] {
            assert_eq!(text.parse::<Place>().unwrap().to_string(), full, "{text}");
        }
        for bad in ["", "docker://", "docker://A", "docker-archive:a.tar:A B", "a:b:c"] {
            assert!(bad.parse::<Place>().is_err(), "{bad:?}");
        }
    }
}
