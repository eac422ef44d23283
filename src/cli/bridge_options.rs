//! The options of `run` and `create` about a network between containers, which are refused with a reason.

use super::failure::Failure;

/// Docker's options that are about a bridge.
#[derive(Debug, clap::Args)]
pub(super) struct BridgeArgs {
    #[arg(long, hide = true)]
    expose: Vec<String>,
    #[arg(short, long, hide = true)]
    publish: Vec<String>,
    #[arg(short = 'P', long, hide = true)]
    publish_all: bool,
    #[arg(long, hide = true)]
    ip: Option<String>,
    #[arg(long, hide = true)]
    ip6: Option<String>,
    #[arg(long, hide = true)]
    link_local_ip: Vec<String>,
    #[arg(long, hide = true)]
    mac_address: Option<String>,
    #[arg(long, alias = "net-alias", hide = true)]
    network_alias: Vec<String>,
}

impl BridgeArgs {
    /// Says what there is in the place of the option that was given.
    pub(super) fn refuse(&self, what: &str) -> Result<(), Failure> {
        let ports = "with --network host its ports are the machine's";
        let address = "with --network host it has the machine's addresses";
        let names = "containers reach each other with --network container:NAME, names are made with --add-host";
        let refused = [
            ("--expose", !self.expose.is_empty(), ports),
            ("--publish", !self.publish.is_empty(), ports),
            ("--publish-all", self.publish_all, ports),
            ("--ip", self.ip.is_some(), address),
            ("--ip6", self.ip6.is_some(), address),
            ("--link-local-ip", !self.link_local_ip.is_empty(), address),
            ("--mac-address", self.mac_address.is_some(), address),
            ("--network-alias", !self.network_alias.is_empty(), names),
        ];
        match refused.into_iter().find(|(_, given, _)| *given) {
            Some((option, _, hint)) => {
                let cause = format!("{option} is not supported: there is no bridge network yet");
                Err(Failure::new(what, cause, hint))
            }
            None => Ok(()),
        }
    }
}
