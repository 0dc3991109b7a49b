//! Receives export datagrams — from sockets or captures — and drives decoding and aggregation.
//!
//! A [`Shard`] is one decoder and one aggregator on one thread. It owns no socket and no clock: live, a [`Receiver`] hands
//! it datagrams with the kernel's time stamps; in replay, a [`Capture`] does, with the capture's. What comes out are
//! `WindowSummary`s and, for the recent window, the batches themselves.

mod capture;
mod receive;

pub use capture::{Capture, CaptureError, CapturedDatagram};
pub use receive::{BindError, Receiver, SocketView, wall_clock};
