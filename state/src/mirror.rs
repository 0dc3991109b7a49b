use std::fmt::Debug;

use crate::Batch;

/// Why a mirror did not take a commit: what rests on it must not happen.
pub type MirrorError = Box<dyn std::error::Error + Send + Sync>;

/// Takes each commit of a [`State`](crate::State) on to another place.
///
/// A commit goes through all calls before [`State::write`](crate::State::write) returns. It is on this machine's disk
/// before [`handle_commit`](Self::handle_commit).
pub trait Mirror: Send + Sync + Debug {
    /// A batch is about to be kept; an error refuses it, for this place may change nothing (any more).
    fn handle_wish(&self, _batch: &Batch) -> Result<(), MirrorError> {
        Ok(())
    }

    /// A commit, in the order of commits; nobody else commits before this returns, so it should only hand the batch over.
    /// `number` counts commits since the file was opened, also those that no mirror gets; a [`Snapshot`](crate::Snapshot) says which ones it
    /// holds.
    fn handle_commit(&self, number: u64, batch: &Batch);

    /// Waits as long as the commit is worth, outside of any lock: not at all for rows that may get lost, until the other
    /// place has it, or for a bounded time. An error fails the write, though the rows stay kept here.
    fn wait(&self, number: u64, batch: &Batch) -> Result<(), MirrorError>;
}
