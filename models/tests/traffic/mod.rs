//! Small networks for tests: a server with clients in peace, and attacks on it.

#![allow(dead_code, reason = "each test uses what it needs")]

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use weir_flow_record::{Address, FragmentKind, Row};
use weir_models::{LessonSettings, Lessons, Samples, Source};

const NANOS: i64 = 1_000_000_000;

pub(crate) fn server(number: u8) -> Address {
    Address::from_v4([203, 0, 113, number])
}

pub(crate) fn row(
    source: Address,
    destination: Address,
    protocol: u8,
    ports: (u16, u16),
    second: i64,
) -> Row {
    Row {
        source_address: source,
        destination_address: destination,
        source_port: ports.0,
        destination_port: ports.1,
        protocol,
        tcp_flags: 0,
        fragment: FragmentKind::None,
        octets: 60,
        packets: 1,
        flow_start: second * NANOS,
        flow_end: second * NANOS,
        sampling_rate: 1,
        input_interface: 0,
        output_interface: 0,
        direction: 255,
        forwarding_status: 0,
    }
}

/// Seconds of peace on four servers, attacks of both kinds in turn where `attacks`.
pub(crate) fn lessons(
    seed: u64,
    seconds: i64,
    attacks: bool,
    settings: LessonSettings,
    wrong: f64,
) -> Samples {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut lessons = Lessons::new(settings);
    for second in 0..seconds {
        let mut say = |row: &Row, attack: Option<&str>, answer: bool, random: &mut ChaCha8Rng| {
            let flipped = random.random_bool(wrong);
            let attack = if flipped {
                if attack.is_some() {
                    None
                } else {
                    Some("udp-flood")
                }
            } else {
                attack
            };
            lessons.handle_row(
                row,
                &Source {
                    answer: Some(answer),
                    ..Source::new("test", attack)
                },
            );
        };
        for number in 1..=4 {
            for _ in 0..random.random_range(1..6) {
                let client = Address::from_v4([192, 0, 2, random.random_range(1..200)]);
                let port = random.random_range(20_000..60_000);
                let mut question = row(client, server(number), 6, (port, 443), second);
                question.tcp_flags = 0x1b;
                question.packets = random.random_range(4..40);
                question.octets = question.packets * random.random_range(60..400);
                question.flow_start -= random.random_range(0..8 * NANOS);
                let mut answer = Row {
                    source_address: question.destination_address,
                    destination_address: client,
                    ..question
                };
                (answer.source_port, answer.destination_port) = (443, port);
                answer.octets = answer.packets * random.random_range(300..1400);
                say(&question, None, false, &mut random);
                say(&answer, None, true, &mut random);
            }
        }
        // Four minutes of peace, then a minute of attack, of two kinds in turn, on one server after another.
        let minute = second / 60;
        if attacks && minute % 5 == 4 {
            let target = server(1 + (minute / 5 % 4) as u8);
            let syn = minute / 5 % 2 == 0;
            for _ in 0..30 {
                let source = Address::from_v4([
                    random.random_range(1..220),
                    random.random(),
                    random.random(),
                    random.random(),
                ]);
                let mut attack = if syn {
                    row(source, target, 6, (random.random(), 443), second)
                } else {
                    row(source, target, 17, (53, random.random()), second)
                };
                if syn {
                    attack.tcp_flags = 2;
                } else {
                    attack.octets = 1400 * 3;
                    attack.packets = 3;
                }
                say(
                    &attack,
                    Some(if syn {
                        "tcp-syn-flood"
                    } else {
                        "dns-amplification"
                    }),
                    false,
                    &mut random,
                );
            }
        }
    }
    let (samples, counters) = lessons.finish();
    assert_eq!(counters.refused, 0);
    samples
}

/// Thinned as far as these few flows bear.
pub(crate) fn thinned() -> LessonSettings {
    LessonSettings {
        thinning: vec![1, 2, 4],
        ..LessonSettings::default()
    }
}
