//! An active/standby pair without a third machine: two daemons, of which one works and the other follows its state.
//!
//! ```text
//!            active                                    standby
//!   State ── commit ──▶ Feed ── Commit ─▶ mutual TLS ─▶ apply ──▶ State
//!     ▲                   ▲ ◀─── Acknowledged ───────────┘
//!     └─ write returns ◀──┘      beats both ways: the lease
//! ```
//!
//! [`Pair::start`] runs the pair's side of a daemon on a thread of its own; [`Pair::turned`] says when this daemon is to
//! work, and when it must stop. Rules:
//!
//! - The active renews a lease by its beats. A standby that hears nothing for the lease takes over, on the rows that it
//!   has: to the daemon that is a restart after a kill.
//! - A commit that requests to others rest on (attacks, mitigations, numbers, the stop switch, labels, the DOTS server's
//!   rows) waits until the standby has it on disk, for [`StandbySettings::acknowledge`] at most; without a standby in step
//!   the active goes on alone, and counts it.
//! - Each takeover raises the *epoch*, which is kept with the rows. Where two meet, [`Claim::wins`] decides the same way at
//!   both ends: who works already, else who has the later rows. The other one drops its rows for the winner's.
//! - A *witness*, where one is configured, must answer before a takeover from a silent peer: a standby that is cut off itself
//!   stays one, and does not come back with a later epoch than the active that went on working.
//! - Two machines cannot tell a dead peer from a cut network: cut off from each other alone, both work. They have one `cuid` and
//!   the same mids, so that requests of both are refreshes of each other; once they meet again, the later epoch (who took
//!   over) wins, and the other is fenced: its state refuses every write, so that no request of it leaves, before its daemon
//!   stops.

mod claim;
mod config;
mod feed;
mod link;
mod message;
mod pair;
mod tls;

pub use claim::{Claim, Role};
pub use config::{Fault, StandbyConfig, StandbySettings};
pub use feed::StandbyView;
pub use pair::{Pair, StandbyError, Turn, Viewer};
pub use tls::TlsError;
