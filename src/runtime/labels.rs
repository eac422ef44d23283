//! Labels of security modules that the machine has not.

use super::error::Warning;
use super::host;
use crate::oci::runtime_spec::Spec;

/// Takes the labels out of a spec that no security module here could apply, as engines hand on what a machine with other
/// ones is to do, and says what was taken.
///
/// A spec that keeps one is refused: whoever asks for a label in words is to have it.
pub fn pass_over_labels(spec: &mut Spec) -> Vec<Warning> {
    let process = spec.process.as_mut();
    let mut absent = Vec::new();
    if let Some(process) = process {
        if !host::has_apparmor() {
            absent.push(("AppArmor", process.apparmor_profile.take()));
        }
        if !host::has_selinux() {
            absent.push(("SELinux", process.selinux_label.take()));
        }
    }
    if let Some(linux) = spec.linux.as_mut().filter(|_| !host::has_selinux()) {
        absent.push(("SELinux", linux.mount_label.take()));
    }
    let set = absent.into_iter().filter_map(|(module, label)| Some((module, label?)));
    let set = set.filter(|(_, label)| !label.is_empty());
    set.map(|(module, label)| Warning::Label { module, label }).collect()
}
