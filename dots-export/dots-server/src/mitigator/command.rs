//! A program of the operator's that filters: run for each change, the message on its standard input.

use weir_process::{ProcessError, ProcessLimits, run};

use super::external::{Carrier, CarrierError};
use super::settings::CommandSettings;

/// Octets that the program may answer with.
const MAX_ANSWER: usize = 256 * 1024;
/// `EX_TEMPFAIL` of `sysexits.h`: not now, and nothing else either.
const TRY_LATER: i32 = 75;

/// Runs the program of the configuration.
#[derive(Debug)]
pub(crate) struct Command {
    name: String,
    command: Vec<String>,
    limits: ProcessLimits,
}

impl Command {
    pub(crate) fn new(settings: &CommandSettings) -> Self {
        Self {
            name: settings.name.clone(),
            command: settings.command.clone(),
            limits: ProcessLimits {
                time: settings.time_limit,
                output: MAX_ANSWER,
            },
        }
    }
}

impl Carrier for Command {
    fn name(&self) -> &str {
        &self.name
    }

    fn exchange(&mut self, message: &[u8]) -> Result<Vec<u8>, CarrierError> {
        run(&self.command, message, self.limits).map_err(|error| {
            let text = error.to_string();
            match error {
                ProcessError::Code {
                    code: TRY_LATER, ..
                }
                | ProcessError::Start { .. }
                | ProcessError::Time { .. }
                | ProcessError::Pipe { .. } => CarrierError::Unreachable(text),
                _ => CarrierError::Refused(text),
            }
        })
    }
}
