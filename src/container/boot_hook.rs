//! The one thing by which containers outlive a reboot: what the machine's init system is told.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::Error;

/// By this line a file is known to be one that may be replaced and removed.
const MARK: &str = "# Made by `mydocker enable`; `mydocker disable` removes it.";
/// Around the lines in a file that is somebody else's.
const BEGIN: &str = "# mydocker enable: begin";
const END: &str = "# mydocker enable: end";
const NAME: &str = "mydocker";

/// A system that starts others.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum InitSystem {
    /// `openrc-run(8)`.
    OpenRc,
    /// A script that is executed last at boot, where nothing better is.
    RcLocal,
    /// `runsv(8)`.
    Runit,
    /// `systemd(1)`.
    Systemd,
    /// Scripts with `start` and `stop`, and links in `/etc/rc?.d`.
    SysV,
}

/// All of them, in the order in which they are looked for.
const SYSTEMS: [(&str, InitSystem); 5] = [
    ("systemd", InitSystem::Systemd),
    ("openrc", InitSystem::OpenRc),
    ("runit", InitSystem::Runit),
    ("sysvinit", InitSystem::SysV),
    ("rc.local", InitSystem::RcLocal),
];

impl FromStr for InitSystem {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let found = SYSTEMS.iter().find(|(name, _)| *name == text).map(|(_, system)| *system);
        found.ok_or_else(|| Error::Value {
            what: "init system",
            value: text.to_owned(),
            why: "there are systemd, openrc, runit, sysvinit and rc.local",
        })
    }
}

/// What is to be executed, and where.
#[derive(Clone, Debug)]
pub struct BootHook {
    /// This program.
    pub program: PathBuf,
    /// The store.
    pub root: PathBuf,
    /// The folder of what a reboot forgets, if it is not the usual one for the store.
    pub run: Option<PathBuf>,
    /// The folder of an ordinary user's systemd units; none for the machine's own.
    pub user_units: Option<PathBuf>,
    /// The machine's root directory, as of an image that is being made.
    pub sysroot: PathBuf,
}

/// A file that makes up a hook.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HookFile {
    /// Lines in a file that belongs to others.
    Lines(PathBuf, String),
    /// A symbolic link, and where it leads to.
    Link(PathBuf, String),
    /// A script, which can be executed.
    Script(PathBuf, String),
    /// A file of text.
    Text(PathBuf, String),
}

impl HookFile {
    /// Where it is, in the machine's own words.
    pub fn path(&self) -> &Path {
        match self {
            Self::Lines(path, _) | Self::Link(path, _) | Self::Script(path, _) => path,
            Self::Text(path, _) => path,
        }
    }
}

impl BootHook {
    /// The init system of the machine; of an ordinary user it can only be systemd.
    ///
    /// # Errors
    /// [`Error::NoInitSystem`] if none is known.
    pub fn detect(&self) -> Result<InitSystem, Error> {
        let found = SYSTEMS.iter().map(|(_, system)| *system).find(|system| self.is_there(*system));
        let possible =
            found.filter(|found| self.user_units.is_none() || *found == InitSystem::Systemd);
        possible.ok_or(Error::NoInitSystem)
    }

    fn is_there(&self, system: InitSystem) -> bool {
        let any = |paths: &[&str]| paths.iter().any(|path| self.inside(path).exists());
        match system {
            // `sd_booted(3)`; in a folder nothing is booted, and the program has to do.
            InitSystem::Systemd if self.is_live() => any(&["/run/systemd/system"]),
            InitSystem::Systemd => any(&["/usr/lib/systemd/systemd", "/lib/systemd/systemd"]),
            InitSystem::OpenRc => any(&["/sbin/openrc-run", "/usr/sbin/openrc-run"]),
            InitSystem::Runit => any(&["/etc/runit", "/etc/sv"]),
            InitSystem::SysV => any(&["/etc/init.d"]) && any(&["/etc/rc2.d", "/etc/rc.d/rc2.d"]),
            InitSystem::RcLocal => any(&["/etc/rc.local"]),
        }
    }

    /// Whether it is about the machine that runs.
    pub fn is_live(&self) -> bool {
        self.sysroot == Path::new("/")
    }

    fn inside(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.sysroot.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The files that make up the hook.
    pub fn files(&self, system: InitSystem) -> Vec<HookFile> {
        match system {
            InitSystem::OpenRc => self.openrc(),
            InitSystem::RcLocal => {
                vec![HookFile::Lines("/etc/rc.local".into(), self.shell("boot") + "\n")]
            }
            InitSystem::Runit => self.runit(),
            InitSystem::Systemd => self.systemd(),
            InitSystem::SysV => self.sysv(),
        }
    }

    fn systemd(&self) -> Vec<HookFile> {
        let (folder, wanted_by) = match &self.user_units {
            Some(folder) => (folder.clone(), "default.target"),
            None => (PathBuf::from("/etc/systemd/system"), "multi-user.target"),
        };
        let word = |path: &Path| unit_word(&path.to_string_lossy());
        let run = self.run.as_ref().map(|run| {
            format!("Environment={}\n", unit_word(&format!("MYDOCKER_RUN={}", run.display())))
        });
        let command = format!("{} --root {} boot", word(&self.program), word(&self.root));
        // Monitors and containers live on in the unit's group, and outlive its being restarted by hand.
        let unit = format!(
            "{MARK}\n[Unit]\nDescription=Containers of mydocker\nAfter=network-online.target\n\
             RequiresMountsFor={}\n\n[Service]\nType=oneshot\nRemainAfterExit=yes\n{}\
             ExecStart={command}\nExecStop={command} --stop\nTimeoutStopSec=5min\n\
             KillMode=process\nDelegate=yes\n\n[Install]\nWantedBy={wanted_by}\n",
            word(&self.root),
            run.unwrap_or_default(),
        );
        let name = format!("{NAME}.service");
        let link = folder.join(format!("{wanted_by}.wants")).join(&name);
        vec![HookFile::Text(folder.join(&name), unit), HookFile::Link(link, format!("../{name}"))]
    }

    fn openrc(&self) -> Vec<HookFile> {
        let script = format!(
            "#!/sbin/openrc-run\n{MARK}\ndescription=\"Containers of mydocker\"\n\n\
             depend() {{\n\tneed localmount\n\tafter net\n}}\n\n\
             start() {{\n\tebegin \"Starting containers\"\n\t{}\n\teend $?\n}}\n\n\
             stop() {{\n\tebegin \"Stopping containers\"\n\t{}\n\teend $?\n}}\n",
            self.shell("boot"),
            self.shell("boot --stop"),
        );
        let path = format!("/etc/init.d/{NAME}");
        vec![
            HookFile::Script(path.clone().into(), script),
            HookFile::Link(format!("/etc/runlevels/default/{NAME}").into(), path),
        ]
    }

    fn runit(&self) -> Vec<HookFile> {
        // What is supervised has to stay: a program that does nothing, whose end is that of the service.
        let run = format!(
            "#!/bin/sh\n{MARK}\nexec 2>&1\n{}\nexec tail -f /dev/null\n",
            self.shell("boot")
        );
        let finish = format!("#!/bin/sh\n{MARK}\nexec 2>&1\n{}\n", self.shell("boot --stop"));
        let services = ["/etc/runit/runsvdir/default", "/var/service", "/service"];
        let services = services.into_iter().find(|folder| self.inside(folder).is_dir());
        let folder = format!("/etc/sv/{NAME}");
        let link = format!("{}/{NAME}", services.unwrap_or("/var/service"));
        vec![
            HookFile::Script(format!("{folder}/run").into(), run),
            HookFile::Script(format!("{folder}/finish").into(), finish),
            HookFile::Link(link.into(), folder),
        ]
    }

    fn sysv(&self) -> Vec<HookFile> {
        let script = format!(
            "#!/bin/sh\n{MARK}\n### BEGIN INIT INFO\n# Provides: {NAME}\n\
             # Required-Start: $local_fs $remote_fs\n# Required-Stop: $local_fs $remote_fs\n\
             # Should-Start: $network\n# Should-Stop: $network\n# Default-Start: 2 3 4 5\n\
             # Default-Stop: 0 1 6\n# Short-Description: Containers of mydocker\n### END INIT INFO\n\n\
             case \"$1\" in\n\tstart) {start} ;;\n\tstop) {stop} ;;\n\
             \trestart|force-reload) {stop}; {start} ;;\n\
             \t*) echo \"usage: $0 start|stop|restart\" >&2; exit 3 ;;\nesac\n",
            start = self.shell("boot"),
            stop = self.shell("boot --stop"),
        );
        let base = if self.inside("/etc/rc.d/rc2.d").is_dir() { "/etc/rc.d" } else { "/etc" };
        let target = if base == "/etc" { "../init.d" } else { "../../init.d" };
        let link = |level: u32, kind: &str| {
            HookFile::Link(
                format!("{base}/rc{level}.d/{kind}{NAME}").into(),
                format!("{target}/{NAME}"),
            )
        };
        let mut files = vec![HookFile::Script(format!("/etc/init.d/{NAME}").into(), script)];
        files.extend([2, 3, 4, 5].map(|level| link(level, "S99")));
        files.extend([0, 1, 6].map(|level| link(level, "K01")));
        files
    }

    /// The command as a shell reads it.
    fn shell(&self, verb: &str) -> String {
        let word = |path: &Path| shell_word(&path.to_string_lossy());
        let run = self.run.as_ref().map(|run| format!("MYDOCKER_RUN={} ", word(run)));
        let run = run.unwrap_or_default();
        format!("{run}{} --root {} {verb}", word(&self.program), word(&self.root))
    }

    /// Installs the hook, in the place of one that is there, and says where its files are.
    ///
    /// # Errors
    /// When a file cannot be written, or has the name of one but was made by somebody else.
    pub fn install(&self, system: InitSystem) -> Result<Vec<PathBuf>, Error> {
        let files = self.files(system);
        for file in &files {
            let path = self.inside(file.path());
            let made = make(file, &path);
            made.map_err(|source| Error::Io { verb: "create", path, source })?;
        }
        Ok(files.iter().map(|file| self.inside(file.path())).collect())
    }

    /// Removes the hook, whichever init systems it was installed for, and says where its files were.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn remove(&self) -> Result<Vec<PathBuf>, Error> {
        let mut removed = Vec::new();
        for (_, system) in SYSTEMS {
            if self.user_units.is_some() && system != InitSystem::Systemd {
                continue;
            }
            // Links first: none leads to nowhere meanwhile.
            for file in self.files(system).iter().rev() {
                let path = self.inside(file.path());
                match unmake(file, &path) {
                    Ok(true) => removed.push(path),
                    Ok(false) => {}
                    Err(source) => return Err(Error::Io { verb: "remove", path, source }),
                }
            }
        }
        // The folder that only held the service.
        let _ = fs::remove_dir(self.inside(format!("/etc/sv/{NAME}")));
        removed.sort();
        removed.dedup();
        Ok(removed)
    }
}

fn make(file: &HookFile, path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    match file {
        HookFile::Lines(_, lines) => {
            let text = without_lines(&fs::read_to_string(path)?);
            let lines = format!("{BEGIN}\n{lines}{END}\n");
            // Behind `exit` nothing would be executed.
            let at = text.lines().scan(0, |at, line| {
                *at += line.len() + 1;
                Some((*at - line.len() - 1, line))
            });
            let at = at.filter(|(_, line)| line.trim() == "exit 0").last().map(|(at, _)| at);
            let (before, behind) = text.split_at(at.unwrap_or(text.len()));
            let newline = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
            fs::write(path, format!("{before}{newline}{lines}{behind}"))
        }
        HookFile::Link(_, target) => match fs::read_link(path) {
            Ok(found) if found == Path::new(target) => Ok(()),
            _ => symlink(target, path),
        },
        HookFile::Script(_, text) => write_own(path, text, 0o755),
        HookFile::Text(_, text) => write_own(path, text, 0o644),
    }
}

/// Writes a file anew, which must be no one else's.
fn write_own(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    unmake_own(path)?;
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())
}

fn unmake(file: &HookFile, path: &Path) -> io::Result<bool> {
    match file {
        HookFile::Lines(..) => match fs::read_to_string(path) {
            Ok(text) if text.lines().any(|line| line == BEGIN) => {
                fs::write(path, without_lines(&text)).map(|()| true)
            }
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        },
        HookFile::Link(_, target) => match fs::read_link(path) {
            Ok(found) if found == Path::new(target) => fs::remove_file(path).map(|()| true),
            _ => Ok(false),
        },
        HookFile::Script(..) | HookFile::Text(..) => unmake_own(path),
    }
}

/// Removes a file if it has the mark.
fn unmake_own(path: &Path) -> io::Result<bool> {
    match fs::read_to_string(path) {
        Ok(text) if text.lines().any(|line| line == MARK) => fs::remove_file(path).map(|()| true),
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// A text without the lines that were put into it.
fn without_lines(text: &str) -> String {
    let (mut kept, mut inside) = (String::new(), false);
    for line in text.split_inclusive('\n') {
        match line.trim_end_matches('\n') {
            BEGIN => inside = true,
            END if inside => inside = false,
            _ if inside => {}
            _ => kept.push_str(line),
        }
    }
    kept
}

/// A word of a command in a unit (`systemd.service(5)`, "Command lines"; `%` begins a specifier there).
fn unit_word(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-+=:@,".contains(&b);
    if !text.is_empty() && text.bytes().all(plain) {
        return text.to_owned();
    }
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", escaped.replace('%', "%%").replace('$', "$$").replace('\n', "\\n"))
}

/// A word of a shell's.
fn shell_word(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-+=:@,".contains(&b);
    if !text.is_empty() && text.bytes().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_mean_what_they_say() {
        for (text, word) in [("/a/b-c", "/a/b-c"), ("/a b", "'/a b'"), ("/it's", "'/it'\\''s'")] {
            assert_eq!(shell_word(text), word);
        }
        for (text, word) in
            [("/a/b", "/a/b"), ("/a b", "\"/a b\""), ("/%h/$x\"", "\"/%%h/$$x\\\"\"")]
        {
            assert_eq!(unit_word(text), word);
        }
    }

    #[test]
    fn lines_leave_a_file_as_it_was() {
        let text = "#!/bin/sh\necho\nexit 0\n";
        let with = format!("#!/bin/sh\necho\n{BEGIN}\nx\n{END}\nexit 0\n");
        assert_eq!(without_lines(&with), text);
        assert_eq!(without_lines(text), text);
    }
}
