//! Configurations without `process`, with which a container can be made, but does nothing.

use serde_json::json;

use crate::bundle::Bundle;
use crate::commands::{Container, until};

fn without_process(bundle: &mut Bundle) {
    bundle.spec.as_object_mut().unwrap().remove("process");
}

#[test]
fn a_container_without_a_process_ends_when_it_is_started() {
    let mut container = Container::new("");
    without_process(&mut container.bundle);
    container.create(&[]);
    assert_eq!(container.status(), "created");
    let exec = container.exec(&["--cap", "CAP_KILL"], &["/bin/busybox", "echo", "inside"]);
    assert_eq!((exec.code, exec.out.as_str()), (0, "inside\n"), "{exec:?}");
    let start = container.run(&["start"]);
    assert_eq!(start.code, 0, "{start:?}");
    let message = format!(
        "mydocker: nothing to start in container `{}`: config.json has no `process`\n",
        container.bundle.id
    );
    assert_eq!(start.err, message);
    until("the container ends", || container.status() == "stopped");
    let again = container.run(&["start"]);
    assert_eq!(again.code, 1, "{again:?}");
    assert!(again.err.contains("it has stopped"), "{again:?}");
    container.ok(&["delete"]);
    assert_eq!(container.run(&["state"]).code, 1);
}

#[test]
fn what_is_to_run_at_once_needs_a_process() {
    let mut bundle = Bundle::new("");
    without_process(&mut bundle);
    assert_eq!(bundle.refusal(), "mydocker: invalid `process`: it is missing\n");
    let mut container = Container::new("");
    container.bundle.set("/process/args", json!([]));
    let made = container.try_create(&[]);
    assert_eq!(made.err, "mydocker: invalid `process.args`: there is no program\n", "{made:?}");
}
