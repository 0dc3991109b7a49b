//! Octets that are no bodies are refused with a reason and never with a panic.

#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod common;

use weir_dots_proto::body::{BodyError, Heartbeat};
use weir_dots_proto::cbor::{MAX_BODY, MAX_ITEMS};
use weir_dots_proto::{Body, decode, encode, fuzzing};

/// Heartbeat `{49: {51: true}}`.
const HEARTBEAT: [u8; 7] = [0xa1, 0x18, 0x31, 0xa1, 0x18, 0x33, 0xf5];

/// The heartbeat with another member before `peer-hb-status`.
fn with_member(key: &[u8], value: &[u8]) -> Vec<u8> {
    [&[0xa1, 0x18, 0x31, 0xa2], key, value, &[0x18, 0x33, 0xf5]].concat()
}

#[test]
fn a_body_may_have_its_tag() {
    assert_eq!(
        Heartbeat {
            peer_hb_status: true
        }
        .to_cbor()
        .unwrap(),
        HEARTBEAT
    );
    assert!(decode(&HEARTBEAT).is_ok());
    let tagged = [&[0xd9, 0x01, 0x0f], &HEARTBEAT[..]].concat();
    assert_eq!(decode(&tagged), decode(&HEARTBEAT));
    let wrong = [&[0xd9, 0x01, 0x10], &HEARTBEAT[..]].concat();
    assert_eq!(decode(&wrong), Err(BodyError::Malformed { offset: 0 }));
    let twice = [&[0xd9, 0x01, 0x0f, 0xd9, 0x01, 0x0f], &HEARTBEAT[..]].concat();
    assert!(decode(&twice).is_err());
}

#[test]
fn unknown_keys_are_ignored_or_named() {
    // 255, 32767, 40000 and 65535 are optional, whatever is in them.
    for key in [
        &[0x18, 0xff][..],
        &[0x19, 0x7f, 0xff],
        &[0x19, 0x9c, 0x40],
        &[0x19, 0xff, 0xff],
    ] {
        for value in [
            &[0x01][..],
            &[0x82, 0x01, 0xa1, 0x61, 0x61, 0xf6],
            &[0xfb, 0, 0, 0, 0, 0, 0, 0, 0],
            &[0x42, 1, 2],
        ] {
            assert_eq!(
                decode(&with_member(key, value)),
                decode(&HEARTBEAT),
                "{key:?} {value:?}"
            );
        }
    }
    // 54, 127, 256 and 16383 are required.
    for (key, number) in [
        (&[0x18, 0x36][..], 54),
        (&[0x18, 0x7f], 127),
        (&[0x19, 0x01, 0x00], 256),
        (&[0x19, 0x3f, 0xff], 16383),
    ] {
        assert_eq!(
            decode(&with_member(key, &[0x01])),
            Err(BodyError::UnknownKeys(vec![number]))
        );
    }
    let error = decode(&[
        0xa3, 0x18, 0x36, 0x01, 0x18, 0x37, 0x01, 0x18, 0x31, 0xa1, 0x18, 0x33, 0xf5,
    ])
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "unknown comprehension-required keys 54, 55"
    );
}

#[test]
fn ambiguous_bodies_are_refused() {
    assert_eq!(
        decode(&with_member(&[0x18, 0x33], &[0xf4])),
        Err(BodyError::DuplicateKey { key: 51 })
    );
    let optional = [
        0xa1, 0x18, 0x31, 0xa3, 0x18, 0xff, 1, 0x18, 0xff, 1, 0x18, 0x33, 0xf5,
    ];
    assert_eq!(decode(&optional), Err(BodyError::DuplicateKey { key: 255 }));
    assert_eq!(
        decode(&[&HEARTBEAT[..], &[0]].concat()),
        Err(BodyError::Trailing { offset: 7 })
    );
    assert_eq!(
        decode(&[0xbf, 0x18, 0x31, 0xa1, 0x18, 0x33, 0xf5, 0xff]),
        Err(BodyError::Indefinite { offset: 0 })
    );
    // Also where the value is ignored.
    assert_eq!(
        decode(&with_member(&[0x18, 0xff], &[0x9f, 0xff])),
        Err(BodyError::Indefinite { offset: 6 })
    );
    assert_eq!(
        decode(&with_member(&[0x61, 0x61], &[1])),
        Err(BodyError::InvalidKey { offset: 4 })
    );
    for key in [
        &[0x00][..],
        &[0x20],
        &[0x1a, 0, 1, 0, 0],
        &[0x3b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    ] {
        assert_eq!(
            decode(&with_member(key, &[1])),
            Err(BodyError::InvalidKey { offset: 4 }),
            "{key:?}"
        );
    }
}

#[test]
fn bodies_are_one_message() {
    assert_eq!(decode(&[0xa0]), Err(BodyError::NotAMessage));
    // {14: 5}, a known key that is no message type.
    assert_eq!(decode(&[0xa1, 0x0e, 0x05]), Err(BodyError::NotAMessage));
    let two = [0xa2, 0x18, 0x31, 0xa1, 0x18, 0x33, 0xf5, 0x18, 0x1e, 0xa0];
    assert_eq!(decode(&two), Err(BodyError::NotAMessage));
    assert!(matches!(decode(&[0x01]), Err(BodyError::WrongType { .. })));
    assert!(matches!(
        decode(&[]),
        Err(BodyError::Malformed { offset: 0 })
    ));
}

#[test]
fn values_have_their_types_and_ranges() {
    let wrong_type = |value: &[u8]| matches!(decode(value), Err(BodyError::WrongType { .. }));
    let out_of_range = |value: &[u8]| matches!(decode(value), Err(BodyError::OutOfRange { .. }));
    let scope = |member: &[u8]| [&[0xa1, 0x01, 0xa1, 0x02, 0x81, 0xa1], member].concat();
    assert!(decode(&scope(&[0x0e, 0x20])).is_ok(), "lifetime -1");
    assert!(out_of_range(&scope(&[0x0e, 0x21])), "lifetime -2");
    assert!(
        out_of_range(&scope(&[0x0e, 0x1b, 0, 0, 0, 1, 0, 0, 0, 0])),
        "lifetime 2^32"
    );
    assert!(out_of_range(&scope(&[0x10, 0x00])), "status 0");
    assert!(out_of_range(&scope(&[0x10, 0x09])), "status 9");
    assert!(
        out_of_range(&scope(&[0x0a, 0x81, 0x19, 0x01, 0x00])),
        "protocol 256"
    );
    assert!(
        out_of_range(&scope(&[0x18, 0x19, 0x20])),
        "bytes-dropped -1"
    );
    assert!(wrong_type(&scope(&[0x0a, 0x06])), "protocol alone");
    assert!(wrong_type(&scope(&[0x06, 0x81, 0x01])), "prefix as number");
    assert!(
        wrong_type(&scope(&[0x18, 0x19, 0x61, 0x35])),
        "bytes-dropped as text"
    );
    assert!(
        wrong_type(&scope(&[0x18, 0x2d, 0x01])),
        "trigger-mitigation as number"
    );
    assert!(
        wrong_type(&scope(&[0x18, 0x2b, 0xc4, 0x82, 0x22, 0x01])),
        "decimal with exponent -3"
    );
    assert!(
        wrong_type(&scope(&[0x18, 0x2b, 0xc5, 0x82, 0x21, 0x01])),
        "bigfloat"
    );
    assert!(
        wrong_type(&scope(&[0x18, 0x2b, 0x18, 0xc8])),
        "decimal as number"
    );
}

#[test]
fn bodies_are_bounded() {
    assert_eq!(decode(&vec![0; MAX_BODY + 1]), Err(BodyError::TooLarge));
    // An array of 2^64 - 1 entries that are not there.
    let huge = [
        0xa1, 0x01, 0xa1, 0x02, 0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    ];
    assert_eq!(decode(&huge), Err(BodyError::Malformed { offset: 4 }));
    let mut many = vec![0xa1, 0x01, 0xa1, 0x02, 0x81, 0xa1, 0x0a, 0x99, 0x40, 0x00];
    many.resize(10 + 0x4000, 6);
    assert_eq!(decode(&many), Err(BodyError::TooManyItems));
    const { assert!(MAX_ITEMS < 0x4000) };
    // {189: {189: ...}}: a target in a target, then the same in something ignored.
    let deep: Vec<u8> = [0xa1, 0x18, 0xbd].repeat(40);
    assert_eq!(decode(&deep), Err(BodyError::TooDeep));
    let ignored = with_member(&[0x18, 0xff], &[0x81; 40]);
    assert_eq!(decode(&ignored), Err(BodyError::TooDeep));
    let tags = with_member(&[0x18, 0xff], &[0xc1; 40]);
    assert_eq!(decode(&tags), Err(BodyError::TooDeep));
    let text = serde_json::json!({"ietf-dots-signal-channel:redirected-signal": {"alt-server": "x".repeat(MAX_BODY)}});
    assert_eq!(encode(&text), Err(BodyError::TooLarge));
}

#[test]
fn every_truncation_is_refused() {
    let octets = common::telemetry().to_cbor().unwrap();
    for length in 0..octets.len() {
        assert!(decode(&octets[..length]).is_err(), "{length}");
    }
}

#[test]
fn mutated_and_random_octets_end_in_errors() {
    let seeds: Vec<Vec<u8>> = vec![
        HEARTBEAT.to_vec(),
        common::mitigation_request_with_telemetry()
            .to_cbor()
            .unwrap(),
        common::telemetry().to_cbor().unwrap(),
        common::announced_setup().to_cbor().unwrap(),
        common::announced_config().to_cbor().unwrap(),
        common::mitigation_status().to_cbor().unwrap(),
        common::conflict().to_cbor().unwrap(),
        common::redirect().to_cbor().unwrap(),
    ];
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut understood = 0;
    for round in 0..20_000 {
        let mut octets = seeds[random.below(seeds.len())].clone();
        for _ in 0..1 + random.below(4) {
            mutate(&mut octets, &mut random);
        }
        if round % 10 == 0 {
            octets = (0..random.below(64)).map(|_| random.next() as u8).collect();
        }
        fuzzing::fuzz(&octets);
        understood += usize::from(decode(&octets).is_ok());
    }
    println!("{understood} of 20000 understood");
    assert!(
        understood > 500,
        "{understood}: mutations should leave some bodies readable"
    );
}

fn mutate(octets: &mut Vec<u8>, random: &mut Random) {
    if octets.is_empty() {
        return;
    }
    let at = random.below(octets.len());
    match random.below(6) {
        0 => octets[at] = random.next() as u8,
        1 => octets[at] ^= 1 << random.below(8),
        2 => octets.truncate(at),
        3 => octets.insert(at, random.next() as u8),
        4 => drop(octets.remove(at)),
        _ => octets[at] = octets[at].wrapping_add(1),
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}
