//! DTLS 1.2 and TLS over OpenSSL: mutual X.509 with revocation lists, pre-shared keys with ECDHE, stateless cookies,
//! resumption by tickets, and a lab CA.
//!
//! A [`Connection`] is one association over datagrams, a [`Listener`] the server's side with all its peers, and a
//! [`StreamConnection`] either side of TLS over a stream. All are driven by the caller:
//! `handle_*` in, `poll_*` out; they own no socket. OpenSSL times retransmissions by its own clock, so a virtual clock does
//! not drive them.
//!
//! The few calls that the `openssl` crate lacks, and with them all `unsafe`, are in one module.

mod connection;
mod context;
mod credentials;
mod error;
mod fairness;
mod ffi;
mod files;
mod identity;
pub mod lab;
mod listener;
mod psk;
mod stream;
mod tls;

pub use connection::{Connection, DtlsEvent, MAX_DATA, MTU};
pub use context::{ClientContext, ServerContext, Ticket};
pub use credentials::{Credentials, Validity};
pub use error::DtlsError;
pub use fairness::gives_way;
pub use files::{ClientKeyFile, CredentialFiles, FileWatch, OwnFiles};
pub use identity::PeerIdentity;
pub use listener::{Listener, ListenerCounters, ListenerEvent, ListenerLimits, SessionId};
pub use psk::{PresharedKey, PskClient};
pub use stream::StreamConnection;
