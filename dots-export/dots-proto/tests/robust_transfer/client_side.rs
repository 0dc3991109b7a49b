//! A client that sends and reads.

use super::*;

struct Client {
    now: Instant,
    session: client::Session,
    answers: u16,
}

impl Client {
    /// A client that has asked whether we know Q-Block, and its question.
    fn new() -> (Self, Message) {
        let now = Instant::now();
        let mut session = client::Session::new(parameters(), 42);
        session.handle_robust(true);
        session.handle_connected(now);
        let answers = 0;
        let mut client = Self {
            now,
            session,
            answers,
        };
        let mut sent = client.sent();
        assert_eq!(sent.len(), 1, "{sent:?}");
        (client, sent.remove(0))
    }

    /// A client that knows that we know Q-Block.
    fn known() -> Self {
        let (mut client, probe) = Self::new();
        client.answer(&probe, Code::CONTENT, &[]);
        assert!(client.sent().is_empty());
        client
    }

    fn sent(&mut self) -> Vec<Message> {
        std::iter::from_fn(|| self.session.poll_transmit())
            .map(|octets| Message::decode(&octets).unwrap())
            .collect()
    }

    fn answer(&mut self, message: &Message, code: Code, options: &[(u16, Vec<u8>)]) {
        self.answers += 1;
        let (kind, id) = match message.kind {
            Kind::Confirmable => (Kind::Acknowledgement, message.message_id),
            _ => (Kind::NonConfirmable, self.answers),
        };
        let mut answer = Message::new(kind, code, id, message.token);
        for (number, value) in options {
            if *number == 0 {
                answer.payload.clone_from(value);
            } else {
                answer.push_option(*number, value.clone());
            }
        }
        self.hear(&answer);
    }

    fn hear(&mut self, message: &Message) {
        self.session.handle_datagram(self.now, &message.to_octets());
    }

    fn put(&mut self, blocks: u32) -> Vec<Message> {
        let request = Request {
            body: Some(body(blocks)),
            ..Request::new(Method::Put, telemetry())
        };
        self.session.handle_request(self.now, request);
        self.sent()
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

    fn codes(&mut self) -> Vec<Option<Code>> {
        std::iter::from_fn(|| self.session.poll_notice())
            .map(|notice| match notice {
                Notice::Response { code, .. } => Some(code),
                Notice::Unanswered { .. } => None,
                other => panic!("{other:?}"),
            })
            .collect()
    }
}

#[test]
fn the_question_is_confirmable() {
    let (_, probe) = Client::new();
    assert_eq!((probe.kind, probe.code), (Kind::Confirmable, Code::GET));
    let asked = block(&probe, option::Q_BLOCK2).unwrap();
    assert_eq!((asked.number, asked.more, asked.size()), (0, true, 1024));
}

#[test]
fn a_peer_that_refuses_gets_blocks() {
    for reset in [false, true] {
        let (mut client, probe) = Client::new();
        if reset {
            client.hear(&Message::empty(Kind::Reset, probe.message_id));
        } else {
            client.answer(&probe, Code::BAD_OPTION, &[]);
        }
        let sent = client.put(3);
        assert_eq!(numbers(&sent, option::BLOCK1), [0], "{sent:?}");
        assert_eq!(sent[0].option(option::Q_BLOCK1), None);
        let get = Request::new(Method::Get, telemetry());
        client.session.handle_request(client.now, get);
        assert_eq!(client.sent()[0].option(option::Q_BLOCK2), None);
        // It is not asked again, until there is another transport.
        assert!(client.codes().is_empty());
        client.session.handle_disconnected(client.now);
        client.session.handle_connected(client.now);
        let again = |message: &Message| message.option(option::Q_BLOCK2).is_some();
        assert_eq!(client.sent().iter().filter(|one| again(one)).count(), 1);
    }
}

#[test]
fn a_peer_that_does_not_answer_is_asked_when_it_is_heard() {
    let (mut client, probe) = Client::new();
    let repeats = client.pass(Duration::from_secs(200));
    assert_eq!(repeats, vec![probe.clone(); 3]);
    assert!(client.codes().is_empty(), "nobody else has asked");
    client.hear(&Message::empty(Kind::Confirmable, 7));
    let sent = client.sent();
    assert_eq!(sent[0].kind, Kind::Reset, "a ping");
    assert!(block(&sent[1], option::Q_BLOCK2).is_some(), "{sent:?}");
}

#[test]
fn telemetry_waits_for_the_answer_and_mitigation_does_not() {
    let (mut client, probe) = Client::new();
    assert!(client.put(3).is_empty());
    let mitigate = Resource::Mitigate {
        cuid: cuid(),
        mid: Some(Mid(1)),
    };
    let request = Request {
        body: Some(body(3)),
        ..Request::new(Method::Put, mitigate)
    };
    client.session.handle_request(client.now, request);
    let sent = client.sent();
    assert_eq!(numbers(&sent, option::BLOCK1), [0]);
    client.answer(&probe, Code::CONTENT, &[]);
    let payloads = client.sent();
    assert!(numbers(&payloads, option::Q_BLOCK1).starts_with(&[0, 1, 2]));
    // What has begun by Block ends by it.
    client.answer(
        &sent[0],
        Code::CONTINUE,
        &[(option::BLOCK1, value(0, true, 6))],
    );
    assert_eq!(numbers(&client.sent(), option::BLOCK1), [1]);

    // Without an answer it does not wait for ever.
    let (mut client, _) = Client::new();
    client.put(3);
    let sent = client.pass(Duration::from_secs(100));
    let by_block = |message: &&Message| block(message, option::BLOCK1).is_some();
    assert!(sent.iter().any(|one| by_block(&one)), "{sent:?}");
}

#[test]
fn a_body_goes_out_in_sets() {
    let mut client = Client::known();
    let sent = client.put(13);
    assert_eq!(
        numbers(&sent, option::Q_BLOCK1),
        (0..10).collect::<Vec<_>>()
    );
    let octets = encode(&body(13)).unwrap();
    for (number, message) in sent.iter().enumerate() {
        assert_eq!(message.kind, Kind::NonConfirmable);
        assert_eq!(message.number(option::SIZE1), Some(octets.len() as u32));
        assert_eq!(
            message.option(option::REQUEST_TAG),
            sent[0].option(option::REQUEST_TAG)
        );
        assert_eq!(
            message.number(option::CONTENT_FORMAT),
            Some(option::DOTS_CBOR)
        );
        assert_eq!(message.payload, octets[number * 1024..][..1024]);
        // RFC 9177 §6.
        assert_eq!(message.token.octets()[4..], sent[0].token.octets()[4..]);
    }
    let mut tokens: Vec<Token> = sent.iter().map(|message| message.token).collect();
    tokens.dedup();
    assert_eq!(tokens.len(), 10);
    // 2.31 for the set, to any of its messages.
    client.answer(
        &sent[9],
        Code::CONTINUE,
        &[(option::Q_BLOCK1, value(9, true, 6))],
    );
    let rest = client.sent();
    assert!(numbers(&rest, option::Q_BLOCK1).starts_with(&[10, 11]));
    let last = rest.last().unwrap();
    assert!(!block(last, option::Q_BLOCK1).unwrap().more);
    // 4.08 by the examples of RFC 9177 §10.1.3.
    let format = (
        option::CONTENT_FORMAT,
        option::octets(option::MISSING_BLOCKS),
    );
    let missing = |list: &[u8]| [format.clone(), (0, list.to_vec())];
    client.answer(last, Code::REQUEST_ENTITY_INCOMPLETE, &missing(&[9, 1]));
    assert!(client.sent().is_empty(), "no ascending order");
    client.answer(last, Code::REQUEST_ENTITY_INCOMPLETE, &missing(&[1, 9]));
    let again = client.sent();
    assert_eq!(numbers(&again, option::Q_BLOCK1), [1, 9]);
    assert_eq!(again[0].payload, sent[1].payload);
    assert_eq!(
        again[0].option(option::Q_BLOCK1),
        sent[1].option(option::Q_BLOCK1)
    );
    assert_eq!(
        again[0].option(option::REQUEST_TAG),
        sent[0].option(option::REQUEST_TAG)
    );
    assert_ne!(again[0].token, sent[1].token);
    client.answer(&again[1], Code::CHANGED, &[]);
    assert_eq!(client.codes(), [Some(Code::CHANGED)]);
    // Another body has another tag.
    let other = client.put(2);
    assert_ne!(
        other[0].option(option::REQUEST_TAG),
        sent[0].option(option::REQUEST_TAG)
    );
}

#[test]
fn silence_is_nudged_and_then_given_up() {
    let mut client = Client::known();
    let sent = client.put(3);
    let last = sent.last().unwrap();
    let later = client.pass(Duration::from_secs(100));
    assert_eq!(later.len(), 12, "{later:?}");
    for message in &later {
        assert_eq!(
            message.option(option::Q_BLOCK1),
            last.option(option::Q_BLOCK1)
        );
    }
    assert_eq!(client.codes(), [None]);
    // RFC 9177 §4.3: a server that still wants payloads of it is told.
    let format = (
        option::CONTENT_FORMAT,
        option::octets(option::MISSING_BLOCKS),
    );
    client.answer(
        last,
        Code::REQUEST_ENTITY_INCOMPLETE,
        &[format, (0, vec![1])],
    );
    assert_eq!(client.sent()[0].kind, Kind::Reset);
}

#[test]
fn a_server_that_has_lost_all_gets_it_under_another_tag() {
    let mut client = Client::known();
    let mut sent = client.put(3);
    for _ in 0..3 {
        let tag = sent[0].option(option::REQUEST_TAG).unwrap().to_vec();
        client.answer(&sent[0], Code::REQUEST_ENTITY_INCOMPLETE, &[]);
        sent = client.sent();
        assert_eq!(numbers(&sent, option::Q_BLOCK1)[0], 0);
        assert_ne!(sent[0].option(option::REQUEST_TAG), Some(&tag[..]));
    }
    client.answer(&sent[0], Code::REQUEST_ENTITY_INCOMPLETE, &[]);
    assert_eq!(client.codes(), [Some(Code::REQUEST_ENTITY_INCOMPLETE)]);
}

#[test]
fn a_peer_that_resets_payloads_gets_blocks() {
    let mut client = Client::known();
    let sent = client.put(3);
    client.hear(&Message::empty(Kind::Reset, sent[1].message_id));
    let anew = client.sent();
    assert_eq!(numbers(&anew, option::BLOCK1), [0]);
    assert_eq!(anew[0].option(option::REQUEST_TAG), None);
    assert_eq!(anew[0].option(option::Q_BLOCK1), None);
    client.answer(&anew[0], Code::CHANGED, &[]);
    assert_eq!(client.codes(), [Some(Code::CHANGED)]);
}

#[test]
fn configuration_is_confirmable_and_goes_by_block() {
    let mut client = Client::known();
    let resource = Resource::TelemetrySetup {
        cuid: cuid(),
        tsid: None,
    };
    let get = Request::new(Method::Get, resource);
    client.session.handle_request(client.now, get);
    let sent = client.sent();
    assert_eq!(sent[0].kind, Kind::Confirmable);
    assert_eq!(sent[0].option(option::Q_BLOCK2), None);
}

#[test]
fn a_servers_nonsense_ends_the_reading() {
    let octets = encode(&body(2)).unwrap();
    let size = option::octets(octets.len() as u32);
    let payload = octets[..1024].to_vec();
    let nonsense = [
        vec![(option::Q_BLOCK2, vec![7])],
        vec![(option::Q_BLOCK2, value(0, true, 6)), (0, payload.clone())],
        vec![
            (option::Q_BLOCK2, value(0, true, 6)),
            (option::SIZE2, option::octets(1 << 20)),
            (0, payload.clone()),
        ],
        vec![
            (option::Q_BLOCK2, value(9, true, 6)),
            (option::SIZE2, size.clone()),
            (0, payload.clone()),
        ],
        vec![
            (option::Q_BLOCK2, value(0, false, 5)),
            (option::SIZE2, size),
            (0, Vec::new()),
        ],
    ];
    for options in nonsense {
        let mut client = Client::known();
        let get = Request::new(Method::Get, telemetry());
        client.session.handle_request(client.now, get);
        let request = client.sent().remove(0);
        client.answer(&request, Code::CONTENT, &options);
        let notice = client.session.poll_notice();
        assert!(
            matches!(&notice, Some(Notice::Response { body: None, .. })),
            "{options:?}: {notice:?}"
        );
        assert_eq!(client.session.open_requests(), 0);
    }
}

#[test]
fn a_server_that_sends_a_part_and_no_more_is_given_up() {
    let mut client = Client::known();
    let get = Request::new(Method::Get, telemetry());
    client.session.handle_request(client.now, get);
    let request = client.sent().remove(0);
    let octets = encode(&body(3)).unwrap();
    let options = [
        (option::ETAG, vec![1]),
        (option::Q_BLOCK2, value(1, true, 6)),
        (option::SIZE2, option::octets(octets.len() as u32)),
        (0, octets[1024..2048].to_vec()),
    ];
    client.answer(&request, Code::CONTENT, &options);
    let asked = client.pass(Duration::from_secs(100));
    assert_eq!(asked.len(), 3, "{asked:?}");
    for message in &asked {
        let wanted = message.values(option::Q_BLOCK2);
        let wanted: Vec<Block> = wanted.map(|one| Block::from_value(one).unwrap()).collect();
        assert_eq!(wanted[0], Block::FIRST);
        assert!(
            wanted[1..]
                .iter()
                .all(|block| block.number >= 2 && !block.more)
        );
        assert_eq!(message.option(option::OBSERVE), None);
    }
    assert_eq!(client.codes(), [None]);
}
