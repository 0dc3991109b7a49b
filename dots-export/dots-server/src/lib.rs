//! The DOTS server (RFC 9132, RFC 9244): authorises requests by the client's certificate, hands their scopes to a
//! [`Mitigator`], and reports what that measured.
//!
//! [`Server`] is the machine: data of sessions in, datagrams out, `now` as an argument. [`BoundServer`] is the shell around
//! it: sockets, DTLS, a clock, and the state file through which mitigations outlive a restart. Aliases and filters are those of
//! a [`DataChannel`]. Targets are prefixes and aliases; names and URIs get an honest error.

mod config;
mod data;
pub mod fuzzing;
mod held;
mod mitigator;
mod query;
mod registry;
mod saved;
mod server;
mod session_config;
mod setup;
mod shell;
mod sockets;
mod streams;
mod telemetry;
mod transport_figures;

pub use config::{ClientConfig, DotsServerConfig, DotsServerSettings, Fault, ServerPolicy};
pub use data::DataChannel;
pub use mitigator::{
    CommandSettings, ExternalSettings, MitigationId, Mitigator, MitigatorConfig, MitigatorError,
    MitigatorReport, MitigatorSettings, NftablesSettings, NoMitigator, RateLimit, WebhookSettings,
    WebhookTls, start_mitigators,
};
pub use saved::{RowKey, SavedRow, ServerChange};
pub use server::Server;
pub use shell::{BoundServer, Observation, StartError};
pub use transport_figures::{TransportFigures, TransportView};
