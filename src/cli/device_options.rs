//! The options of `run` and `create` about devices.

use super::container_options::{parse, parse_size};
use super::failure::Failure;
use crate::container::{DeviceCgroupRule, DeviceRequest, Devices, Throttle, Throttles};

/// The kind of devices that `--gpus` is about, in CDI's words.
const GPU: &str = "nvidia.com/gpu";

/// Devices, and how much of them may be used.
#[derive(Debug, clap::Args)]
pub(super) struct DeviceArgs {
    /// Weight of its block I/O against others, 10 to 1000
    #[arg(long, value_name = "WEIGHT", value_parser = parse_weight)]
    blkio_weight: Option<u64>,
    /// The same for one device
    #[arg(long, value_name = "DEVICE:WEIGHT", value_parser = |text: &str| throttle(text, parse_weight))]
    blkio_weight_device: Vec<Throttle>,
    /// Device of the host, folder of devices, or a name that a CDI specification has
    #[arg(long, value_name = "HOST[:CONTAINER][:rwm]", value_parser = parse::<DeviceRequest>)]
    device: Vec<DeviceRequest>,
    /// Further devices that it may use if it has their nodes, as in c 188:* rwm
    #[arg(long, value_name = "RULE", value_parser = parse::<DeviceCgroupRule>)]
    device_cgroup_rule: Vec<DeviceCgroupRule>,
    /// Bytes a second that it may read from a device, as in /dev/sda:1mb
    #[arg(long, value_name = "DEVICE:BYTES", value_parser = |text: &str| throttle(text, parse_size))]
    device_read_bps: Vec<Throttle>,
    /// Times a second that it may read from a device
    #[arg(long, value_name = "DEVICE:NUMBER", value_parser = |text: &str| throttle(text, parse_count))]
    device_read_iops: Vec<Throttle>,
    /// Bytes a second that it may write to a device
    #[arg(long, value_name = "DEVICE:BYTES", value_parser = |text: &str| throttle(text, parse_size))]
    device_write_bps: Vec<Throttle>,
    /// Times a second that it may write to a device
    #[arg(long, value_name = "DEVICE:NUMBER", value_parser = |text: &str| throttle(text, parse_count))]
    device_write_iops: Vec<Throttle>,
    /// GPUs, from NVIDIA's CDI specification: all, how many, or device=0,1
    #[arg(long, value_name = "all|NUMBER|device=LIST", value_parser = parse_gpus)]
    gpus: Vec<GpuNames>,
}

/// The names of GPUs.
#[derive(Clone, Debug)]
struct GpuNames(Vec<String>);

impl DeviceArgs {
    pub(super) fn devices(&self, what: &str) -> Result<Devices, Failure> {
        let gpus = self.gpus.iter().flat_map(|GpuNames(names)| names);
        let mut devices = self.device.clone();
        devices.extend(gpus.map(|name| DeviceRequest::Cdi(format!("{GPU}={name}"))));
        let weight = self.blkio_weight.map(u16::try_from).transpose();
        Ok(Devices {
            devices,
            rules: self.device_cgroup_rule.clone(),
            throttles: Throttles {
                weight: weight.map_err(|_| Failure::new(what, "--blkio-weight", "10 to 1000"))?,
                weight_device: self.blkio_weight_device.clone(),
                read_bps: self.device_read_bps.clone(),
                write_bps: self.device_write_bps.clone(),
                read_iops: self.device_read_iops.clone(),
                write_iops: self.device_write_iops.clone(),
            },
        })
    }
}

fn throttle(text: &str, value: fn(&str) -> Result<u64, String>) -> Result<Throttle, String> {
    match text.rsplit_once(':') {
        Some((path, number)) if path.starts_with('/') => {
            Ok(Throttle { path: path.into(), value: value(number)? })
        }
        _ => Err("expected a device's absolute path, `:` and a number".to_owned()),
    }
}

fn parse_count(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "expected a number".to_owned())
}

/// Docker's 0 is no weight of its own.
fn parse_weight(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(weight @ (0 | 10..=1000)) => Ok(weight),
        _ => Err("expected a number from 10 to 1000".to_owned()),
    }
}

/// Docker's forms. What a GPU is asked to be able to do is for its specification to say.
fn parse_gpus(text: &str) -> Result<GpuNames, String> {
    const MOST: usize = 64;
    let mut names = Vec::new();
    let text = text.trim_matches('"');
    if let Some(list) = text.strip_prefix("device=") {
        names.extend(list.split(',').map(str::to_owned));
    } else {
        match text.strip_prefix("count=").unwrap_or(text) {
            "all" | "-1" => names.push("all".to_owned()),
            number => match number.parse::<usize>() {
                Ok(count @ 1..=MOST) => names.extend((0..count).map(|at| at.to_string())),
                _ => return Err("expected all, a number, or device=LIST".to_owned()),
            },
        }
    }
    if names.iter().any(String::is_empty) {
        return Err("expected the numbers or names of GPUs behind device=".to_owned());
    }
    Ok(GpuNames(names))
}
