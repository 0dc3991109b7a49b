//! Random and mutated datagrams into the sessions: no panic, and no more memory than a session may have.

#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]
#![expect(
    clippy::disallowed_methods,
    reason = "any instant does: sessions only look at differences"
)]

use std::time::{Duration, Instant};

use serde_json::json;
use weir_dots_proto::client::{self, Request};
use weir_dots_proto::coap::{Code, Kind, Message, Token, option};
use weir_dots_proto::server::{self, Event, Response};
use weir_dots_proto::{Cuid, Method, Mid, Resource, SessionParameters, encode, fuzzing};

struct Random(u64);

impl Random {
    fn octet(&mut self) -> u8 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 56) as u8
    }

    fn octets(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.octet()).collect()
    }
}

fn get(mid: u32, observe: Option<bool>) -> Request {
    Request {
        method: Method::Get,
        resource: Resource::Mitigate {
            cuid: Cuid::new("dz6pHjaADkaFTbjr0JGBpw").unwrap(),
            mid: Some(Mid(mid)),
        },
        body: None,
        observe,
        if_match: false,
        query: Vec::new(),
    }
}

fn scope() -> serde_json::Value {
    json!({"ietf-dots-signal-channel:mitigation-scope": {"scope": [
        {"target-prefix": ["192.0.2.1/32"], "lifetime": 3600}]}})
}

/// Datagrams of either peer that mutations start from.
fn seeds() -> Vec<Vec<u8>> {
    let now = Instant::now();
    let mut session = client::Session::new(SessionParameters::default(), 1);
    session.handle_connected(now);
    for observe in [None, Some(true), Some(false)] {
        session.handle_request(now, get(1, observe));
    }
    session.handle_request(
        now,
        Request {
            method: Method::Put,
            body: Some(scope()),
            ..get(2, None)
        },
    );
    let mut seeds: Vec<Vec<u8>> = std::iter::from_fn(|| session.poll_transmit()).collect();
    // Answers to what the fuzzed client has asked: the same seed gives the same tokens.
    for request in seeds.clone() {
        let request = Message::decode(&request).unwrap();
        let mut answer = Message::new(Kind::NonConfirmable, Code::CONTENT, 9, request.token);
        answer.push_option(option::OBSERVE, [7]);
        answer.push_option(option::BLOCK2, [0x08]);
        answer.push_option(option::CONTENT_FORMAT, option::octets(option::DOTS_CBOR));
        answer.payload = encode(&scope()).unwrap();
        seeds.push(answer.to_octets());
    }
    seeds
}

#[test]
fn mutated_datagrams_leave_sessions_standing() {
    let mut random = Random(1);
    let seeds = seeds();
    for _ in 0..20_000 {
        let mut input = Vec::new();
        for _ in 0..3 {
            let mut datagram = seeds[usize::from(random.octet()) % seeds.len()].clone();
            if random.octet() < 60 {
                let length = usize::from(random.octet() % 60);
                datagram = random.octets(length);
            }
            for _ in 0..random.octet() % 4 {
                if let Some(index) = usize::from(random.octet()).checked_rem(datagram.len()) {
                    datagram[index] = random.octet();
                }
            }
            fuzzing::fuzz_coap(&datagram);
            input.push(u8::try_from(datagram.len()).unwrap_or(u8::MAX));
            input.extend(datagram);
        }
        fuzzing::fuzz_server_session(&input);
        fuzzing::fuzz_client_session(&input);
    }
}

/// Requests that register, are answered or left, and ask for blocks, each different and as large as a datagram.
#[test]
fn a_flood_of_requests_takes_bounded_memory() {
    let mut now = Instant::now();
    let mut random = Random(2);
    let mut session = server::Session::new(SessionParameters::default(), 1);
    let large: Vec<_> = (0..1500)
        .map(|mid| json!({"mid": mid, "target-prefix": ["192.0.2.1/32"], "lifetime": 3600}))
        .collect();
    let large = json!({"ietf-dots-signal-channel:mitigation-scope": {"scope": large}});
    let mut largest = 0;
    for number in 0..3000_u32 {
        now += Duration::from_millis(1);
        let token = Token::new(&random.octets(8)).unwrap();
        let mut message = Message::new(Kind::NonConfirmable, Code::GET, number as u16, token);
        message.push_option(option::OBSERVE, Vec::new());
        for segment in [".well-known", "dots", "mitigate"] {
            message.push_option(option::URI_PATH, segment);
        }
        message.push_option(option::URI_PATH, format!("cuid={}", "x".repeat(240)));
        for _ in 0..3 {
            message.push_option(option::URI_QUERY, [b'q'; 250]);
        }
        message.push_option(option::URI_QUERY, number.to_string());
        session.handle_datagram(now, &message.to_octets());
        while let Some(event) = session.poll_event() {
            if let Event::Request { exchange, .. } = event
                && number % 3 == 0
            {
                let response = if number % 30 == 0 {
                    Response::with_body(Code::CONTENT, large.clone())
                } else {
                    Response::error(Code::CONTENT, "x".repeat(2000))
                };
                session.handle_response(now, exchange, response);
            }
        }
        while session.poll_transmit().is_some() {}
        if number % 100 == 0 {
            largest = largest.max(format!("{session:?}").len());
        }
    }
    // Debug text is several times what memory holds.
    assert!(largest < 3_000_000, "{largest}");
}

#[test]
fn a_flood_of_answers_takes_bounded_memory() {
    let mut now = Instant::now();
    let mut session = client::Session::new(SessionParameters::default(), 1);
    session.handle_connected(now);
    for mid in 0..1000 {
        session.handle_request(now, get(mid, Some(true)));
    }
    assert_eq!(session.open_requests(), client::MAX_OPEN_REQUESTS);
    let mut largest = 0;
    let mut sequence = 0;
    // A server that answers everything by one more block.
    for _ in 0..300 {
        now += Duration::from_millis(20);
        let requests: Vec<Vec<u8>> = std::iter::from_fn(|| session.poll_transmit()).collect();
        for octets in requests {
            sequence += 1;
            let request = Message::decode(&octets).unwrap();
            let mut answer = Message::new(Kind::NonConfirmable, Code::CONTENT, 1, request.token);
            let number = request.number(option::BLOCK2).unwrap_or(0) >> 4;
            answer.push_option(option::OBSERVE, option::octets(sequence));
            answer.push_option(option::BLOCK2, option::octets(number << 4 | 0x0e));
            answer.payload = vec![1; 1024];
            session.handle_datagram(now, &answer.to_octets());
        }
        while session.poll_notice().is_some() {}
        session.handle_timeout(now);
    }
    largest = largest.max(format!("{session:?}").len());
    // 256 requests of at most 64 KiB each, and here none is left: every answer was too large.
    assert_eq!(session.open_requests(), 0);
    assert!(largest < 1_000_000, "{largest}");
}
