//! What is told of volumes when containers that have them start and end: docker's `mount` and `unmount`.

use super::super::record::{Containers, Record};
use super::MountPoint;

impl Containers {
    /// Writes down that the volumes of a container are mounted.
    pub(in super::super) fn tell_mounts(&self, record: &Record) {
        self.tell_volumes(record, "mount", |mount| {
            let writable = if mount.read_only { "false" } else { "true" };
            vec![
                ("destination", mount.destination.as_str()),
                ("propagation", mount.propagation.name()),
                ("read/write", writable),
            ]
        });
    }

    /// Writes down that they are mounted no longer.
    pub(in super::super) fn tell_unmounts(&self, record: &Record) {
        self.tell_volumes(record, "unmount", |_| Vec::new());
    }

    fn tell_volumes<'a>(
        &self,
        record: &'a Record,
        action: &str,
        more: impl Fn(&'a MountPoint) -> Vec<(&'static str, &'a str)>,
    ) {
        for mount in &record.mounts {
            let Some(name) = mount.volume() else { continue };
            let mut attributes = vec![("container", record.id.as_str()), ("driver", "local")];
            attributes.extend(more(mount));
            self.volumes().journal.tell("volume", action, name, &attributes);
        }
    }
}
