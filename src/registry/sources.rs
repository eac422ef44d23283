//! The places that a reference stands for, and which of them still deserve to be asked.
//!
//! A mirror is a convenience: whatever goes wrong there, the next place is asked, and the mirror no more for this
//! repository. One that sends something else than what was asked for is named, since somebody should know.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Mutex;

use super::client::Client;
use super::config::{Source, Sources};
use super::error::Error;
use super::transport::lock;
use crate::oci::digest::{Digest, Mismatch};
use crate::oci::reference::Reference;

/// Is told what becomes of mirrors; for whoever shows it to the user.
pub trait Watcher: fmt::Debug + Send + Sync {
    /// A mirror has sent something else than what was asked for, and is not asked again.
    fn mirror_dropped(&self, mirror: &str, why: &dyn std::error::Error);
    /// The origin has failed, and this is why the mirror before it was of no help.
    fn mirror_failed(&self, mirror: &str, why: &Error);
}

/// What is known about mirrors.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// Those that are not asked again: registry and repository.
    aside: Mutex<HashSet<(String, String)>>,
    /// Those that bytes of a blob came from.
    lent: Mutex<HashMap<Digest, Vec<Source>>>,
}

impl Standing {
    fn put_aside(&self, mirror: &Source) -> bool {
        lock(&self.aside).insert(key(mirror))
    }

    fn is_aside(&self, mirror: &Source) -> bool {
        lock(&self.aside).contains(&key(mirror))
    }
}

fn key(mirror: &Source) -> (String, String) {
    (mirror.reference.registry().to_owned(), mirror.reference.repository().to_owned())
}

/// A mirror as the user knows it.
fn name(mirror: &Source) -> String {
    format!("{}/{}", mirror.reference.registry(), mirror.reference.repository())
}

impl Client {
    /// What `text`, which has the form of a reference, may stand for, in the order in which it is to be tried: a short
    /// name may be an alias, or be looked for in several registries.
    pub fn candidates(&self, text: &str) -> Result<Vec<Reference>, Error> {
        self.registries.candidates(text)
    }

    /// Does `work` at the first place of `reference` where it goes well.
    ///
    /// # Errors
    /// What the origin says, where every mirror has failed.
    pub(super) fn at_any<T>(
        &self,
        reference: &Reference,
        work: impl Fn(&Source) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let Sources { mirrors, origin } = self.sources(reference)?;
        let mut failed = Vec::new();
        for mirror in mirrors {
            match work(&mirror) {
                Ok(done) => return Ok(done),
                Err(error) => {
                    self.set_aside(&mirror, &error);
                    failed.push((mirror, error));
                }
            }
        }
        let done = self.transport.retry(|| work(&origin));
        if done.is_err() {
            self.blame(&failed);
        }
        done
    }

    /// The places of `reference` that are worth asking.
    pub(super) fn sources(&self, reference: &Reference) -> Result<Sources, Error> {
        let mut sources = self.registries.sources(reference)?;
        sources.mirrors.retain(|mirror| !self.standing.is_aside(mirror));
        Ok(sources)
    }

    /// Where what is pushed to `reference` goes: to that very place. Mirrors and other locations are for reading.
    pub(super) fn destination(&self, reference: &Reference) -> Result<Source, Error> {
        Ok(Source { reference: reference.clone(), ..self.origin(reference)? })
    }

    /// The place that is asked for what no mirror can know.
    pub(super) fn origin(&self, reference: &Reference) -> Result<Source, Error> {
        Ok(self.registries.sources(reference)?.origin)
    }

    /// Whether a registry, whatever the repository, may do without encryption or a certificate that anybody vouches for.
    pub(super) fn is_insecure(&self, registry: &str) -> Result<bool, Error> {
        match format!("{registry}/any").parse::<Reference>() {
            Ok(any) => Ok(self.origin(&any)?.insecure),
            Err(_) => Ok(false),
        }
    }

    /// Asks a mirror no more for its repository.
    pub(super) fn set_aside(&self, mirror: &Source, why: &Error) {
        log::debug!("mirror {}: {why}; passed over from now on", name(mirror));
        let first = self.standing.put_aside(mirror);
        if let Some(watcher) = self.watcher().filter(|_| first && why.is_lie()) {
            watcher.mirror_dropped(&name(mirror), why);
        }
    }

    /// Says what was wrong with the mirrors, now that the origin has failed, too.
    pub(super) fn blame(&self, failed: &[(Source, Error)]) {
        let Some(watcher) = self.watcher() else { return };
        for (mirror, why) in failed.iter().filter(|(_, why)| !why.is_lie()) {
            watcher.mirror_failed(&name(mirror), why);
        }
    }

    /// Remembers that bytes of `blob` come from `mirror`.
    pub(super) fn lend(&self, blob: &Digest, mirror: &Source) {
        let mut lent = lock(&self.standing.lent);
        let mirrors = lent.entry(blob.clone()).or_default();
        if !mirrors.contains(mirror) {
            mirrors.push(mirror.clone());
        }
    }

    /// Drops the mirrors that the bytes of `blob` came from, which were not what they should have been; says whether
    /// there were any, so that asking again may go better.
    pub fn distrust(&self, blob: &Digest, why: &Mismatch) -> bool {
        let mirrors = lock(&self.standing.lent).remove(blob).unwrap_or_default();
        for mirror in &mirrors {
            let first = self.standing.put_aside(mirror);
            if let Some(watcher) = self.watcher().filter(|_| first) {
                watcher.mirror_dropped(&name(mirror), why);
            }
        }
        !mirrors.is_empty()
    }

    fn watcher(&self) -> Option<&dyn Watcher> {
        self.transport.options().watcher.as_deref()
    }
}
