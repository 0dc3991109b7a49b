//! The DOTS server (RFC 9132, RFC 9244): authorises requests by the client's certificate, hands their scopes to a
//! [`Mitigator`], and reports what that measured.
//!
//! [`Server`] is the machine: data of sessions in, datagrams out, `now` as an argument. [`BoundServer`] is the shell around
//! it: sockets, DTLS, a clock, and the state file through which mitigations outlive a restart. What is not here yet: aliases and filters (the data channel), preconfigured requests
//! (`trigger-mitigation` false), requests in several blocks; they get an honest error.

mod config;
pub mod fuzzing;
mod mitigator;
mod registry;
mod saved;
mod server;
mod session_config;
mod setup;
mod shell;
mod telemetry;

pub use config::{ClientConfig, DotsServerConfig, DotsServerSettings, Fault, ServerPolicy};
pub use mitigator::{MitigationId, Mitigator, MitigatorReport, NoMitigator};
pub use saved::{RowKey, SavedRow, ServerChange};
pub use server::Server;
pub use shell::{BoundServer, StartError};
