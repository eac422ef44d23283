//! `mydocker verify`.

use super::failure::While as _;
use super::{Global, Outcome, output};
use crate::image;
use crate::store::Store;

/// Look whether images still are what was put into the store; changes nothing
///
/// One line on standard output for each problem; the exit code is 1 if there are any.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Compare the contents and extended attributes of all files too
    #[arg(long)]
    deep: bool,
    /// Names, ids or first digits of ids [default: the whole store]
    image: Vec<String>,
}

pub(super) fn run(global: &Global, args: &Args) -> Outcome {
    let what = ["verify"].into_iter().chain(args.image.iter().map(String::as_str));
    let what = what.collect::<Vec<_>>().join(" ");
    let store = Store::at(&global.root());
    let mut report = |problem: &image::Problem| output::data(&format!("{problem}\n"));
    let problems = image::verify(&store, &args.image, args.deep, &mut report).doing(&what)?;
    Ok(u8::from(problems > 0))
}
