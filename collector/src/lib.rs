//! Receives export datagrams — from sockets or captures — and drives decoding and aggregation.
//!
//! A [`Shard`] is one set of [`Decoders`] and one aggregator on one thread. It owns no socket and no clock: live, a [`Receiver`] hands
//! it datagrams with the kernel's time stamps; in replay, a [`Capture`] does, with the capture's. What comes out are
//! `WindowSummary`s and, for the recent window, the batches themselves.

mod capture;
mod config;
mod decoders;
mod receive;
mod shard;
mod steer;

pub use capture::{Capture, CaptureError, CapturedDatagram};
pub use config::{
    CollectorConfig, CollectorSettings, ConfigFault, Count, ExporterConfig, ExporterRule,
};
pub use decoders::{DecoderLimits, Decoders, Outcome};
pub use receive::{BindError, ReceiveBuffers, Receiver, SocketView, wall_clock};
pub use shard::{Shard, ShardSettings};
pub use steer::shard_of;
