//! Runs a program within bounds: of time, of what it writes, and with all that it starts.
//!
//! For the programs that a DOTS server works with: `nft`, and an operator's own.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// Octets of standard error that are kept.
const MAX_COMPLAINT: usize = 2048;
/// A program that has closed its pipes is looked at this often.
const GLANCE: Duration = Duration::from_millis(10);

/// How much a program may take.
#[derive(Clone, Copy, Debug)]
pub struct ProcessLimits {
    /// From start to end.
    pub time: Duration,
    /// Octets of standard output.
    pub output: usize,
}

/// Why a program is of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// It does not run.
    #[error("cannot run `{program}`: {source}")]
    Start {
        /// Which program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// It took too long.
    #[error("`{program}` was killed: it took more than {} ms", .limit.as_millis())]
    Time {
        /// Which program.
        program: String,
        /// How long it had.
        limit: Duration,
    },
    /// It wrote too much.
    #[error("`{program}` was killed: it wrote more than {limit} octets")]
    Output {
        /// Which program.
        program: String,
        /// How many octets it had.
        limit: usize,
    },
    /// It cannot be talked to.
    #[error("`{program}`: {source}")]
    Pipe {
        /// Which program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// Somebody has killed it.
    #[error("`{program}` ended by signal {signal}: {complaint}")]
    Signal {
        /// Which program.
        program: String,
        /// The signal's number.
        signal: i32,
        /// What it had said on standard error, up to 2,048 octets.
        complaint: String,
    },
    /// It refuses.
    #[error("`{program}` ended with {code}: {complaint}")]
    Code {
        /// Which program.
        program: String,
        /// Its exit status.
        code: i32,
        /// What it has said on standard error, up to 2,048 octets.
        complaint: String,
    },
}

/// Runs a program with its arguments, gives it `input` and returns its output. It gets a process group of its own, which is
/// killed as a whole where it exceeds its limits. What it leaves in the background keeps running.
pub fn run(
    command: &[String],
    input: &[u8],
    limits: ProcessLimits,
) -> Result<Vec<u8>, ProcessError> {
    let (program, arguments) = command
        .split_first()
        .map_or(("", [].as_slice()), |(program, rest)| (program, rest));
    let deadline = Instant::now() + limits.time;
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|source| ProcessError::Start {
            program: program.to_owned(),
            source,
        })?;
    let mut running = Running {
        program,
        stdin: None,
        stdout: Pipe::default(),
        stderr: Pipe::default(),
        child,
        reaped: false,
    };
    let status = running.talk(input, deadline, limits)?;
    running.judge(status)
}

/// A child and its pipes. Dropped before its end, it is killed.
struct Running<'a> {
    program: &'a str,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Pipe,
    stderr: Pipe,
    reaped: bool,
}

/// What comes out of a child.
#[derive(Default)]
struct Pipe {
    source: Option<Box<dyn Readable>>,
    octets: Vec<u8>,
}

trait Readable: Read + AsFd {}
impl<T: Read + AsFd> Readable for T {}

impl Running<'_> {
    /// Talks to the child until it ends.
    fn talk(
        &mut self,
        mut input: &[u8],
        deadline: Instant,
        limits: ProcessLimits,
    ) -> Result<ExitStatus, ProcessError> {
        self.open_pipes().map_err(|source| self.broken(source))?;
        loop {
            self.wait(deadline).map_err(|source| self.broken(source))?;
            self.write(&mut input);
            // Seen before the last read, so that nothing written before the end is missed.
            let status = self
                .child
                .try_wait()
                .map_err(|source| self.broken(source))?;
            self.stdout.read(limits.output.saturating_add(1));
            self.stderr.read(MAX_COMPLAINT);
            if self.stdout.octets.len() > limits.output {
                return Err(ProcessError::Output {
                    program: self.program.to_owned(),
                    limit: limits.output,
                });
            }
            if let Some(status) = status {
                self.reaped = true;
                return Ok(status);
            }
            if Instant::now() >= deadline {
                return Err(ProcessError::Time {
                    program: self.program.to_owned(),
                    limit: limits.time,
                });
            }
        }
    }

    fn open_pipes(&mut self) -> io::Result<()> {
        self.stdin = self.child.stdin.take();
        if let Some(stdin) = &self.stdin {
            set_nonblocking(stdin)?;
        }
        if let Some(stdout) = self.child.stdout.take() {
            set_nonblocking(&stdout)?;
            self.stdout.source = Some(Box::new(stdout));
        }
        if let Some(stderr) = self.child.stderr.take() {
            set_nonblocking(&stderr)?;
            self.stderr.source = Some(Box::new(stderr));
        }
        Ok(())
    }

    /// Until a pipe is ready, or it is time to look whether the child has ended.
    fn wait(&self, deadline: Instant) -> io::Result<()> {
        let mut fds = Vec::with_capacity(3);
        if let Some(stdin) = &self.stdin {
            fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLOUT));
        }
        for pipe in [&self.stdout, &self.stderr] {
            if let Some(source) = &pipe.source {
                fds.push(PollFd::new(source.as_fd(), PollFlags::POLLIN));
            }
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let most = PollTimeout::try_from(left.min(GLANCE)).unwrap_or(PollTimeout::ZERO);
        match poll(&mut fds, most) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// A child that does not want to read all of its input need not.
    fn write(&mut self, input: &mut &[u8]) {
        let Some(stdin) = &mut self.stdin else { return };
        while !input.is_empty() {
            match stdin.write(input) {
                Ok(0) => break,
                Ok(count) => *input = input.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        self.stdin = None;
    }

    fn judge(self, status: ExitStatus) -> Result<Vec<u8>, ProcessError> {
        let program = self.program.to_owned();
        if status.success() {
            let mut this = self;
            return Ok(std::mem::take(&mut this.stdout.octets));
        }
        let complaint = String::from_utf8_lossy(&self.stderr.octets)
            .trim()
            .to_owned();
        Err(match (status.code(), status.signal()) {
            (Some(code), _) => ProcessError::Code {
                program,
                code,
                complaint,
            },
            (None, signal) => ProcessError::Signal {
                program,
                signal: signal.unwrap_or_default(),
                complaint,
            },
        })
    }

    fn broken(&self, source: io::Error) -> ProcessError {
        ProcessError::Pipe {
            program: self.program.to_owned(),
            source,
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if self.reaped {
            return;
        }
        if let Ok(group) = i32::try_from(self.child.id()) {
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}

impl Pipe {
    /// Reads what is there, and keeps up to `most` octets of all.
    fn read(&mut self, most: usize) {
        let mut buffer = [0; 8192];
        // What writes faster than this reads has to wait for the next turn, when the clock is looked at.
        for _ in 0..64 {
            let Some(source) = &mut self.source else {
                return;
            };
            match source.read(&mut buffer) {
                Ok(0) => self.source = None,
                Ok(count) => {
                    let room = most.saturating_sub(self.octets.len());
                    let kept = buffer.get(..count.min(room)).unwrap_or_default();
                    self.octets.extend_from_slice(kept);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.source = None,
            }
        }
    }
}

fn set_nonblocking(fd: &impl AsFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use super::*;

    const LIMITS: ProcessLimits = ProcessLimits {
        time: Duration::from_secs(20),
        output: 1 << 20,
    };

    fn shell(script: &str) -> Vec<String> {
        ["/bin/sh", "-c", script].map(str::to_owned).to_vec()
    }

    #[test]
    fn input_goes_in_and_output_comes_out() {
        let input = vec![b'x'; 600_000];
        assert_eq!(run(&shell("cat"), &input, LIMITS).unwrap(), input);
        // Nobody reads the input: no deadlock, no error.
        assert_eq!(run(&shell("echo hi"), &input, LIMITS).unwrap(), b"hi\n");
    }

    #[test]
    fn a_failure_says_why() {
        let error = run(&shell("echo no route >&2; exit 3"), b"", LIMITS).unwrap_err();
        assert_eq!(error.to_string(), "`/bin/sh` ended with 3: no route");
        let error = run(&shell("kill -9 $$"), b"", LIMITS).unwrap_err();
        assert!(matches!(error, ProcessError::Signal { signal: 9, .. }));
        let error = run(&["/nowhere/at/all".to_owned()], b"", LIMITS).unwrap_err();
        assert!(matches!(error, ProcessError::Start { .. }));
        assert!(run(&[], b"", LIMITS).is_err());
    }

    #[test]
    fn what_hangs_is_killed_with_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("alive");
        let script = format!("(sleep 1; touch {}) & sleep 60", mark.display());
        let limits = ProcessLimits {
            time: Duration::from_millis(200),
            ..LIMITS
        };
        let began = Instant::now();
        let error = run(&shell(&script), b"", limits).unwrap_err();
        assert!(matches!(error, ProcessError::Time { .. }));
        assert!(began.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(1500));
        assert!(!mark.exists());
    }

    #[test]
    fn what_writes_without_end_is_killed() {
        let limits = ProcessLimits {
            output: 10_000,
            ..LIMITS
        };
        let error = run(&shell("yes"), b"", limits).unwrap_err();
        assert!(matches!(error, ProcessError::Output { .. }));
        // Standard error is read and forgotten.
        let script = "head -c 10000000 /dev/zero >&2";
        assert_eq!(run(&shell(script), b"", LIMITS).unwrap(), b"");
    }

    #[test]
    fn a_child_in_the_background_does_not_hold_up_the_end() {
        let began = Instant::now();
        let output = run(&shell("sleep 5 & echo done"), b"", LIMITS).unwrap();
        assert_eq!(output, b"done\n");
        assert!(began.elapsed() < Duration::from_secs(4));
    }
}
