//! A Kafka of one broker, by the script that tests use. It goes with this process.

use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use weir_benches::process::Usage;

/// A running broker.
pub(crate) struct Broker {
    /// Where it is, `host:port`.
    pub(crate) address: String,
    process: u32,
    script: Child,
    _folder: tempfile::TempDir,
}

impl Broker {
    /// Starts it, and waits until it serves.
    pub(crate) fn start() -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut script =
            Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../kafka/broker"))
                .arg("run")
                .arg(folder.path())
                .args(["--heap", "1024"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?;
        let lines = script.stdout.take().map(BufReader::new);
        let mut address = None;
        for line in lines.into_iter().flat_map(BufRead::lines) {
            let line = line?;
            address = address.or_else(|| line.strip_prefix("PLAINTEXT ").map(str::to_owned));
            if line == "ready" {
                break;
            }
        }
        let process = std::fs::read_to_string(folder.path().join("1.pid"));
        let process = process.ok().and_then(|text| text.trim().parse().ok());
        let (Some(address), Some(process)) = (address, process) else {
            return Err(io::Error::other("kafka/broker does not start Kafka"));
        };
        Ok(Self {
            address,
            process,
            script,
            _folder: folder,
        })
    }

    /// The CPU time that it used so far.
    pub(crate) fn cpu(&self) -> io::Result<Duration> {
        Usage::of(self.process).map(|usage| usage.cpu)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // The end of its input ends the script.
        drop(self.script.stdin.take());
        let _ = self.script.wait();
    }
}
