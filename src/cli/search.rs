//! `mydocker search`.

use serde_json::json;

use super::Outcome;
use super::failure::{Failure, While as _};
use super::output::{self, Format};
use super::remote::RemoteArgs;
use crate::oci::reference::{DEFAULT_REGISTRY, Reference};
use crate::registry::SearchResult;

/// The most characters of a description in the table, as docker has it.
const MAX_DESCRIPTION: usize = 45;

/// Search Docker Hub, or another registry that can be searched
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    remote: RemoteArgs,
    /// Show only what fits: stars=N for at least so many, is-official=true|false, is-automated=true|false
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// table, or json for one object a line
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Show no more than so many
    #[arg(long, value_name = "N", default_value_t = 25, value_parser = clap::value_parser!(u16).range(1..=100))]
    limit: u16,
    /// Show descriptions in full
    #[arg(long)]
    no_trunc: bool,
    /// What to look for: [REGISTRY/]TERM
    term: String,
}

pub(super) fn run(args: &Args) -> Outcome {
    let what = format!("search {}", args.term);
    let filters: Vec<Filter> = args
        .filter
        .iter()
        .map(|text| Filter::parse(text).ok_or_else(|| Filter::failure(&what, text)))
        .collect::<Result<_, _>>()?;
    let (registry, term) = split(&args.term);
    if term.is_empty() {
        let hint = "a term is [REGISTRY/]TERM, as in busybox or localhost:5000/busybox";
        return Err(Failure::new(&what, "there is nothing to look for", hint));
    }
    let client = args.remote.client().doing(&what)?;
    let mut found = client.search(registry, term, args.limit).doing(&what)?;
    found.retain(|result| filters.iter().all(|filter| filter.fits(result)));
    found.sort_by_key(|result| std::cmp::Reverse(result.star_count));
    let mut table = output::Table::new(&["NAME", "DESCRIPTION", "STARS", "OFFICIAL"]);
    for result in found {
        match args.format {
            Format::Json => print_json(&result),
            Format::Table => {
                let description = shorten(&result.description, args.no_trunc);
                let official = if result.is_official { "[OK]" } else { "" };
                let stars = result.star_count.to_string();
                table.row(vec![result.name, description, stars, official.to_owned()]);
            }
        }
    }
    if args.format == Format::Table {
        table.print();
    }
    Ok(0)
}

/// As docker has it, whose values are all strings.
fn print_json(result: &SearchResult) {
    output::json_line(&json!({
        "Description": result.description,
        "IsAutomated": result.is_automated.to_string(),
        "IsOfficial": result.is_official.to_string(),
        "Name": result.name,
        "StarCount": result.star_count.to_string(),
    }));
}

/// The registry in front of a term, and the term.
fn split(text: &str) -> (&str, &str) {
    let named = text.split_once('/').filter(|(first, _)| {
        let sample = format!("{first}/x").parse::<Reference>();
        *first == DEFAULT_REGISTRY || sample.is_ok_and(|sample| sample.registry() == *first)
    });
    let (registry, term) = match named {
        Some((registry, term)) => (registry, term),
        None => match text.strip_prefix("index.docker.io/") {
            Some(term) => (DEFAULT_REGISTRY, term),
            None => (DEFAULT_REGISTRY, text),
        },
    };
    // Docker Hub's own images have no `library/` in their names there.
    let plain = term.strip_prefix("library/").filter(|_| registry == DEFAULT_REGISTRY);
    (registry, plain.unwrap_or(term))
}

fn shorten(description: &str, no_trunc: bool) -> String {
    if no_trunc || description.chars().count() <= MAX_DESCRIPTION {
        return description.to_owned();
    }
    description.chars().take(MAX_DESCRIPTION - 1).chain(['…']).collect()
}

/// A condition on results.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Filter {
    Automated(bool),
    Official(bool),
    Stars(u64),
}

impl Filter {
    fn parse(text: &str) -> Option<Self> {
        let (key, value) = text.split_once('=')?;
        match key {
            "is-automated" => value.parse().ok().map(Self::Automated),
            "is-official" => value.parse().ok().map(Self::Official),
            "stars" => value.parse().ok().map(Self::Stars),
            _ => None,
        }
    }

    fn failure(what: &str, text: &str) -> Failure {
        let hint = "a filter is stars=N, is-official=true|false or is-automated=true|false";
        Failure::new(what, format!("invalid filter `{text}`"), hint)
    }

    fn fits(self, result: &SearchResult) -> bool {
        match self {
            Self::Automated(wanted) => result.is_automated == wanted,
            Self::Official(wanted) => result.is_official == wanted,
            Self::Stars(least) => result.star_count >= least,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_with_and_without_a_registry() {
        for (text, registry, term) in [
            ("busybox", "docker.io", "busybox"),
            ("library/busybox", "docker.io", "busybox"),
            ("org/app", "docker.io", "org/app"),
            ("docker.io/busybox", "docker.io", "busybox"),
            ("index.docker.io/org/app", "docker.io", "org/app"),
            ("localhost:5000/my app", "localhost:5000", "my app"),
            ("127.0.0.1:1/", "127.0.0.1:1", ""),
            ("quay.io/library/x", "quay.io", "library/x"),
        ] {
            assert_eq!(split(text), (registry, term), "{text}");
        }
    }

    #[test]
    fn descriptions_as_docker_shortens_them() {
        assert_eq!(shorten(&"ä".repeat(45), false), "ä".repeat(45));
        assert_eq!(shorten(&"ä".repeat(46), false), "ä".repeat(44) + "…");
        assert_eq!(shorten(&"ä".repeat(46), true), "ä".repeat(46));
    }

    #[test]
    fn filters() {
        assert_eq!(Filter::parse("stars=3"), Some(Filter::Stars(3)));
        assert_eq!(Filter::parse("is-official=false"), Some(Filter::Official(false)));
        for bad in ["", "stars", "stars=", "stars=-1", "is-official=1", "name=x"] {
            assert_eq!(Filter::parse(bad), None, "{bad:?}");
        }
    }
}
