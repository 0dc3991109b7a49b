//! Requests as both peers read them: options, path, method, body, and the faults that are answered without the application.

use serde_json::Value;

use crate::body::{Body, Heartbeat};
use crate::coap::{Block, Code, Kind, Message, option};
use crate::resource::ResourceError;
use crate::{Method, Resource, cbor};

/// What a request asks.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) resource: Resource,
    pub(crate) query: Vec<String>,
    pub(crate) if_match: bool,
    /// Observe, of a GET.
    pub(crate) observe: Option<u32>,
    /// Block2.
    pub(crate) block: Option<Block>,
    /// Q-Block2, which may ask for several blocks.
    pub(crate) robust: Vec<Block>,
    pub(crate) body: Option<Value>,
}

/// Why a request does not reach the application.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Rejected by a Reset (RFC 7252 §4.3).
    Reject,
    /// Answered by a code and its diagnostic payload.
    Refuse(Code, String),
}

impl Fault {
    fn refuse(code: Code, text: impl Into<String>) -> Self {
        Self::Refuse(code, text.into())
    }
}

/// Reads a request.
pub(crate) fn read(message: &Message) -> Result<Asked, Fault> {
    check_options(message)?;
    let resource = resource(message)?;
    let method = match message.code {
        Code::GET => Method::Get,
        Code::PUT => Method::Put,
        Code::DELETE => Method::Delete,
        _ => {
            return Err(Fault::refuse(
                Code::METHOD_NOT_ALLOWED,
                "methods here are get, put and delete",
            ));
        }
    };
    if resource == Resource::Heartbeat && method != Method::Put {
        return Err(Fault::refuse(
            Code::METHOD_NOT_ALLOWED,
            "a heartbeat is a put",
        ));
    }
    let query: Option<Vec<String>> = message.values(option::URI_QUERY).map(text).collect();
    Ok(Asked {
        method,
        resource,
        query: query.ok_or_else(|| Fault::refuse(Code::BAD_REQUEST, "the query is no utf-8"))?,
        if_match: if_match(message)?,
        observe: message
            .number(option::OBSERVE)
            .filter(|_| method == Method::Get),
        block: block(message)?,
        robust: robust(message)?,
        body: body(message, method)?,
    })
}

/// What a heartbeat says of us (RFC 9132 §4.7).
pub(crate) fn peer_hb_status(asked: &Asked) -> Result<bool, String> {
    let body = asked.body.as_ref().ok_or("a heartbeat needs a body")?;
    Heartbeat::from_json(body)
        .map(|heartbeat| heartbeat.peer_hb_status)
        .map_err(|error| error.to_string())
}

/// Whether all critical options of a response are understood (RFC 7252 §5.4.1).
pub(crate) fn is_response_understood(message: &Message) -> bool {
    message.options.iter().all(|(number, value)| {
        !option::is_critical(*number)
            || (matches!(
                *number,
                option::BLOCK1 | option::BLOCK2 | option::Q_BLOCK1 | option::Q_BLOCK2
            ) && option::is_length_of(*number, value.len()))
    })
}

/// RFC 7252 §5.4.1: a critical option that is unknown, repeated without leave, or of a wrong length is 4.02 in a Confirmable
/// request, and rejects a Non-confirmable one.
fn check_options(message: &Message) -> Result<(), Fault> {
    let mut last = None;
    for (number, value) in &message.options {
        let repeated = last.replace(*number) == Some(*number) && !option::is_repeatable(*number);
        let known = matches!(
            *number,
            option::IF_MATCH
                | option::URI_HOST
                | option::URI_PORT
                | option::URI_PATH
                | option::URI_QUERY
                | option::ACCEPT
                | option::BLOCK1
                | option::BLOCK2
                | option::Q_BLOCK2
                | option::PROXY_URI
                | option::PROXY_SCHEME
        );
        let understood = known && !repeated && option::is_length_of(*number, value.len());
        if option::is_critical(*number) && !understood {
            return Err(match message.kind {
                Kind::Confirmable => Fault::refuse(
                    Code::BAD_OPTION,
                    format!("option {number} is not understood"),
                ),
                _ => Fault::Reject,
            });
        }
    }
    check_values(message)
}

fn check_values(message: &Message) -> Result<(), Fault> {
    let has = |number| message.option(number).is_some();
    // RFC 8768 §3: 1 to 255; a server that is no gateway passes nothing on, so any of them is enough.
    if message.number(option::HOP_LIMIT) == Some(0) {
        return Err(Fault::refuse(
            Code::BAD_REQUEST,
            "a hop limit is 1 at least",
        ));
    }
    if has(option::PROXY_URI) || has(option::PROXY_SCHEME) {
        return Err(Fault::refuse(
            Code::PROXYING_NOT_SUPPORTED,
            "this is no proxy",
        ));
    }
    if has(option::ACCEPT) && message.number(option::ACCEPT) != Some(option::DOTS_CBOR) {
        return Err(Fault::refuse(
            Code::NOT_ACCEPTABLE,
            "answers are application/dots+cbor (271)",
        ));
    }
    Ok(())
}

fn resource(message: &Message) -> Result<Resource, Fault> {
    let segments: Option<Vec<&str>> = message
        .values(option::URI_PATH)
        .map(|segment| std::str::from_utf8(segment).ok())
        .collect();
    let segments =
        segments.ok_or_else(|| Fault::refuse(Code::BAD_REQUEST, "the path is no utf-8"))?;
    Resource::from_segments(segments.into_iter()).map_err(|error| {
        let code = match error {
            ResourceError::Unknown => Code::NOT_FOUND,
            _ => Code::BAD_REQUEST,
        };
        Fault::refuse(code, error.to_string())
    })
}

/// Efficacy updates carry an empty If-Match (RFC 9132 §4.4.3); a value cannot match, since no representation that takes a
/// PUT has an `ETag`.
fn if_match(message: &Message) -> Result<bool, Fault> {
    let mut values = message.values(option::IF_MATCH).peekable();
    let present = values.peek().is_some();
    if present && !values.any(<[u8]>::is_empty) {
        return Err(Fault::refuse(
            Code::PRECONDITION_FAILED,
            "only an empty if-match can match",
        ));
    }
    Ok(present)
}

/// Block2 asks for a part of the answer; Block1 was taken care of before.
fn block(message: &Message) -> Result<Option<Block>, Fault> {
    message
        .option(option::BLOCK2)
        .map(|value| {
            Block::from_value(value)
                .ok_or_else(|| Fault::refuse(Code::BAD_REQUEST, "reserved block size"))
        })
        .transpose()
}

/// RFC 9177 §4.4: blocks of one size, in ascending order without duplicates. Q-Block1 was taken care of before.
fn robust(message: &Message) -> Result<Vec<Block>, Fault> {
    let mut blocks: Vec<Block> = Vec::new();
    for value in message.values(option::Q_BLOCK2) {
        let block = Block::from_value(value)
            .ok_or_else(|| Fault::refuse(Code::BAD_REQUEST, "reserved block size"))?;
        let follows = |last: &Block| last.number < block.number && last.size() == block.size();
        if !blocks.last().is_none_or(follows) {
            let text = "q-block2 options of one size in ascending order";
            return Err(Fault::refuse(Code::BAD_REQUEST, text));
        }
        blocks.push(block);
    }
    Ok(blocks)
}

fn body(message: &Message, method: Method) -> Result<Option<Value>, Fault> {
    if method != Method::Put {
        return Ok(None);
    }
    if let Some(format) = message.number(option::CONTENT_FORMAT)
        && format != option::DOTS_CBOR
    {
        return Err(Fault::refuse(
            Code::UNSUPPORTED_CONTENT_FORMAT,
            format!("content format {format} is not 271 (application/dots+cbor)"),
        ));
    }
    if message.payload.is_empty() {
        return Err(Fault::refuse(Code::BAD_REQUEST, "a put needs a body"));
    }
    cbor::decode(&message.payload)
        .map(Some)
        .map_err(|error| Fault::refuse(Code::BAD_REQUEST, error.to_string()))
}

fn text(value: &[u8]) -> Option<String> {
    std::str::from_utf8(value).ok().map(str::to_owned)
}
