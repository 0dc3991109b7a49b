//! A server that is sent to and read from.

use super::*;

struct Server {
    now: Instant,
    session: server::Session,
    message_id: u16,
}

impl Server {
    fn new() -> Self {
        Self {
            now: Instant::now(),
            session: server::Session::new(parameters(), 1),
            message_id: 0,
        }
    }

    fn request(&mut self, kind: Kind, code: Code, options: &[(u16, Vec<u8>)]) -> Message {
        self.message_id += 1;
        let token = Token::from_number(self.message_id.into());
        let mut message = Message::new(kind, code, self.message_id, token);
        for segment in telemetry().segments() {
            message.push_option(option::URI_PATH, segment);
        }
        for (number, value) in options {
            message.push_option(*number, value.clone());
        }
        message
    }

    /// A payload of a body of three blocks of 16 octets and the tag 9.
    fn payload(&mut self, kind: Kind, number: u32) -> Message {
        let octets = small();
        let (start, end) = (number as usize * 16, (number as usize + 1) * 16);
        let options = [
            (option::CONTENT_FORMAT, option::octets(option::DOTS_CBOR)),
            (option::Q_BLOCK1, value(number, end < octets.len(), 0)),
            (option::SIZE1, option::octets(octets.len() as u32)),
            (option::REQUEST_TAG, vec![9]),
        ];
        let mut message = self.request(kind, Code::PUT, &options);
        message.payload = octets[start..end.min(octets.len())].to_vec();
        message
    }

    fn take(&mut self, message: &Message) -> Vec<Message> {
        self.session.handle_datagram(self.now, &message.to_octets());
        self.sent()
    }

    fn sent(&mut self) -> Vec<Message> {
        std::iter::from_fn(|| self.session.poll_transmit())
            .map(|octets| Message::decode(&octets).unwrap())
            .collect()
    }

    fn pass(&mut self, time: Duration) -> Vec<Message> {
        let end = self.now + time;
        let mut all = Vec::new();
        while let Some(due) = self.session.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.session.handle_timeout(self.now);
            all.extend(self.sent());
        }
        self.now = end;
        all
    }

    /// Answers the one request that has come.
    fn respond(&mut self, response: Response) -> Vec<Message> {
        let Some(Event::Request { exchange, .. }) = self.session.poll_event() else {
            panic!("no request");
        };
        assert_eq!(self.session.poll_event(), None);
        self.session.handle_response(self.now, exchange, response);
        self.sent()
    }

    /// Begins to send a body of several sets to a reader; gives its request and the first set.
    fn read(&mut self, observe: bool) -> (Message, Vec<Message>) {
        let mut options = vec![(option::Q_BLOCK2, value(0, true, 6))];
        if observe {
            options.push((option::OBSERVE, Vec::new()));
        }
        let get = self.request(Kind::NonConfirmable, Code::GET, &options);
        assert!(self.take(&get).is_empty());
        let sent = self.respond(Response::with_body(Code::CONTENT, body(25)));
        (get, sent)
    }

    fn ask(&mut self, blocks: &[(u32, bool)]) -> (Message, Vec<Message>) {
        let options: Vec<_> = blocks
            .iter()
            .map(|(number, more)| (option::Q_BLOCK2, value(*number, *more, 6)))
            .collect();
        let get = self.request(Kind::NonConfirmable, Code::GET, &options);
        let sent = self.take(&get);
        (get, sent)
    }
}

fn small() -> Vec<u8> {
    encode(
        &json!({"ietf-dots-signal-channel:mitigation-scope": {"scope": [
        {"target-prefix": ["192.0.2.1/32", "192.0.2.2/32"], "lifetime": 3600}]}}),
    )
    .unwrap()
}

#[test]
fn what_q_block1_must_have() {
    for kind in [Kind::Confirmable, Kind::NonConfirmable] {
        let mut server = Server::new();
        let mut refused = |change: &dyn Fn(&mut Message), code: Code| {
            let mut message = server.payload(kind, 0);
            change(&mut message);
            let answers = server.take(&message);
            assert_eq!(answers.len(), 1, "{message:?}");
            assert_eq!(answers[0].code, code, "{:?}", answers[0]);
            assert_eq!(server.session.poll_event(), None);
        };
        let without = |message: &mut Message, number| {
            message.options.retain(|(other, _)| *other != number);
        };
        refused(&|one| without(one, option::REQUEST_TAG), Code::BAD_REQUEST);
        refused(&|one| without(one, option::SIZE1), Code::BAD_REQUEST);
        for mixed in [option::BLOCK1, option::BLOCK2] {
            refused(&|one| one.push_option(mixed, [0]), Code::BAD_OPTION);
        }
        refused(
            &|one| {
                without(one, option::Q_BLOCK1);
                one.push_option(option::Q_BLOCK1, [7]);
            },
            Code::BAD_REQUEST,
        );
        refused(
            &|one| {
                without(one, option::SIZE1);
                one.push_option(option::SIZE1, option::octets(1 << 17));
            },
            Code::REQUEST_ENTITY_TOO_LARGE,
        );
        refused(&|one| one.payload.truncate(15), Code::BAD_REQUEST);
        refused(&|one| one.payload.clear(), Code::BAD_REQUEST);
    }
}

#[test]
fn payloads_become_a_body_once() {
    let mut server = Server::new();
    let count = small().len().div_ceil(16) as u32;
    let order: Vec<u32> = (0..count).rev().collect();
    for number in &order[1..] {
        let payload = server.payload(Kind::NonConfirmable, *number);
        assert!(server.take(&payload).is_empty());
        assert!(server.take(&payload).is_empty(), "a duplicate");
    }
    let last = server.payload(Kind::NonConfirmable, order[0]);
    assert!(server.take(&last).is_empty());
    let answers = server.respond(Response::new(Code::CHANGED));
    assert_eq!(answers.len(), 1);
    assert_eq!(
        (answers[0].code, answers[0].token),
        (Code::CHANGED, last.token)
    );
    // RFC 9177 §4.3: whoever sends a payload again has not got the answer.
    let again = server.payload(Kind::NonConfirmable, 1);
    assert_eq!(server.take(&again), answers);
    assert_eq!(server.session.poll_event(), None);
}

#[test]
fn confirmable_payloads_are_acknowledged_and_nothing_is_asked_for() {
    let mut server = Server::new();
    let count = small().len().div_ceil(16) as u32;
    for number in (1..count).rev() {
        let payload = server.payload(Kind::Confirmable, number);
        let acknowledgement = Message::empty(Kind::Acknowledgement, payload.message_id);
        assert_eq!(server.take(&payload), [acknowledgement]);
    }
    assert!(server.pass(Duration::from_secs(100)).is_empty());
    let last = server.payload(Kind::Confirmable, 0);
    assert!(server.take(&last).is_empty());
    let answers = server.respond(Response::new(Code::CREATED));
    assert_eq!(answers[0].kind, Kind::Acknowledgement);
    assert_eq!(
        (answers[0].code, answers[0].message_id),
        (Code::CREATED, last.message_id)
    );
}

#[test]
fn missing_payloads_are_asked_for_and_a_reset_ends_it() {
    let mut server = Server::new();
    let payload = server.payload(Kind::NonConfirmable, 1);
    assert!(server.take(&payload).is_empty());
    let asked = server.pass(Duration::from_secs(100));
    assert_eq!(asked.len(), 3, "NON_MAX_RETRANSMIT");
    for message in &asked {
        assert_eq!(message.code, Code::REQUEST_ENTITY_INCOMPLETE);
        assert_eq!(message.token, payload.token);
        assert_eq!(message.payload, [0, 2], "{message:?}");
    }
    // It is forgotten: the rest alone is no body, and this time the client says that it knows nothing of it.
    let rest = server.payload(Kind::NonConfirmable, 0);
    server.take(&rest);
    let asked = server.pass(Duration::from_secs(5));
    assert_eq!(asked.len(), 1);
    server.take(&Message::empty(Kind::Reset, asked[0].message_id));
    assert!(server.pass(Duration::from_secs(100)).is_empty());
}

#[test]
fn a_representation_comes_in_sets() {
    let mut server = Server::new();
    let (get, first) = server.read(true);
    let set: Vec<u32> = (0..10).collect();
    assert_eq!(numbers(&first, option::Q_BLOCK2), set);
    let octets = encode(&body(25)).unwrap();
    for message in &first {
        assert_eq!(
            (message.kind, message.token),
            (Kind::NonConfirmable, get.token)
        );
        assert_eq!(message.number(option::SIZE2), Some(octets.len() as u32));
        // RFC 9177 §4.5: Observe is in all of them.
        assert_eq!(
            message.number(option::OBSERVE),
            first[0].number(option::OBSERVE)
        );
        assert!(message.number(option::OBSERVE).is_some());
        assert_eq!(message.option(option::ETAG), first[0].option(option::ETAG));
    }
    // 'Continue': the same token as before.
    let (_, second) = server.ask(&[(10, true)]);
    assert_eq!(
        numbers(&second, option::Q_BLOCK2),
        (10..20).collect::<Vec<_>>()
    );
    assert!(second.iter().all(|message| message.token == get.token));
    assert_eq!(
        second[0].number(option::OBSERVE),
        first[0].number(option::OBSERVE)
    );
    // Nothing more comes of the client: the rest does by itself.
    let rest = server.pass(Duration::from_secs(4));
    assert!(!block(rest.last().unwrap(), option::Q_BLOCK2).unwrap().more);
    assert!(server.pass(Duration::from_secs(100)).is_empty());
    assert_eq!(server.session.poll_event(), None);
}

#[test]
fn what_a_reader_misses_it_gets_once() {
    let mut server = Server::new();
    let (_, first) = server.read(true);
    let (get, sent) = server.ask(&[(1, false), (8, true), (9, false)]);
    assert_eq!(numbers(&sent, option::Q_BLOCK2), [1, 8, 9]);
    for message in &sent {
        assert_eq!(message.token, get.token);
        assert_eq!(message.option(option::OBSERVE), None);
        assert_eq!(message.option(option::ETAG), first[0].option(option::ETAG));
    }
    // The pause begins anew.
    assert!(server.pass(Duration::from_millis(1_999)).is_empty());
    assert_eq!(server.pass(Duration::from_secs(2)).len(), 10);
    // Not in order; twice; of two sizes; behind the end.
    for blocks in [
        &[(2, false), (1, false)][..],
        &[(1, false), (1, false)],
        &[(99, false)],
    ] {
        let (_, sent) = server.ask(blocks);
        assert_eq!(sent[0].code, Code::BAD_REQUEST, "{blocks:?}");
    }
    assert_eq!(server.session.poll_event(), None);
    // Nobody makes it talk without end.
    let mut sent = 0;
    for _ in 0..1000 {
        sent += server.ask(&[(0, true)]).1.len();
        while server.session.poll_event().is_some() {}
        sent += server.ask(&[(1, true)]).1.len();
    }
    assert!(sent <= 4 * 30, "{sent}");
}

#[test]
fn a_reader_of_what_is_gone_gets_the_new_state() {
    let mut server = Server::new();
    server.read(false);
    server.pass(Duration::from_secs(300));
    let (get, sent) = server.ask(&[(3, false)]);
    assert!(sent.is_empty());
    let sent = server.respond(Response::with_body(Code::CONTENT, body(12)));
    assert_eq!(
        numbers(&sent, option::Q_BLOCK2),
        (0..10).collect::<Vec<_>>()
    );
    assert_eq!(sent[0].token, get.token);
}

#[test]
fn a_block_alone_and_a_confirmable_request() {
    let mut server = Server::new();
    let one = [(option::Q_BLOCK2, value(0, false, 6))];
    let get = server.request(Kind::NonConfirmable, Code::GET, &one);
    server.take(&get);
    let sent = server.respond(Response::with_body(Code::CONTENT, body(3)));
    assert_eq!(numbers(&sent, option::Q_BLOCK2), [0]);
    assert!(server.pass(Duration::from_secs(100)).is_empty());

    let all = [(option::Q_BLOCK2, value(0, true, 6))];
    let get = server.request(Kind::Confirmable, Code::GET, &all);
    server.take(&get);
    let sent = server.respond(Response::with_body(Code::CONTENT, body(3)));
    assert_eq!(
        sent[0],
        Message::empty(Kind::Acknowledgement, get.message_id)
    );
    assert!(sent[1..].iter().all(|one| one.kind == Kind::NonConfirmable));
    assert!(numbers(&sent[1..], option::Q_BLOCK2).starts_with(&[0, 1, 2]));
    // What fits one message comes as the acknowledgement.
    let get = server.request(Kind::Confirmable, Code::GET, &all);
    server.take(&get);
    let small = weir_dots_proto::decode(&small()).unwrap();
    let sent = server.respond(Response::with_body(Code::CONTENT, small));
    assert_eq!(sent.len(), 1);
    assert_eq!(
        (sent[0].kind, sent[0].code),
        (Kind::Acknowledgement, Code::CONTENT)
    );
}

#[test]
fn a_flood_of_first_payloads_takes_bounded_memory() {
    let mut server = Server::new();
    let mut asked = 0;
    for tag in 0..5_000_u32 {
        let options = [
            (option::Q_BLOCK1, value(1, true, 6)),
            (option::SIZE1, option::octets(60_000)),
            (option::REQUEST_TAG, tag.to_be_bytes().to_vec()),
        ];
        let mut message = server.request(Kind::NonConfirmable, Code::PUT, &options);
        message.payload = vec![1; 1024];
        server.take(&message);
        server.now += Duration::from_millis(5);
        server.session.handle_timeout(server.now);
        asked += server.sent().len();
    }
    let length = format!("{:?}", server.session).len();
    assert!(length < 100_000, "{length}");
    assert!(asked < 100, "{asked}");
}
