//! The DOTS client of Weir (RFC 9132, RFC 9244): from attack events to mitigation requests and telemetry.
//!
//! Four parts, of which only the last does I/O:
//!
//! - [`Exporter`]: policy in the data's time. Attack events in, [`ClientCommand`]s for named upstreams out. It decides who
//!   is told what, who is asked for help, and who is asked next when the first refuses.
//! - [`Client`]: one per upstream, in `Instant`s. Commands in, datagrams, notices and [`StateChange`]s out. It owns the
//!   identifiers (`mid`, `tmid`), asks, refreshes, observes and withdraws, and repeats what a server may have missed.
//! - [`Recorder`]: takes the same commands in `weir replay` and says which bodies would have been sent.
//! - [`run_upstream`]: sockets, DTLS or TLS, and timers around a [`Client`]; and where configuration names a domain instead of a
//!   server, discovery in the DNS (RFC 8973).
//!
//! ```text
//! event ─▶ Exporter ─ command ─▶ Client ─ datagram ─▶ DTLS ─▶ server
//!             ▲                    │ ▲
//!             └────── notice ──────┘ └─ StateChange ─▶ journal ─▶ handle_persisted
//! ```
//!
//! A `mid` is durable before its PUT leaves: [`Client::poll_persist`] yields the change, and the PUT waits until
//! [`Client::handle_persisted`] names it. After a restart [`Client::restore`] takes the journal back, and the server is
//! asked (GET) before anything that it might know already is sent again.
//!
//! The crate detects nothing and filters nothing, and it never ends a mitigation by itself: the detector ends attacks.

mod client;
mod command;
mod config;
mod decision;
mod discovery;
mod exporter;
mod followed;
mod normal;
mod plan;
mod recorder;
mod request;
mod scope;
mod standing;
mod telemetry;
mod upstream;

pub use client::{
    Alternate, ChangeId, Client, ClientCounters, ClientParameters, Efficacy, HeldMitigation,
    PreparedFilter, SavedState, SetupItem, SetupPlan, StateChange,
};
pub use command::{
    ClientCommand, ClientNotice, OPERATOR_KEPT_PREFIX, OPERATOR_PREFIX, SessionState, is_operators,
};
pub use config::{
    AcceptListWhen, ExportSettings, Fault, Order, PolicyConfig, PolicySettings, RequestMode,
    SessionConfig, Share, Transport, UpstreamConfig, UpstreamSettings, When, ZoneConfig, check,
};
pub use decision::{Action, Decision};
pub use discovery::{
    Channel, Discovery, DiscoveryError, DiscoverySettings, Endpoint, Mechanism, discover,
};
pub use exporter::Exporter;
pub use normal::{
    baseline_body, baseline_plan, baseline_settings, has_changed, imported_baselines,
};
pub use plan::{Link, setup_plan};
pub use recorder::{Record, Recorder, placeholder_cuid};
pub use scope::mitigation_scope;
pub use standing::{Decline, ExporterCounters, Standing};
pub use telemetry::{MAX_BODY_OCTETS, MAX_LARGE_OCTETS, telemetry_body};
pub use upstream::{Journal, run_upstream};
