//! `mydocker rmi`.

use super::failure::{Failure, While as _};
use super::{Global, Outcome, output};
use crate::container::Record;
use crate::image;

/// Remove images
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Take the name away even if a container stands on the image; one that is not there is no failure
    #[arg(short, long)]
    force: bool,
    /// Names, ids or first digits of ids
    #[arg(required = true)]
    image: Vec<String>,
}

pub(super) fn run(global: &Global, args: &Args) -> Outcome {
    let mut code = 0;
    for name in &args.image {
        // One that cannot be removed does not keep the others.
        if let Err(failure) = remove(global, name, args.force) {
            failure.report();
            code |= u8::from(!failure.is_tolerated());
        }
    }
    Ok(code)
}

fn remove(global: &Global, name: &str, force: bool) -> Result<(), Failure> {
    let what = format!("rmi {name}");
    let store = global.store().doing(&what)?;
    let containers = global.containers().doing(&what)?;
    let users = || {
        let (records, _) = containers.list().ok()?;
        let short = |record: &Record| record.id.chars().take(12).collect::<String>();
        let images = |record: &Record| {
            let images: Vec<_> = record.images().cloned().collect();
            let id = short(record);
            images.into_iter().map(move |image| (id.clone(), image))
        };
        Some(records.iter().flat_map(images).collect())
    };
    let removed = image::remove(&store, name, &users, force);
    let is_missing = matches!(removed, Err(image::Error::NoSuchImage(_)));
    let removed = removed.doing(&what).map_err(|failure| failure.tolerated(force && is_missing))?;
    for name in removed.names {
        global.tell_image("untag", &name, &name);
        output::data(&format!("Untagged: {name}\n"));
    }
    for id in removed.images {
        global.tell_image("delete", &id.to_string(), "");
        output::data(&format!("Deleted: {id}\n"));
    }
    Ok(())
}
