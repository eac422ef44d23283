//! Finds the configuration files and reads them.

use std::fs::{self, File as Opened};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::Registries;
use super::file::{parse_own, parse_podman, unusable};
use crate::registry::{Environment, Error};

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;

impl Registries {
    /// What the files that `environment` names say.
    ///
    /// # Errors
    /// [`Error::File`] for one that cannot be read or understood. What is not there says nothing.
    pub(in crate::registry) fn load(environment: &Environment) -> Result<Self, Error> {
        let mut registries = Self::default();
        let mut ours = false;
        for path in &environment.config_files {
            let Some(text) = read(path)? else { continue };
            if let Some(file) = parse_own(path, &text)? {
                ours = true;
                registries.add(file, path.clone());
            }
        }
        if !ours {
            registries.load_podman(environment)?;
        }
        Ok(registries)
    }

    fn load_podman(&mut self, environment: &Environment) -> Result<(), Error> {
        for path in &environment.registries_conf {
            if let Some(text) = read(path)? {
                self.add(parse_podman(path, &text)?, path.clone());
                break;
            }
        }
        let mut files = Vec::new();
        for folder in &environment.registries_conf_dirs {
            files.extend(drop_ins(folder)?);
        }
        files.extend(environment.short_name_aliases.clone());
        for path in files {
            if let Some(text) = read(&path)? {
                self.add(parse_podman(&path, &text)?, path);
            }
        }
        Ok(())
    }
}

/// The `*.conf` files of a folder, in the order of their names.
fn drop_ins(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |error: io::Error| unusable(folder, error.to_string());
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "conf") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> Result<Option<String>, Error> {
    let failed = |error: io::Error| unusable(path, error.to_string());
    let file = match Opened::open(path) {
        Ok(file) => file,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut text = String::new();
    file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_FILE {
        return Err(unusable(path, format!("it is larger than {MAX_FILE} bytes")));
    }
    Ok(Some(text))
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
