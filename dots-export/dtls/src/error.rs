use std::path::PathBuf;

use openssl::error::ErrorStack;

/// What can go wrong with a session or its credentials. An error of a session ends that session and nothing else.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DtlsError {
    /// A file of certificates or keys cannot be read.
    #[error("cannot read {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{path}: {what}")]
    Credentials {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The identity of a pre-shared key that is none.
    #[error("the identity of a pre-shared key: {0}")]
    Identity(&'static str),
    /// The handshake failed: wrong certificate, wrong name, or a peer that speaks something else.
    #[error("handshake failed: {0}")]
    Handshake(String),
    /// The handshake was not done in time.
    #[error("the peer does not answer")]
    Timeout,
    /// The peer, or we, have ended the session.
    #[error("the session has ended")]
    Ended,
    /// A datagram that the session cannot carry.
    #[error("{0} octets do not fit into a datagram")]
    TooLong(usize),
    /// OpenSSL refused something that has nothing to do with the peer.
    #[error("OpenSSL: {0}")]
    OpenSsl(#[from] ErrorStack),
}
