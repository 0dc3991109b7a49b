//! CoAP messages over datagrams (RFC 7252 §3): octets in, [`Message`] out, and back; over streams (RFC 8323) in [`tcp`], with
//! a [`Carrier`] that lets a session of datagrams run over a stream.

mod block;
mod carrier;
mod code;
mod message;
pub mod option;
mod signal;
pub mod tcp;
mod token;

pub use block::Block;
pub use carrier::{Carrier, End};
pub use code::Code;
pub use message::{CoapError, Kind, MAX_OPTIONS, Message};
pub use signal::{Signal, SignalError};
pub use token::Token;
