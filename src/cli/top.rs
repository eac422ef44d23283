//! `mydocker top`.

use std::fs;

use nix::unistd::{SysconfVar, sysconf};

use super::failure::While as _;
use super::output::{self, Table};
use super::{Global, Outcome};
use crate::container::{self, now};
use crate::runtime::rootless::user_name;

/// List the processes of a container, with the numbers that they have on the host
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name, id or first digits of an id
    container: String,
}

pub(super) fn run(global: &Global, args: &Args) -> Outcome {
    let what = format!("top {}", args.container);
    let containers = global.containers().doing(&what)?;
    let record = containers.find(&args.container).doing(&what)?;
    let status = containers.status(&record);
    let running = status.running();
    let running = running.ok_or_else(|| container::Error::NotRunning(record.name.clone()));
    let running = running.doing(&what)?;
    let mut pids = running.groups.processes().doing(&what)?;
    if pids.is_empty() {
        // A container without a group has at least its first process.
        pids.push(nix::unistd::Pid::from_raw(running.process.pid));
    }
    let mut table = Table::new(&["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
    // Each may have ended since.
    pids.into_iter().filter_map(|pid| row(pid.as_raw())).for_each(|row| table.row(row));
    table.print();
    Ok(0)
}

/// A process in the columns of `ps -ef`.
fn row(pid: i32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in the second field may hold anything; the last parenthesis closes it.
    let (head, rest) = stat.rsplit_once(')')?;
    let name = head.split_once('(')?.1;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |at: usize| fields.get(at).and_then(|field| field.parse::<i64>().ok());
    let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100).max(1);
    let used = (number(11)? + number(12)?) / ticks;
    let up = fs::read_to_string("/proc/uptime").ok()?;
    let up: i64 = up.split('.').next()?.parse().ok()?;
    let age = (up - number(19)? / ticks).max(0);
    let started = output::timestamp(now() - age);
    Some(vec![
        user(pid)?,
        pid.to_string(),
        number(1)?.to_string(),
        (used * 100 / age.max(1)).min(99).to_string(),
        started.get(11..16).unwrap_or_default().to_owned(),
        terminal(number(4)?),
        format!("{:02}:{:02}:{:02}", used / 3600, used / 60 % 60, used % 60),
        command(pid, name),
    ])
}

fn user(pid: i32) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    let uid: u32 = uid.split_whitespace().nth(1)?.parse().ok()?;
    Some(user_name(uid).unwrap_or_else(|| uid.to_string()))
}

/// The terminal's name from its device number (`proc_pid_stat(5)`, field 7).
fn terminal(device: i64) -> String {
    const PSEUDO_TERMINALS: i64 = 136;
    let (major, minor) = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xfff00);
    if major == PSEUDO_TERMINALS { format!("pts/{minor}") } else { "?".to_owned() }
}

/// The command line, escaped, so that a container cannot write to the terminal of whoever lists it.
fn command(pid: i32, name: &str) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let line = String::from_utf8_lossy(&line).trim_end_matches('\0').replace('\0', " ");
    let line = if line.is_empty() { format!("[{name}]") } else { line };
    line.escape_debug().collect()
}
