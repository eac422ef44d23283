//! Changing a credentials file: whole, private, and with everything else in it as it was.

use std::fmt;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::credentials::{MAX_FILE, unusable};
use super::error::Error;

/// A JSON object whose fields keep their order and, unless changed, their text to the byte.
#[derive(Debug, Default)]
pub(super) struct Fields(Vec<(String, Box<RawValue>)>);

impl Fields {
    /// Puts `value` in the place of the field `name`, or behind all others.
    pub(super) fn set(&mut self, name: &str, value: Box<RawValue>) {
        match self.0.iter_mut().find(|(found, _)| found == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    /// Keeps the fields whose names `keep` accepts.
    pub(super) fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.0.retain(|(name, _)| keep(name));
    }

    fn get(&self, name: &str) -> Option<&RawValue> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| &**value)
    }

    /// The object as text, indented by tabs as docker does it, inside so many others.
    fn to_text(&self, depth: usize) -> Result<String, serde_json::Error> {
        if self.0.is_empty() {
            return Ok("{}".to_owned());
        }
        let inner = "\t".repeat(depth + 1);
        let mut lines = Vec::new();
        for (name, value) in &self.0 {
            lines.push(format!("{inner}{}: {}", serde_json::to_string(name)?, value.get()));
        }
        Ok(format!("{{\n{}\n{}}}", lines.join(",\n"), "\t".repeat(depth)))
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map;

        impl<'de> Visitor<'de> for Map {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }

            fn visit_unit<E>(self) -> Result<Fields, E> {
                Ok(Fields::default())
            }
        }

        deserializer.deserialize_any(Map)
    }
}

/// Changes the field `auths` of the file at `path`, which is made if it is missing.
///
/// Two programs that change it one after the other do not lose each other's change, if both are this one; whoever
/// reads it meanwhile sees the old file or the new one. It is for its owner alone (0600).
pub(super) fn edit(path: &Path, change: impl FnOnce(&mut Fields)) -> Result<(), Error> {
    // A file that is a link, into a folder under version control perhaps, stays one.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let mut private = fs::DirBuilder::new();
    private.mode(0o700).recursive(true);
    private.create(folder).map_err(|e| failed("create", folder, e))?;
    let opened = File::open(folder).map_err(|e| failed("open", folder, e))?;
    let _lock = Flock::lock(opened, FlockArg::LockExclusive)
        .map_err(|(_, errno)| failed("lock", folder, errno.into()))?;
    let (text, metadata) = read(path)?;
    let malformed = |error: serde_json::Error| {
        // The parser's own words could repeat a part of the file, which is secret; the place is enough.
        let (line, column) = (error.line(), error.column());
        unusable(path, format!("malformed JSON in line {line}, column {column}"))
    };
    let mut file: Fields = match text.trim_ascii() {
        b"" => Fields::default(),
        text => serde_json::from_slice(text).map_err(malformed)?,
    };
    let auths = file.get("auths").map(|auths| serde_json::from_str(auths.get()));
    let mut auths: Fields = auths.transpose().map_err(malformed)?.unwrap_or_default();
    change(&mut auths);
    let auths = auths.to_text(1).and_then(RawValue::from_string).map_err(malformed)?;
    file.set("auths", auths);
    let text = file.to_text(0).map_err(malformed)?;
    replace(path, folder, format!("{text}\n").as_bytes(), metadata.as_ref())
}

fn read(path: &Path) -> Result<(Vec<u8>, Option<Metadata>), Error> {
    let mut text = Vec::new();
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((text, None)),
        file => file.map_err(|e| failed("open", path, e))?,
    };
    let metadata = file.metadata().map_err(|e| failed("open", path, e))?;
    if !metadata.is_file() {
        return Err(unusable(path, "it is not a file".to_owned()));
    }
    let read = file.take(MAX_FILE + 1).read_to_end(&mut text);
    match read.map_err(|e| failed("read", path, e))? as u64 {
        0..=MAX_FILE => Ok((text, Some(metadata))),
        _ => Err(unusable(path, format!("it is larger than {MAX_FILE} bytes"))),
    }
}

/// Puts a new file in the place of the old one, with its owner.
fn replace(path: &Path, folder: &Path, text: &[u8], old: Option<&Metadata>) -> Result<(), Error> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|e| failed("name a file in", folder, e.into()))?;
    let temporary = folder.join(format!(".{name}.{:016x}", u64::from_ne_bytes(random)));
    let written = write(&temporary, text, old)
        .and_then(|()| fs::rename(&temporary, path).map_err(|e| failed("rename", &temporary, e)));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written?;
    let flushed = File::open(folder).and_then(|folder| folder.sync_all());
    flushed.map_err(|e| failed("flush", folder, e))
}

fn write(path: &Path, text: &[u8], old: Option<&Metadata>) -> Result<(), Error> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    let mut file = file.map_err(|e| failed("create", path, e))?;
    // The umask may have taken something away.
    let private = fs::Permissions::from_mode(0o600);
    file.set_permissions(private).map_err(|e| failed("chmod", path, e))?;
    if let Some(old) = old.filter(|old| old.uid() != nix::unistd::geteuid().as_raw()) {
        fchown(&file, Some(old.uid()), Some(old.gid())).map_err(|e| failed("chown", path, e))?;
    }
    file.write_all(text).and_then(|()| file.sync_all()).map_err(|e| failed("write", path, e))
}

fn failed(verb: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Io { verb, path: PathBuf::from(path), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_fields_keep_their_order_and_text() {
        let text = r#"{"z": 1.50, "HttpHeaders": {"b":  2, "a": 12345678901234567890123}, "auths": {"x": { }}}"#;
        let mut file: Fields = serde_json::from_str(text).unwrap();
        let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        file.set("auths", raw("{}"));
        file.set("new", raw("null"));
        let expected = "{\n\t\"z\": 1.50,\n\t\"HttpHeaders\": {\"b\":  2, \"a\": 12345678901234567890123},\n\t\"auths\": {},\n\t\"new\": null\n}";
        assert_eq!(file.to_text(0).unwrap(), expected);
        file.retain(|name| name == "new");
        assert_eq!(file.to_text(0).unwrap(), "{\n\t\"new\": null\n}");
        for bad in ["[]", "1", "\"x\"", "{\"a\":}"] {
            assert!(serde_json::from_str::<Fields>(bad).is_err(), "{bad}");
        }
        assert!(serde_json::from_str::<Fields>("null").unwrap().0.is_empty());
    }
}
