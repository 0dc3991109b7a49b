//! What a shard hears: datagrams of its sockets, if their sender may send them, relayed to mirrors; messages of TCP and TLS
//! sessions; and packets that this host samples itself.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use weir_collector::{
    Admission, CollectorSettings, MirrorSettings, Mirrors, ReceiveBuffers, Receiver, Shard,
    StreamEvent, StreamInlet, Trust, Verdict,
};

use super::packets::Packets;

/// Longest wait for datagrams, so that ticks and a stop are seen in time.
const PATIENCE: Duration = Duration::from_millis(10);
/// The same where packets are sampled: nobody is woken for them.
const PATIENCE_WITH_PACKETS: Duration = Duration::from_millis(2);
/// Events of streams that are taken in a turn.
const EVENTS: usize = 256;

/// One shard's sources.
pub(super) struct Intake {
    pub(super) receiver: Receiver,
    buffers: ReceiveBuffers,
    pub(super) trust: Trust,
    pub(super) mirrors: Mirrors,
    streams: Option<StreamInlet>,
    pub(super) packets: Packets,
}

impl Intake {
    /// Opens the sockets to mirrors.
    pub(super) fn open(
        receiver: Receiver,
        collector: &CollectorSettings,
        mirrors: &[MirrorSettings],
        streams: Option<StreamInlet>,
        packets: Packets,
    ) -> anyhow::Result<Self> {
        let listening: Vec<SocketAddr> = receiver.sockets().map(|socket| socket.address).collect();
        Ok(Self {
            mirrors: Mirrors::open(mirrors, &listening)?,
            receiver,
            buffers: ReceiveBuffers::default(),
            trust: Trust::new(collector.trust()),
            streams,
            packets,
        })
    }

    /// Hands over what is there, or what comes soon; whether more may be waiting.
    pub(super) fn turn(&mut self, shard: &mut Shard) -> io::Result<Turn> {
        let (trust, mirrors) = (&mut self.trust, &mut self.mirrors);
        let patience = if self.packets.is_empty() {
            PATIENCE
        } else {
            PATIENCE_WITH_PACKETS
        };
        let datagrams =
            self.receiver
                .receive(&mut self.buffers, patience, |at, from, octets| {
                    if trust.handle_datagram(at, from.ip()) != Admission::Admitted {
                        return;
                    }
                    mirrors.handle_datagram(from, octets);
                    if let Some(outcome) = shard.handle_datagram(at, from, octets) {
                        trust.handle_records(at, from.ip(), u64::from(outcome.records()));
                    }
                })?;
        self.mirrors.flush();
        let events = self.take_streams(shard);
        if self.packets.turn(shard) {
            return Ok(Turn::More);
        }
        Ok(match datagrams {
            Receiver::TURN.. => Turn::More,
            0 if events == 0 => Turn::Nothing,
            _ if events >= EVENTS => Turn::More,
            _ => Turn::All,
        })
    }

    fn take_streams(&mut self, shard: &mut Shard) -> usize {
        let Some(streams) = &mut self.streams else {
            return 0;
        };
        streams.take(EVENTS, |event| match event {
            StreamEvent::Opened { peer, name, .. } => {
                tracing::info!(%peer, name, "IPFIX session opened");
                Verdict::Good
            }
            StreamEvent::Message {
                at, peer, octets, ..
            } => match shard.handle_message(at, peer, octets) {
                Some(outcome) if outcome.is_malformed() => Verdict::Malformed,
                _ => Verdict::Good,
            },
            StreamEvent::Closed { peer, reason, .. } => {
                shard.handle_session_closed(peer);
                tracing::info!(%peer, reason = reason.name(), "IPFIX session closed");
                Verdict::Good
            }
        })
    }
}

/// How a turn ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Turn {
    /// Nothing came.
    Nothing,
    /// Everything that was there was taken.
    All,
    /// There may be more.
    More,
}
