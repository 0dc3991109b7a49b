//! The CoAP codec against `coap-lite` as an oracle, and against hostile octets.

use coap_lite::{MessageType, Packet};
use proptest::prelude::*;
use weir_dots_proto::coap::{CoapError, Code, Kind, Message, Token, option};
use weir_dots_proto::fuzzing;

fn message() -> impl Strategy<Value = Message> {
    let options = prop::collection::vec(
        (1_u16..3000, prop::collection::vec(any::<u8>(), 0..300)),
        0..12,
    );
    (
        0..4_u8,
        1..255_u8,
        any::<u16>(),
        prop::collection::vec(any::<u8>(), 0..=8),
        options,
        prop::collection::vec(any::<u8>(), 0..200),
    )
        .prop_filter_map(
            "a reserved class",
            |(kind, code, id, token, options, payload)| {
                let code = Code(code);
                if matches!(code.class(), 1 | 6 | 7) {
                    return None;
                }
                let kind = [
                    Kind::Confirmable,
                    Kind::NonConfirmable,
                    Kind::Acknowledgement,
                    Kind::Reset,
                ][usize::from(kind)];
                let mut message = Message::new(kind, code, id, Token::new(&token)?);
                for (number, value) in options {
                    message.push_option(number, value);
                }
                message.payload = payload;
                Some(message)
            },
        )
}

proptest! {
    #[test]
    fn what_we_write_the_oracle_reads(message in message()) {
        let octets = message.to_octets();
        let packet = Packet::from_bytes(&octets).unwrap();
        prop_assert_eq!(packet.header.message_id, message.message_id);
        prop_assert_eq!(u8::from(packet.header.code), message.code.0);
        prop_assert_eq!(packet.get_token(), message.token.octets());
        prop_assert_eq!(&packet.payload, &message.payload);
        let options: Vec<(u16, Vec<u8>)> =
            packet.options().flat_map(|(number, values)| values.iter().map(|value| (*number, value.clone()))).collect();
        prop_assert_eq!(options, message.options.clone());
        prop_assert_eq!(Message::decode(&octets).unwrap(), message);
    }

    #[test]
    fn what_the_oracle_writes_we_read(message in message()) {
        let packet = Packet::from_bytes(&message.to_octets()).unwrap();
        // The oracle writes at most 1,280 octets.
        let Ok(octets) = packet.to_bytes() else { return Err(TestCaseError::reject("too long for the oracle")) };
        prop_assert_eq!(Message::decode(&octets).unwrap(), message);
    }

    #[test]
    fn hostile_octets_end_in_errors(octets in prop::collection::vec(any::<u8>(), 0..120)) {
        fuzzing::fuzz_coap(&octets);
    }
}

#[test]
fn the_oracle_agrees_on_types() {
    let message = Message::new(Kind::NonConfirmable, Code::PUT, 7, Token::from_number(1));
    assert_eq!(
        Packet::from_bytes(&message.to_octets())
            .unwrap()
            .header
            .get_type(),
        MessageType::NonConfirmable
    );
}

#[test]
fn faults_are_told_apart() {
    for (octets, error) in [
        (&[][..], CoapError::Truncated(0)),
        (&[0x40, 1, 0], CoapError::Truncated(3)),
        (&[0x80, 1, 0, 0], CoapError::Version(2)),
        (&[0x49, 1, 0, 0], CoapError::TokenLength(9)),
        (&[0x44, 1, 0, 0, 1], CoapError::Truncated(5)),
        (&[0x40, 0, 0, 0, 0xff], CoapError::NotEmpty),
        (&[0x40, 0x21, 0, 0], CoapError::Class),
        (&[0x40, 1, 0, 0, 0xff], CoapError::EmptyPayload),
        (&[0x40, 1, 0, 0, 0xf0], CoapError::Option(5)),
        (&[0x40, 1, 0, 0, 0x15], CoapError::Truncated(5)),
    ] {
        assert_eq!(Message::decode(octets), Err(error), "{octets:?}");
    }
}

#[test]
fn numbers_take_as_few_octets_as_they_need() {
    for (number, octets) in [
        (0, &[][..]),
        (60, &[60]),
        (271, &[1, 15]),
        (u32::MAX, &[255; 4]),
    ] {
        assert_eq!(option::octets(number), octets);
        assert_eq!(option::number(octets), Some(number));
    }
}
