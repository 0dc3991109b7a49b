use std::collections::VecDeque;

use ipnet::IpNet;
use weir_flow_record::Direction;
use weir_packet::Packet;

use crate::layout::HEADERS;

/// Octets of a pcap file's header and of a packet's (draft-ietf-opsawg-pcap).
const FILE_HEADER: usize = 24;
const PACKET_HEADER: usize = 16;

/// The newest sampled headers, in bounded memory: what an attack's evidence takes its packets from.
#[derive(Clone, Debug)]
pub struct SampledHeaders {
    frames: VecDeque<Frame>,
    most: usize,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    /// ns UTC.
    time: i64,
    frame_octets: u32,
    length: u8,
    octets: [u8; HEADERS],
}

impl SampledHeaders {
    /// Keeps `most` headers, of 144 octets each.
    pub fn new(most: usize) -> Self {
        Self {
            frames: VecDeque::new(),
            most,
        }
    }

    /// Takes in the first octets of a frame of `frame_octets`, seen at `time` (ns UTC); the oldest gives way.
    pub fn push(&mut self, time: i64, frame_octets: u32, octets: &[u8]) {
        if octets.is_empty() || self.most == 0 {
            return;
        }
        if self.frames.len() == self.most {
            self.frames.pop_front();
        }
        let length = octets.len().min(HEADERS);
        let mut frame = Frame {
            time,
            frame_octets,
            length: length as u8,
            octets: [0; HEADERS],
        };
        frame.octets[..length].copy_from_slice(&octets[..length]);
        self.frames.push_back(frame);
    }

    /// Copies the newest `most` packets to (or from) a target into `other`, oldest first.
    pub fn copy_to(&self, other: &mut Self, target: &IpNet, direction: Direction, most: usize) {
        for frame in self.newest(target, direction, most) {
            other.push(frame.time, frame.frame_octets, frame.octets());
        }
    }

    /// A pcap file of the newest `most` packets to (or from) a target, oldest first; `None` where there is none.
    pub fn pcap(&self, target: &IpNet, direction: Direction, most: usize) -> Option<Vec<u8>> {
        let found = self.newest(target, direction, most);
        if found.is_empty() {
            return None;
        }
        let mut out = Vec::with_capacity(FILE_HEADER + found.len() * (PACKET_HEADER + HEADERS));
        // Nanosecond magic, version 2.4, time zone and accuracy 0, link type Ethernet.
        for word in [0xa1b2_3c4d, 0x0004_0002, 0, 0, HEADERS as u32, 1] {
            out.extend_from_slice(&u32::to_le_bytes(word));
        }
        for frame in found {
            frame.append(&mut out);
        }
        Some(out)
    }
}

impl SampledHeaders {
    fn newest(&self, target: &IpNet, direction: Direction, most: usize) -> Vec<&Frame> {
        let newest = self.frames.iter().rev();
        let mut found: Vec<&Frame> = newest
            .filter(|frame| frame.concerns(target, direction))
            .take(most)
            .collect();
        found.sort_by_key(|frame| frame.time);
        found
    }
}

impl Frame {
    fn octets(&self) -> &[u8] {
        &self.octets[..usize::from(self.length)]
    }

    fn concerns(&self, target: &IpNet, direction: Direction) -> bool {
        let packet = Packet::ethernet(self.octets());
        packet.ip.is_some_and(|ip| match direction {
            Direction::In => ip.destination.is_in(target),
            Direction::Out => ip.source.is_in(target),
        })
    }

    fn append(&self, out: &mut Vec<u8>) {
        // Until 2106.
        let seconds = self.time.div_euclid(1_000_000_000) as u32;
        let nanos = self.time.rem_euclid(1_000_000_000) as u32;
        for word in [seconds, nanos, u32::from(self.length), self.frame_octets] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(self.octets());
    }
}

#[cfg(test)]
mod tests {
    use weir_flow_record::{Address, ExtraRow, Row};

    use super::*;

    fn frame(last: u8) -> Vec<u8> {
        let row = Row {
            source_address: Address::from_v4([192, 0, 2, 1]),
            destination_address: Address::from_v4([203, 0, 113, last]),
            protocol: 17,
            octets: 600,
            ..Row::default()
        };
        let mut octets = Vec::new();
        weir_packet::encode::ethernet(&row, &ExtraRow::default(), &mut octets);
        octets
    }

    #[test]
    fn a_targets_newest_packets_make_a_file() {
        let mut headers = SampledHeaders::new(100);
        for time in 0..150_u8 {
            headers.push(i64::from(time) * 1_000_000_000, 600, &frame(time % 2));
        }
        let target: IpNet = "203.0.113.1/32".parse().unwrap();
        assert!(headers.pcap(&target, Direction::Out, 10).is_none());
        let file = headers.pcap(&target, Direction::In, 10).unwrap();
        let length = frame(1).len();
        assert_eq!(file.len(), 24 + 10 * (16 + length));
        // 149 is odd, and the tenth from there is 131.
        assert_eq!(file[24..28], 131_u32.to_le_bytes());
        assert_eq!(file[36..40], 600_u32.to_le_bytes());
        let all = headers.pcap(&target, Direction::In, 1_000).unwrap();
        assert_eq!(all.len(), 24 + 50 * (16 + length), "no more than were kept");
    }
}
