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
use weir_dots_proto::{Cuid, Method, Mid, Resource, SessionParameters, fuzzing};

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

/// Payloads and requests by Q-Block of a small size, since the length of a datagram here is an octet.
fn robust_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for number in 0..40_u32 {
        let token = Token::from_number(number.into());
        for (code, option_number) in [(Code::PUT, option::Q_BLOCK1), (Code::GET, option::Q_BLOCK2)]
        {
            let kind = if number % 8 == 0 {
                Kind::Confirmable
            } else {
                Kind::NonConfirmable
            };
            let id = number as u16 + u16::from(code.0) * 100;
            let mut message = Message::new(kind, code, id, token);
            for segment in [".well-known", "dots", "mitigate", "cuid=a", "mid=1"] {
                message.push_option(option::URI_PATH, segment);
            }
            message.push_option(option_number, option::octets(number << 4 | 8));
            if code == Code::PUT {
                message.push_option(option::SIZE1, option::octets(40 * 16 + 3));
                message.push_option(option::REQUEST_TAG, [1]);
                message.payload = vec![0xa1; 16];
            } else if number == 0 {
                message.push_option(option::OBSERVE, Vec::new());
            }
            seeds.push(message.to_octets());
        }
    }
    seeds
}

type Options = Vec<(u16, Vec<u8>)>;

/// What may answer a request: by Block, by Q-Block, and what a server says of a body by Q-Block1.
fn answers() -> Vec<(Code, Options)> {
    let format = |number| (option::CONTENT_FORMAT, option::octets(number));
    let robust = |number: u32| {
        let block = option::octets(number << 4 | 8);
        vec![
            (option::OBSERVE, vec![7]),
            (option::ETAG, vec![1]),
            (option::Q_BLOCK2, block),
            (option::SIZE2, option::octets(20 * 16 + 5)),
            format(option::DOTS_CBOR),
        ]
    };
    vec![
        (
            Code::CONTENT,
            vec![
                (option::OBSERVE, vec![7]),
                (option::BLOCK2, vec![0x08]),
                format(option::DOTS_CBOR),
            ],
        ),
        (Code::CONTENT, robust(0)),
        (Code::CONTENT, robust(1)),
        (Code::CONTENT, robust(12)),
        (Code::CONTINUE, vec![(option::Q_BLOCK1, vec![0x9e])]),
        (
            Code::REQUEST_ENTITY_INCOMPLETE,
            vec![format(option::MISSING_BLOCKS)],
        ),
        (Code::REQUEST_ENTITY_INCOMPLETE, Vec::new()),
        (Code::BAD_OPTION, Vec::new()),
    ]
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
    // Answers to what the fuzzed client has asked: it is always the same.
    let (_, asked) = fuzzing::client_session(now);
    for request in &asked {
        let request = Message::decode(request).unwrap();
        for (code, options) in answers() {
            let mut answer = Message::new(Kind::NonConfirmable, code, 9, request.token);
            for (number, value) in options {
                answer.push_option(number, value);
            }
            answer.payload = match code {
                Code::CONTENT => vec![0xa1; 16],
                Code::CONTINUE => Vec::new(),
                _ => vec![1, 3, 9, 11],
            };
            seeds.push(answer.to_octets());
        }
        seeds.push(Message::empty(Kind::Reset, request.message_id).to_octets());
    }
    seeds.extend(robust_seeds());
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

/// Many payloads to one session, some of them changed: in the order of a body, and in none.
#[test]
fn bodies_by_q_block_leave_sessions_standing() {
    let mut random = Random(3);
    let seeds = seeds();
    let robust = robust_seeds();
    let mut said = std::collections::BTreeSet::new();
    for round in 0..200 {
        let mut input = Vec::new();
        let mut session = server::Session::new(SessionParameters::default(), 1);
        let mut now = Instant::now();
        for at in 0..120 {
            let mut datagram = match random.octet() % 8 {
                0 => continue,
                1 => seeds[usize::from(random.octet()) % seeds.len()].clone(),
                2 => robust[usize::from(random.octet()) % robust.len()].clone(),
                _ => robust[at % robust.len()].clone(),
            };
            if round % 2 == 1 && random.octet() < 20 {
                let index = usize::from(random.octet()) % datagram.len();
                datagram[index] = random.octet();
            }
            now += Duration::from_millis(200);
            session.handle_datagram(now, &datagram);
            session.handle_timeout(now);
            while session.poll_event().is_some() {}
            while let Some(answer) = session.poll_transmit() {
                said.insert(Message::decode(&answer).unwrap().code);
            }
            input.push(u8::try_from(datagram.len()).unwrap_or(u8::MAX));
            input.extend(datagram);
        }
        fuzzing::fuzz_server_session(&input);
        fuzzing::fuzz_client_session(&input);
    }
    // The seeds get deep enough.
    for code in [
        Code::CONTINUE,
        Code::REQUEST_ENTITY_INCOMPLETE,
        Code::BAD_REQUEST,
        Code::BAD_OPTION,
    ] {
        assert!(said.contains(&code), "{code:?}: {said:?}");
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
