//! Which registries stand behind a name: short names, mirrors, other places, and what is forbidden.
//!
//! The rules come from our own `config.toml` (the system's, then the user's, who wins); where neither of them speaks of
//! registries, from podman's `registries.conf`. `file` parses one of them, `load` finds them and lays one on the other,
//! and here is what follows from the whole.

mod file;
mod load;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::Error;
use crate::oci::reference::{Reference, is_qualified};
use file::{File, unusable};

/// The rules for all registries.
#[derive(Clone, Debug, Default)]
pub(super) struct Registries {
    /// Where names without a registry are looked for, and the file that says so; Docker Hub when nothing does.
    search: Option<(Vec<String>, PathBuf)>,
    mode: ShortNameMode,
    /// Short names that stand for one repository, and the file that says so.
    aliases: BTreeMap<String, (String, PathBuf)>,
    rules: Vec<Rule>,
}

/// What is said about one registry, or a part of it.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Rule {
    /// `host[:port][/path[:tag|@digest]]`, or `*.domain`.
    prefix: String,
    /// What stands in its place; `None` for a wildcard that replaces nothing.
    location: Option<String>,
    insecure: bool,
    blocked: bool,
    mirrors: Vec<Mirror>,
    file: PathBuf,
}

/// A place that may have the same content.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Mirror {
    location: String,
    insecure: bool,
    when: When,
}

/// For which references a mirror is asked.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
enum When {
    #[default]
    All,
    DigestOnly,
    TagOnly,
}

/// What a short name does that has several registries to be looked for in.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
enum ShortNameMode {
    /// The registries are tried in their order.
    #[default]
    Permissive,
    /// The same: podman differs in that it does not ask.
    Disabled,
    /// The user has to say which; podman asks at a terminal, and refuses without one.
    Enforcing,
}

/// Where the content behind a reference is asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Source {
    /// The reference as that place has it.
    pub(super) reference: Reference,
    /// Whether plain http and certificates that nobody vouches for are good enough there, by the user's word.
    pub(super) insecure: bool,
    pub(super) is_mirror: bool,
}

/// All places of a reference.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Sources {
    /// In the order in which they are asked, before the origin.
    pub(super) mirrors: Vec<Source>,
    pub(super) origin: Source,
}

impl Registries {
    /// What `text` may stand for, in the order in which it is to be tried. It has the form of a reference.
    pub(super) fn candidates(&self, text: &str) -> Result<Vec<Reference>, Error> {
        if is_qualified(text) {
            return Ok(vec![text.parse()?]);
        }
        let name = text.split('@').next().unwrap_or_default();
        let name = name.split(':').next().unwrap_or_default();
        if let Some((full, file)) = self.aliases.get(name) {
            let rest = &text[name.len()..];
            let parsed = format!("{full}{rest}").parse().ok().filter(|_| is_qualified(full));
            let wrong = || format!("alias `{name}` stands for `{full}`, which is no repository");
            return Ok(vec![parsed.ok_or_else(|| unusable(file, wrong()))?]);
        }
        let Some((registries, file)) = &self.search else { return Ok(vec![text.parse()?]) };
        let refuse = |why| Err(Error::ShortName { name: name.to_owned(), file: file.clone(), why });
        match (registries.len(), self.mode) {
            (0, _) => return refuse("names no registry to look for it in"),
            (2.., ShortNameMode::Enforcing) => {
                return refuse("names several registries, and does not let them be tried in turn");
            }
            _ => {}
        }
        registries.iter().map(|registry| Ok(format!("{registry}/{text}").parse()?)).collect()
    }

    /// Where the content of `reference` is asked for.
    ///
    /// # Errors
    /// [`Error::Blocked`], and [`Error::File`] where a rule makes something of the reference that is none.
    pub(super) fn sources(&self, reference: &Reference) -> Result<Sources, Error> {
        let text = reference.to_string();
        let Some((rule, end)) = self.rule(&text) else {
            let reference = reference.clone();
            let origin = Source { reference, insecure: false, is_mirror: false };
            return Ok(Sources { mirrors: Vec::new(), origin });
        };
        if rule.blocked {
            return Err(Error::Blocked { name: text, file: rule.file.clone() });
        }
        let source = |location: &str, insecure, is_mirror| -> Result<Source, Error> {
            let moved = format!("{location}{}", &text[end..]);
            let why = format!("location `{location}` makes `{moved}` of `{text}`");
            let reference = moved.parse().map_err(|_| unusable(&rule.file, why))?;
            Ok(Source { reference, insecure, is_mirror })
        };
        let pinned = reference.digest().is_some();
        let asked = |mirror: &&Mirror| match mirror.when {
            When::All => true,
            When::DigestOnly => pinned,
            When::TagOnly => !pinned,
        };
        let mirrors = rule.mirrors.iter().filter(asked);
        let mirrors = mirrors.map(|mirror| source(&mirror.location, mirror.insecure, true));
        let location = rule.location.as_deref().unwrap_or(&text[..end]);
        let origin = source(location, rule.insecure, false)?;
        Ok(Sources { mirrors: mirrors.collect::<Result<_, _>>()?, origin })
    }

    /// The rule with the longest prefix of a reference, and where in the reference the prefix ends.
    fn rule(&self, reference: &str) -> Option<(&Rule, usize)> {
        let fitting =
            self.rules.iter().filter_map(|rule| Some((rule, end(reference, &rule.prefix)?)));
        fitting.max_by_key(|(rule, _)| rule.prefix.len())
    }

    /// Lays a file over what is known: the same keys and the same prefixes are replaced.
    fn add(&mut self, file: File, path: PathBuf) {
        if let Some(search) = file.search {
            self.search = Some((search, path.clone()));
        }
        if let Some(mode) = file.mode {
            self.mode = mode;
        }
        for (name, full) in file.aliases {
            // An empty one takes an earlier one away.
            match full.is_empty() {
                true => self.aliases.remove(&name),
                false => self.aliases.insert(name, (full, path.clone())),
            };
        }
        for rule in file.rules {
            self.rules.retain(|known| known.prefix != rule.prefix);
            self.rules.push(rule);
        }
    }
}

/// Where `prefix` ends in `reference`, if it is one and ends with a part of the name.
fn end(reference: &str, prefix: &str) -> Option<usize> {
    let end = match prefix.strip_prefix('*') {
        None => reference.starts_with(prefix).then_some(prefix.len())?,
        // Only the host may be longer.
        Some(domain) => {
            let host = &reference[..reference.find('/').unwrap_or(reference.len())];
            let name = host.split(':').next().unwrap_or(host);
            match domain.contains(':') {
                true => host.ends_with(domain).then_some(host.len())?,
                false => name.ends_with(domain).then_some(name.len())?,
            }
        }
    };
    matches!(reference.as_bytes().get(end), None | Some(b'/' | b':' | b'@')).then_some(end)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn registries(text: &str) -> Registries {
        let mut registries = Registries::default();
        let path = Path::new("registries.conf");
        registries.add(file::parse_podman(path, text).unwrap(), path.to_owned());
        registries
    }

    fn names(sources: Result<Sources, Error>) -> Vec<String> {
        let name = |source: Source| {
            let mark = if source.insecure { "!" } else { "" };
            format!("{mark}{}", source.reference)
        };
        let Sources { mirrors, origin } = sources.unwrap();
        mirrors.into_iter().chain([origin]).map(name).collect()
    }

    #[test]
    fn mirrors_come_before_the_origin_and_everything_is_rewritten() {
        let all = registries(
            r#"
            [[registry]]
            location = "docker.io"
            [[registry.mirror]]
            location = "m.example:5000/hub"
            insecure = true
            [[registry.mirror]]
            location = "d.example"
            pull-from-mirror = "digest-only"
            [[registry.mirror]]
            location = "t.example"
            pull-from-mirror = "tag-only"
            [[registry]]
            prefix = "old.example/team"
            location = "new.example/a/b"
            insecure = true
            [[registry]]
            prefix = "old.example/team/one:v1"
            location = "one.example/x:v2"
            [[registry]]
            prefix = "*.wild.example"
            insecure = true
            [[registry]]
            prefix = "*.dev.wild.example"
            location = "dev.example"
            "#,
        );
        let digest = format!("sha256:{}", "0".repeat(64));
        let table: &[(&str, &[&str])] = &[
            (
                "busybox",
                &[
                    "!m.example:5000/hub/library/busybox:latest",
                    "t.example/library/busybox:latest",
                    "docker.io/library/busybox:latest",
                ],
            ),
            ("old.example/team/app:v1", &["!new.example/a/b/app:v1"]),
            ("old.example/team:v1", &["!new.example/a/b:v1"]),
            ("old.example/teams/app", &["old.example/teams/app:latest"]),
            ("old.example/team/one:v1", &["one.example/x:v2"]),
            ("old.example/team/one:v10", &["!new.example/a/b/one:v10"]),
            ("a.wild.example/x", &["!a.wild.example/x:latest"]),
            ("a.wild.example:5000/x", &["!a.wild.example:5000/x:latest"]),
            ("wild.example/x", &["wild.example/x:latest"]),
            ("awild.example/x", &["awild.example/x:latest"]),
            ("a.wild.example.evil/x", &["a.wild.example.evil/x:latest"]),
            ("evil.example/a.wild.example", &["evil.example/a.wild.example:latest"]),
            ("b.dev.wild.example/x", &["dev.example/x:latest"]),
            ("quay.io/x", &["quay.io/x:latest"]),
        ];
        for (text, expected) in table {
            assert_eq!(names(all.sources(&text.parse().unwrap())), *expected, "{text}");
        }
        let pinned: Reference = format!("busybox@{digest}").parse().unwrap();
        let found = names(all.sources(&pinned));
        assert_eq!(found[1], format!("d.example/library/busybox@{digest}"));
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn what_is_blocked_and_by_which_file() {
        let all = registries(
            "[[registry]]\nlocation='bad.example'\nblocked=true\n[[registry]]\nlocation='bad.example/good'",
        );
        let error = all.sources(&"bad.example/x".parse().unwrap()).unwrap_err().to_string();
        assert!(error.contains("bad.example/x") && error.contains("registries.conf"), "{error}");
        assert_eq!(names(all.sources(&"bad.example/good/x".parse().unwrap())).len(), 1);
    }

    #[test]
    fn short_names() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let candidates = |all: &Registries, text: &str| -> Vec<String> {
            all.candidates(text).unwrap().iter().map(Reference::to_string).collect()
        };
        let none = Registries::default();
        assert_eq!(candidates(&none, "busybox"), ["docker.io/library/busybox:latest"]);
        let all = registries(
            "unqualified-search-registries=['q.example','docker.io']\n[aliases]\nfedora='r.example/fedora'\n'a/b'='r.example/c'\nbad='bad'",
        );
        let table: &[(&str, &[&str])] = &[
            ("busybox:v1", &["q.example/busybox:v1", "docker.io/library/busybox:v1"]),
            ("fedora", &["r.example/fedora:latest"]),
            ("fedora:41", &["r.example/fedora:41"]),
            ("a/b:x", &["r.example/c:x"]),
            ("docker.io/fedora", &["docker.io/library/fedora:latest"]),
            ("localhost/fedora", &["localhost/fedora:latest"]),
        ];
        for (text, expected) in table {
            assert_eq!(candidates(&all, text), *expected, "{text}");
        }
        let pinned = format!("fedora@{digest}");
        assert_eq!(candidates(&all, &pinned), [format!("r.example/fedora@{digest}")]);
        assert!(all.candidates("bad").unwrap_err().to_string().contains("registries.conf"));
        let enforcing = registries(
            "short-name-mode='enforcing'\nunqualified-search-registries=['a.b','c.d']\n[aliases]\nx='a.b/x'",
        );
        let error = enforcing.candidates("y").unwrap_err().to_string();
        assert!(error.contains("`y`") && error.contains("registries.conf"), "{error}");
        assert_eq!(candidates(&enforcing, "x").len(), 1);
        assert!(registries("unqualified-search-registries=[]").candidates("y").is_err());
    }

    #[test]
    fn later_files_win() {
        let mut all = registries(
            "unqualified-search-registries=['a.b']\n[[registry]]\nlocation='x.y'\nblocked=true\n[aliases]\nm='a.b/m'\nn='a.b/n'",
        );
        let path = Path::new("registries.conf.d/1.conf");
        let text = "unqualified-search-registries=['c.d']\n[[registry]]\nlocation='x.y'\n[aliases]\nm='c.d/m'\nn=''";
        all.add(file::parse_podman(path, text).unwrap(), path.to_owned());
        let candidates = |text| all.candidates(text).unwrap()[0].to_string();
        assert_eq!(candidates("m"), "c.d/m:latest");
        assert_eq!(candidates("n"), "c.d/n:latest");
        assert!(all.sources(&"x.y/z".parse().unwrap()).is_ok());
    }
}
