//! Progress bars on standard error, where it is a terminal.

use std::path::PathBuf;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar over the octets of input files; invisible where standard error is no terminal and for work under a second.
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A bar for reading `files`.
    pub(crate) fn of_files(what: &'static str, files: &[PathBuf]) -> Self {
        let total = files
            .iter()
            .filter_map(|path| path.metadata().ok())
            .map(|meta| meta.len())
            .sum();
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(5));
        if let Ok(style) =
            ProgressStyle::with_template("{msg} [{bar:40}] {bytes}/{total_bytes} {eta}")
        {
            bar.set_style(style);
        }
        bar.set_message(what);
        Self { bar }
    }

    /// Octets read so far.
    pub(crate) fn set(&self, octets: u64) {
        if self.bar.elapsed() > Duration::from_secs(1) {
            self.bar.set_position(octets);
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
