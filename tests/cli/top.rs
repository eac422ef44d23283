//! `top`: the processes of a container.

use crate::support::env::TestEnv;
use crate::support::require::Need::Root;

fn start(env: &TestEnv) {
    let run = ["run", "-d", "--name", "box", "-u", "7:8", "busybox", "sh", "-c"];
    let script = "sleep 1234 & printf ') R 1' >/proc/self/comm; exec sleep 1000";
    env.mydocker(run).arg(script).ok();
    crate::support::wait_for("both processes", || {
        let shown = env.mydocker(["top", "box"]).ok();
        (shown.matches("sleep 1").count() == 2).then_some(())
    });
}

/// The cells of each line.
fn cells(env: &TestEnv, options: &[&str]) -> Vec<Vec<String>> {
    let shown = env.mydocker(["top", "box"]).args(options).ok();
    let cells = |line: &str| line.split_whitespace().map(str::to_owned).collect();
    shown.lines().map(cells).collect()
}

#[test]
fn options_of_ps_choose_the_columns() {
    require!(Root);
    let env = TestEnv::with_busybox();
    start(&env);
    let pid = env.wait_until_running("box").to_string();
    let full = cells(&env, &[]);
    assert_eq!(full[0], ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
    assert_eq!((&full[1][1], &full[1][7..]), (&pid, &["sleep", "1000"].map(str::to_owned)[..]));
    assert_eq!((full.len(), cells(&env, &["-ef"])[0].len()), (3, 8));
    let bsd = cells(&env, &["aux"]);
    assert_eq!(bsd[0].join(" "), "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND");
    assert!(bsd[1][5].parse::<u64>().unwrap() > 0, "{bsd:?}");
    let own = cells(&env, &["-eo", "pid,ni,pri,nlwp,stat,gid,args=WHAT"]);
    assert_eq!(own[0], ["PID", "NI", "PRI", "NLWP", "STAT", "GID", "WHAT"]);
    let other = own.iter().find(|line| line.contains(&"1234".to_owned())).unwrap();
    assert_eq!((&*other[1], &*other[2], &*other[3], &*other[4]), ("0", "19", "1", "S"));
    // What ps of the host says of the same processes.
    let ps = crate::support::command::Cmd::new("ps")
        .args(["-o", "uid=,gid=,ppid=,args=", "-p", &pid])
        .ok();
    let ours = cells(&env, &["-o", "uid,gid,ppid,args"]);
    assert_eq!(ours[1], ps.split_whitespace().collect::<Vec<_>>());
    env.mydocker(["rm", "-f", "box"]).ok();
}

#[test]
fn names_of_podmans_show_both_sides() {
    require!(Root);
    let env = TestEnv::with_busybox();
    start(&env);
    let pid = env.wait_until_running("box").to_string();
    let shown = cells(&env, &["pid", "hpid", "user,args"]);
    assert_eq!(shown[0], ["PID", "HPID", "USER", "COMMAND"]);
    assert_eq!(shown[1], ["1", &pid, "7", "sleep", "1000"]);
    env.mydocker(["rm", "-f", "box"]).ok();
}

#[test]
fn what_is_not_known_is_named() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let fails = |options: &[&str], causes: &[&str]| {
        drop(env.mydocker(["top", "box"]).args(options).run().fails(125, causes));
    };
    fails(&["-ejH"], &["top box", "unknown option of ps: `-ejH`"]);
    fails(&["-o", "pid,wchan"], &["unknown column `wchan`"]);
    fails(&["-o"], &["needs a list of columns"]);
    fails(&["pid", "seccomp"], &["unknown column `seccomp`"]);
    env.mydocker(["create", "--name", "box", "busybox", "true"]).ok();
    env.mydocker(["top", "box"]).run().fails(1, &["not running"]);
}
