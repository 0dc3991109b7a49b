//! Seeded requests, whole and mutated, through the fuzz body: what the server holds, what filters and what is written down
//! stay the same thing.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use serde_json::{Value, json};
use weir_dots_proto::coap::{Code, Kind, Message, Token, option};
use weir_dots_proto::encode;
use weir_dots_server::fuzzing::fuzz_server;

struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }

    fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len() as u64) as usize]
    }
}

fn message(random: &mut Random, number: u16) -> Message {
    let target = format!(
        "{}.{}/{}",
        random.pick(&["203.0.113", "203.0.113", "198.51.100", "192.0.2"]),
        random.below(32),
        random.pick(&[32, 32, 30])
    );
    let target = target.parse::<ipnet::IpNet>().unwrap().trunc().to_string();
    let cuid = *random.pick(&["cuid=one-a", "cuid=one-b", "cuid=two-a"]);
    let id = random.below(24);
    let (resource, name, body): (&str, &str, Value) = match random.below(3) {
        0 => {
            let lifetime = *random.pick(&[30, 3600, -1, 0]);
            let trigger = random.below(3) > 0;
            let scope = json!({
                "target-prefix": [target], "lifetime": lifetime, "trigger-mitigation": trigger,
            });
            let body = json!({"ietf-dots-signal-channel:mitigation-scope": {"scope": [scope]}});
            ("mitigate", "mid", body)
        }
        1 => {
            let item = json!({"target": {"target-prefix": [target]}});
            let body =
                json!({"ietf-dots-telemetry:telemetry": {"pre-or-ongoing-mitigation": [item]}});
            ("tm", "tmid", body)
        }
        _ => {
            let link = format!("link{}", random.below(3));
            let pipe = json!({"link-id": link, "capacity": "500", "unit": "megabit-ps"});
            let settings = json!([{"total-pipe-capacity": [pipe]}]);
            let body = json!({"ietf-dots-telemetry:telemetry-setup": {"telemetry": settings}});
            ("tm-setup", "tsid", body)
        }
    };
    let code = *random.pick(&[Code::PUT, Code::PUT, Code::PUT, Code::DELETE, Code::GET]);
    let token = Token::from_number(u64::from(number));
    let mut message = Message::new(Kind::NonConfirmable, code, number, token);
    for segment in [".well-known", "dots", resource, cuid] {
        message.push_option(option::URI_PATH, segment.as_bytes());
    }
    if random.below(8) > 0 {
        message.push_option(option::URI_PATH, format!("{name}={id}").into_bytes());
    }
    if code == Code::PUT {
        message.push_option(option::CONTENT_FORMAT, option::octets(option::DOTS_CBOR));
        message.payload = encode(&body).unwrap();
    }
    message
}

#[test]
fn what_is_held_filtered_and_written_is_one() {
    let mut random = Random(7);
    for round in 0..60 {
        let mut input = Vec::new();
        for number in 0..200 {
            let mut datagram = message(&mut random, number).to_octets();
            if round % 3 == 0 && random.below(4) == 0 {
                let at = random.below(datagram.len() as u64) as usize;
                datagram[at] = random.below(256) as u8;
            }
            let seconds = *random.pick(&[0, 0, 1, 60]);
            let client = random.below(2) as u8;
            input.extend([u8::try_from(datagram.len()).unwrap(), seconds << 1 | client]);
            input.extend(datagram);
        }
        fuzz_server(&input);
    }
}
