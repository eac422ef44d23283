//! `history`: the steps by which an image was made.

use serde::Deserialize;

use super::layers::compression;
use super::save::unreadable;
use super::{Error, Image};
use crate::oci::descriptor::Descriptor;
use crate::store::Store;
use crate::unpack::{self, Limits};

/// One step (image-spec, `config.md`, `history`).
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
pub struct Step {
    /// When it was done, as RFC 3339 has it.
    pub created: Option<String>,
    /// The command that did it.
    #[serde(default)]
    pub created_by: Option<String>,
    /// A remark.
    #[serde(default)]
    pub comment: Option<String>,
    /// Whether it changed no file, so that it has no layer.
    #[serde(default)]
    pub empty_layer: bool,
    /// The bytes of all files in its layer.
    #[serde(skip)]
    pub size: u64,
}

/// The steps by which `image` was made, the last one first. A layer that its history does not mention is a step of
/// which nothing is known but its size.
pub fn history(store: &Store, image: &Image) -> Result<Vec<Step>, Error> {
    #[derive(Deserialize)]
    struct Document {
        #[serde(default)]
        history: Option<Vec<Step>>,
    }
    let digest = || image.id.digest().clone();
    let document: Document = serde_json::from_slice(&image.config_bytes)
        .map_err(|source| Error::Config { digest: digest(), source })?;
    let mut steps = document.history.unwrap_or_default();
    let layers = &image.manifest.layers;
    // An image whose base told nothing has the missing steps at its bottom.
    let told = steps.iter().filter(|step| !step.empty_layer).count();
    let untold = layers.len().saturating_sub(told);
    steps.splice(0..0, vec![Step::default(); untold]);
    // A history may also be longer than its image; such steps changed nothing that is left.
    for (step, layer) in steps.iter_mut().filter(|step| !step.empty_layer).zip(layers) {
        step.size = size(store, layer)?;
    }
    steps.reverse();
    Ok(steps)
}

fn size(store: &Store, layer: &Descriptor) -> Result<u64, Error> {
    let failed = |source| unreadable(store, layer, source);
    let blob = store.open_blob(layer)?;
    let tar = unpack::decoder(compression(layer)?, blob)
        .map_err(|source| failed(unpack::Error::Read(source)))?;
    unpack::file_bytes(tar, &Limits::default()).map_err(failed)
}
