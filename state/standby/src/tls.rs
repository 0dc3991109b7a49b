//! TLS 1.3 with certificates of both sides, each of which must have the other's name.

use std::pin::Pin;

use openssl::error::ErrorStack;
use openssl::ssl::{Ssl, SslContext, SslVersion};
use tokio::net::TcpStream;
use tokio_openssl::SslStream;
use weir_dtls::{Credentials, DtlsError};

use crate::StandbySettings;

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// Certificates or key.
    #[error(transparent)]
    Credentials(#[from] DtlsError),
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
        let (certificate, key) = (&settings.certificate, &settings.key);
        let credentials = Credentials::from_pem_files(&settings.ca, certificate, key)?;
        let mut builder = credentials.tls_server()?;
        builder.set_min_proto_version(Some(SslVersion::TLS1_3))?;
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
