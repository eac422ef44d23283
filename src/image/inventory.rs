//! `inventory`: which blobs this store has, for a machine that makes a bundle for it.

use std::collections::BTreeSet;
use std::io::Write as _;

use super::output::{Output, Sink};
use super::{Error, list};
use crate::store::Store;

/// Writes the digests of all layers and documents of the images in the store, one a line, in order.
pub fn inventory(store: &Store, output: &Output) -> Result<(), Error> {
    let (images, _) = list(store)?;
    let mut digests = BTreeSet::new();
    for image in images {
        let manifest = &image.manifest;
        let parts = manifest.layers.iter().chain([&image.manifest_descriptor, &manifest.config]);
        digests.extend(parts.filter(|part| store.has_blob(part)).map(|part| part.digest.clone()));
    }
    let mut sink = output.open()?;
    let shown = sink.shown().to_owned();
    let text: String = digests.iter().map(|digest| format!("{digest}\n")).collect();
    sink.write_all(text.as_bytes()).map_err(Sink::failed(&shown))?;
    sink.finish()
}
