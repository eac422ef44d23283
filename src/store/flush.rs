//! What survives a power cut: everything that was flushed before it got its name.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use nix::unistd::syncfs;

use super::error::{At as _, Error};
use super::{Store, open_folder};

/// How long what was written may wait for the disk while more is being written: long enough that a small image is not
/// flushed twice, short enough that little is left at a large one's end. The kernel on its own would wait for a tenth of
/// the memory, or half a minute.
const PERIOD: Duration = Duration::from_millis(250);

impl Store {
    /// Flushes the file system that the store is on, unless the user does without.
    pub(super) fn flush(&self) -> Result<(), Error> {
        if !self.sync {
            return Ok(());
        }
        self.flush_through(&open_folder(&self.root)?)
    }

    fn flush_through(&self, folder: &OwnedFd) -> Result<(), Error> {
        syncfs(folder.as_fd()).map_err(io::Error::from).at("flush", &self.root)
    }

    /// Does `work`, whose writes are on their way to the disk while it goes on, so that flushing at the end finds little
    /// left to do.
    ///
    /// # Errors
    /// Those of `work`; else what could not be written, which no later flush would tell (`syncfs(2)` tells each error once).
    pub fn writing_back<T, E: From<Error>>(
        &self,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        if !self.sync {
            return work();
        }
        let folder = open_folder(&self.root)?;
        thread::scope(|scope| {
            let (done, waiting) = channel::<()>();
            let flushing =
                thread::Builder::new().name("flush".to_owned()).spawn_scoped(scope, || {
                    let waiting = waiting;
                    while waiting.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
                        self.flush_through(&folder)?;
                    }
                    Ok(())
                });
            let flushing = flushing.at("flush", &self.root)?;
            let result = work();
            drop(done);
            let flushed: Result<(), Error> =
                flushing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let value = result?;
            flushed?;
            Ok(value)
        })
    }
}
