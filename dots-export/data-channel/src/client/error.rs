use std::io;
use std::net::SocketAddr;

use thiserror::Error;
use weir_dots_proto::Cuid;
use weir_dtls::DtlsError;

use crate::model::BodyFault;

/// Why a request was not answered as it should be.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Our certificates.
    #[error(transparent)]
    Tls(#[from] DtlsError),
    /// The configured server is not a host and a port.
    #[error("{0} is not a host and a port")]
    Server(String),
    /// The server's name leads to no address.
    #[error("cannot resolve {server}: {source}")]
    Resolve {
        /// Host and port.
        server: String,
        /// Why.
        source: io::Error,
    },
    /// No connection.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// The last address that was tried.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// No TLS: the server's certificate, or ours.
    #[error("tls with {address} failed: {reason}")]
    Handshake {
        /// Of the server.
        address: SocketAddr,
        /// Why.
        reason: String,
    },
    /// The server lets us wait.
    #[error("no {what} in time")]
    Timeout {
        /// What was waited for.
        what: &'static str,
    },
    /// The connection ended. Right after connecting, it is how a server of TLS 1.3 refuses our certificate.
    #[error("the connection ended: {0}")]
    Connection(String),
    /// The answer is larger than allowed.
    #[error("an answer of more than {0} octets")]
    TooLarge(usize),
    /// The server does not say where its API is.
    #[error("the server's host-meta names no restconf root")]
    NoRoot,
    /// Another client has our cuid: another one is to be chosen (RFC 9132 §4.4.1.1).
    #[error("the cuid {0} is another client's")]
    CuidTaken(Cuid),
    /// The server refuses.
    #[error("refused with {status} {tag}: {message}")]
    Refused {
        /// Status code.
        status: u16,
        /// `error-tag`; empty where there is none.
        tag: String,
        /// `error-message`; empty where there is none.
        message: String,
    },
    /// The answer is no JSON, or without what was asked for.
    #[error("the answer is not what was asked for: {0}")]
    Answer(String),
    /// The answer has nodes that are not valid.
    #[error("the answer is not valid: {0}")]
    Body(#[from] BodyFault),
}
