//! The client's session against a server that is played message by message.

#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]
#![expect(
    clippy::disallowed_methods,
    reason = "any instant does: sessions only look at differences"
)]

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weir_dots_proto::client::{Notice, Request, Session};
use weir_dots_proto::coap::{Code, Kind, Message, Token, option};
use weir_dots_proto::{Cuid, Method, Mid, Resource, SessionParameters, Sid, Tmid, decode, encode};

struct Client {
    now: Instant,
    session: Session,
}

impl Client {
    fn new() -> Self {
        Self::with(SessionParameters {
            heartbeat_interval: Duration::ZERO,
            ..SessionParameters::default()
        })
    }

    fn with(parameters: SessionParameters) -> Self {
        let now = Instant::now();
        let mut session = Session::new(parameters, 42);
        session.handle_connected(now);
        Self { now, session }
    }

    fn ask(&mut self, method: Method, resource: Resource, observe: Option<bool>) {
        let body = match resource {
            _ if method != Method::Put => None,
            Resource::Telemetry { .. } => Some(telemetry()),
            _ => Some(scope(1)),
        };
        let request = Request {
            method,
            resource,
            body,
            observe,
            if_match: false,
            query: Vec::new(),
        };
        self.session.handle_request(self.now, request);
    }

    fn sent(&mut self) -> Vec<Message> {
        std::iter::from_fn(|| self.session.poll_transmit())
            .map(|octets| Message::decode(&octets).unwrap())
            .collect()
    }

    fn only_sent(&mut self) -> Message {
        let mut sent = self.sent();
        assert_eq!(sent.len(), 1, "{sent:?}");
        sent.pop().unwrap()
    }

    fn notices(&mut self) -> Vec<Notice> {
        std::iter::from_fn(|| self.session.poll_notice()).collect()
    }

    fn hear(&mut self, message: &Message) {
        self.session.handle_datagram(self.now, &message.to_octets());
    }

    /// Lets time pass, and gives what was sent in it with the seconds at which it was.
    fn pass(&mut self, time: Duration) -> Vec<(f64, Message)> {
        let (start, end) = (self.now, self.now + time);
        let mut all = Vec::new();
        while let Some(due) = self.session.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.session.handle_timeout(self.now);
            let at = (self.now - start).as_secs_f64();
            all.extend(self.sent().into_iter().map(|message| (at, message)));
        }
        self.now = end;
        all
    }
}

fn mitigation() -> Resource {
    Resource::Mitigate {
        cuid: Cuid::new("dz6pHjaADkaFTbjr0JGBpw").unwrap(),
        mid: Some(Mid(1)),
    }
}

fn tm(tmid: u32) -> Resource {
    Resource::Telemetry {
        cuid: Cuid::new("dz6pHjaADkaFTbjr0JGBpw").unwrap(),
        tmid: Some(Tmid(tmid)),
    }
}

fn config() -> Resource {
    Resource::Config { sid: Some(Sid(1)) }
}

fn scope(mid: u32) -> Value {
    json!({"ietf-dots-signal-channel:mitigation-scope": {"scope": [
        {"mid": mid, "target-prefix": ["192.0.2.1/32"], "lifetime": 3600}]}})
}

fn telemetry() -> Value {
    json!({"ietf-dots-telemetry:telemetry": {"pre-or-ongoing-mitigation": [
        {"target": {"target-prefix": ["192.0.2.1/32"]},
         "total-attack-traffic": [{"unit": "megabit-ps", "mid-percentile-g": "900"}]}]}})
}

fn answer(kind: Kind, message_id: u16, token: Token, body: Option<&Value>) -> Message {
    let mut message = Message::new(kind, Code::CONTENT, message_id, token);
    if let Some(body) = body {
        message.push_option(option::CONTENT_FORMAT, option::octets(option::DOTS_CBOR));
        message.payload = encode(body).unwrap();
    }
    message
}

fn notification(token: Token, message_id: u16, sequence: u32, mid: u32) -> Message {
    let mut message = answer(Kind::NonConfirmable, message_id, token, Some(&scope(mid)));
    message.push_option(option::OBSERVE, option::octets(sequence));
    message
}

#[test]
fn a_mitigation_is_repeated_with_new_ids_and_given_up_after_a_minute() {
    let mut client = Client::new();
    client.ask(Method::Put, mitigation(), None);
    let first = client.only_sent();
    assert_eq!(first.kind, Kind::NonConfirmable);
    let repeats = client.pass(Duration::from_secs(120));
    assert_eq!(repeats.len(), 12);
    let mut ids = vec![first.message_id];
    let mut last = 0.0;
    for (at, repeat) in &repeats {
        // RFC 9132 §4.4: a lost datagram costs seconds, and no less than three.
        assert!((3.0..=6.01).contains(&(at - last)), "{last} {at}");
        last = *at;
        assert_eq!(repeat.token, first.token);
        assert_eq!(repeat.payload, first.payload);
        ids.push(repeat.message_id);
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 13);
    assert!(matches!(client.notices()[..], [Notice::Unanswered { .. }]));
    assert_eq!(client.session.poll_timeout(), None);
}

#[test]
fn a_confirmable_request_keeps_its_id_and_backs_off() {
    let mut client = Client::new();
    client.ask(Method::Get, config(), None);
    let first = client.only_sent();
    assert_eq!(first.kind, Kind::Confirmable);
    let repeats = client.pass(Duration::from_secs(120));
    assert_eq!(repeats.len(), 3);
    assert!(repeats.iter().all(|(_, repeat)| *repeat == first));
    let waits: Vec<f64> = [0.0, repeats[0].0, repeats[1].0]
        .into_iter()
        .zip(repeats.iter().map(|(at, _)| *at))
        .map(|(from, to)| to - from)
        .collect();
    for (wait, least) in waits.into_iter().zip([2.0, 4.0, 8.0]) {
        assert!((least..=least * 1.5 + 0.01).contains(&wait), "{wait}");
    }
    assert!(matches!(client.notices()[..], [Notice::Unanswered { .. }]));
}

#[test]
fn an_answer_may_come_on_the_acknowledgement_or_after_it() {
    let mut client = Client::new();
    client.ask(Method::Get, config(), None);
    let request = client.only_sent();
    client.hear(&answer(
        Kind::Acknowledgement,
        request.message_id,
        request.token,
        None,
    ));
    assert!(matches!(client.notices()[..], [Notice::Response { .. }]));
    assert!(client.sent().is_empty());

    client.ask(Method::Get, config(), None);
    let request = client.only_sent();
    client.hear(&Message::empty(Kind::Acknowledgement, request.message_id));
    // Repeats have ended, and the answer is waited for.
    assert!(client.pass(Duration::from_secs(30)).is_empty());
    assert!(client.notices().is_empty());
    let separate = answer(Kind::Confirmable, 900, request.token, None);
    client.hear(&separate);
    assert!(matches!(client.notices()[..], [Notice::Response { .. }]));
    assert_eq!(
        client.only_sent(),
        Message::empty(Kind::Acknowledgement, 900)
    );
    // The acknowledgement was lost: RFC 7252 §4.5 has each copy answered alike.
    client.hear(&separate);
    assert_eq!(
        client.only_sent(),
        Message::empty(Kind::Acknowledgement, 900)
    );
    assert!(client.notices().is_empty());
    // Nobody waits for another one.
    client.hear(&answer(Kind::Confirmable, 901, request.token, None));
    assert_eq!(client.only_sent(), Message::empty(Kind::Reset, 901));
    assert!(client.notices().is_empty());
}

#[test]
fn an_acknowledged_request_without_an_answer_is_given_up() {
    let mut client = Client::new();
    client.ask(Method::Get, config(), None);
    let request = client.only_sent();
    client.hear(&Message::empty(Kind::Acknowledgement, request.message_id));
    assert!(client.pass(Duration::from_secs(50)).is_empty());
    assert!(matches!(client.notices()[..], [Notice::Unanswered { .. }]));
}

#[test]
fn a_reset_request_is_given_up_at_once() {
    let mut client = Client::new();
    client.ask(Method::Put, mitigation(), None);
    let request = client.only_sent();
    client.hear(&Message::empty(Kind::Reset, request.message_id));
    assert!(matches!(client.notices()[..], [Notice::Unanswered { .. }]));
    assert_eq!(client.session.open_requests(), 0);
}

#[test]
fn an_answer_with_an_unknown_critical_option_is_rejected() {
    let mut client = Client::new();
    client.ask(Method::Get, config(), None);
    let request = client.only_sent();
    let mut message = answer(Kind::Confirmable, 5, request.token, None);
    message.push_option(9, b"x".to_vec());
    client.hear(&message);
    assert_eq!(client.only_sent(), Message::empty(Kind::Reset, 5));
    assert!(client.notices().is_empty());
    assert_eq!(client.session.open_requests(), 1);
}

#[test]
fn errors_have_their_text_and_waiting_time() {
    let mut client = Client::new();
    client.ask(Method::Put, mitigation(), None);
    let request = client.only_sent();
    let mut message = Message::new(
        Kind::NonConfirmable,
        Code::SERVICE_UNAVAILABLE,
        5,
        request.token,
    );
    message.push_option(option::MAX_AGE, option::octets(120));
    message.payload = b"busy".to_vec();
    client.hear(&message);
    let notices = client.notices();
    let [
        Notice::Response {
            code,
            body: None,
            diagnostic: Some(text),
            max_age: Some(120),
            ..
        },
    ] = &notices[..]
    else {
        panic!("{notices:?}");
    };
    assert_eq!((*code, text.as_str()), (Code::SERVICE_UNAVAILABLE, "busy"));
    // A duplicate of it tells nothing new.
    client.hear(&message);
    assert!(client.notices().is_empty() && client.sent().is_empty());
}

#[test]
fn notifications_come_in_order_and_others_are_reset() {
    let mut client = Client::new();
    client.ask(Method::Get, mitigation(), Some(true));
    let request = client.only_sent();
    assert_eq!(request.option(option::OBSERVE), Some(&[][..]));
    client.hear(&notification(request.token, 1, 10, 0));
    assert!(matches!(client.notices()[..], [Notice::Response { .. }]));
    for (sequence, expected) in [(12, true), (11, false), (12, false), (13, true)] {
        client.hear(&notification(request.token, 50, sequence, sequence));
        assert_eq!(client.notices().len(), usize::from(expected), "{sequence}");
    }
    assert!(client.sent().is_empty());
    client.hear(&notification(Token::from_number(7), 51, 14, 14));
    assert_eq!(client.only_sent(), Message::empty(Kind::Reset, 51));
    // Registering again renews the relation, and the end names it.
    client.ask(Method::Get, mitigation(), Some(true));
    let again = client.only_sent();
    assert_eq!(again.token, request.token);
    client.hear(&notification(again.token, 52, 15, 15));
    assert!(matches!(client.notices()[..], [Notice::Response { .. }]));
    client.ask(Method::Get, mitigation(), Some(false));
    let end = client.only_sent();
    assert_eq!(end.token, request.token);
    assert_eq!(end.option(option::OBSERVE), Some(&[1][..]));
    client.hear(&answer(
        Kind::NonConfirmable,
        53,
        end.token,
        Some(&scope(1)),
    ));
    assert!(matches!(client.notices()[..], [Notice::Response { .. }]));
    client.hear(&notification(request.token, 54, 16, 16));
    assert_eq!(client.only_sent(), Message::empty(Kind::Reset, 54));
    assert!(client.notices().is_empty());
}

#[test]
fn telemetry_waits_for_a_dead_peer_and_mitigation_does_not() {
    let mut client = Client::new();
    client.ask(Method::Put, tm(1), None);
    let octets = client.only_sent().to_octets().len();
    client.ask(Method::Put, tm(2), None);
    assert!(client.sent().is_empty());
    // The first was repeated and given up; the second waits as the probing rate of 5 octets a second wants, but not longer than
    // NON_PROBING_WAIT.
    let sent = client.pass(Duration::from_secs(400));
    let first: Vec<f64> = sent.iter().take(12).map(|(at, _)| *at).collect();
    let (second, _) = &sent[12];
    let pause = (octets * 13 / 5).min(223) as f64;
    assert!(*second >= first[11] + pause, "{second} {first:?}");
    // A mitigation request goes at once, and any sign of life frees telemetry.
    client.ask(Method::Put, tm(3), None);
    client.ask(Method::Put, mitigation(), None);
    assert!(
        client
            .sent()
            .iter()
            .any(|message| message.payload == encode(&scope(1)).unwrap())
    );
    client.hear(&Message::empty(Kind::Confirmable, 1));
    assert!(
        client
            .sent()
            .iter()
            .any(|message| message.payload == encode(&telemetry()).unwrap())
    );
}

#[test]
fn silence_under_attack_is_told_when_peace_comes() {
    let mut client = Client::with(SessionParameters::default());
    client.session.handle_mitigating(true);
    let sent = client.pass(Duration::from_secs(1200));
    assert_eq!(sent.len(), 40, "heartbeats go on");
    assert!(client.notices().is_empty());
    client.session.handle_mitigating(false);
    assert_eq!(client.notices(), [Notice::SessionLost]);
    client.pass(Duration::from_secs(600));
    assert!(client.notices().is_empty(), "told once");
    // Whoever only answers is heard no heartbeat of.
    let statuses: Vec<Value> = sent
        .iter()
        .map(|(_, message)| decode(&message.payload).unwrap())
        .collect();
    let status =
        |heard: bool| json!({"ietf-dots-signal-channel:heartbeat": {"peer-hb-status": heard}});
    assert_eq!(statuses[0], status(true));
    assert_eq!(statuses[39], status(false));
}

#[test]
fn a_servers_answers_are_no_heartbeats_of_its_own() {
    let mut client = Client::with(SessionParameters::default());
    let mut last = None;
    for _ in 0..10 {
        for (_, heartbeat) in client.pass(Duration::from_secs(30)) {
            client.hear(&Message::new(
                Kind::NonConfirmable,
                Code::CHANGED,
                9,
                heartbeat.token,
            ));
            last = Some(decode(&heartbeat.payload).unwrap());
        }
    }
    assert_eq!(
        last.unwrap(),
        json!({"ietf-dots-signal-channel:heartbeat": {"peer-hb-status": false}})
    );
    assert!(client.notices().is_empty(), "the session stands");
}

#[test]
fn calling_too_often_uses_up_no_message_ids() {
    let mut client = Client::with(SessionParameters::default());
    client.ask(Method::Put, mitigation(), None);
    let first = client.only_sent();
    for _ in 0..10_000 {
        client.session.handle_timeout(client.now);
    }
    client.ask(Method::Delete, mitigation(), None);
    assert_eq!(
        client.only_sent().message_id,
        first.message_id.wrapping_add(1)
    );
}

#[test]
fn negotiated_parameters_hold_from_now_on() {
    let mut client = Client::with(SessionParameters::default());
    client.session.handle_parameters(
        client.now,
        SessionParameters {
            heartbeat_interval: Duration::from_secs(15),
            missing_hb_allowed: 3,
            ..SessionParameters::default()
        },
    );
    assert_eq!(client.pass(Duration::from_secs(45)).len(), 3);
    assert!(client.notices().is_empty());
    client.pass(Duration::from_secs(16));
    assert_eq!(client.notices(), [Notice::SessionLost]);
}
