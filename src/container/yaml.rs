//! YAML as far as vendors' tools write it: one document of mappings with names, lists and scalars.
//!
//! Scalars mean what they mean in the core schema of YAML 1.2, and numbers with a leading zero are octal, as with the tools
//! that CDI comes from. What could stand for more than is written, anchors, aliases and tags, is refused, and so is a
//! name that occurs twice.

use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use serde::de::Error as _;
use serde_json::{Map, Value};

/// How deep mappings and lists may be in each other: CDI needs seven.
const MAX_DEPTH: usize = 32;

/// What is being read, the outermost first.
enum Open {
    List(Vec<Value>),
    /// A mapping, and the name that the next value belongs to.
    Mapping(Map<String, Value>, Option<String>),
}

/// Reads a document.
pub(super) fn parse(text: &str) -> Result<Value, serde_json::Error> {
    let mut reader = Reader { open: Vec::new(), document: None };
    for event in Parser::new_from_str(text) {
        let (event, at) = event.map_err(|error| refuse(error.marker().line(), error.info()))?;
        reader.take(event, at)?;
    }
    reader.document.ok_or_else(|| serde_json::Error::custom("it is empty"))
}

fn refuse(line: usize, why: &str) -> serde_json::Error {
    serde_json::Error::custom(format!("line {line}: {why}"))
}

struct Reader {
    open: Vec<Open>,
    document: Option<Value>,
}

impl Reader {
    fn take(&mut self, event: Event<'_>, at: Span) -> Result<(), serde_json::Error> {
        let line = at.start.line();
        let plain = |anchor: usize, tagged: bool| match (anchor, tagged) {
            (0, false) => Ok(()),
            (0, true) => Err(refuse(line, "tags are not supported")),
            _ => Err(refuse(line, "anchors are not supported")),
        };
        match event {
            Event::Alias(_) => Err(refuse(line, "aliases are not supported")),
            Event::Scalar(text, style, anchor, tag) => {
                plain(anchor, tag.is_some())?;
                self.scalar(&text, style == ScalarStyle::Plain, line)
            }
            Event::SequenceStart(anchor, tag) => {
                plain(anchor, tag.is_some())?;
                self.begin(Open::List(Vec::new()), line)
            }
            Event::MappingStart(anchor, tag) => {
                plain(anchor, tag.is_some())?;
                self.begin(Open::Mapping(Map::new(), None), line)
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List(list)) => self.put(Value::Array(list), line),
                Some(Open::Mapping(mapping, _)) => self.put(Value::Object(mapping), line),
                None => Ok(()),
            },
            Event::DocumentStart(_) if self.document.is_some() => {
                Err(refuse(line, "there is a second document"))
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, open: Open, line: usize) -> Result<(), serde_json::Error> {
        if matches!(self.open.last(), Some(Open::Mapping(_, None))) {
            return Err(refuse(line, "a name is a word"));
        }
        if self.open.len() == MAX_DEPTH {
            return Err(refuse(line, "it is too deep"));
        }
        self.open.push(open);
        Ok(())
    }

    fn scalar(&mut self, text: &str, plain: bool, line: usize) -> Result<(), serde_json::Error> {
        if let Some(Open::Mapping(known, name @ None)) = self.open.last_mut() {
            if known.contains_key(text) {
                return Err(refuse(line, &format!("`{text}` occurs twice")));
            }
            *name = Some(text.to_owned());
            return Ok(());
        }
        self.put(if plain { scalar(text) } else { Value::from(text) }, line)
    }

    fn put(&mut self, value: Value, line: usize) -> Result<(), serde_json::Error> {
        match self.open.last_mut() {
            None => self.document = Some(value),
            Some(Open::List(list)) => list.push(value),
            Some(Open::Mapping(mapping, name)) => {
                let name = name.take().ok_or_else(|| refuse(line, "a name is a word"))?;
                mapping.insert(name, value);
            }
        }
        Ok(())
    }
}

/// What a scalar without quotes means (YAML 1.2.2, section 10.3.2).
fn scalar(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let integer = match (digits.strip_prefix("0o"), digits.strip_prefix("0x")) {
        _ if !digits.starts_with(|first: char| first.is_ascii_digit()) => None,
        (Some(octal), _) => i64::from_str_radix(octal, 8).ok(),
        (_, Some(hex)) => i64::from_str_radix(hex, 16).ok(),
        _ if digits.starts_with('0') && digits.len() > 1 => i64::from_str_radix(digits, 8).ok(),
        _ => digits.parse().ok(),
    };
    let negative = |number: i64| if text.starts_with('-') { -number } else { number };
    match integer {
        Some(integer) => Value::from(negative(integer)),
        None => float(text).map_or_else(|| Value::from(text), Value::from),
    }
}

fn float(text: &str) -> Option<f64> {
    let good = |c: char| c.is_ascii_digit() || "+-.eE".contains(c);
    text.parse().ok().filter(|_| text.chars().all(good))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_vendors_write() {
        let text = "---\ncdiVersion: 0.5.0\nkind: \"a.example/gpu\" # remark\ndevices:\n- name: '0'\n  containerEdits:\n    \
            deviceNodes:\n    - {path: /dev/a, major: 1, fileMode: 0666, uid: -1}\n    env: [A=b, \"C=d e\"]\n\
            - name: all\ncontainerEdits:\n  hooks:\n  - args:\n    - |-\n      two\n      lines\n    - no\n    - true\n    - 1.5\n    - ~\n";
        let wanted = json!({
            "cdiVersion": "0.5.0", "kind": "a.example/gpu",
            "devices": [
                { "name": "0", "containerEdits": {
                    "deviceNodes": [{ "path": "/dev/a", "major": 1, "fileMode": 0o666, "uid": -1 }],
                    "env": ["A=b", "C=d e"] } },
                { "name": "all" },
            ],
            "containerEdits": { "hooks": [{ "args": ["two\nlines", "no", true, 1.5, null] }] },
        });
        assert_eq!(parse(text).unwrap(), wanted);
    }

    #[test]
    fn scalars() {
        for (text, value) in [
            ("0", json!(0)),
            ("0o17", json!(15)),
            ("0x1F", json!(31)),
            ("-7", json!(-7)),
            ("08", json!(8.0)),
            ("1e3", json!(1000.0)),
            ("--7", json!("--7")),
            ("0x", json!("0x")),
            (".inf", json!(".inf")),
            ("nan", json!("nan")),
            ("99999999999999999999", json!(1e20)),
            ("1.2.3", json!("1.2.3")),
        ] {
            assert_eq!(scalar(text), value, "{text}");
        }
    }

    #[test]
    fn what_could_be_more_than_is_written_is_refused() {
        let deep = "[".repeat(40) + &"]".repeat(40);
        for (text, why) in [
            ("", "empty"),
            ("a: &x 1\nb: 2", "anchors"),
            ("a: &x [1]\nb: *x", "anchors"),
            ("a: !!str 1", "tags"),
            ("a: 1\na: 2", "twice"),
            ("[a]: 1", "word"),
            ("a: 1\n---\nb: 2", "second document"),
            ("a: [1", "line"),
            (&deep, "deep"),
            (&"[".repeat(100_000), "line"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
