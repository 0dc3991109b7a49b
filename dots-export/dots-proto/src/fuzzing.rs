//! Bodies of fuzz targets: plain functions, for cargo-fuzz and for seeded smoke tests alike.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::coap::{Carrier, Code, Kind, Message, tcp};
use crate::{
    BodyKind, Method, Resource, SessionParameters, cbor, check_request, check_response, client,
    server,
};

const KINDS: [BodyKind; 7] = [
    BodyKind::Mitigation,
    BodyKind::Efficacy,
    BodyKind::SignalConfig,
    BodyKind::Heartbeat,
    BodyKind::Telemetry,
    BodyKind::TelemetrySetup,
    BodyKind::Redirect,
];

/// Reads hostile octets; what is understood must survive writing and reading again, and the checks of all resources.
///
/// # Panics
///
/// Panics if it does not, which is the bug that fuzzing looks for.
pub fn fuzz(data: &[u8]) {
    let Ok(json) = cbor::decode(data) else {
        return;
    };
    let octets = cbor::encode(&json).map_err(|error| error.to_string());
    let again = octets.and_then(|octets| cbor::decode(&octets).map_err(|error| error.to_string()));
    for kind in KINDS {
        // A verdict is all that is asked for.
        let _ = (check_request(kind, &json), check_response(kind, &json));
    }
    assert_eq!(again, Ok(json), "a body does not survive its encoding");
}

/// Decodes a CoAP message, and whatever is understood must come back from its own octets.
///
/// # Panics
///
/// Panics if it does not.
pub fn fuzz_coap(data: &[u8]) {
    if let Ok(message) = Message::decode(data) {
        let octets = message.to_octets();
        assert_eq!(
            Message::decode(&octets).as_ref(),
            Ok(&message),
            "a message does not survive its encoding"
        );
    }
}

/// Decodes a stream in pieces (an octet of the input says how long the next one is), as frames and as a peer's side of a
/// connection. Whatever is understood must come back from its own octets, and neither may keep more than its bounds.
///
/// # Panics
///
/// Panics if it does not.
pub fn fuzz_coap_stream(data: &[u8]) {
    let mut decoder = tcp::Decoder::new(tcp::MAX_MESSAGE);
    let mut carrier = Carrier::new(1);
    let mut session = server::Session::new(SessionParameters::default(), 1);
    for piece in datagrams(data) {
        decoder.handle_octets(piece);
        while let Ok(Some(message)) = decoder.poll_message() {
            let mut again = tcp::Decoder::new(tcp::MAX_MESSAGE);
            again.handle_octets(&tcp::frame(&message));
            assert_eq!(
                again.poll_message().as_ref(),
                Ok(&Some(message)),
                "a message does not survive its encoding"
            );
        }
        assert!(
            decoder.waiting() <= tcp::MAX_MESSAGE + piece.len(),
            "a decoder keeps too much"
        );
        carrier.handle_octets(piece);
        while let Some(datagram) = carrier.poll_datagram() {
            assert!(
                Message::decode(&datagram).is_ok(),
                "a carrier makes a datagram that is none"
            );
            session.handle_datagram(start(), &datagram);
            while let Some(datagram) = session.poll_transmit() {
                carrier.handle_datagram(&datagram);
            }
        }
        while carrier.poll_transmit().is_some() {}
    }
}

/// Feeds datagrams to a server's session and answers each request. An octet of the input says how long the next datagram is.
pub fn fuzz_server_session(data: &[u8]) {
    let mut now = start();
    let mut session = server::Session::new(SessionParameters::default(), 1);
    for datagram in datagrams(data) {
        now += Duration::from_millis(700);
        session.handle_datagram(now, datagram);
        session.handle_timeout(now);
        while let Some(event) = session.poll_event() {
            if let server::Event::Request { exchange, body, .. } = event {
                let large = json!({"ietf-dots-signal-channel:mitigation-scope": {"scope": [{}, {
                    "target-fqdn": ["x".repeat(400)], "target-uri": ["y".repeat(400)]}]}});
                let response = server::Response {
                    body: body.or(Some(large)),
                    ..server::Response::new(Code::CONTENT)
                };
                session.handle_response(now, exchange, response);
            }
        }
        while session.poll_transmit().is_some() {}
    }
}

/// Feeds datagrams, cut like those of [`fuzz_server_session`], to a client's session that has requests open.
pub fn fuzz_client_session(data: &[u8]) {
    // To fill a session with requests takes twelve times as long as to copy a filled one, and more under a sanitiser.
    static FILLED: LazyLock<(Instant, client::Session)> = LazyLock::new(|| {
        let now = start();
        (now, client_session(now).0)
    });
    let (mut now, mut session) = FILLED.clone();
    for datagram in datagrams(data) {
        now += Duration::from_millis(700);
        session.handle_datagram(now, datagram);
        session.handle_timeout(now);
        while session.poll_notice().is_some() {}
        while session.poll_transmit().is_some() {}
    }
}

/// A client's session with requests open, by Block and by Q-Block, and what it has sent: always the same.
#[must_use]
pub fn client_session(now: Instant) -> (client::Session, Vec<Vec<u8>>) {
    let mut session = client::Session::new(SessionParameters::default(), 1);
    session.handle_robust(true);
    session.handle_connected(now);
    let question = session.poll_transmit();
    let question = question.and_then(|octets| Message::decode(&octets).ok());
    let cuid = crate::Cuid::from_hash_input([1; 32]);
    let tmid = Some(crate::Tmid(1));
    let ask = |session: &mut client::Session, method, resource, body| {
        let request = client::Request {
            body,
            observe: (method == Method::Get).then_some(true),
            ..client::Request::new(method, resource)
        };
        session.handle_request(now, request);
    };
    let telemetry = Resource::Telemetry {
        cuid: cuid.clone(),
        tmid,
    };
    // Two sets of payloads.
    let large = json!({"ietf-dots-signal-channel:mitigation-scope": {"scope": [
        {"target-uri": ["y".repeat(11_000)], "lifetime": 1}]}});
    // By Block, as long as the peer has not answered.
    let first = Resource::Mitigate {
        cuid: cuid.clone(),
        mid: Some(crate::Mid(9)),
    };
    ask(&mut session, Method::Put, first, Some(large.clone()));
    ask(
        &mut session,
        Method::Put,
        telemetry.clone(),
        Some(large.clone()),
    );
    if let Some(question) = question {
        let (kind, id) = (Kind::Acknowledgement, question.message_id);
        let answer = Message::new(kind, Code::CONTENT, id, question.token);
        session.handle_datagram(now, &answer.to_octets());
    }
    for sid in 0..3 {
        let sid = Some(crate::Sid(sid));
        ask(&mut session, Method::Get, Resource::Config { sid }, None);
    }
    for mid in 0..3 {
        let resource = Resource::Mitigate {
            cuid: cuid.clone(),
            mid: Some(crate::Mid(mid)),
        };
        ask(&mut session, Method::Get, resource.clone(), None);
        ask(&mut session, Method::Put, resource, Some(large.clone()));
    }
    ask(&mut session, Method::Get, telemetry, None);
    let sent = std::iter::from_fn(|| session.poll_transmit()).collect();
    (session, sent)
}

/// Cuts an input into datagrams: an octet says how long the next one is.
fn datagrams(mut data: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = data.split_first()?;
        let (datagram, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        data = rest;
        Some(datagram)
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "any instant does: the sessions only look at differences"
)]
fn start() -> Instant {
    Instant::now()
}
