use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};

use nix::poll::PollFlags;
use openssl::nid::Nid;
use openssl::ssl::{Error, ErrorCode, SslStream};
use openssl::x509::X509VerifyResult;

use super::counters::{CloseReason, Refusal};

/// Characters of a certificate's name that are told.
const LONGEST_NAME: usize = 128;

/// A nonblocking socket, with TLS or without.
pub(super) enum Channel {
    Tcp(TcpStream),
    Tls(Box<SslStream<TcpStream>>),
}

/// What one read gave.
pub(super) enum ReadOutcome {
    Octets(usize),
    Wait(PollFlags),
    End(CloseReason),
}

impl Channel {
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Tls(stream) => stream.get_ref().as_fd(),
        }
    }

    /// Goes on with the handshake: `None` once it is done, else what the socket must be ready for.
    pub(super) fn shake_hands(&mut self) -> Result<Option<PollFlags>, Refusal> {
        let Self::Tls(stream) = self else {
            return Ok(None);
        };
        let Err(error) = stream.accept() else {
            return Ok(None);
        };
        match error.code() {
            ErrorCode::WANT_READ => Ok(Some(PollFlags::POLLIN)),
            ErrorCode::WANT_WRITE => Ok(Some(PollFlags::POLLOUT)),
            _ if stream.ssl().verify_result() != X509VerifyResult::OK => {
                Err(Refusal::BadCertificate)
            }
            _ if says(&error, "peer did not return a certificate") => Err(Refusal::NoCertificate),
            _ => Err(Refusal::Handshake),
        }
    }

    /// Sends TLS's closure alert, if the socket takes it.
    pub(super) fn say_goodbye(&mut self) {
        if let Self::Tls(stream) = self {
            let _ = stream.shutdown();
        }
    }

    pub(super) fn read(&mut self, room: &mut [u8]) -> ReadOutcome {
        match self {
            Self::Tcp(stream) => match stream.read(room) {
                Ok(0) => ReadOutcome::End(CloseReason::Peer),
                Ok(count) => ReadOutcome::Octets(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    ReadOutcome::Wait(PollFlags::POLLIN)
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {
                    ReadOutcome::Wait(PollFlags::POLLIN)
                }
                Err(_) => ReadOutcome::End(CloseReason::Lost),
            },
            Self::Tls(stream) => match stream.ssl_read(room) {
                Ok(count) => ReadOutcome::Octets(count),
                Err(error) => match error.code() {
                    ErrorCode::WANT_READ => ReadOutcome::Wait(PollFlags::POLLIN),
                    ErrorCode::WANT_WRITE => ReadOutcome::Wait(PollFlags::POLLOUT),
                    ErrorCode::ZERO_RETURN => ReadOutcome::End(CloseReason::Peer),
                    _ => ReadOutcome::End(CloseReason::Lost),
                },
            },
        }
    }

    /// The common name of the client's certificate.
    pub(super) fn certificate_name(&self) -> Option<String> {
        let Self::Tls(stream) = self else {
            return None;
        };
        let certificate = stream.ssl().peer_certificate()?;
        let mut names = certificate.subject_name().entries_by_nid(Nid::COMMONNAME);
        let name = names.next()?.data().to_string().ok()?;
        Some(name.chars().take(LONGEST_NAME).collect())
    }
}

fn says(error: &Error, text: &str) -> bool {
    let stack = error.ssl_error().map_or(&[][..], |stack| stack.errors());
    stack.iter().any(|error| error.reason() == Some(text))
}
