//! Progress of a pull, push or copy: a bar a layer on a terminal, plain lines elsewhere, nothing with `--quiet`.

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::failure::chain;
use super::output;
use crate::image::{Event, Observer};
use crate::oci::digest::Digest;
use crate::registry::{self, Watcher};

/// Shows what happens to an image's layers.
#[derive(Debug)]
pub(super) struct Progress {
    mode: Mode,
    /// Whether it has been said that layers are not confined.
    said: AtomicBool,
    /// What was done with a blob that has gone to its target.
    sent: &'static str,
}

#[derive(Debug)]
enum Mode {
    Bars { all: MultiProgress, layers: Mutex<HashMap<Digest, ProgressBar>> },
    Lines,
    Quiet,
}

impl Progress {
    pub(super) fn new(quiet: bool) -> Self {
        let mode = if quiet {
            Mode::Quiet
        } else if std::io::stderr().is_terminal() && knows_control_codes() {
            Mode::Bars { all: MultiProgress::new(), layers: Mutex::default() }
        } else {
            Mode::Lines
        };
        Self { mode, said: AtomicBool::new(false), sent: "Pushed" }
    }

    /// The same for a copy, which is no push.
    pub(super) fn of_copy(quiet: bool) -> Self {
        Self { sent: "Copied", ..Self::new(quiet) }
    }

    /// Says something above the bars.
    pub(super) fn say(&self, text: &str) {
        match &self.mode {
            Mode::Bars { all, .. } => drop(all.println(text)),
            Mode::Lines => output::message(&format!("{text}\n")),
            Mode::Quiet => {}
        }
    }

    /// Warns, above the bars.
    fn warn(&self, text: &str) {
        match &self.mode {
            Mode::Bars { all, .. } => drop(all.println(format!("mydocker: warning: {text}"))),
            _ => output::warning(text),
        }
    }
}

impl Watcher for Progress {
    fn mirror_dropped(&self, mirror: &str, why: &dyn std::error::Error) {
        self.warn(&format!("mirror `{mirror}` is no longer asked: it sends something else: {why}"));
    }

    fn mirror_failed(&self, mirror: &str, why: &registry::Error) {
        self.warn(&format!("mirror `{mirror}` was asked first: {}", chain(why)));
    }
}

impl Observer for Progress {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::DroppedAttributes(count) => self.warn(&format!(
                "{count} extended attributes left out: the store's file system cannot hold them"
            )),
            Event::Damaged(digest) => {
                let layer = digest.short();
                self.warn(&format!("layer {layer} in the store is damaged, and is replaced"));
            }
            Event::PassedOver(reference, why) => {
                self.warn(&format!("{reference} was looked for first: {}", chain(why)));
            }
            Event::Unconfined if !self.said.swap(true, Ordering::Relaxed) => {
                self.warn("unpacking without a mount namespace of its own: not permitted here");
            }
            _ => {}
        }
        match &self.mode {
            Mode::Bars { all, layers } => show(all, layers, event, self.sent),
            Mode::Lines => match event {
                Event::Exists(digest) => self.say(&format!("{}: Already exists", digest.short())),
                Event::Unpacked(digest) => self.say(&format!("{}: Pull complete", digest.short())),
                Event::Mounted(digest, from) => {
                    self.say(&format!("{}: Mounted from {from}", digest.short()));
                }
                Event::Sent(digest) => self.say(&format!("{}: {}", digest.short(), self.sent)),
                Event::There(digest) => {
                    self.say(&format!("{}: Layer already exists", digest.short()));
                }
                _ => {}
            },
            Mode::Quiet => {}
        }
    }
}

fn show(
    all: &MultiProgress,
    layers: &Mutex<HashMap<Digest, ProgressBar>>,
    event: Event<'_>,
    sent: &'static str,
) {
    let mut layers = layers.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    match event {
        Event::Layers(descriptors) => {
            for layer in descriptors {
                layers.entry(layer.digest.clone()).or_insert_with(|| {
                    let bar = all.add(ProgressBar::new(layer.size)).with_style(style());
                    bar.set_prefix(layer.digest.short().to_owned());
                    bar.set_message("Waiting");
                    bar.tick();
                    bar
                });
            }
        }
        Event::Received(digest, bytes) => advance(&layers, digest, bytes, "Pulling"),
        Event::Sending(digest, bytes) => advance(&layers, digest, bytes, "Sending"),
        Event::Exists(digest) => finish(&layers, digest, "Already exists"),
        Event::Unpacked(digest) => finish(&layers, digest, "Pull complete"),
        Event::Mounted(digest, _) => finish(&layers, digest, "Mounted"),
        Event::Sent(digest) => finish(&layers, digest, sent),
        Event::There(digest) => finish(&layers, digest, "Already there"),
        Event::Damaged(_)
        | Event::DroppedAttributes(_)
        | Event::PassedOver(..)
        | Event::Unconfined => {}
    }
}

fn advance(layers: &HashMap<Digest, ProgressBar>, digest: &Digest, bytes: u64, how: &'static str) {
    if let Some(bar) = layers.get(digest) {
        bar.set_position(bytes);
        if bar.message() == "Waiting" {
            bar.set_message(how);
        }
    }
}

fn finish(layers: &HashMap<Digest, ProgressBar>, digest: &Digest, how: &'static str) {
    if let Some(bar) = layers.get(digest).filter(|bar| !bar.is_finished()) {
        bar.set_position(bar.length().unwrap_or_default());
        bar.finish_with_message(how);
    }
}

/// Whether the terminal can move its cursor (`terminfo(5)`: a `dumb` one cannot).
fn knows_control_codes() -> bool {
    std::env::var_os("TERM").is_some_and(|kind| !kind.is_empty() && kind != "dumb")
}

fn style() -> ProgressStyle {
    let template = "{prefix}: {msg:14} [{bar:30}] {decimal_bytes:>9}/{decimal_total_bytes:9} {decimal_bytes_per_sec}";
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("=> ")
}
