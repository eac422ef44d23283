//! The options of `run` and `create` that few need, and those of docker that are refused with a reason.

use super::adjust_options::pairs;
use super::bridge_options::BridgeArgs;
use super::failure::Failure;
use crate::container::Tuning;

/// Limits and surroundings beyond the usual.
#[derive(Debug, clap::Args)]
pub(super) struct TuningArgs {
    /// Write to a file of its control group, as in memory.high=64M; needs cgroup version 2
    #[arg(long, value_name = "FILE=VALUE")]
    cgroup_conf: Vec<String>,
    /// Control group that its own is made in [default: mydocker]
    #[arg(long, value_name = "PATH", value_parser = parse_parent)]
    cgroup_parent: Option<String>,
    /// Period over which processor time is counted out, in microseconds
    #[arg(long, value_name = "MICROSECONDS", conflicts_with = "cpus")]
    cpu_period: Option<u64>,
    /// Processor time in each period, in microseconds; -1 for no limit
    #[arg(long, value_name = "MICROSECONDS", conflicts_with = "cpus", allow_hyphen_values = true)]
    cpu_quota: Option<i64>,
    /// Period of real-time scheduling, in microseconds; needs cgroup version 1
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_rt_period: Option<u64>,
    /// Processor time of real-time scheduling in each period; needs cgroup version 1
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_rt_runtime: Option<i64>,
    /// Begin with the caller's whole environment
    #[arg(long)]
    env_host: bool,
    /// How willingly it is swapped out, 0 to 100; -1 for the usual; needs cgroup version 1
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true, value_parser = clap::value_parser!(i64).range(-1..=100))]
    memory_swappiness: Option<i64>,
    /// Have processes wait, and not be killed, when its memory is used up; needs cgroup version 1
    #[arg(long)]
    oom_kill_disable: bool,
    /// LINUX32 for programs that believe to run on a 32-bit machine
    #[arg(long, value_name = "PERSONALITY", ignore_case = true, value_parser = ["LINUX", "LINUX32"])]
    personality: Option<String>,
    /// Time zone: local for the host's, or a name such as Europe/Vienna
    #[arg(long, value_name = "ZONE")]
    tz: Option<String>,
    /// File mode creation mask, in octal
    #[arg(long, value_name = "MASK", value_parser = parse_umask)]
    umask: Option<u32>,
    /// Variable that the image does not set
    #[arg(long, value_name = "NAME")]
    unsetenv: Vec<String>,
    /// Let the image set no variables
    #[arg(long)]
    unsetenv_all: bool,
    #[arg(long, hide = true)]
    kernel_memory: Option<String>,
    #[arg(long, hide = true)]
    link: Vec<String>,
    #[command(flatten)]
    bridge: BridgeArgs,
    #[arg(long, hide = true)]
    runtime: Option<String>,
    #[arg(long, hide = true)]
    isolation: Option<String>,
}

impl TuningArgs {
    pub(super) fn tuning(&self, what: &str) -> Result<Tuning, Failure> {
        self.refuse(what)?;
        self.bridge.refuse(what)?;
        let swappiness = self.memory_swappiness.and_then(|number| u64::try_from(number).ok());
        Ok(Tuning {
            cgroup_parent: self.cgroup_parent.clone(),
            cgroup_conf: pairs("--cgroup-conf", &self.cgroup_conf, what)?,
            cpu_period: self.cpu_period,
            cpu_quota: self.cpu_quota,
            cpu_rt_period: self.cpu_rt_period,
            cpu_rt_runtime: self.cpu_rt_runtime,
            memory_swappiness: swappiness,
            oom_kill_disable: self.oom_kill_disable,
            time_zone: self.tz.clone(),
            umask: self.umask,
            linux32: self.personality.as_deref().is_some_and(|p| p.eq_ignore_ascii_case("LINUX32")),
            env: if self.env_host { caller() } else { Vec::new() },
            unset_env: self.unsetenv.clone(),
            unset_all: self.unsetenv_all,
        })
    }

    /// What docker has and this program does not.
    fn refuse(&self, what: &str) -> Result<(), Failure> {
        let refused = [
            (
                "--kernel-memory",
                self.kernel_memory.is_some(),
                "kernels since 5.16 have no such limit; -m counts all memory",
            ),
            (
                "--link",
                !self.link.is_empty(),
                "containers find each other with --network container:NAME, names with --add-host",
            ),
            (
                "--runtime",
                self.runtime.is_some(),
                "this program is the runtime; engines are given it with `mydocker oci`",
            ),
            ("--isolation", self.isolation.is_some(), "there is but one technology on Linux"),
        ];
        match refused.iter().find(|(_, given, _)| *given) {
            Some((option, _, hint)) => {
                Err(Failure::new(what, format!("{option} is not supported"), *hint))
            }
            None => Ok(()),
        }
    }
}

/// The caller's variables, but for those that are no text.
fn caller() -> Vec<(String, String)> {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(text).collect()
}

fn parse_umask(text: &str) -> Result<u32, String> {
    let mask = u32::from_str_radix(text, 8).ok().filter(|mask| *mask <= 0o777);
    mask.ok_or_else(|| "expected up to 777, in octal".to_owned())
}

fn parse_parent(text: &str) -> Result<String, String> {
    let odd = |part: &str| part == ".." || part == ".";
    if text.contains([':', '\0', '\n']) || text.split('/').any(odd) {
        return Err("expected a path below the root of the control groups".to_owned());
    }
    Ok(text.to_owned())
}
