//! CoAP messages over datagrams (RFC 7252 §3): octets in, [`Message`] out, and back.

mod block;
mod code;
mod message;
pub mod option;
mod token;

pub use block::Block;
pub use code::Code;
pub use message::{CoapError, Kind, MAX_OPTIONS, Message};
pub use token::Token;
