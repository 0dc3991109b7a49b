//! Receives export datagrams — from sockets or captures — and drives decoding and aggregation.
//!
//! A [`Shard`] is one set of [`Decoders`] and one aggregator on one thread. It owns no socket and no clock: live, a [`Receiver`] hands
//! it datagrams with the kernel's time stamps; in replay, a [`Capture`] does, with the capture's. What comes out are
//! `WindowSummary`s and, for the recent window, the batches themselves.

mod allow;
mod capture;
mod config;
mod coverage;
mod decoders;
mod exporter;
pub mod fuzzing;
mod interfaces;
mod mirror;
mod overlap;
mod receive;
mod sampled;
mod shard;
mod silence;
mod steer;
mod stream;
mod trust;

pub use allow::AllowList;
pub use capture::{Capture, CaptureError, CapturedDatagram, CapturedFrame};
pub use config::{CollectorConfig, CollectorSettings, ConfigFault};
pub use coverage::Coverage;
pub use decoders::{DecoderLimits, DecoderState, Decoders, Outcome};
pub use exporter::{Count, ExporterConfig, ExporterRule};
pub use mirror::{MirrorConfig, MirrorCounters, MirrorError, MirrorSettings, Mirrors};
pub use overlap::{DoubleCount, Overlap, Reporter};
pub use receive::{BindError, ReceiveBuffers, Receiver, SocketView, wall_clock};
pub use sampled::SampledTotals;
pub use shard::{Shard, ShardSettings};
pub use silence::{Silence, SilenceEdge, SilenceEvent, SilenceSettings};
pub use steer::shard_of;
pub use stream::{
    CloseReason, IpfixTlsConfig, Refusal, StreamCounters, StreamError, StreamEvent, StreamFeed,
    StreamInlet, StreamSettings, StreamTransport, Streams, Taken, Verdict, stream_feed,
};
pub use trust::{Admission, RateCaps, Trust, TrustCounters, TrustSettings, TrustView};
