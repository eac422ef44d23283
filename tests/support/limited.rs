//! A container whose limits are read where the kernel keeps them.

use std::fs;
use std::path::PathBuf;

use crate::support::command::Running;
use crate::support::env::TestEnv;

/// A running container and the cgroups that it is in.
#[derive(Debug)]
pub struct Limited {
    run: Option<Running>,
    /// The lines of `/proc/PID/cgroup`.
    membership: String,
}

impl Limited {
    /// Starts one with `options`.
    pub fn start(env: &TestEnv, options: &[&str]) -> Self {
        let cmd = env.mydocker(["run", "--name", "limited"]).args(options);
        let run = cmd.args(["busybox", "sleep", "1000"]).start();
        let pid = env.wait_until_running("limited");
        let membership = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        Self { run: Some(run), membership }
    }

    /// The folder of the cgroup that `controller` governs.
    pub fn cgroup(&self, controller: &str) -> PathBuf {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let mounted = |kind: &str, option: Option<&str>| {
            mounts.lines().find_map(|line| {
                let fields: Vec<&str> = line.split(' ').collect();
                let fits = fields[2] == kind
                    && option.is_none_or(|o| fields[3].split(',').any(|found| found == o));
                fits.then(|| PathBuf::from(fields[1]))
            })
        };
        let path = |wanted: &str| {
            self.membership.lines().find_map(|line| {
                let mut fields = line.splitn(3, ':').skip(1);
                let (names, path) = (fields.next()?, fields.next()?);
                names
                    .split(',')
                    .any(|name| name == wanted)
                    .then(|| path.trim_start_matches('/').to_owned())
            })
        };
        if let (Some(top), Some(path)) = (mounted("cgroup", Some(controller)), path(controller)) {
            return top.join(path);
        }
        mounted("cgroup2", None).unwrap().join(path("").unwrap())
    }

    /// The content of the first of these files that is there: v2's, then v1's.
    pub fn value(&self, controller: &str, v2: &str, v1: &str) -> String {
        let folder = self.cgroup(controller);
        let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
        let value = read(v2).or_else(|| read(v1));
        value
            .unwrap_or_else(|| panic!("neither {v2} nor {v1} in {}", folder.display()))
            .trim_end()
            .to_owned()
    }

    /// Removes it.
    pub fn stop(&mut self, env: &TestEnv) {
        env.mydocker(["rm", "-f", "limited"]).ok();
        self.run.take().unwrap().finish();
    }
}
