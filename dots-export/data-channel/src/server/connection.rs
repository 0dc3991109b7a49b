//! One connection: handshake, then requests one after the other.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use openssl::ssl::Ssl;
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

use super::Shared;
use crate::service::{Headers, Method, Request, Response};
use crate::tls::peer_names;

/// Octets of a request's header.
const MAX_HEADER: usize = 32 << 10;

/// Serves a connection until it ends.
pub(super) async fn serve(stream: TcpStream, from: SocketAddr, shared: &Arc<Shared>) {
    let handshake = tokio::time::timeout(shared.settings.handshake_timeout, secure(stream, shared));
    let failed = match handshake.await {
        Ok(Ok(stream)) => return answer_all(stream, from, shared).await,
        Ok(Err(reason)) => reason,
        Err(_) => "it takes too long".to_owned(),
    };
    shared
        .places
        .handshakes_failed
        .fetch_add(1, Ordering::Relaxed);
    tracing::info!(%from, reason = failed, "data channel: handshake failed");
}

async fn secure(stream: TcpStream, shared: &Shared) -> Result<SslStream<TcpStream>, String> {
    stream
        .set_nodelay(true)
        .map_err(|error| error.to_string())?;
    let ssl = Ssl::new(&shared.context()).map_err(|error| error.to_string())?;
    let mut stream = SslStream::new(ssl, stream).map_err(|error| error.to_string())?;
    let accepted = Pin::new(&mut stream).accept().await;
    accepted.map_err(|error| error.to_string())?;
    Ok(stream)
}

async fn answer_all(stream: SslStream<TcpStream>, from: SocketAddr, shared: &Arc<Shared>) {
    let names: Arc<[String]> = peer_names(stream.ssl()).into();
    let service = service_fn(|request| {
        let (shared, names) = (shared.clone(), names.clone());
        async move { Ok::<_, Infallible>(answer(request, names, shared).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.settings.header_timeout)
        .max_buf_size(MAX_HEADER)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%from, %error, "data channel: the connection ended");
    }
}

async fn answer(
    request: hyper::Request<Incoming>,
    names: Arc<[String]>,
    shared: Arc<Shared>,
) -> hyper::Response<Full<Bytes>> {
    shared.places.requests.fetch_add(1, Ordering::Relaxed);
    let (parts, body) = request.into_parts();
    let most = shared.handle.max_body();
    // What says that it is too large is not waited for.
    if body.size_hint().lower() > most as u64 {
        return closing(Response::too_large());
    }
    let body = Limited::new(body, most).collect();
    let body = match tokio::time::timeout(shared.settings.body_timeout, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            return closing(Response::too_large());
        }
        // The connection is broken: nobody reads this.
        Ok(Err(_)) | Err(_) => return closing(Response::too_slow()),
    };
    // Reading, checking and keeping is work of milliseconds.
    let handle = shared.handle.clone();
    let done = tokio::task::spawn_blocking(move || {
        let via = joined(&parts.headers, header::VIA);
        let request = Request {
            method: Method::of(parts.method.as_str()),
            path: parts.uri.path(),
            query: parts.uri.query(),
            headers: Headers {
                content_type: text(&parts.headers, header::CONTENT_TYPE),
                accept: text(&parts.headers, header::ACCEPT),
                via: via.as_deref(),
                if_match: text(&parts.headers, header::IF_MATCH),
            },
            body: &body,
        };
        handle.handle_request(&request, &names)
    });
    http(done.await.unwrap_or_else(|_| Response::not_kept()))
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// All values of a field, joined by commas (RFC 7230 §3.2.2); octets that are no text are replaced.
fn joined(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    let values = headers.get_all(name).iter();
    let values: Vec<_> = values
        .map(|value| String::from_utf8_lossy(value.as_bytes()))
        .collect();
    (!values.is_empty()).then(|| values.join(", "))
}

/// A response after which the connection ends, since its body was not read.
fn closing(response: Response) -> hyper::Response<Full<Bytes>> {
    let mut response = http(response);
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(header::CONNECTION, close);
    response
}

fn http(response: Response) -> hyper::Response<Full<Bytes>> {
    let mut answer = hyper::Response::new(Full::new(Bytes::from(response.body)));
    *answer.status_mut() = hyper::StatusCode::from_u16(response.status)
        .unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in response.headers {
        // Paths and tags of ours are visible ASCII.
        if let Ok(value) = HeaderValue::from_str(&value) {
            answer
                .headers_mut()
                .insert(HeaderName::from_static(name), value);
        }
    }
    answer
}
