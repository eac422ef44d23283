//! Progress of a pull: a bar a layer on a terminal, plain lines elsewhere, nothing with `--quiet`.

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::output;
use crate::image::{Event, Observer};
use crate::oci::digest::Digest;

/// Shows what happens to an image's layers.
#[derive(Debug)]
pub(super) struct Progress {
    mode: Mode,
    /// Whether it has been said that layers are not confined.
    said: AtomicBool,
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
        Self { mode, said: AtomicBool::new(false) }
    }

    /// Says something above the bars.
    pub(super) fn say(&self, text: &str) {
        match &self.mode {
            Mode::Bars { all, .. } => drop(all.println(text)),
            Mode::Lines => output::message(&format!("{text}\n")),
            Mode::Quiet => {}
        }
    }
}

impl Observer for Progress {
    fn event(&self, event: Event<'_>) {
        let warning = match event {
            Event::DroppedAttributes(count) => Some(format!(
                "{count} extended attributes left out: the store's file system cannot hold them"
            )),
            Event::Unconfined if !self.said.swap(true, Ordering::Relaxed) => Some(
                "unpacking without a mount namespace of its own: not permitted here".to_owned(),
            ),
            _ => None,
        };
        if let Some(text) = warning {
            return match &self.mode {
                Mode::Bars { all, .. } => drop(all.println(format!("mydocker: warning: {text}"))),
                _ => output::warning(&text),
            };
        }
        match &self.mode {
            Mode::Bars { all, layers } => show(all, layers, event),
            Mode::Lines => match event {
                Event::Exists(digest) => self.say(&format!("{}: Already exists", digest.short())),
                Event::Unpacked(digest) => self.say(&format!("{}: Pull complete", digest.short())),
                _ => {}
            },
            Mode::Quiet => {}
        }
    }
}

fn show(all: &MultiProgress, layers: &Mutex<HashMap<Digest, ProgressBar>>, event: Event<'_>) {
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
        Event::Received(digest, bytes) => {
            if let Some(bar) = layers.get(digest) {
                bar.set_position(bytes);
                if bar.message() == "Waiting" {
                    bar.set_message("Pulling");
                }
            }
        }
        Event::Exists(digest) => finish(&layers, digest, "Already exists"),
        Event::Unpacked(digest) => finish(&layers, digest, "Pull complete"),
        Event::DroppedAttributes(_) | Event::Unconfined => {}
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
