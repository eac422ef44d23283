//! The text of one file, and nothing of any other: TOML in, rules out.
//!
//! Formats: containers-registries.conf(5), version 2; the `registries` section of our own `config.toml` has the same keys.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use toml::{Table, Value};

use super::{Mirror, Rule, ShortNameMode, When};
use crate::oci::reference::names_registry;
use crate::registry::Error;

/// The keys that are understood at the top, in a registry and in a mirror. podman knows more, which it may keep.
const TOP: &[&str] = &["aliases", "registry", "short-name-mode", "unqualified-search-registries"];
const REGISTRY: &[&str] =
    &["blocked", "insecure", "location", "mirror", "mirror-by-digest-only", "prefix"];
const MIRROR: &[&str] = &["insecure", "location", "pull-from-mirror"];

/// What one file says.
#[derive(Clone, Debug, Default)]
pub(super) struct File {
    pub(super) search: Option<Vec<String>>,
    pub(super) mode: Option<ShortNameMode>,
    pub(super) aliases: BTreeMap<String, String>,
    pub(super) rules: Vec<Rule>,
}

/// The whole of our own file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Own {
    registries: Option<Section>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Section {
    unqualified_search_registries: Option<Vec<String>>,
    short_name_mode: Option<ShortNameMode>,
    registry: Vec<RegistryTable>,
    aliases: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct RegistryTable {
    prefix: String,
    location: String,
    insecure: bool,
    blocked: bool,
    mirror: Vec<MirrorTable>,
    mirror_by_digest_only: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct MirrorTable {
    location: String,
    #[serde(default)]
    insecure: bool,
    pull_from_mirror: Option<When>,
}

/// Parses our own `config.toml`; `None` if it says nothing about registries.
///
/// # Errors
/// [`Error::File`] with the line, also for a key that is not known: one that is misspelt must not go unheeded.
pub(super) fn parse_own(path: &Path, text: &str) -> Result<Option<File>, Error> {
    let own: Own = toml::from_str(text).map_err(|error| malformed(path, text, &error))?;
    own.registries.map(|section| section.check(path)).transpose()
}

/// Parses podman's `registries.conf`, or a file of its `registries.conf.d`.
///
/// # Errors
/// [`Error::File`]; keys that are not known here are passed over, as podman does.
pub(super) fn parse_podman(path: &Path, text: &str) -> Result<File, Error> {
    let mut table: Table = toml::from_str(text).map_err(|error| malformed(path, text, &error))?;
    if table.contains_key("registries") {
        return Err(unusable(path, "it has the form of version 1, which podman gave up".into()));
    }
    prune(path, &mut table, TOP);
    for registry in tables(table.get_mut("registry")) {
        prune(path, registry, REGISTRY);
        tables(registry.get_mut("mirror")).for_each(|mirror| prune(path, mirror, MIRROR));
    }
    let section = Section::deserialize(table);
    section.map_err(|error| malformed(path, text, &error))?.check(path)
}

fn tables(value: Option<&mut Value>) -> impl Iterator<Item = &mut Table> {
    value.and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_table_mut)
}

fn prune(path: &Path, table: &mut Table, known: &[&str]) {
    table.retain(|key, _| {
        let known = known.contains(&key);
        if !known {
            log::debug!("{}: `{key}` is not known here", path.display());
        }
        known
    });
}

impl Section {
    fn check(self, path: &Path) -> Result<File, Error> {
        for registry in self.unqualified_search_registries.iter().flatten() {
            check_location(path, "unqualified-search-registries", registry)?;
        }
        let rules = self.registry.into_iter().map(|table| table.check(path));
        Ok(File {
            search: self.unqualified_search_registries,
            mode: self.short_name_mode,
            aliases: self.aliases,
            rules: rules.collect::<Result<_, _>>()?,
        })
    }
}

impl RegistryTable {
    fn check(self, path: &Path) -> Result<Rule, Error> {
        let trim = |text: &str| text.trim_end_matches('/').to_owned();
        let (mut prefix, location) = (trim(&self.prefix), trim(&self.location));
        if prefix.is_empty() {
            prefix.clone_from(&location);
        }
        match prefix.strip_prefix("*.") {
            Some(rest) if rest.contains(['/', '*']) || rest.is_empty() => {
                let why = format!("prefix `{prefix}`: only `*.HOST` may hold a wildcard");
                return Err(unusable(path, why));
            }
            Some(_) => {}
            None => check_location(path, "prefix", &prefix)?,
        }
        let location = (!location.is_empty()).then_some(location);
        match &location {
            Some(location) => check_location(path, "location", location)?,
            None if prefix.starts_with("*.") => {}
            None => {
                let why = format!("the registry with prefix `{prefix}` has no location");
                return Err(unusable(path, why));
            }
        }
        let by_digest = self.mirror_by_digest_only;
        let mirrors = self.mirror.into_iter().map(|mirror| mirror.check(path, by_digest));
        Ok(Rule {
            prefix,
            location,
            insecure: self.insecure,
            blocked: self.blocked,
            mirrors: mirrors.collect::<Result<_, _>>()?,
            file: path.to_owned(),
        })
    }
}

impl MirrorTable {
    fn check(self, path: &Path, by_digest: bool) -> Result<Mirror, Error> {
        let location = self.location.trim_end_matches('/').to_owned();
        check_location(path, "location", &location)?;
        let when = match (by_digest, self.pull_from_mirror) {
            (true, Some(_)) => {
                let why = "mirror-by-digest-only and pull-from-mirror exclude each other";
                return Err(unusable(path, why.to_owned()));
            }
            (true, None) => When::DigestOnly,
            (false, when) => when.unwrap_or_default(),
        };
        Ok(Mirror { location, insecure: self.insecure, when })
    }
}

/// Refuses what is no place: it begins with a host, as references have it, and has no scheme.
fn check_location(path: &Path, key: &str, location: &str) -> Result<(), Error> {
    let why = if location.contains("://") {
        "must not have a scheme"
    } else if location.is_empty() {
        "is empty"
    } else if !names_registry(location.split('/').next().unwrap_or_default()) {
        "does not begin with a host: one without a dot needs a port"
    } else {
        return Ok(());
    };
    Err(unusable(path, format!("{key} `{location}` {why}")))
}

pub(super) fn unusable(path: &Path, why: String) -> Error {
    Error::File { path: path.to_owned(), why }
}

/// The parser's words in one line, with the line of the file.
fn malformed(path: &Path, text: &str, error: &toml::de::Error) -> Error {
    let message = error.message().replace('\n', ", ");
    let line = error.span().and_then(|span| text.get(..span.start));
    let why = match line.map(|before| before.matches('\n').count() + 1) {
        Some(line) => format!("line {line}: {message}"),
        None => message,
    };
    unusable(path, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(text: &str) -> Result<Option<File>, String> {
        parse_own(Path::new("config.toml"), text).map_err(|error| error.to_string())
    }

    fn podman(text: &str) -> Result<File, String> {
        parse_podman(Path::new("registries.conf"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn every_key() {
        let text = r#"
            unqualified-search-registries = ["docker.io", "quay.io"]
            short-name-mode = "enforcing"
            [[registry]]
            prefix = "docker.io/library/"
            location = "hub.example/library"
            insecure = true
            blocked = true
            [[registry.mirror]]
            location = "mirror.example:5000/hub/"
            insecure = true
            pull-from-mirror = "digest-only"
            [[registry.mirror]]
            location = "localhost/hub"
            [[registry]]
            prefix = "*.example.com"
            [[registry]]
            location = "a.example"
            mirror-by-digest-only = true
            [[registry.mirror]]
            location = "b.example"
            [aliases]
            "x" = "a.example/x"
        "#;
        let file = podman(text).unwrap();
        assert_eq!(file.search.unwrap(), ["docker.io", "quay.io"]);
        assert_eq!(file.mode, Some(ShortNameMode::Enforcing));
        let [hub, wildcard, plain] = &file.rules[..] else { panic!("{:?}", file.rules) };
        assert_eq!(
            (&*hub.prefix, hub.location.as_deref()),
            ("docker.io/library", Some("hub.example/library"))
        );
        assert!(hub.insecure && hub.blocked);
        let first = Mirror {
            location: "mirror.example:5000/hub".into(),
            insecure: true,
            when: When::DigestOnly,
        };
        let second = Mirror { location: "localhost/hub".into(), insecure: false, when: When::All };
        assert_eq!(hub.mirrors, [first, second]);
        assert_eq!(wildcard.location, None);
        assert_eq!((&*plain.prefix, plain.mirrors[0].when), ("a.example", When::DigestOnly));
        assert_eq!(file.aliases["x"], "a.example/x");
        // Ours has the same, one level down.
        let nested = text.replace("[[registry", "[[registries.registry");
        let nested = nested.replace("[aliases]", "[registries.aliases]");
        let file = own(&format!("[registries]{nested}")).unwrap().unwrap();
        assert_eq!(file.rules.len(), 3);
        assert!(own("").unwrap().is_none());
        assert!(own("[registries]").unwrap().is_some());
    }

    #[test]
    fn unknown_keys_are_named_in_ours_and_passed_over_in_podmans() {
        for (text, word) in [
            ("registeries = 1", "line 1: unknown field `registeries`"),
            ("[registries]\nsearch = []", "line 2: unknown field `search`"),
            (
                "[[registries.registry]]\nlocation = 'a.b'\nblock = true",
                "line 3: unknown field `block`",
            ),
            (
                "[[registries.registry]]\nlocation='a.b'\n[[registries.registry.mirror]]\nlocation='c.d'\nsecure=1",
                "line 5: unknown field `secure`",
            ),
        ] {
            let error = own(text).unwrap_err();
            assert!(error.contains(word) && error.contains("config.toml"), "{error}");
        }
        let text = "credential-helpers = ['x']\n[[registry]]\nlocation='a.b'\nnew=1\n[[registry.mirror]]\nlocation='c.d'\nnew=1";
        assert_eq!(podman(text).unwrap().rules.len(), 1);
    }

    #[test]
    fn what_makes_no_sense_is_an_error_that_names_the_file() {
        for bad in [
            "[[registry]]",
            "[[registry]]\nprefix='a.b'",
            "[[registry]]\nlocation='https://a.b'",
            "[[registry]]\nlocation='host/x'",
            "[[registry]]\nprefix='*.a.b/c'",
            "[[registry]]\nprefix='*.'",
            "[[registry]]\nprefix='*'",
            "[[registry]]\nlocation='a.b'\n[[registry.mirror]]",
            "[[registry]]\nlocation='a.b'\n[[registry.mirror]]\nlocation=''",
            "[[registry]]\nlocation='a.b'\n[[registry.mirror]]\nlocation='c.d'\npull-from-mirror='never'",
            "[[registry]]\nlocation='a.b'\nmirror-by-digest-only=true\n[[registry.mirror]]\nlocation='c.d'\npull-from-mirror='all'",
            "[[registry]]\nlocation='a.b'\nblocked='yes'",
            "unqualified-search-registries=['https://a.b']",
            "unqualified-search-registries='a.b'",
            "short-name-mode='x'",
            "[registries.search]\nregistries=['a.b']",
            "[aliases]\nx=1",
            "x",
            "\u{0}",
        ] {
            let error = podman(bad).unwrap_err();
            assert!(error.starts_with("read `registries.conf`: "), "{bad}: {error}");
            assert!(!error.contains('\n'), "{error:?}");
        }
    }
}
