//! The audit log: every request for help, every refusal of one, and why, as JSON lines.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;
use weir_dots_export::Decision;

/// Name of the file in the state directory.
pub(crate) const FILE: &str = "dots-audit.ndjson";

/// An open audit log.
pub(crate) struct AuditLog(File);

impl AuditLog {
    /// Opens the log in the state directory, readable by its owner alone; lines are added to those of earlier runs.
    pub(crate) fn open(state_dir: &Path) -> anyhow::Result<Self> {
        let path = state_dir.join(FILE);
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self(file))
    }

    /// Adds a line. A full disk costs the line, never the request that it tells of.
    pub(crate) fn write(&mut self, decision: &Decision) {
        let line = serde_json::to_vec(decision).map_err(std::io::Error::other);
        let written = line.and_then(|mut line| {
            line.push(b'\n');
            self.0.write_all(&line)
        });
        if let Err(error) = written {
            tracing::error!(%error, ?decision, "a decision is not in the audit log");
        }
    }
}
