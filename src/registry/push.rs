//! What a registry is given: blobs that it lacks, and manifests (distribution-spec, "Push").

use std::io::{self, Read};

use reqwest::Url;
use reqwest::blocking::Client as Http;
use reqwest::header;

use super::client::{Client, RawManifest, Wanted, declared_digest};
use super::config::Source;
use super::error::Error;
use super::transport::content_length;
use super::upload::Upload;
use crate::oci::descriptor::Descriptor;
use crate::oci::reference::Reference;

/// Bytes of a blob that can be read again from any place on.
pub trait Content: Sync {
    /// A reader of the bytes from `offset` on. Whoever reads them verifies them.
    ///
    /// # Errors
    /// Whatever keeps it from being opened.
    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send + '_>>;
}

/// How a blob came into a repository.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pushed {
    /// It was there.
    Existed,
    /// The registry had it in another repository.
    Mounted,
    /// It was sent.
    Sent,
}

impl Client {
    /// Brings a blob into the repository of `reference`, unless it is there; from the repository `from` of the same
    /// registry, if the registry can do that; else from `content`. `sent` hears how many bytes the registry has taken.
    ///
    /// # Errors
    /// [`Error::DigestMismatch`] when `content` is not what `descriptor` says; the registry has not kept it then.
    pub fn push_blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        from: Option<&str>,
        content: &dyn Content,
        sent: &dyn Fn(u64),
    ) -> Result<Pushed, Error> {
        let destination = self.destination(reference)?;
        if self.has_blob(&destination, descriptor)? {
            return Ok(Pushed::Existed);
        }
        Upload::new(self, &destination, descriptor, content, sent).run(from)
    }

    /// Whether the repository has the blob in its full size.
    ///
    /// An answer to HEAD has no body to say what is wrong; whoever may not ask learns that from the upload.
    pub(super) fn has_blob(&self, place: &Source, descriptor: &Descriptor) -> Result<bool, Error> {
        let wanted = Wanted::Blob(&descriptor.digest);
        let asked = self.transport.retry(|| {
            match self.request(place, wanted, &|http: &Http, url: Url| http.head(url)) {
                Err(error) if error.is_passing() => Err(error),
                Err(
                    Error::BlobUnknown { .. }
                    | Error::Denied { .. }
                    | Error::NameUnknown(_)
                    | Error::Status { .. }
                    | Error::Unauthorized { .. },
                ) => Ok(None),
                other => other.map(Some),
            }
        })?;
        let size = asked.map(|answer| content_length(answer.response.headers()));
        Ok(size.is_some_and(|size| size.is_none_or(|size| size == descriptor.size)))
    }

    /// Stores a manifest or index, all of whose parts the repository has, under the tag of `reference` or its digest.
    ///
    /// # Errors
    /// [`Error::DigestMismatch`] when the registry says that it stored something else.
    pub fn push_manifest(&self, reference: &Reference, raw: &RawManifest) -> Result<(), Error> {
        let name = reference.manifest_reference();
        let destination = self.destination(reference)?;
        let build = |http: &Http, url: Url| {
            let request = http.put(url).header(header::CONTENT_TYPE, &raw.media_type);
            request.timeout(self.transport.options().document_timeout).body(raw.bytes.clone())
        };
        let answer = self
            .transport
            .retry(|| self.request(&destination, Wanted::NewManifest(&name), &build))?;
        match declared_digest(answer.response.headers()) {
            Some(actual)
                if actual != raw.digest && actual.algorithm() == raw.digest.algorithm() =>
            {
                Err(Error::DigestMismatch { expected: raw.digest.clone(), actual })
            }
            _ => Ok(()),
        }
    }
}
