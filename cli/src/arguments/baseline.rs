//! `weir baseline`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::ConfigArgument;
#[derive(Subcommand, Debug)]
pub(crate) enum BaselineCommand {
    /// Shows what is normal: all targets, or one with its hours of the week (UTC).
    Show(BaselineShowArguments),
    /// Prints the body of an RFC 9244 telemetry setup: baselines of inbound traffic, zones first, then the busiest targets.
    Export(BaselineExportArguments),
    /// Takes in such a body, of a mitigation system or another Weir; it counts like `import_weight` of our own learning.
    Import(BaselineImportArguments),
}

#[derive(Args, Debug)]
pub(crate) struct BaselineShowArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArgument,
    /// A zone's, exporter's or link's name, a prefix or an address.
    #[arg(value_name = "TARGET")]
    pub(crate) target: Option<String>,
    /// Outbound traffic instead of inbound.
    #[arg(long)]
    pub(crate) out: bool,
    /// Targets listed: zones first, then the busiest prefixes and hosts; at most 1000.
    #[arg(long, default_value_t = 50, value_name = "NUMBER")]
    pub(crate) most: usize,
    /// Prints JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct BaselineExportArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArgument,
    /// Targets told: zones first, then the busiest prefixes and hosts; at most 1000.
    #[arg(long, default_value_t = 16, value_name = "NUMBER")]
    pub(crate) targets: usize,
    /// Where to write; standard output by default.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct BaselineImportArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArgument,
    /// The JSON body of a telemetry setup with baselines.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}
