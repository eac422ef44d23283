//! The processes of a container in the columns of ps(1), read from `/proc`.

use std::fs;

use nix::unistd::{SysconfVar, sysconf};

use super::{Containers, Error, Record, now};
use crate::runtime::rootless::user_name;

/// Why there is no such list.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TopError {
    /// No column of ps's that is known here.
    #[error("unknown column `{0}`")]
    Column(String),
    /// There are no columns behind `-o`.
    #[error("`{0}` needs a list of columns")]
    Missing(String),
    /// An option of ps's that is not known here.
    #[error("unknown option of ps: `{0}`")]
    Option(String),
}

/// What a column shows of a process.
type Show = fn(&Process) -> String;

/// A column: what ps calls it, its header, and what it shows.
struct Known(&'static str, &'static str, Show);

/// Those of ps(1). Numbers are those of the host.
const KNOWN: &[Known] = &[
    Known("%cpu", "%CPU", Process::cpu),
    Known("%mem", "%MEM", Process::memory),
    Known("args", "COMMAND", |process| process.args.clone()),
    Known("c", "C", |process| process.cpu_percent().to_string()),
    Known("cmd", "CMD", |process| process.args.clone()),
    Known("comm", "COMMAND", |process| process.comm.clone()),
    Known("command", "COMMAND", |process| process.args.clone()),
    Known("etime", "ELAPSED", |process| elapsed(process.age)),
    Known("etimes", "ELAPSED", |process| process.age.to_string()),
    Known("euid", "EUID", |process| process.uid.to_string()),
    Known("gid", "GID", |process| process.gid.to_string()),
    Known("ni", "NI", |process| process.nice.to_string()),
    Known("nlwp", "NLWP", |process| process.threads.to_string()),
    Known("pcpu", "%CPU", Process::cpu),
    Known("pgid", "PGID", |process| process.group.to_string()),
    Known("pid", "PID", |process| process.pid.to_string()),
    Known("pmem", "%MEM", Process::memory),
    Known("ppid", "PPID", |process| process.parent.to_string()),
    Known("pri", "PRI", |process| (39 - process.priority).to_string()),
    Known("rss", "RSS", |process| process.resident.to_string()),
    Known("s", "S", |process| process.state.to_string()),
    Known("sid", "SID", |process| process.session.to_string()),
    Known("start", "STARTED", |process| process.started(24, 8)),
    Known("stat", "STAT", Process::stat),
    Known("state", "S", |process| process.state.to_string()),
    Known("stime", "STIME", |process| process.started(24, 5)),
    Known("thcount", "THCNT", |process| process.threads.to_string()),
    Known("time", "TIME", |process| clock(process.used)),
    Known("tt", "TT", |process| terminal(process.terminal)),
    Known("tty", "TT", |process| terminal(process.terminal)),
    Known("uid", "UID", |process| process.uid.to_string()),
    Known("user", "USER", |process| user(process.uid)),
    Known("vsz", "VSZ", |process| process.size.to_string()),
];

/// Those of `podman top`. Numbers are those inside, unless their names begin with `h`.
const PODMAN: &[Known] = &[
    Known("args", "COMMAND", |process| process.args.clone()),
    Known("comm", "COMMAND", |process| process.comm.clone()),
    Known("etime", "ELAPSED", |process| elapsed(process.age)),
    Known("hpid", "HPID", |process| process.pid.to_string()),
    Known("huser", "HUSER", |process| user(process.uid)),
    Known("nice", "NI", |process| process.nice.to_string()),
    Known("pcpu", "%CPU", Process::cpu),
    Known("pid", "PID", |process| process.inner_pid.to_string()),
    Known("rss", "RSS", |process| process.resident.to_string()),
    Known("state", "STATE", |process| process.state.to_string()),
    Known("stime", "STIME", |process| process.started(24, 5)),
    Known("time", "TIME", |process| clock(process.used)),
    Known("tty", "TTY", |process| terminal(process.terminal)),
    Known("user", "USER", Process::inner_user),
    Known("vsz", "VSZ", |process| process.size.to_string()),
];

/// `ps -ef`.
const FULL: &str = "user=UID,pid,ppid,c,stime,tty=TTY,time,cmd";
/// `ps aux`.
const BSD: &str = "user,pid,%cpu,%mem,vsz,rss,tty=TTY,stat,stime=START,bsdtime=TIME,args";

/// The columns of a list.
#[derive(Debug)]
pub struct Columns(Vec<(String, Show)>);

impl Columns {
    /// Those that options of ps ask for: `-ef`, `aux`, `-o LIST`, `-eo LIST`; or names of podman's; `-ef` unless given.
    ///
    /// # Errors
    /// [`TopError`] names what is not known.
    pub fn new(options: &[String]) -> Result<Self, TopError> {
        let mut lists = Vec::new();
        let mut options = options.iter().peekable();
        if options.peek().is_some_and(|first| !first.starts_with('-') && !is_bsd(first)) {
            let names = options.flat_map(|names| names.split(','));
            return names.map(|name| column(name, PODMAN)).collect::<Result<_, _>>().map(Self);
        }
        while let Some(option) = options.next() {
            let (letters, list) = match option.strip_prefix("--format") {
                Some(rest) => ("-o", rest.strip_prefix('=').unwrap_or(rest)),
                None => {
                    match option.strip_prefix('-').and_then(|letters| letters.split_once('o')) {
                        Some((letters, list)) if letters.chars().all(|c| "eA".contains(c)) => {
                            ("-o", list)
                        }
                        _ => (option.as_str(), ""),
                    }
                }
            };
            match letters {
                "-o" if !list.is_empty() => lists.push(list.to_owned()),
                "-o" => {
                    let list = options.next().ok_or_else(|| TopError::Missing(option.clone()))?;
                    lists.push(list.clone());
                }
                "-e" | "-A" | "-ww" | "-w" => {}
                "-f" | "-ef" | "-fe" | "-Af" => lists.push(FULL.to_owned()),
                bsd if is_bsd(bsd) => lists.push(BSD.to_owned()),
                _ => return Err(TopError::Option(option.chars().take(64).collect())),
            }
        }
        if lists.is_empty() {
            lists.push(FULL.to_owned());
        }
        let names =
            lists.iter().flat_map(|list| list.split([',', ' '])).filter(|name| !name.is_empty());
        names.map(|name| column(name, KNOWN)).collect::<Result<_, _>>().map(Self)
    }

    /// What stands above each column.
    pub fn header(&self) -> Vec<&str> {
        self.0.iter().map(|(header, _)| header.as_str()).collect()
    }
}

fn is_bsd(option: &str) -> bool {
    matches!(option, "aux" | "-aux" | "axu" | "u" | "ux")
}

fn column(text: &str, known: &[Known]) -> Result<(String, Show), TopError> {
    let (name, header) = text.split_once('=').map_or((text, None), |(n, h)| (n, Some(h)));
    if name == "bsdtime" {
        let time: Show = |process| format!("{}:{:02}", process.used / 60, process.used % 60);
        return Ok((header.unwrap_or("TIME").to_owned(), time));
    }
    match known.iter().find(|Known(known, ..)| *known == name) {
        Some(Known(_, usual, show)) => Ok((header.unwrap_or(usual).to_owned(), *show)),
        None => Err(TopError::Column(name.chars().take(64).collect())),
    }
}

/// The processes of a running container, a line each.
///
/// # Errors
/// [`Error::NotRunning`].
pub fn top(
    containers: &Containers,
    record: &Record,
    columns: &Columns,
) -> Result<Vec<Vec<String>>, Error> {
    let status = containers.status(record);
    let running = status.running().ok_or_else(|| Error::NotRunning(record.name.clone()))?;
    let mut pids = running.groups.processes()?;
    if pids.is_empty() {
        // A container without a group has at least its first process.
        pids.push(nix::unistd::Pid::from_raw(running.process.pid));
    }
    let first = record.ids.map_or(0, |ids| ids.first);
    // Each may have ended since.
    let processes = pids.into_iter().filter_map(|pid| Process::read(pid.as_raw(), first));
    Ok(processes
        .map(|process| columns.0.iter().map(|(_, show)| show(&process)).collect())
        .collect())
}

/// What `/proc` says of a process (`proc_pid_stat(5)`).
#[derive(Debug)]
struct Process {
    pid: i32,
    inner_pid: String,
    uid: u32,
    gid: u32,
    /// The user as the container counts.
    inner_uid: u32,
    comm: String,
    args: String,
    state: char,
    parent: i64,
    group: i64,
    session: i64,
    terminal: i64,
    foreground: i64,
    /// Processor time, in seconds.
    used: i64,
    priority: i64,
    nice: i64,
    threads: i64,
    /// In seconds.
    age: i64,
    /// In KiB.
    size: i64,
    /// In KiB.
    resident: i64,
}

impl Process {
    fn read(pid: i32, first: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        // The name in the second field may hold anything; the last parenthesis closes it.
        let (head, rest) = stat.rsplit_once(')')?;
        let comm: String = head.split_once('(')?.1.escape_debug().collect();
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let number = |at: usize| fields.get(at).and_then(|field| field.parse::<i64>().ok());
        let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100).max(1);
        let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(4096) / 1024;
        let up = fs::read_to_string("/proc/uptime").ok()?;
        let up: i64 = up.split('.').next()?.parse().ok()?;
        let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        let effective = |name: &str| line(name)?.split_whitespace().nth(1)?.parse::<u32>().ok();
        let uid = effective("Uid:")?;
        Some(Self {
            pid,
            inner_pid: line("NSpid:")?.split_whitespace().last()?.to_owned(),
            uid,
            gid: effective("Gid:")?,
            inner_uid: uid.checked_sub(first).unwrap_or(uid),
            args: args(pid, &comm),
            comm,
            state: fields.first()?.chars().next()?,
            parent: number(1)?,
            group: number(2)?,
            session: number(3)?,
            terminal: number(4)?,
            foreground: number(5)?,
            used: number(11)?.saturating_add(number(12)?) / ticks,
            priority: number(15)?,
            nice: number(16)?,
            threads: number(17)?,
            age: (up - number(19)? / ticks).max(0),
            size: number(20)? / 1024,
            resident: number(21)?.saturating_mul(page),
        })
    }

    /// How busy it has been since it began, in per cent.
    fn cpu_percent(&self) -> i64 {
        (self.used.saturating_mul(100) / self.age.max(1)).min(99)
    }

    fn cpu(&self) -> String {
        let thousandths = self.used.saturating_mul(1000) / self.age.max(1);
        format!("{}.{}", thousandths / 10, thousandths % 10)
    }

    fn memory(&self) -> String {
        let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let total = info.lines().find_map(|line| line.strip_prefix("MemTotal:"));
        let total = total.and_then(|line| line.split_whitespace().next()?.parse::<i64>().ok());
        let thousandths = self.resident.saturating_mul(1000) / total.unwrap_or(1).max(1);
        format!("{}.{}", thousandths / 10, thousandths % 10)
    }

    fn stat(&self) -> String {
        let nice = if self.nice < 0 { "<" } else { "N" };
        let flags = [
            (self.nice != 0, nice),
            (self.session == i64::from(self.pid), "s"),
            (self.threads > 1, "l"),
            (self.foreground == self.group, "+"),
        ];
        let flags = flags.iter().filter(|(set, _)| *set).map(|(_, letter)| *letter);
        std::iter::once(self.state.to_string().as_str()).chain(flags).collect()
    }

    /// When it began: the time of day if that is fewer than `hours` ago, with `length` letters, else the day.
    fn started(&self, hours: i64, length: usize) -> String {
        let time = time::OffsetDateTime::from_unix_timestamp(now() - self.age);
        let Ok(time) = time else { return "?".to_owned() };
        if self.age < hours * 3600 {
            let (hour, minute, second) = (time.hour(), time.minute(), time.second());
            let text = format!("{hour:02}:{minute:02}:{second:02}");
            return text.chars().take(length).collect();
        }
        let month: String = time.month().to_string().chars().take(3).collect();
        format!("{month}{:02}", time.day())
    }

    fn inner_user(&self) -> String {
        if self.inner_uid == 0 { "root".to_owned() } else { self.inner_uid.to_string() }
    }
}

fn user(uid: u32) -> String {
    user_name(uid).unwrap_or_else(|| uid.to_string())
}

/// Hours, minutes and seconds.
fn clock(seconds: i64) -> String {
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// `[[DD-]hh:]mm:ss`.
fn elapsed(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60 % 60, seconds / 3600 % 24, seconds / 86_400);
    let short = format!("{minutes:02}:{:02}", seconds % 60);
    match (days, hours) {
        (0, 0) => short,
        (0, hours) => format!("{hours:02}:{short}"),
        (days, hours) => format!("{days}-{hours:02}:{short}"),
    }
}

/// The terminal's name from its device number (`proc_pid_stat(5)`, field 7).
fn terminal(device: i64) -> String {
    const PSEUDO_TERMINALS: i64 = 136;
    let (major, minor) = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xfff00);
    if major == PSEUDO_TERMINALS { format!("pts/{minor}") } else { "?".to_owned() }
}

/// The command line, escaped, so that a container cannot write to the terminal of whoever lists it.
fn args(pid: i32, comm: &str) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let line = String::from_utf8_lossy(&line).trim_end_matches('\0').replace('\0', " ");
    if line.is_empty() { format!("[{comm}]") } else { line.escape_debug().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(options: &[&str]) -> Result<String, TopError> {
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        Columns::new(&options).map(|columns| columns.header().join(" "))
    }

    #[test]
    fn options_of_ps() {
        let full = Ok("UID PID PPID C STIME TTY TIME CMD".to_owned());
        for options in [&[][..], &["-ef"], &["-f"], &["-e", "-f"]] {
            assert_eq!(header(options), full, "{options:?}");
        }
        let bsd = Ok("USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND".to_owned());
        assert_eq!(header(&["aux"]), bsd);
        let two = Ok("PID COMMAND".to_owned());
        for options in [
            &["-o", "pid,comm"][..],
            &["-eo", "pid,comm"],
            &["-eopid,comm"],
            &["-o", "pid", "-o", "comm"],
        ] {
            assert_eq!(header(options), two, "{options:?}");
        }
        assert_eq!(header(&["-o", "pid=NUMBER,args"]), Ok("NUMBER COMMAND".to_owned()));
        assert_eq!(header(&["hpid", "user,args"]), Ok("HPID USER COMMAND".to_owned()));
        assert_eq!(header(&["-o"]), Err(TopError::Missing("-o".into())));
        assert_eq!(header(&["-o", "pid,wchan"]), Err(TopError::Column("wchan".into())));
        assert_eq!(header(&["-ejH"]), Err(TopError::Option("-ejH".into())));
        assert_eq!(header(&["seccomp"]), Err(TopError::Column("seccomp".into())));
    }

    #[test]
    fn times() {
        assert_eq!(elapsed(59), "00:59");
        assert_eq!(elapsed(3661), "01:01:01");
        assert_eq!(elapsed(90_061), "1-01:01:01");
        assert_eq!(clock(3661), "01:01:01");
    }
}
