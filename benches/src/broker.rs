//! A Kafka of one broker, by the script that tests use. It goes with this process.

use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::process::Usage;

/// A running broker.
pub struct Broker {
    /// Where it is, `host:port`.
    pub address: String,
    process: u32,
    script: Child,
    folder: tempfile::TempDir,
}

impl Broker {
    /// Starts it, and waits until it serves.
    pub fn start() -> io::Result<Self> {
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
            folder,
        })
    }

    /// Octets of a topic's messages on its disk.
    pub fn stored(&self, topic: &str) -> io::Result<u64> {
        let mut octets = 0;
        for log in std::fs::read_dir(self.folder.path().join("1"))? {
            let log = log?;
            let name = log.file_name().to_string_lossy().into_owned();
            if name.rsplit_once('-').is_none_or(|(of, _)| of != topic) {
                continue;
            }
            for segment in std::fs::read_dir(log.path())? {
                let segment = segment?;
                if segment.path().extension().is_some_and(|end| end == "log") {
                    octets += segment.metadata()?.len();
                }
            }
        }
        Ok(octets)
    }

    /// The CPU time that it used so far.
    pub fn cpu(&self) -> io::Result<Duration> {
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
