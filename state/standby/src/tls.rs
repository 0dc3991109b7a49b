//! TLS 1.3 with certificates of both sides, each of which must have the other's name.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use openssl::error::ErrorStack;
use openssl::pkey::PKey;
use openssl::ssl::{
    Ssl, SslContext, SslContextBuilder, SslMethod, SslOptions, SslSessionCacheMode, SslVerifyMode,
    SslVersion,
};
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilder;
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

use crate::StandbySettings;

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file does not have what it should.
    #[error("{}: {what}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// OpenSSL refuses.
    #[error("tls: {0}")]
    OpenSsl(#[from] ErrorStack),
    /// The peer is not who it should be, or does not speak TLS.
    #[error("handshake: {0}")]
    Handshake(#[from] openssl::ssl::Error),
}

/// Both ends' context, and whom they demand.
#[derive(Clone)]
pub(crate) struct Tls {
    context: SslContext,
    peer_name: String,
}

impl Tls {
    /// Reads the files.
    pub(crate) fn open(settings: &StandbySettings) -> Result<Self, TlsError> {
        let mut builder = SslContextBuilder::new(SslMethod::tls())?;
        builder.set_min_proto_version(Some(SslVersion::TLS1_3))?;
        // Each connection shows its certificate anew.
        builder.set_session_cache_mode(SslSessionCacheMode::OFF);
        builder.set_num_tickets(0)?;
        builder.set_options(SslOptions::NO_TICKET);
        builder.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
        let mut store = X509StoreBuilder::new()?;
        for authority in certificates(&settings.ca)? {
            builder.add_client_ca(&authority)?;
            store.add_cert(authority)?;
        }
        builder.set_cert_store(store.build());
        let mut chain = certificates(&settings.certificate)?.into_iter();
        if let Some(own) = chain.next() {
            builder.set_certificate(&own)?;
        }
        for certificate in chain {
            builder.add_extra_chain_cert(certificate)?;
        }
        let key = PKey::private_key_from_pem(&read(&settings.key)?)
            .map_err(|_| wrong(&settings.key, "no private key in PEM"))?;
        builder.set_private_key(&key)?;
        builder
            .check_private_key()
            .map_err(|_| wrong(&settings.key, "the key is not the certificate's"))?;
        Ok(Self {
            context: builder.build(),
            peer_name: settings.peer_name.clone(),
        })
    }

    /// The calling end of a connection.
    pub(crate) async fn connect(
        &self,
        stream: TcpStream,
    ) -> Result<SslStream<TcpStream>, TlsError> {
        let mut stream = self.end(stream)?;
        Pin::new(&mut stream).connect().await?;
        Ok(stream)
    }

    /// The called end.
    pub(crate) async fn accept(&self, stream: TcpStream) -> Result<SslStream<TcpStream>, TlsError> {
        let mut stream = self.end(stream)?;
        Pin::new(&mut stream).accept().await?;
        Ok(stream)
    }

    fn end(&self, stream: TcpStream) -> Result<SslStream<TcpStream>, TlsError> {
        let mut ssl = Ssl::new(&self.context)?;
        // Of clients too: OpenSSL looks for the name in whatever certificate the other side shows.
        ssl.param_mut().set_host(&self.peer_name)?;
        // Frames are small, and each is waited for; where that cannot be said it is slower, not wrong.
        let _ = stream.set_nodelay(true);
        Ok(SslStream::new(ssl, stream)?)
    }
}

fn certificates(path: &Path) -> Result<Vec<X509>, TlsError> {
    let found = X509::stack_from_pem(&read(path)?).unwrap_or_default();
    if found.is_empty() {
        return Err(wrong(path, "no certificate in PEM"));
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::File {
        path: path.to_owned(),
        source,
    })
}

fn wrong(path: &Path, what: &'static str) -> TlsError {
    TlsError::Content {
        path: path.to_owned(),
        what,
    }
}
