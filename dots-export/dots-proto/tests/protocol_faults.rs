//! What a server's session answers by itself, octet for octet of CoAP: the application never sees these requests.

#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]
#![expect(
    clippy::disallowed_methods,
    reason = "any instant does: sessions only look at differences"
)]

use std::time::{Duration, Instant};

use serde_json::json;
use weir_dots_proto::coap::{Block, Code, Kind, Message, Token, option};
use weir_dots_proto::server::{Event, ObserveAction, Response, Session};
use weir_dots_proto::{Method, SessionParameters, decode, encode};

struct Server {
    now: Instant,
    session: Session,
    message_id: u16,
}

impl Server {
    fn new() -> Self {
        Self {
            now: Instant::now(),
            session: Session::new(SessionParameters::default(), 1),
            message_id: 0,
        }
    }

    /// Sends octets and gives the answers.
    fn send(&mut self, octets: &[u8]) -> Vec<Message> {
        self.session.handle_datagram(self.now, octets);
        self.answers()
    }

    fn answers(&mut self) -> Vec<Message> {
        std::iter::from_fn(|| self.session.poll_transmit())
            .map(|octets| Message::decode(&octets).unwrap())
            .collect()
    }

    /// Sends a request and gives the one answer.
    fn ask(&mut self, message: &Message) -> Message {
        let mut answers = self.send(&message.to_octets());
        assert_eq!(answers.len(), 1, "{message:?}");
        answers.pop().unwrap()
    }

    fn request(&mut self, kind: Kind, code: Code, path: &str) -> Message {
        self.message_id += 1;
        let token = Token::from_number(self.message_id.into());
        let mut message = Message::new(kind, code, self.message_id, token);
        for segment in path.split('/').skip(1) {
            message.push_option(option::URI_PATH, segment);
        }
        message
    }

    fn con(&mut self, code: Code, path: &str) -> Message {
        self.request(Kind::Confirmable, code, path)
    }

    fn put(&mut self, path: &str) -> Message {
        let mut message = self.request(Kind::NonConfirmable, Code::PUT, path);
        message.push_option(option::CONTENT_FORMAT, option::octets(option::DOTS_CBOR));
        message.payload = body();
        message
    }
}

const MITIGATION: &str = "/.well-known/dots/mitigate/cuid=dz6pHjaADkaFTbjr0JGBpw/mid=123";

fn body() -> Vec<u8> {
    encode(
        &json!({"ietf-dots-signal-channel:mitigation-scope": {"scope": [
        {"target-prefix": ["192.0.2.1/32"], "lifetime": 3600}]}}),
    )
    .unwrap()
}

/// A fault, answered in kind, under the request's token, with a text, and without an event.
fn assert_refused(message: impl FnOnce(&mut Server) -> Message, code: Code) {
    let mut server = Server::new();
    let message = message(&mut server);
    let answer = server.ask(&message);
    assert_eq!(answer.code, code, "{answer:?}");
    assert_eq!(answer.token, message.token);
    if message.kind == Kind::Confirmable {
        assert_eq!(
            (answer.kind, answer.message_id),
            (Kind::Acknowledgement, message.message_id)
        );
    } else {
        assert_eq!(answer.kind, Kind::NonConfirmable);
    }
    let text = std::str::from_utf8(&answer.payload).unwrap();
    assert!(!text.is_empty() && text.len() <= 512, "{text:?}");
    assert_eq!(answer.option(option::CONTENT_FORMAT), None);
    assert_eq!(server.session.poll_event(), None);
}

#[test]
fn paths() {
    for (path, code) in [
        ("/", Code::NOT_FOUND),
        ("/.well-known/core", Code::NOT_FOUND),
        ("/.well-known/dots/migrate", Code::NOT_FOUND),
        ("/.well-known/dots/mitigate/mid=1/cuid=a", Code::BAD_REQUEST),
        ("/.well-known/dots/mitigate/cuid=/mid=1", Code::BAD_REQUEST),
        ("/.well-known/dots/mitigate/cuid=a/mid=", Code::BAD_REQUEST),
        ("/.well-known/dots/mitigate", Code::BAD_REQUEST),
    ] {
        assert_refused(|server| server.con(Code::GET, path), code);
        assert_refused(|server| server.put(path), code);
    }
}

#[test]
fn methods() {
    for code in [Code::POST, Code(5), Code(6), Code(31)] {
        assert_refused(
            |server| server.con(code, MITIGATION),
            Code::METHOD_NOT_ALLOWED,
        );
    }
    assert_refused(
        |server| server.con(Code::GET, "/.well-known/dots/hb"),
        Code::METHOD_NOT_ALLOWED,
    );
}

#[test]
fn bodies() {
    let put = |payload: Vec<u8>| {
        move |server: &mut Server| {
            let mut message = server.put(MITIGATION);
            message.payload = payload;
            message
        }
    };
    assert_refused(put(Vec::new()), Code::BAD_REQUEST);
    assert_refused(put(b"hello".to_vec()), Code::BAD_REQUEST);
    // A key that a receiver must understand.
    assert_refused(put(vec![0xa1, 0x18, 0x7e, 0xa0]), Code::BAD_REQUEST);
    assert_refused(
        |server| {
            let mut message = server.put(MITIGATION);
            message
                .options
                .retain(|(number, _)| *number != option::CONTENT_FORMAT);
            message.push_option(option::CONTENT_FORMAT, option::octets(60));
            message
        },
        Code::UNSUPPORTED_CONTENT_FORMAT,
    );
    // A heartbeat's body is a heartbeat.
    assert_refused(
        |server| server.put("/.well-known/dots/hb"),
        Code::BAD_REQUEST,
    );
}

#[test]
fn critical_options() {
    let with = |number: u16, value: &'static [u8]| {
        move |server: &mut Server| {
            let mut message = server.con(Code::GET, MITIGATION);
            message.push_option(number, value);
            message
        }
    };
    // If-None-Match; OSCORE; Edhoc; unknown.
    for number in [5, 9, 21, 65535] {
        assert_refused(with(number, b"x"), Code::BAD_OPTION);
    }
    assert_refused(with(option::ACCEPT, &[60]), Code::NOT_ACCEPTABLE);
    assert_refused(
        with(option::PROXY_URI, b"coap://x/"),
        Code::PROXYING_NOT_SUPPORTED,
    );
    assert_refused(with(option::IF_MATCH, b"x"), Code::PRECONDITION_FAILED);
    // The second of several blocks without the first; the first, not full; a hop limit that has run out.
    let incomplete = Code::REQUEST_ENTITY_INCOMPLETE;
    assert_refused(with(option::BLOCK1, &[0x16]), incomplete);
    assert_refused(with(option::BLOCK1, &[0x0e]), Code::BAD_REQUEST);
    assert_refused(with(option::HOP_LIMIT, &[0]), Code::BAD_REQUEST);
    // The reserved size; too long.
    assert_refused(with(option::BLOCK2, &[0x07]), Code::BAD_REQUEST);
    assert_refused(with(option::BLOCK2, &[0, 0, 0, 6]), Code::BAD_OPTION);
    // Twice what may stand once.
    assert_refused(
        |server| {
            let mut message = server.con(Code::GET, MITIGATION);
            message.push_option(option::ACCEPT, [1, 15]);
            message.push_option(option::ACCEPT, [1, 15]);
            message
        },
        Code::BAD_OPTION,
    );
}

#[test]
fn a_non_confirmable_request_with_an_unknown_critical_option_is_reset() {
    let mut server = Server::new();
    let mut message = server.put(MITIGATION);
    message.push_option(9, b"x".to_vec());
    let answer = server.ask(&message);
    assert_eq!(answer, Message::empty(Kind::Reset, message.message_id));
    assert_eq!(server.session.poll_event(), None);
}

#[test]
fn harmless_options_are_no_fault() {
    let mut server = Server::new();
    let mut message = server.con(Code::GET, MITIGATION);
    message.push_option(option::URI_HOST, b"dots.example".to_vec());
    message.push_option(option::URI_PORT, [0x12, 0x26]);
    message.push_option(option::ACCEPT, [1, 15]);
    message.push_option(option::HOP_LIMIT, [16]);
    message.push_option(option::BLOCK2, [6]);
    message.push_option(option::URI_QUERY, b"c=a".to_vec());
    // Elective and unknown; elective and malformed.
    message.push_option(2048, b"x".to_vec());
    message.push_option(option::OBSERVE, [0; 4]);
    assert!(server.send(&message.to_octets()).is_empty());
    let Some(Event::Request {
        exchange,
        method: Method::Get,
        query,
        observe: None,
        ..
    }) = server.session.poll_event()
    else {
        panic!("no request");
    };
    assert_eq!(query, ["c=a"]);
    // The acknowledgement carries the answer.
    server
        .session
        .handle_response(server.now, exchange, Response::new(Code::CONTENT));
    let [answer] = &server.answers()[..] else {
        panic!("not one answer");
    };
    assert_eq!(
        (answer.kind, answer.message_id, answer.token),
        (Kind::Acknowledgement, message.message_id, message.token)
    );
}

#[test]
fn pings_and_malformed_confirmable_messages_are_reset() {
    let mut server = Server::new();
    assert_eq!(
        server.send(&[0x40, 0, 0x12, 0x34]),
        [Message::empty(Kind::Reset, 0x1234)]
    );
    // A reserved code class; a truncated option; a payload marker alone; an empty message with a token.
    for octets in [
        &[0x40, 0x21, 0, 7][..],
        &[0x40, 1, 0, 7, 0xb5, b'x'],
        &[0x40, 1, 0, 7, 0xff],
        &[0x41, 0, 0, 7, 1],
    ] {
        assert_eq!(server.send(octets), [Message::empty(Kind::Reset, 7)]);
        // The same, Non-confirmable, is dropped.
        let mut non = octets.to_vec();
        non[0] |= 0x10;
        assert!(server.send(&non).is_empty());
    }
    // Another version, and less than a header.
    assert!(server.send(&[0x80, 1, 0, 7]).is_empty());
    assert!(server.send(&[0x40, 1, 0]).is_empty());
    // Requests in an ACK or RST are nothing.
    assert!(server.send(&[0x60, 1, 0, 8]).is_empty());
    assert!(server.send(&[0x70, 1, 0, 9]).is_empty());
    assert_eq!(server.session.poll_event(), None);
}

#[test]
fn duplicates_and_repeats_are_handled_once() {
    let mut server = Server::new();
    let mut message = server.put(MITIGATION);
    let count = |server: &mut Server| {
        std::iter::from_fn(|| server.session.poll_event())
            .filter_map(|event| match event {
                Event::Request { exchange, .. } => Some(exchange),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    assert!(server.send(&message.to_octets()).is_empty());
    let first = count(&mut server);
    assert_eq!(first.len(), 1);
    // Before the answer, a duplicate and a repeat are silent.
    assert!(server.send(&message.to_octets()).is_empty());
    message.message_id = 77;
    assert!(server.send(&message.to_octets()).is_empty());
    server
        .session
        .handle_response(server.now, first[0], Response::new(Code::CREATED));
    let answers = server.answers();
    // After it, they get the same.
    assert_eq!(server.send(&message.to_octets()), answers);
    message.message_id = 78;
    assert_eq!(server.send(&message.to_octets()), answers);
    assert!(count(&mut server).is_empty());
    // Another body, and the same body long after, are other requests.
    let mut other = message.clone();
    other.message_id = 79;
    other.payload = encode(
        &json!({"ietf-dots-signal-channel:mitigation-scope": {"scope": [
        {"target-prefix": ["192.0.2.1/32"], "lifetime": 1800}]}}),
    )
    .unwrap();
    assert!(server.send(&other.to_octets()).is_empty());
    assert_eq!(count(&mut server).len(), 1);
    server.now += Duration::from_secs(600);
    assert!(server.send(&message.to_octets()).is_empty());
    assert_eq!(count(&mut server).len(), 1);
}

#[test]
fn requests_that_nobody_answers_do_not_silence_the_session() {
    let mut server = Server::new();
    for _ in 0..2000 {
        let message = server.put(MITIGATION);
        assert!(server.send(&message.to_octets()).is_empty());
        assert!(matches!(
            server.session.poll_event(),
            Some(Event::Request { .. })
        ));
    }
}

#[test]
fn answers_beyond_a_datagram_go_in_blocks() {
    let scopes: Vec<_> = (0..100)
        .map(|mid| json!({"mid": mid, "target-prefix": [format!("192.0.2.{mid}/32")], "lifetime": 3600}))
        .collect();
    let whole = json!({"ietf-dots-signal-channel:mitigation-scope": {"scope": scopes}});
    let path = "/.well-known/dots/mitigate/cuid=dz6pHjaADkaFTbjr0JGBpw";
    let mut server = Server::new();
    let mut first = server.con(Code::GET, path);
    first.push_option(option::OBSERVE, Vec::new());
    server.send(&first.to_octets());
    let Some(Event::Request {
        exchange,
        observe: Some(ObserveAction::Register(relation)),
        ..
    }) = server.session.poll_event()
    else {
        panic!("no request");
    };
    server.session.handle_response(
        server.now,
        exchange,
        Response::with_body(Code::CONTENT, whole.clone()),
    );
    let mut answer = server.answers().pop().unwrap();
    assert!(answer.option(option::OBSERVE).is_some());
    let size = answer.number(option::SIZE2).unwrap();
    let mut octets = Vec::new();
    loop {
        assert!(answer.to_octets().len() <= 1140);
        octets.extend_from_slice(&answer.payload);
        let block = Block::from_value(answer.option(option::BLOCK2).unwrap()).unwrap();
        if !block.more {
            break;
        }
        let mut next = server.con(Code::GET, path);
        next.push_option(option::BLOCK2, block.next().unwrap().octets());
        next.push_option(option::ETAG, answer.option(option::ETAG).unwrap());
        answer = server.ask(&next);
        assert_eq!(answer.code, Code::CONTENT);
    }
    assert_eq!(octets.len(), size as usize);
    assert_eq!(decode(&octets).unwrap(), whole);
    assert_eq!(server.session.poll_event(), None);
    // A notification begins with its first block.
    server
        .session
        .handle_notification(server.now, relation, &whole);
    let notification = server.answers().pop().unwrap();
    assert_eq!(notification.kind, Kind::NonConfirmable);
    assert_eq!(notification.payload.len(), 1024);
    assert_eq!(notification.option(option::BLOCK2), Some(&[0x0e][..]));
    // A block behind the end is for the application, since the resource may have grown; then it is refused.
    let mut beyond = server.con(Code::GET, path);
    beyond.push_option(option::BLOCK2, [0x3f, 0xf6]);
    server.send(&beyond.to_octets());
    let Some(Event::Request { exchange, .. }) = server.session.poll_event() else {
        panic!("no request");
    };
    server.session.handle_response(
        server.now,
        exchange,
        Response::with_body(Code::CONTENT, whole),
    );
    assert_eq!(server.answers().pop().unwrap().code, Code::BAD_REQUEST);
}

#[test]
fn a_deaf_peer_gets_a_heartbeat_at_once() {
    let mut server = Server::new();
    server.now += Duration::from_secs(1);
    let heartbeat = |server: &mut Server, heard: bool| {
        let mut message = server.put("/.well-known/dots/hb");
        message.payload =
            encode(&json!({"ietf-dots-signal-channel:heartbeat": {"peer-hb-status": heard}}))
                .unwrap();
        server.send(&message.to_octets())
    };
    let codes = |answers: &[Message]| answers.iter().map(|m| m.code).collect::<Vec<_>>();
    assert_eq!(codes(&heartbeat(&mut server, true)), [Code::CHANGED]);
    let answers = heartbeat(&mut server, false);
    assert_eq!(codes(&answers), [Code::CHANGED, Code::PUT]);
    assert!(answers[0].payload.is_empty());
    assert_eq!(
        decode(&answers[1].payload).unwrap(),
        json!({"ietf-dots-signal-channel:heartbeat": {"peer-hb-status": true}})
    );
    // Not for every one of a flood.
    assert_eq!(codes(&heartbeat(&mut server, false)), [Code::CHANGED]);
}
