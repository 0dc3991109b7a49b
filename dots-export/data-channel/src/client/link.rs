//! The connection: opened when it is needed, kept while it lasts.

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use openssl::ssl::SslContext;
use serde_json::Value;
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_openssl::SslStream;

use super::answer::Answer;
use super::{ClientError, ClientSettings, split};
use crate::service::YANG_DATA_JSON;
use crate::tls::client_end;

/// Addresses of a name that are tried.
const MAX_ADDRESSES: usize = 8;

pub(super) struct Link {
    settings: ClientSettings,
    context: SslContext,
    /// The host, for the `Host` field and, unless configured otherwise, for the certificate.
    host: String,
    open: Option<Open>,
}

/// An open connection; its task ends with it.
struct Open {
    sender: SendRequest<Full<Bytes>>,
    task: AbortHandle,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link")
            .field("server", &self.settings.server)
            .finish_non_exhaustive()
    }
}

impl Link {
    pub(super) fn new(settings: ClientSettings) -> Result<Self, ClientError> {
        let context = settings.tls.client()?;
        let Some((host, _)) = split(&settings.server) else {
            return Err(ClientError::Server(settings.server));
        };
        let host = host.to_owned();
        Ok(Self {
            settings,
            context,
            host,
            open: None,
        })
    }

    /// Sends a request and reads its answer. On a connection that was open before and has ended meanwhile, the request
    /// is sent once more: all of ours but POST can be repeated, and a POST that was done is told by 409.
    pub(super) async fn ask(
        &mut self,
        method: &'static str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, ClientError> {
        let was_open = self.is_open();
        match self.ask_once(method, path, body).await {
            Err(ClientError::Connection(_)) if was_open => {
                self.open = None;
                self.ask_once(method, path, body).await
            }
            answer => answer,
        }
    }

    fn is_open(&self) -> bool {
        self.open
            .as_ref()
            .is_some_and(|open| !open.sender.is_closed())
    }

    async fn ask_once(
        &mut self,
        method: &'static str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, ClientError> {
        if !self.is_open() {
            self.open = Some(self.connect().await?);
        }
        let request = self.request(method, path, body)?;
        let (longest, most) = (self.settings.timeout, self.settings.max_answer);
        let Some(open) = &mut self.open else {
            return Err(ClientError::Timeout { what: "connection" });
        };
        let answer = timeout(longest, exchange(&mut open.sender, request, most)).await;
        let answer = answer.unwrap_or(Err(ClientError::Timeout { what: "answer" }));
        // What is left of a broken exchange belongs to no other.
        if answer.is_err() {
            self.open = None;
        }
        answer
    }

    fn request(
        &self,
        method: &'static str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.settings.server.as_str());
        request = match path.starts_with("/.well-known/") {
            true => request.header(header::ACCEPT, "application/xrd+xml"),
            false => request.header(header::ACCEPT, YANG_DATA_JSON),
        };
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, YANG_DATA_JSON);
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        request
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| ClientError::Connection(error.to_string()))
    }

    async fn connect(&self) -> Result<Open, ClientError> {
        let server = &self.settings.server;
        let longest = self.settings.timeout;
        let resolved = timeout(longest, lookup_host(server)).await;
        let resolved = resolved.map_err(|_| ClientError::Timeout { what: "address" })?;
        let resolved = resolved.map_err(|source| ClientError::Resolve {
            server: server.clone(),
            source,
        })?;
        let mut last = ClientError::Timeout { what: "address" };
        for address in resolved.take(MAX_ADDRESSES) {
            match self.connect_to(address, longest).await {
                Ok(open) => return Ok(open),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn connect_to(
        &self,
        address: SocketAddr,
        longest: Duration,
    ) -> Result<Open, ClientError> {
        let stream = timeout(longest, self.tcp(address)).await;
        let stream = stream.map_err(|_| ClientError::Timeout { what: "connection" })?;
        let stream = stream.map_err(|source| ClientError::Connect { address, source })?;
        let stream = timeout(longest, self.secure(stream)).await;
        let stream = stream.map_err(|_| ClientError::Timeout { what: "handshake" })?;
        let stream = stream.map_err(|reason| ClientError::Handshake { address, reason })?;
        let opened = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = opened.map_err(|error| ended(&error))?;
        let task = tokio::spawn(async move {
            // How it ended is told to the request that waits.
            let _ = connection.await;
        });
        Ok(Open {
            sender,
            task: task.abort_handle(),
        })
    }

    async fn tcp(&self, address: SocketAddr) -> std::io::Result<TcpStream> {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        if let Some(interface) = &self.settings.interface {
            socket.bind_device(Some(interface.as_bytes()))?;
        }
        if let Some(bind) = self.settings.bind {
            socket.bind(SocketAddr::new(bind, 0))?;
        }
        // A request follows the end of the handshake at once: it must not wait for that to be acknowledged.
        socket.set_nodelay(true)?;
        socket.connect(address).await
    }

    async fn secure(&self, stream: TcpStream) -> Result<SslStream<TcpStream>, String> {
        let name = self.settings.server_name.as_deref().unwrap_or(&self.host);
        let ssl = client_end(&self.context, name).map_err(|error| error.to_string())?;
        let mut stream = SslStream::new(ssl, stream).map_err(|error| error.to_string())?;
        let connected = Pin::new(&mut stream).connect().await;
        connected.map_err(|error| error.to_string())?;
        Ok(stream)
    }
}

async fn exchange(
    sender: &mut SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
    most: usize,
) -> Result<Answer, ClientError> {
    sender.ready().await.map_err(|error| ended(&error))?;
    let response = sender.send_request(request).await;
    let (parts, body) = response
        .map_err(|error| ended(&error))
        .map(Response::into_parts)?;
    let body = Limited::new(body, most).collect().await;
    let body = body.map_err(|error| match error.is::<LengthLimitError>() {
        true => ClientError::TooLarge(most),
        false => ClientError::Connection(error.to_string()),
    })?;
    Ok(Answer {
        status: parts.status.as_u16(),
        body: body.to_bytes().to_vec(),
    })
}

/// A broken connection, with its cause: hyper's own words leave it out.
fn ended(error: &hyper::Error) -> ClientError {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    ClientError::Connection(text)
}
