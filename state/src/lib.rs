//! What survives a restart: one redb file, `weir.redb`, with a versioned table per stage.
//!
//! A write is on disk when the call returns, or has failed: a mitigation request may leave only after its `mid` is kept.
//! Several changes that belong together go into one [`Batch`], which is kept whole or not at all; a batch also costs one
//! synchronisation of the disk however many rows it holds. This crate gives rows no meaning: keys and values are octets,
//! or JSON by [`State::put_json`].
//!
//! ```
//! use weir_state::{Batch, Stage, State};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let dir = tempfile::tempdir()?;
//! let state = State::open(dir.path())?;
//! state.put_json(Stage::Mitigations, b"provider/7", &("2001:db8::1", 3600))?;
//! let mut batch = Batch::new();
//! batch.put(Stage::Sequences, b"mid", b"8");
//! batch.delete(Stage::Mitigations, b"provider/6");
//! state.write(&batch)?;
//! assert_eq!(state.entries(Stage::Mitigations)?.len(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! Another machine can follow: [`State::set_mirror`] hands it each commit, [`State::snapshot`] what was there before.

mod backup;
mod batch;
mod error;
mod file;
mod migrate;
mod mirror;
mod snapshot;
mod stage;

pub use backup::{StageView, restore};
pub use batch::{Batch, BatchError, Change};
pub use error::StateError;
pub use file::{Entry, FILE_NAME, State};
pub use mirror::{Mirror, MirrorError};
pub use snapshot::Snapshot;
pub use stage::Stage;
