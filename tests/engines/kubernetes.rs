//! Pods, as a kubelet makes them: containerd's CRI with this runtime as a handler.

use std::fs;
use std::path::Path;

use crate::support::command::Cmd;
use crate::support::require::Need::{Root, Tool};
use crate::support::require::skip;
use crate::support::{fixtures, wait_for};
use crate::{Daemon, Folder};

const HANDLER: &str = "mydocker-oci";
/// What speaks gRPC, of Debian's own Python.
const GRPC: &str = "/usr/lib/python3/dist-packages/grpc/__init__.py";
/// Where Debian has the plugins that make a pod's network.
const PLUGINS: &str = "/usr/lib/cni";

struct Node {
    folder: Folder,
    daemon: Option<Daemon>,
}

impl Node {
    fn new() -> Self {
        let folder = Folder::new();
        let cri = "[plugins.\"io.containerd.grpc.v1.cri\"";
        let config = format!(
            "version = 2\nroot = \"{0}/root\"\nstate = \"{0}/state\"\n\
             [grpc]\naddress = \"{0}/socket\"\n[ttrpc]\naddress = \"{0}/ttrpc\"\n\
             {cri}]\nsandbox_image = \"localhost/pause:latest\"\nrestrict_oom_score_adj = true\n\
             {cri}.cni]\nbin_dir = \"{PLUGINS}\"\nconf_dir = \"{0}/cni\"\n\
             {cri}.containerd]\ndefault_runtime_name = \"{HANDLER}\"\n\
             {cri}.containerd.runtimes.{HANDLER}]\nruntime_type = \"io.containerd.runc.v2\"\n\
             {cri}.containerd.runtimes.{HANDLER}.options]\nBinaryName = \"{1}\"\nRoot = \"{0}/runc\"\nSystemdCgroup = false\n",
            folder.0.display(),
            folder.runtime().display(),
        );
        fs::write(folder.path("config.toml"), config).unwrap();
        let network = r#"{"cniVersion":"0.4.0","name":"pods","plugins":[{"type":"ptp","ipam":{"type":"host-local",
            "dataDir":"FOLDER/addresses","ranges":[[{"subnet":"10.88.77.0/24"}]]}}]}"#;
        fs::create_dir(folder.path("cni")).unwrap();
        let network = network.replace("FOLDER", folder.0.to_str().unwrap());
        fs::write(folder.path("cni/10-pods.conflist"), network).unwrap();
        let cmd = Cmd::new("containerd").arg("--config").arg(folder.path("config.toml"));
        let daemon = Daemon::start(cmd, &folder.path("log"));
        let node = Self { folder, daemon: Some(daemon) };
        wait_for("containerd", || (node.ctr(&["version"]).run().code() == Some(0)).then_some(()));
        node.import("busybox", &[]);
        // A program that does nothing and ends when it is told to.
        node.import(
            "pause",
            &["--cmd", "sh", "--cmd=-c", "--cmd", "trap exit TERM; while :; do sleep 1; done"],
        );
        node
    }

    fn ctr(&self, args: &[&str]) -> Cmd {
        let ctr = Cmd::new("ctr").arg("--address").arg(self.folder.path("socket"));
        ctr.args(["--namespace", "k8s.io"]).args(args)
    }

    /// Makes an image of busybox that is called `localhost/NAME`.
    fn import(&self, name: &str, options: &[&str]) {
        let (layout, archive) = (self.folder.path(name), self.folder.path("archive"));
        let oci = Path::new(env!("CARGO_MANIFEST_DIR")).join("images/oci.py");
        let path = ["--env", "PATH=/bin"];
        let cmd = Cmd::new(oci).arg(&layout).args(path).args(options);
        cmd.env("PYTHONDONTWRITEBYTECODE", "1").arg(fixtures::path("busybox.tar")).ok();
        Cmd::new("tar").arg("-cf").arg(&archive).arg("-C").arg(&layout).arg(".").ok();
        let base = format!("localhost/{name}");
        self.ctr(&["image", "import", "--base-name", &base]).arg(&archive).ok();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let list = self.ctr(&["task", "list", "-q"]).run();
        for task in list.lines() {
            self.ctr(&["task", "delete", "--force", task]).run();
        }
        self.daemon.take();
        // A pod's group is the kubelet's, who removes it.
        let hierarchies =
            fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
        for hierarchy in hierarchies.chain([Path::new("/sys/fs/cgroup").to_owned()]) {
            let _ = fs::remove_dir(hierarchy.join("mydocker-pods/pod1"));
            let _ = fs::remove_dir(hierarchy.join("mydocker-pods"));
        }
    }
}

#[test]
fn a_pod_has_two_containers() {
    require!(Root, Tool("containerd"));
    if let Some(missing) = [GRPC, "/usr/lib/cni/ptp"].iter().find(|path| !Path::new(path).exists())
    {
        return skip(missing);
    }
    let node = Node::new();
    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/engines/cri.py");
    let logs = node.folder.path("logs");
    fs::create_dir(&logs).unwrap();
    let cmd = Cmd::new("/usr/bin/python3").arg(client).arg(node.folder.path("socket"));
    let told = cmd.arg(HANDLER).arg(&logs).arg("localhost/busybox:latest").timeout(180).ok();
    assert_eq!(
        told.lines().collect::<Vec<_>>(),
        [
            "pod of mydocker-oci ready",
            "running [True, True]",
            "net of the pod",
            "ipc of the pod",
            "uts of the pod",
            "mnt of each",
            "pid of each",
            "host podhost podhost",
            "address 1",
            "limit 67108864",
            "limit 50331648 67108864",
            "exit 7",
            "memory in use True",
            "stopped True",
            "log from one",
            "stopped True",
            "left 0 0",
        ]
    );
}
