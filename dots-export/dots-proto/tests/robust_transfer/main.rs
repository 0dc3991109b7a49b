//! Q-Block1 and Q-Block2 (RFC 9177) of each session against a peer that is played message by message.

#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]
#![expect(
    clippy::disallowed_methods,
    reason = "any instant does: sessions only look at differences"
)]

mod client_side;
mod server_side;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weir_dots_proto::client::{self, Notice, Request};
use weir_dots_proto::coap::{Block, Code, Kind, Message, Token, option};
use weir_dots_proto::server::{self, Event, Response};
use weir_dots_proto::{Cuid, Method, Mid, Resource, SessionParameters, Tmid, encode};

fn parameters() -> SessionParameters {
    SessionParameters {
        heartbeat_interval: Duration::ZERO,
        ..SessionParameters::default()
    }
}

fn cuid() -> Cuid {
    Cuid::new("dz6pHjaADkaFTbjr0JGBpw").unwrap()
}

fn telemetry() -> Resource {
    Resource::Telemetry {
        cuid: cuid(),
        tmid: Some(Tmid(1)),
    }
}

/// A body of about so many blocks.
fn body(blocks: u32) -> Value {
    let scopes: Vec<Value> = (0..blocks * 14)
        .map(|mid| json!({"mid": mid, "target-prefix": ["2001:db8:1:2:3:4:5:6/128", "2001:db8:1:2:3:4:5:7/128"], "lifetime": 3600}))
        .collect();
    json!({"ietf-dots-signal-channel:mitigation-scope": {"scope": scopes}})
}

fn block(message: &Message, number: u16) -> Option<Block> {
    message.option(number).and_then(Block::from_value)
}

fn value(number: u32, more: bool, exponent: u32) -> Vec<u8> {
    option::octets(number << 4 | u32::from(more) << 3 | exponent)
}

fn numbers(messages: &[Message], option: u16) -> Vec<u32> {
    let blocks = messages.iter().map(|message| block(message, option));
    blocks.map(|block| block.unwrap().number).collect()
}
