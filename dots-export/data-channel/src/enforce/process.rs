use std::io::{self, Read, Write};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;

/// Octets of output that are kept: some 150 for each counter.
const MAX_OUTPUT: u64 = 16 << 20;
/// Octets of complaints that are kept.
const MAX_COMPLAINT: u64 = 2_048;
/// How often a program that runs is looked at.
const GLANCE: Duration = Duration::from_millis(5);

/// Why `nft` is of no use.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NftError {
    /// It does not run.
    #[error("cannot run {program}: {source}")]
    Start {
        /// Which program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// It was killed.
    #[error("{program} took more than {} ms", .limit.as_millis())]
    Time {
        /// Which program.
        program: String,
        /// How long it had.
        limit: Duration,
    },
    /// It refuses.
    #[error("{program} ended with {status}: {complaint}")]
    Failed {
        /// Which program.
        program: String,
        /// How it ended.
        status: String,
        /// What it said.
        complaint: String,
    },
    /// Its list is not what was expected.
    #[error("the list of counters: {0}")]
    Listing(String),
}

/// Runs a program, gives it `input` and returns its output.
pub(super) fn run(command: &[&str], input: &[u8], limit: Duration) -> Result<Vec<u8>, NftError> {
    let (program, arguments) = command.split_first().unwrap_or((&"", &[]));
    let failed = |source| NftError::Start {
        program: (*program).to_owned(),
        source,
    };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    thread::scope(|threads| {
        // A program that does not read to the end says why on its own.
        threads.spawn(move || stdin.map(|mut pipe| pipe.write_all(input)));
        let output = threads.spawn(move || collected(stdout, MAX_OUTPUT));
        let complaint = threads.spawn(move || collected(stderr, MAX_COMPLAINT));
        let status = wait(&mut child, limit);
        let output = output.join().unwrap_or_default();
        let complaint = complaint.join().unwrap_or_default();
        match status.map_err(failed)? {
            Some(status) if status.success() => Ok(output),
            Some(status) => Err(NftError::Failed {
                program: (*program).to_owned(),
                status: status.to_string(),
                complaint: String::from_utf8_lossy(&complaint).trim().to_owned(),
            }),
            None => Err(NftError::Time {
                program: (*program).to_owned(),
                limit,
            }),
        }
    })
}

/// Waits for the end; kills what takes too long, which gives none.
fn wait(child: &mut Child, limit: Duration) -> io::Result<Option<std::process::ExitStatus>> {
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(GLANCE);
    }
}

fn collected(pipe: Option<impl Read>, most: u64) -> Vec<u8> {
    let mut octets = Vec::new();
    if let Some(mut pipe) = pipe {
        // What came before an error is all there is.
        let _ = pipe.by_ref().take(most).read_to_end(&mut octets);
        // The rest is read as well, or the program would wait for ever.
        let _ = io::copy(&mut pipe, &mut io::sink());
    }
    octets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_run_within_bounds() {
        let second = Duration::from_secs(20);
        assert_eq!(run(&["cat"], b"x", second).unwrap(), b"x");
        let failed = run(&["sh", "-c", "echo why >&2; exit 3"], b"", second).unwrap_err();
        assert!(failed.to_string().ends_with("why"), "{failed}");
        let slow = run(&["sleep", "20"], b"", Duration::from_millis(20)).unwrap_err();
        assert!(matches!(slow, NftError::Time { .. }));
        assert!(matches!(
            run(&["/none"], b"", second),
            Err(NftError::Start { .. })
        ));
    }
}
