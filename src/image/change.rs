//! Changes of an image's configuration, in the words of a Dockerfile: `commit --change`, `import --change`.

use std::str::FromStr;

use serde_json::{Map, Value, json};

/// One change.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Instruction {
    /// `CMD`: the command, or the arguments of the entry point.
    Cmd(Vec<String>),
    /// `ENTRYPOINT`.
    Entrypoint(Vec<String>),
    /// `ENV`: names and values.
    Env(Vec<(String, String)>),
    /// `EXPOSE`: ports as `80/tcp`.
    Expose(Vec<String>),
    /// `LABEL`: names and values.
    Label(Vec<(String, String)>),
    /// `ONBUILD`: an instruction for images that are built on this one.
    Onbuild(String),
    /// `STOPSIGNAL`.
    StopSignal(String),
    /// `USER`.
    User(String),
    /// `VOLUME`: directories.
    Volume(Vec<String>),
    /// `WORKDIR`.
    Workdir(String),
}

/// Why a text is no change.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InstructionError {
    /// There is nothing behind the instruction.
    #[error("`{0}` needs an argument")]
    Argument(String),
    /// A name without a value.
    #[error("`{0}`: expected NAME=VALUE")]
    Pair(String),
    /// A port that is none.
    #[error("`{0}` is no port, as in 80 or 80/udp")]
    Port(String),
    /// A quotation mark without its other.
    #[error("`{0}`: a quotation mark is not closed")]
    Quote(String),
    /// No instruction that changes a configuration.
    #[error(
        "`{0}` is none of CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME, WORKDIR"
    )]
    Unknown(String),
}

impl FromStr for Instruction {
    type Err = InstructionError;

    fn from_str(text: &str) -> Result<Self, InstructionError> {
        let text = text.trim();
        let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let rest = rest.trim();
        let word: String = word.chars().take(64).collect::<String>().to_ascii_uppercase();
        if rest.is_empty() && !matches!(&*word, "CMD" | "ENTRYPOINT") {
            return Err(match &*word {
                "ENV" | "EXPOSE" | "LABEL" | "ONBUILD" | "STOPSIGNAL" | "USER" | "VOLUME"
                | "WORKDIR" => InstructionError::Argument(word),
                _ => InstructionError::Unknown(word),
            });
        }
        Ok(match &*word {
            "CMD" => Self::Cmd(command(rest)),
            "ENTRYPOINT" => Self::Entrypoint(command(rest)),
            "ENV" => Self::Env(pairs(rest)?),
            "EXPOSE" => {
                Self::Expose(words(rest)?.iter().map(|p| port(p)).collect::<Result<_, _>>()?)
            }
            "LABEL" => Self::Label(pairs(rest)?),
            "ONBUILD" => Self::Onbuild(rest.to_owned()),
            "STOPSIGNAL" => Self::StopSignal(rest.to_owned()),
            "USER" => Self::User(rest.to_owned()),
            "VOLUME" => Self::Volume(array(rest).map_or_else(|| words(rest), Ok)?),
            "WORKDIR" => Self::Workdir(words(rest)?.concat()),
            _ => return Err(InstructionError::Unknown(word)),
        })
    }
}

impl Instruction {
    /// Changes `config`, the `config` object of an image configuration.
    pub fn apply(&self, config: &mut Map<String, Value>) {
        let mut set = |field: &str, value: Value| drop(config.insert(field.to_owned(), value));
        match self {
            Self::Cmd(words) => set("Cmd", json!(words)),
            Self::Entrypoint(words) => {
                set("Entrypoint", json!(words));
                // As in a Dockerfile: another entry point does not take the old one's arguments.
                config.remove("Cmd");
            }
            Self::Env(pairs) => pairs.iter().for_each(|(name, value)| set_env(config, name, value)),
            Self::Expose(ports) => {
                ports.iter().for_each(|port| member(config, "ExposedPorts", port, json!({})));
            }
            Self::Label(pairs) => {
                pairs.iter().for_each(|(name, value)| member(config, "Labels", name, json!(value)));
            }
            Self::Onbuild(text) => {
                let list = config.entry("OnBuild").or_insert(Value::Null);
                let mut items = list.as_array().cloned().unwrap_or_default();
                items.push(json!(text));
                *list = Value::from(items);
            }
            Self::StopSignal(signal) => set("StopSignal", json!(signal)),
            Self::User(user) => set("User", json!(user)),
            Self::Volume(paths) => {
                paths.iter().for_each(|path| member(config, "Volumes", path, json!({})));
            }
            Self::Workdir(path) => {
                let old = config.get("WorkingDir").and_then(Value::as_str).unwrap_or("/");
                let path = if path.starts_with('/') {
                    path.clone()
                } else {
                    format!("{}/{path}", old.trim_end_matches('/'))
                };
                config.insert("WorkingDir".to_owned(), json!(path));
            }
        }
    }
}

/// Puts a variable into `Env`, in the place of one of the same name.
pub(super) fn set_env(config: &mut Map<String, Value>, name: &str, value: &str) {
    let list = config.entry("Env").or_insert(Value::Null);
    let mut entries = list.as_array().cloned().unwrap_or_default();
    let prefix = format!("{name}=");
    let entry = json!(format!("{prefix}{value}"));
    let known = |entry: &Value| entry.as_str().is_some_and(|entry| entry.starts_with(&prefix));
    match entries.iter().position(known) {
        Some(at) => entries[at] = entry,
        None => entries.push(entry),
    }
    *list = Value::from(entries);
}

fn member(config: &mut Map<String, Value>, field: &str, name: &str, value: Value) {
    let object = config.entry(field).or_insert(Value::Null);
    let mut members = object.as_object().cloned().unwrap_or_default();
    members.insert(name.to_owned(), value);
    *object = Value::from(members);
}

/// A JSON array of words, or a line for the shell; nothing is no command at all.
fn command(text: &str) -> Vec<String> {
    match array(text) {
        Some(words) => words,
        None if text.is_empty() => Vec::new(),
        None => ["/bin/sh", "-c", text].map(str::to_owned).to_vec(),
    }
}

fn array(text: &str) -> Option<Vec<String>> {
    serde_json::from_str(text).ok()
}

/// `NAME=VALUE …`, or the old form of one name and its value behind a blank.
fn pairs(text: &str) -> Result<Vec<(String, String)>, InstructionError> {
    let wrong = || InstructionError::Pair(text.chars().take(128).collect());
    let words = words(text)?;
    let is_old = words.first().is_some_and(|first| !first.contains('='));
    if is_old {
        let (name, value) = text.split_once(char::is_whitespace).ok_or_else(wrong)?;
        return Ok(vec![(name.to_owned(), value.trim().to_owned())]);
    }
    let split = words.iter().map(|word| {
        let (name, value) = word.split_once('=').filter(|(name, _)| !name.is_empty())?;
        Some((name.to_owned(), value.to_owned()))
    });
    split.collect::<Option<_>>().ok_or_else(wrong)
}

fn port(text: &str) -> Result<String, InstructionError> {
    let wrong = || InstructionError::Port(text.chars().take(64).collect());
    let (numbers, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    if !matches!(protocol, "tcp" | "udp" | "sctp") {
        return Err(wrong());
    }
    for number in numbers.splitn(2, '-') {
        let fine = number.parse::<u16>().is_ok_and(|number| number > 0);
        if !fine || number.starts_with('+') {
            return Err(wrong());
        }
    }
    Ok(format!("{numbers}/{protocol}"))
}

/// Words between blanks; quotation marks keep blanks together, a backslash makes the next character plain.
fn words(text: &str) -> Result<Vec<String>, InstructionError> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', None | Some('"')) => {
                word.get_or_insert_default().extend(chars.next());
            }
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(InstructionError::Quote(text.chars().take(128).collect()));
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(changes: &[&str]) -> Value {
        let mut config = Map::new();
        for change in changes {
            change.parse::<Instruction>().unwrap().apply(&mut config);
        }
        Value::from(config)
    }

    #[test]
    fn every_instruction() {
        for (change, expected) in [
            ("CMD [\"a\", \"b c\"]", json!({"Cmd": ["a", "b c"]})),
            ("cmd a b", json!({"Cmd": ["/bin/sh", "-c", "a b"]})),
            ("CMD []", json!({"Cmd": []})),
            ("ENTRYPOINT [\"/x\"]", json!({"Entrypoint": ["/x"]})),
            (
                "ENV A=1 B=\"2 3\" C='4\\' D=a\\ b",
                json!({"Env": ["A=1", "B=2 3", "C=4\\", "D=a b"]}),
            ),
            ("ENV A one two", json!({"Env": ["A=one two"]})),
            (
                "EXPOSE 80 53/udp 8000-8010",
                json!({"ExposedPorts": {"80/tcp": {}, "53/udp": {}, "8000-8010/tcp": {}}}),
            ),
            ("LABEL a.b=c d=", json!({"Labels": {"a.b": "c", "d": ""}})),
            ("ONBUILD RUN x", json!({"OnBuild": ["RUN x"]})),
            ("STOPSIGNAL SIGINT", json!({"StopSignal": "SIGINT"})),
            ("USER 1000:1000", json!({"User": "1000:1000"})),
            ("VOLUME /a /b", json!({"Volumes": {"/a": {}, "/b": {}}})),
            ("VOLUME [\"/a b\"]", json!({"Volumes": {"/a b": {}}})),
            ("WORKDIR /srv", json!({"WorkingDir": "/srv"})),
        ] {
            assert_eq!(applied(&[change]), expected, "{change}");
        }
    }

    #[test]
    fn later_changes_build_on_earlier_ones() {
        let changes =
            ["ENV A=1 B=2", "ENV A=3", "WORKDIR /a", "WORKDIR b", "CMD x", "ENTRYPOINT [\"y\"]"];
        let expected = json!({"Env": ["A=3", "B=2"], "WorkingDir": "/a/b", "Entrypoint": ["y"]});
        assert_eq!(applied(&changes), expected);
    }

    #[test]
    fn what_is_no_change() {
        for bad in [
            "",
            "RUN x",
            "ENV",
            "ENV A",
            "ENV =x B=1",
            "LABEL \"a=b",
            "EXPOSE 0",
            "EXPOSE 99999",
            "EXPOSE 80/icmp",
            "EXPOSE +80",
            "USER",
        ] {
            assert!(bad.parse::<Instruction>().is_err(), "{bad}");
        }
    }
}
