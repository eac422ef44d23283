//! `prune`: removes images that nothing uses, and what no image needs.

use std::collections::{BTreeMap, BTreeSet};

use super::df::{Group, Survey};
use super::{Error, Image};
use crate::oci::digest::ImageId;
use crate::oci::reference::Reference;
use crate::store::Store;

/// Which images go.
#[derive(Clone, Debug, Default)]
pub struct PruneOptions {
    /// Those with names too.
    pub all: bool,
    /// Only those that were made before this, in seconds since 1970.
    pub until: Option<i64>,
    /// Only those with all these labels; a value of `None` is any.
    pub labels: BTreeMap<String, Option<String>>,
    /// The images that came first, as many as it takes until all images have no more bytes on the disk; named ones too.
    pub max_size: Option<u64>,
    /// Tell what would go, and remove nothing.
    pub dry_run: bool,
}

/// What went, or would go.
#[derive(Debug, Default)]
pub struct Pruned {
    /// Names.
    pub names: Vec<String>,
    /// Images.
    pub images: Vec<ImageId>,
    /// Bytes on the disk.
    pub bytes: u64,
}

/// Removes images that no container stands on, nameless ones unless the options say more, and then every blob and tree
/// that no image needs. `users` tells which images containers stand on; `None` if that cannot be told, and then no image
/// goes.
pub fn prune(
    store: &Store,
    users: &dyn Fn() -> Option<Vec<ImageId>>,
    options: &PruneOptions,
) -> Result<Pruned, Error> {
    let Some(now) = users() else { return Ok(Pruned::default()) };
    let survey = Survey::new(store, &now)?;
    let gone = choose(&survey, options);
    let chosen: Vec<&Group> = gone.iter().filter_map(|at| survey.groups.get(*at)).collect();
    let names = chosen.iter().flat_map(|group| group.images.iter().filter_map(Image::name));
    let mut bytes = survey.accounts.freed(&gone);
    if survey.is_complete {
        bytes += survey.unneeded_bytes(store)?;
    }
    let pruned = Pruned {
        names: names.map(str::to_owned).collect(),
        images: chosen.iter().map(|group| group.id.clone()).collect(),
        bytes,
    };
    if options.dry_run {
        return Ok(pruned);
    }
    let in_use = || Some(users()?.into_iter().collect());
    let parts = |entry: &_| super::remove::parts(store, entry);
    if !gone.is_empty() {
        let file_name = |name: &str| name.parse().ok().map(|name: Reference| name.file_name());
        let entries: Vec<_> = chosen
            .iter()
            .flat_map(|group| group.images.iter().map(|image| &image.descriptor))
            .collect();
        store.remove(|entry| entries.contains(&entry), file_name, parts, in_use)?;
    }
    store.collect(parts, in_use)?;
    Ok(pruned)
}

fn choose(survey: &Survey, options: &PruneOptions) -> BTreeSet<usize> {
    let wanted = |group: &Group| {
        let named = group.images.iter().any(|image| image.name().is_some());
        let old = options.until.is_none_or(|until| {
            group.images.iter().all(|image| created(image).is_some_and(|at| at < until))
        });
        let labelled = group.images.iter().all(|image| has_labels(image, options));
        !group.is_used && (options.all || options.max_size.is_some() || !named) && old && labelled
    };
    let groups = survey.groups.iter().enumerate();
    let candidates = groups.filter(|(_, group)| wanted(group)).map(|(at, _)| at);
    let Some(max_size) = options.max_size else { return candidates.collect() };
    let mut gone = BTreeSet::new();
    for at in candidates {
        if survey.accounts.total() - survey.accounts.freed(&gone) <= max_size {
            break;
        }
        gone.insert(at);
    }
    gone
}

fn has_labels(image: &Image, options: &PruneOptions) -> bool {
    let labels = &image.config.config.labels;
    options.labels.iter().all(|(name, value)| {
        labels.get(name).is_some_and(|found| value.as_ref().is_none_or(|value| value == found))
    })
}

/// When an image was made, in seconds since 1970.
fn created(image: &Image) -> Option<i64> {
    let format = &time::format_description::well_known::Rfc3339;
    let text = image.config.created.as_deref()?;
    time::OffsetDateTime::parse(text, format).ok().map(time::OffsetDateTime::unix_timestamp)
}
