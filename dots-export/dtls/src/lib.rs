//! DTLS 1.2 over OpenSSL: mutual X.509, stateless cookies, resumption by tickets, and a lab CA.
//!
//! A [`Connection`] is one association, a [`Listener`] the server's side with all its peers. Both are driven by the caller:
//! `handle_*` in, `poll_*` out; they own no socket. OpenSSL times retransmissions by its own clock, so a virtual clock does
//! not drive them.
//!
//! The few calls that the `openssl` crate lacks, and with them all `unsafe`, are in one module.

mod connection;
mod credentials;
mod error;
mod ffi;
pub mod lab;
mod listener;

pub use connection::{ClientContext, Connection, DtlsEvent, MAX_DATA, MTU, Ticket};
pub use credentials::{Credentials, PeerIdentity};
pub use error::DtlsError;
pub use listener::{
    Listener, ListenerCounters, ListenerEvent, ListenerLimits, ServerContext, SessionId,
};
