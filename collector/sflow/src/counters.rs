use std::collections::VecDeque;

use weir_flow_record::{ExporterId, ReceivedAt};

use crate::cursor::Cursor;

/// An interface's counters as an agent reported them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CounterReport {
    /// The exporter.
    pub exporter: ExporterId,
    /// When the datagram came.
    pub received_at: ReceivedAt,
    /// The counters.
    pub counters: InterfaceCounters,
}

/// Generic interface counters (format 0:1, `if_counters`): totals since the agent started, named as in RFC 2863.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[allow(missing_docs, reason = "RFC 2863 says it")]
pub struct InterfaceCounters {
    pub if_index: u32,
    pub if_type: u32,
    /// Bit/s.
    pub speed: u64,
    /// 0 unknown, 1 full duplex, 2 half duplex, 3 in, 4 out.
    pub direction: u32,
    /// Bit 0: administratively up; bit 1: operationally up.
    pub status: u32,
    pub in_octets: u64,
    pub in_unicast_packets: u32,
    pub in_multicast_packets: u32,
    pub in_broadcast_packets: u32,
    pub in_discards: u32,
    pub in_errors: u32,
    pub in_unknown_protocols: u32,
    pub out_octets: u64,
    pub out_unicast_packets: u32,
    pub out_multicast_packets: u32,
    pub out_broadcast_packets: u32,
    pub out_discards: u32,
    pub out_errors: u32,
    pub promiscuous_mode: u32,
}

impl InterfaceCounters {
    /// The record's size in octets.
    pub(crate) const LENGTH: u32 = 88;

    pub(crate) fn read(mut cursor: Cursor<'_>) -> Option<Self> {
        let [if_index, if_type] = cursor.words()?;
        let speed = cursor.u64()?;
        let [direction, status] = cursor.words()?;
        let in_octets = cursor.u64()?;
        let inwards: [u32; 6] = cursor.words()?;
        let out_octets = cursor.u64()?;
        let outwards: [u32; 5] = cursor.words()?;
        Some(Self {
            if_index,
            if_type,
            speed,
            direction,
            status,
            in_octets,
            in_unicast_packets: inwards[0],
            in_multicast_packets: inwards[1],
            in_broadcast_packets: inwards[2],
            in_discards: inwards[3],
            in_errors: inwards[4],
            in_unknown_protocols: inwards[5],
            out_octets,
            out_unicast_packets: outwards[0],
            out_multicast_packets: outwards[1],
            out_broadcast_packets: outwards[2],
            out_discards: outwards[3],
            out_errors: outwards[4],
            promiscuous_mode: cursor.u32()?,
        })
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let words = |out: &mut Vec<u8>, words: &[u32]| {
            out.extend(words.iter().flat_map(|word| word.to_be_bytes()));
        };
        words(out, &[self.if_index, self.if_type]);
        out.extend(self.speed.to_be_bytes());
        words(out, &[self.direction, self.status]);
        out.extend(self.in_octets.to_be_bytes());
        words(
            out,
            &[
                self.in_unicast_packets,
                self.in_multicast_packets,
                self.in_broadcast_packets,
                self.in_discards,
                self.in_errors,
                self.in_unknown_protocols,
            ],
        );
        out.extend(self.out_octets.to_be_bytes());
        words(
            out,
            &[
                self.out_unicast_packets,
                self.out_multicast_packets,
                self.out_broadcast_packets,
                self.out_discards,
                self.out_errors,
                self.promiscuous_mode,
            ],
        );
    }
}

/// Reports that wait to be polled.
#[derive(Debug)]
pub(crate) struct Reports {
    waiting: VecDeque<CounterReport>,
    most: usize,
    pub(crate) dropped: u64,
}

impl Reports {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            waiting: VecDeque::new(),
            most,
            dropped: 0,
        }
    }

    pub(crate) fn push(&mut self, report: CounterReport) {
        if self.waiting.len() >= self.most {
            self.waiting.pop_front();
            self.dropped += 1;
        }
        self.waiting.push_back(report);
    }

    pub(crate) fn poll(&mut self) -> Option<CounterReport> {
        self.waiting.pop_front()
    }
}
