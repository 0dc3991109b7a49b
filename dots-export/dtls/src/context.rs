//! What all sessions of a client, or of a server, have in common.

use std::net::IpAddr;

use openssl::ssl::{
    Ssl, SslContext, SslContextBuilder, SslOptions, SslSession, SslSessionCacheMode,
};
use openssl::x509::verify::X509CheckFlags;

use crate::credentials::Over;
use crate::listener::cookie_of;
use crate::{Credentials, DtlsError, ffi};

/// A client's side of all its sessions, over datagrams and over streams.
#[derive(Clone, Debug)]
pub struct ClientContext {
    pub(crate) datagrams: SslContext,
    pub(crate) streams: SslContext,
}

impl ClientContext {
    /// A context that presents these credentials.
    pub fn new(credentials: &Credentials) -> Result<Self, DtlsError> {
        let build = |over| {
            let mut builder = credentials.client_context(over)?;
            builder.set_session_cache_mode(SslSessionCacheMode::CLIENT);
            Ok::<_, DtlsError>(builder.build())
        };
        Ok(Self {
            datagrams: build(Over::Datagrams)?,
            streams: build(Over::Streams)?,
        })
    }
}

/// A server's side of all its sessions, over datagrams and over streams.
#[derive(Clone)]
pub struct ServerContext {
    pub(crate) datagrams: SslContext,
    pub(crate) streams: SslContext,
    secret: [u8; 32],
}

impl std::fmt::Debug for ServerContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerContext").finish_non_exhaustive()
    }
}

impl ServerContext {
    /// A context that presents these credentials. Sessions are resumed by tickets that the server keeps nothing of.
    pub fn new(credentials: &Credentials) -> Result<Self, DtlsError> {
        let mut secret = [0; 32];
        openssl::rand::rand_bytes(&mut secret)?;
        Self::with_secret(credentials, secret)
    }

    /// A context with other credentials, for sessions that begin from now on. Cookies that are under way stay good; tickets
    /// do not, so that each peer is checked against the new credentials.
    pub fn renewed(&self, credentials: &Credentials) -> Result<Self, DtlsError> {
        Self::with_secret(credentials, self.secret)
    }

    fn with_secret(credentials: &Credentials, secret: [u8; 32]) -> Result<Self, DtlsError> {
        let build = |over| {
            let mut builder = credentials.server_context(over)?;
            builder.set_session_cache_mode(SslSessionCacheMode::OFF);
            builder.set_session_id_context(b"weir")?;
            Ok::<_, DtlsError>(builder)
        };
        let mut datagrams = build(Over::Datagrams)?;
        datagrams.set_options(SslOptions::COOKIE_EXCHANGE);
        set_cookies(&mut datagrams, secret);
        Ok(Self {
            datagrams: datagrams.build(),
            streams: build(Over::Streams)?.build(),
            secret,
        })
    }
}

fn set_cookies(builder: &mut SslContextBuilder, secret: [u8; 32]) {
    builder.set_cookie_generate_cb(move |ssl, cookie| {
        let made = cookie_of(ssl, &secret)?;
        match cookie.get_mut(..made.len()) {
            Some(room) => room.copy_from_slice(&made),
            None => return Ok(0),
        }
        Ok(made.len())
    });
    builder.set_cookie_verify_cb(move |ssl, cookie| {
        cookie_of(ssl, &secret)
            .is_ok_and(|made| made.len() == cookie.len() && openssl::memcmp::eq(&made, cookie))
    });
}

/// What resumes a session without a full handshake (RFC 5077): the server keeps nothing of it. It is of the context that its
/// connection was made with.
#[derive(Clone)]
pub struct Ticket {
    session: SslSession,
    context: SslContext,
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ticket").finish_non_exhaustive()
    }
}

impl Ticket {
    /// Of a session that stands; `None` where the server gave none.
    pub(crate) fn of(ssl: &openssl::ssl::SslRef) -> Option<Self> {
        let session = ssl.session().filter(|found| ffi::is_resumable(found))?;
        Some(Self {
            session: session.to_owned(),
            context: ssl.ssl_context().to_owned(),
        })
    }
}

/// A client's session with a server that must be `server_name`, a DNS name or an address, by its certificate.
pub(crate) fn client_ssl(
    context: &SslContext,
    server_name: &str,
    ticket: Option<&Ticket>,
) -> Result<Ssl, DtlsError> {
    let mut ssl = Ssl::new(context)?;
    // RFC 9525 §2: names are those of the subjectAltName, not the common name.
    ssl.param_mut()
        .set_hostflags(X509CheckFlags::NO_PARTIAL_WILDCARDS | X509CheckFlags::NEVER_CHECK_SUBJECT);
    match server_name.parse::<IpAddr>() {
        Ok(address) => ssl.param_mut().set_ip(address)?,
        Err(_) => {
            ssl.set_hostname(server_name)?;
            ssl.param_mut().set_host(server_name)?;
        }
    }
    if let Some(ticket) = ticket
        && std::ptr::eq(pointer(&ticket.context), pointer(context))
    {
        // Without it the handshake is a full one.
        ffi::set_session(&mut ssl, &ticket.session);
    }
    ssl.set_connect_state();
    Ok(ssl)
}

/// Two handles of one context refer to the same object of OpenSSL's.
fn pointer(context: &SslContext) -> *const openssl::ssl::SslContextRef {
    std::ptr::from_ref::<openssl::ssl::SslContextRef>(context)
}
