//! The three files in `/etc` that a container gets from outside its image.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::Error;
use super::adjust::{self, Adjustments};

/// The names of the files, in a container's folder and under `/etc` inside.
pub(super) const NAMES: [&str; 3] = ["hostname", "hosts", "resolv.conf"];

/// The most that is read of another container's file, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Gives the container in `folder` the files of the one in `from`, whose network it shares.
pub(super) fn share(from: &Path, folder: &Path) -> Result<(), Error> {
    for name in NAMES {
        let (from, to) = (from.join(name), folder.join(name));
        let mut content = Vec::new();
        let read = fs::File::open(&from).and_then(|f| f.take(MAX_FILE).read_to_end(&mut content));
        read.map_err(|source| Error::Io { verb: "read", path: from, source })?;
        write_file(to, &content)?;
    }
    Ok(())
}

fn write_file(path: PathBuf, content: &[u8]) -> Result<(), Error> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o644);
    let written = options.open(&path).and_then(|mut file| file.write_all(content));
    written.map_err(|source| Error::Io { verb: "write", path, source })
}

/// Writes the files into the container's folder.
///
/// `host_network` says that the container shares the host's network, and so also its names.
pub(super) fn write(
    folder: &Path,
    hostname: &str,
    host_network: bool,
    adjust: &Adjustments,
) -> Result<(), Error> {
    adjust::check_host_name("host name", hostname)?;
    adjust.check()?;
    let hosts = if host_network { fs::read_to_string("/etc/hosts").ok() } else { None };
    let hosts = hosts.unwrap_or_else(|| {
        format!(
            "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t{hostname}\n"
        )
    });
    let hosts = hosts + &adjust.host_lines();
    // Without a network there is no name server to ask; an empty file says so at once, where a copied one would make
    // every look-up wait for its timeout.
    let resolv =
        if host_network { fs::read("/etc/resolv.conf").unwrap_or_default() } else { Vec::new() };
    let resolv = adjust.resolv_conf().map_or(resolv, String::into_bytes);
    let hostname = format!("{hostname}\n");
    for (name, content) in NAMES.iter().zip([hostname.as_bytes(), hosts.as_bytes(), &resolv]) {
        write_file(folder.join(name), content)?;
    }
    Ok(())
}
