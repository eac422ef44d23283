//! `mydocker enable`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::container_options::parse;
use super::failure::{Failure, While as _};
use super::{Global, Outcome, SYSTEM_RUN, output};
use crate::container::{BootHook, HookFile, InitSystem};

const WHAT: &str = "enable";

/// Have the machine start containers when it starts, as their restart policies say
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    place: PlaceArgs,
    /// Init system: systemd, openrc, runit, sysvinit or rc.local [default: the one that is there]
    #[arg(long, value_name = "NAME", value_parser = parse::<InitSystem>)]
    init: Option<InitSystem>,
    /// Show what would be installed, and install nothing
    #[arg(long)]
    print: bool,
}

/// Where the init system is.
#[derive(Debug, clap::Args)]
pub(super) struct PlaceArgs {
    /// The root directory of another machine, as of an image that is being made
    #[arg(long, value_name = "DIR", default_value = "/")]
    sysroot: PathBuf,
}

impl PlaceArgs {
    /// What is to be executed at boot, and where that is said.
    pub(super) fn hook(&self, global: &Global, what: &str) -> Result<BootHook, Failure> {
        let absolute = |path: PathBuf| {
            let hint = "is the working directory still there?";
            let cause = |error| format!("find `{}`: {error}", path.display());
            std::path::absolute(&path).map_err(|error| Failure::new(what, cause(error), hint))
        };
        let program = std::env::current_exe().ok().filter(|path| path.is_file());
        let program = program.ok_or_else(|| {
            let hint = "put it into /usr/local/bin, and call it there";
            Failure::new(what, "this program's file is gone", hint)
        })?;
        let (root, run) = (absolute(global.root())?, absolute(global.run())?);
        let usual = if root == Path::new(super::SYSTEM_ROOT) {
            PathBuf::from(SYSTEM_RUN)
        } else {
            root.join("run")
        };
        Ok(BootHook {
            program,
            run: (run != usual).then_some(run),
            root,
            user_units: (!nix::unistd::geteuid().is_root()).then(user_units),
            sysroot: absolute(self.sysroot.clone())?,
        })
    }
}

/// Where an ordinary user's units are (`systemd.unit(5)`).
fn user_units() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".config");
    let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    config.filter(|path| path.is_absolute()).unwrap_or_else(home).join("systemd/user")
}

pub(super) fn run(global: &Global, args: &Args) -> Outcome {
    let hook = args.place.hook(global, WHAT)?;
    let system = match args.init {
        Some(system) => system,
        None => hook.detect().doing(WHAT)?,
    };
    if args.print {
        hook.files(system).iter().for_each(print);
        return Ok(0);
    }
    for path in hook.install(system).doing(WHAT)? {
        output::data(&format!("{}\n", path.display()));
    }
    if system == InitSystem::Systemd && hook.is_live() {
        let user = hook.user_units.is_some();
        // Started now, it also stops containers in order before this boot ends.
        if !systemctl(user, &["daemon-reload"]) || !systemctl(user, &["start", "mydocker.service"])
        {
            output::warning("systemd does not answer; it will know with the next boot");
        }
    }
    if hook.user_units.is_some() {
        linger();
    }
    Ok(0)
}

fn print(file: &HookFile) {
    let path = file.path().display();
    output::data(&match file {
        HookFile::Link(_, target) => format!("# {path} -> {target}\n"),
        HookFile::Lines(_, text) | HookFile::Script(_, text) | HookFile::Text(_, text) => {
            format!("# {path}\n{text}\n")
        }
    });
}

/// Says how an ordinary user's units are started before the user is there, if they are not.
fn linger() {
    let user = nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten();
    let Some(user) = user.map(|user| user.name) else { return };
    if !Path::new("/var/lib/systemd/linger").join(&user).exists() {
        output::message(&format!(
            "hint: containers start when {user} logs in; at boot after `loginctl enable-linger {user}`\n"
        ));
    }
}

/// Tells systemd something, and says whether that went well.
pub(super) fn systemctl(user: bool, words: &[&str]) -> bool {
    let mut command = Command::new("systemctl");
    command.args(user.then_some("--user")).args(words).stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
