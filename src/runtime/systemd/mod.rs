//! systemd's part in a container's control group: a scope, which systemd makes, knows the limits of, and takes away.
//!
//! On a machine where systemd manages the groups there is to be one who writes to each of them
//! (`CONTROL_GROUP_INTERFACE` of systemd's documentation). Engines that go by this (`--systemd-cgroup`) name a slice and a
//! scope. A scope cannot be without a process, so that it is made when the container's first process is there, which is
//! moved into it while it waits.

mod annotations;
mod bus;
mod message;
mod properties;
mod unit;

use std::path::{Path, PathBuf};

use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::cgroup::Setting;
use super::error::Error;
use super::rootless;
use crate::oci::runtime_spec::Spec;
pub(super) use annotations::PREFIX as ANNOTATIONS;
use bus::Bus;
pub use bus::{BusError, Manager};
use message::{Method, Writer};
pub(super) use message::{Property, Value};
use unit::Place;

const MANAGER: Method = bus::MANAGER;

/// A container's unit, by which it is found again.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Unit {
    /// `docker-1f….scope`
    pub name: String,
    /// Who has it.
    pub manager: Manager,
}

/// A unit that is to be.
#[derive(Debug)]
pub(super) struct Planned {
    unit: Unit,
    bus: Bus,
    properties: Vec<Property>,
    path: PathBuf,
}

fn failed(action: &'static str, unit: &str) -> impl Fn(BusError) -> Error + use<> {
    let unit = unit.to_owned();
    move |source| Error::Systemd { action, unit: unit.clone(), source }
}

fn named(name: &str, value: Value) -> Property {
    (name.to_owned(), value)
}

impl Planned {
    /// Works out which unit the container becomes, and where its group will be. Makes nothing, but must find systemd.
    pub(super) fn new(id: &str, spec: &Spec, settings: &[Setting]) -> Result<Self, Error> {
        let manager = if rootless::is_ordinary() { Manager::User } else { Manager::System };
        let path = spec.linux.as_ref().and_then(|linux| linux.cgroups_path.as_deref());
        let place = Place::parse(path, id, manager)?;
        let below = place.path()?;
        let mut properties = vec![
            named("Description", Value::Text(format!("mydocker container {id}"))),
            named("Slice", Value::Text(place.slice)),
            // What is below it is the container's, and systemd is to leave it alone.
            named("Delegate", Value::Bool(true)),
            // It ends with its process, not before whatever the machine does as it goes down.
            named("DefaultDependencies", Value::Bool(false)),
            // One that failed would else keep its name.
            named("CollectMode", Value::Text("inactive-or-failed".to_owned())),
        ];
        for name in ["CPUAccounting", "IOAccounting", "MemoryAccounting", "TasksAccounting"] {
            properties.push(named(name, Value::Bool(true)));
        }
        properties.extend(properties::properties(settings)?);
        for property in annotations::properties(&spec.annotations)? {
            properties.retain(|(name, _)| *name != property.0);
            properties.push(property);
        }
        let unit = Unit { name: place.scope, manager };
        let failed = failed("make", &unit.name);
        let mut bus = Bus::connect(manager).map_err(&failed)?;
        let above = control_group(&mut bus).map_err(&failed)?;
        let path = Path::new(above.trim_start_matches('/')).join(below);
        Ok(Self { unit, bus, properties, path })
    }

    /// Which unit it is.
    pub(super) fn unit(&self) -> &Unit {
        &self.unit
    }

    /// Where its group will be in each hierarchy.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Has systemd look after the devices of version 1, which it would else allow all of when it writes the group again.
    /// `None` are all.
    pub(super) fn allow_devices(&mut self, allowed: Option<Vec<(String, String)>>) {
        let Some(allowed) = allowed else { return };
        self.properties.push(named("DevicePolicy", Value::Text("strict".to_owned())));
        self.properties.push(named("DeviceAllow", Value::Pairs(allowed)));
    }

    /// Makes the unit, with this process in it.
    pub(super) fn start(mut self, pid: Pid) -> Result<(), Error> {
        let failed = failed("make", &self.unit.name);
        self.properties.push(named("PIDs", Value::Numbers(vec![pid.as_raw().cast_unsigned()])));
        self.bus.watch(&self.unit.name).map_err(&failed)?;
        let mut was_there = false;
        loop {
            match self.try_start() {
                // One of that name that has failed. One that is alive stays, and this one is refused again.
                Err(error) if error.is(".UnitExists") && !was_there => {
                    was_there = true;
                    reset_failed(&mut self.bus, &self.unit.name).map_err(&failed)?;
                }
                // systemd is older than the property. Whatever it says is written to the group's file as well.
                Err(BusError::Refused { name, message })
                    if name.ends_with(".PropertyReadOnly") && self.drop_named_in(&message) => {}
                started => return started.map_err(&failed),
            }
        }
    }

    fn try_start(&mut self) -> Result<(), BusError> {
        let mut body = Writer::default();
        body.text(&self.unit.name);
        body.text("fail");
        body.properties(&self.properties);
        body.no_units();
        let method =
            Method { member: "StartTransientUnit", signature: "ssa(sv)a(sa(sv))", ..MANAGER };
        self.bus.run_job(method, &body)
    }

    /// Whether there was a property that a message speaks of, among those that are limits.
    fn drop_named_in(&mut self, message: &str) -> bool {
        const NEEDED: [&str; 4] = ["DeviceAllow", "DevicePolicy", "PIDs", "Slice"];
        let words: Vec<&str> = message.split([' ', ',']).collect();
        let before = self.properties.len();
        self.properties
            .retain(|(name, _)| NEEDED.contains(&name.as_str()) || !words.contains(&name.as_str()));
        self.properties.len() < before
    }
}

/// The group that all of a manager's are in.
fn control_group(bus: &mut Bus) -> Result<String, BusError> {
    let mut body = Writer::default();
    body.text(MANAGER.interface);
    body.text("ControlGroup");
    let interface = "org.freedesktop.DBus.Properties";
    let method = Method { interface, member: "Get", signature: "ss", ..MANAGER };
    bus.call(method, &body)?.text()
}

fn reset_failed(bus: &mut Bus, unit: &str) -> Result<(), BusError> {
    let mut body = Writer::default();
    body.text(unit);
    let method = Method { member: "ResetFailedUnit", signature: "s", ..MANAGER };
    match bus.call(method, &body) {
        Err(error) if error.is(".NoSuchUnit") => Ok(()),
        reset => reset.map(drop),
    }
}

impl Unit {
    /// Has systemd know these limits.
    ///
    /// # Errors
    /// When it does not take them, or is not there.
    pub(super) fn update(&self, settings: &[Setting]) -> Result<(), Error> {
        let properties = properties::properties(settings)?;
        let failed = failed("change", &self.name);
        let mut bus = Bus::connect(self.manager).map_err(&failed)?;
        let mut body = Writer::default();
        body.text(&self.name);
        // Until the machine ends, as the unit itself.
        body.bool(true);
        body.properties(&properties);
        let method = Method { member: "SetUnitProperties", signature: "sba(sv)", ..MANAGER };
        bus.call(method, &body).map(drop).map_err(failed)
    }

    /// Ends the unit with all that is in it, and waits until it is gone. One that ended with its last process is.
    ///
    /// # Errors
    /// When it does not go away, or systemd is not there.
    pub(super) fn stop(&self) -> Result<(), Error> {
        let stop = || {
            let mut bus = Bus::connect(self.manager)?;
            bus.watch(&self.name)?;
            let mut body = Writer::default();
            body.text(&self.name);
            body.text("replace");
            let method = Method { member: "StopUnit", signature: "ss", ..MANAGER };
            match bus.run_job(method, &body) {
                Err(error) if error.is(".NoSuchUnit") => return Ok(()),
                stopped => stopped?,
            }
            reset_failed(&mut bus, &self.name)
        };
        stop().map_err(failed("stop", &self.name))
    }
}
