//! A web server that filters: each message is a POST, the answer its body.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{
    CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName,
};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use super::external::{Carrier, CarrierError};
use super::settings::{WebhookSettings, WebhookTls};

/// Octets of an answer's body.
const MAX_ANSWER: usize = 256 * 1024;
/// Octets of a refusal that reach the log.
const MAX_COMPLAINT: usize = 200;

/// Why a webhook does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WebhookError {
    #[error("{0}")]
    Runtime(#[from] io::Error),
    #[error("{path}: {source}")]
    Pem { path: PathBuf, source: pem::Error },
    #[error("{0}")]
    Tls(#[from] rustls::Error),
    #[error("the system has no certificates of authorities: name a file by `ca`")]
    NoRoots,
    #[error("the URL has no host name that a certificate could have: {0}")]
    Name(#[from] InvalidDnsNameError),
}

/// Speaks HTTP/1.1 to one URL, a connection for each message. Redirects are not followed.
pub(crate) struct Webhook {
    name: String,
    runtime: Option<Runtime>,
    target: Arc<Target>,
    token_file: Option<PathBuf>,
    time_limit: Duration,
}

struct Target {
    host: String,
    port: u16,
    /// The `Host` header.
    authority: String,
    path: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Webhook {
    pub(crate) fn new(settings: &WebhookSettings) -> Result<Self, WebhookError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(Self {
            name: settings.name.clone(),
            runtime: Some(runtime),
            target: Arc::new(Target::new(&settings.url, settings.tls.as_ref())?),
            token_file: settings.token_file.clone(),
            time_limit: settings.time_limit,
        })
    }

    /// Read each time, so that it can be replaced.
    fn authorization(&self) -> Result<Option<HeaderValue>, CarrierError> {
        let Some(path) = &self.token_file else {
            return Ok(None);
        };
        let token = std::fs::read_to_string(path)
            .map_err(|error| unreachable(format!("{}: {error}", path.display())))?;
        let mut value = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
            .map_err(|_| unreachable(format!("{}: not a token", path.display())))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

impl Carrier for Webhook {
    fn name(&self) -> &str {
        &self.name
    }

    fn exchange(&mut self, message: &[u8]) -> Result<Vec<u8>, CarrierError> {
        let authorization = self.authorization()?;
        let request = self
            .target
            .request(message, authorization)
            .map_err(|error| CarrierError::Refused(error.to_string()))?;
        let (target, limit) = (Arc::clone(&self.target), self.time_limit);
        let Some(runtime) = &self.runtime else {
            return Err(unreachable("it has ended"));
        };
        runtime.block_on(async {
            tokio::time::timeout(limit, target.exchange(request))
                .await
                .unwrap_or_else(|_| {
                    Err(unreachable(format!(
                        "no answer within {} ms",
                        limit.as_millis()
                    )))
                })
        })
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        // A name that is still being resolved is not waited for.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Target {
    fn new(url: &Uri, tls: Option<&WebhookTls>) -> Result<Self, WebhookError> {
        let host = url.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let tls = match tls {
            Some(tls) => {
                let name = ServerName::try_from(host.to_owned())?;
                Some((TlsConnector::from(Arc::new(client_config(tls)?)), name))
            }
            None => None,
        };
        let default_port = if tls.is_some() { 443 } else { 80 };
        Ok(Self {
            host: host.to_owned(),
            port: url.port_u16().unwrap_or(default_port),
            authority: url
                .authority()
                .map_or_else(String::new, |authority| authority.to_string()),
            path: url
                .path_and_query()
                .map_or_else(|| "/".to_owned(), |path| path.to_string()),
            tls,
        })
    }

    fn request(
        &self,
        message: &[u8],
        authorization: Option<HeaderValue>,
    ) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(&self.path)
            .header(HOST, &self.authority)
            .header(USER_AGENT, concat!("weir/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, "application/json");
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        request.body(Full::new(Bytes::copy_from_slice(message)))
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Vec<u8>, CarrierError> {
        let stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|error| unreachable(format!("{}:{}: {error}", self.host, self.port)))?;
        match &self.tls {
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await;
                exchange(stream.map_err(unreachable)?, request).await
            }
            None => exchange(stream, request).await,
        }
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<Vec<u8>, CarrierError> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(unreachable)?;
    let talk = async move {
        let response = sender.send_request(request).await.map_err(unreachable)?;
        read(response).await
    };
    tokio::pin!(talk);
    tokio::select! {
        biased;
        answer = &mut talk => answer,
        // A connection that has ended may have brought the answer, however it ended: many close TLS without saying so.
        _ = connection => talk.await,
    }
}

async fn read(response: Response<hyper::body::Incoming>) -> Result<Vec<u8>, CarrierError> {
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER)
        .collect()
        .await
        .map_err(|error| unreachable(format!("{status}, and its body: {error}")))?;
    let body = body.to_bytes();
    if status.is_success() {
        return Ok(body.to_vec());
    }
    let complaint = body.get(..MAX_COMPLAINT).unwrap_or(&body);
    let text = format!("{status}: {}", String::from_utf8_lossy(complaint).trim());
    Err(match status {
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
            CarrierError::Unreachable(text)
        }
        _ if status.is_server_error() => CarrierError::Unreachable(text),
        _ => CarrierError::Refused(text),
    })
}

fn unreachable(error: impl ToString) -> CarrierError {
    CarrierError::Unreachable(error.to_string())
}

fn client_config(tls: &WebhookTls) -> Result<ClientConfig, WebhookError> {
    let mut roots = RootCertStore::empty();
    match &tls.ca {
        Some(path) => {
            for certificate in certificates(path)? {
                roots.add(certificate)?;
            }
        }
        None => {
            let native = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(native.certs);
        }
    }
    if roots.is_empty() {
        return Err(WebhookError::NoRoots);
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    Ok(match &tls.identity {
        Some((certificate, key)) => {
            let key = PrivateKeyDer::from_pem_file(key).map_err(|source| WebhookError::Pem {
                path: key.clone(),
                source,
            })?;
            builder.with_client_auth_cert(certificates(certificate)?, key)?
        }
        None => builder.with_no_client_auth(),
    })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, WebhookError> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|source| WebhookError::Pem {
            path: path.to_owned(),
            source,
        })
}
