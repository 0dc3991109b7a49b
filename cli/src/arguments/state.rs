//! `weir state`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::ConfigArgument;
#[derive(Subcommand, Debug)]
pub(crate) enum StateCommand {
    /// Lists the stages with their versions and rows; of the running daemon, else of its file.
    Show(StateShowArguments),
    /// Writes all of the state to a new file, also while the daemon runs.
    Backup(StateBackupArguments),
    /// Puts a backup in the place of the state. The daemon must be stopped; what was there is kept beside it.
    ///
    /// A backup of an older weir is brought to today's form; a damaged one, or one of a newer weir, is refused. Of a pair, stop
    /// both, restore one and start it first: the other follows it.
    Restore(StateRestoreArguments),
}

#[derive(Args, Debug)]
pub(crate) struct StateShowArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArgument,
    /// Prints JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct StateBackupArguments {
    /// Where to; a file that is there is not replaced.
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) config: ConfigArgument,
}

#[derive(Args, Debug)]
pub(crate) struct StateRestoreArguments {
    /// What `weir state backup` wrote, or a state file.
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) config: ConfigArgument,
}
