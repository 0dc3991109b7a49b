//! Zones by IP protocol and service port, a minute at a time: counted from some of the records only, so that it costs next to
//! nothing where records are many.

use std::collections::BTreeMap;

use weir_flow_record::{Direction, FlowBatch, TCP_ACK, TCP_RST, TCP_SYN};

use crate::{MinuteSums, TrafficPart};

/// Passes of a minute that are all counted; of so many more each second one, of twice as many more each fourth, and so on.
const ALL_OF: u32 = 2048;
/// Most passes for which one stands.
const MOST: u32 = 64;
/// Ports of a zone and direction.
const MAX_PORTS: usize = 256;
/// Minutes after which a port without traffic gives its place to others.
const IDLE: u8 = 10;
/// Ports from which on nobody serves: systems take their own ports from there.
const EPHEMERAL: u16 = 32_768;
const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;

/// The counts of all zones.
#[derive(Debug)]
pub(crate) struct Parts {
    minute: i64,
    passes: u32,
    /// How many records each record of this pass stands for; 0 where it is not counted.
    weight: u64,
    /// By zone, in and out.
    sides: Vec<[Side; 2]>,
    refused: u64,
}

#[derive(Debug, Default)]
struct Side {
    /// By protocol, once there is anything.
    protocols: Vec<MinuteSums>,
    ports: BTreeMap<(u8, u16), Port>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Port {
    sums: MinuteSums,
    idle: u8,
}

impl Parts {
    pub(crate) fn new(zones: usize) -> Self {
        Self {
            minute: i64::MIN,
            passes: 0,
            weight: 1,
            sides: (0..zones).map(|_| Default::default()).collect(),
            refused: 0,
        }
    }

    /// Begins a pass. Which ones are counted depends on nothing but their number within the minute.
    #[inline]
    pub(crate) fn begin_pass(&mut self) {
        let each = (self.passes / ALL_OF).max(1).next_power_of_two().min(MOST);
        let counts = self.passes.is_multiple_of(each);
        self.weight = if counts { u64::from(each) } else { 0 };
        self.passes = self.passes.saturating_add(1);
    }

    /// Whether the records of this pass are counted.
    #[inline]
    pub(crate) fn is_counting(&self) -> bool {
        self.weight != 0
    }

    /// Counts a record.
    #[inline(never)]
    pub(crate) fn add(
        &mut self,
        batch: &FlowBatch,
        row: usize,
        (zone, direction): (u16, Direction),
        (octets, packets): (u64, u64),
    ) {
        let Some(side) = self
            .sides
            .get_mut(usize::from(zone))
            .and_then(|sides| sides.get_mut(direction as usize))
        else {
            return;
        };
        let protocol = batch.protocol[row];
        let sums = MinuteSums {
            octets: octets.saturating_mul(self.weight),
            packets: packets.saturating_mul(self.weight),
            flows: self.weight,
            connections: attempts(protocol, batch.tcp_flags[row], batch.sampling_rate[row])
                .saturating_mul(self.weight),
        };
        if side.protocols.is_empty() {
            side.protocols = vec![MinuteSums::default(); 256];
        }
        if let Some(counted) = side.protocols.get_mut(usize::from(protocol)) {
            counted.add(&sums);
        }
        let (source, destination) = (batch.source_port[row], batch.destination_port[row]);
        let (own, peer) = match direction {
            Direction::In => (destination, source),
            Direction::Out => (source, destination),
        };
        if !is_service(protocol, own, peer) {
            return;
        }
        let key = (protocol, own);
        if side.ports.len() >= MAX_PORTS && !side.ports.contains_key(&key) {
            self.refused = self.refused.saturating_add(self.weight);
            return;
        }
        let port = side.ports.entry(key).or_default();
        port.sums.add(&sums);
        port.idle = 0;
    }

    /// Passes to the minute of a second. The minute that is over, with what was counted by zone and direction, if there was one.
    pub(crate) fn advance(&mut self, second: i64) -> Option<Finished> {
        let minute = second.div_euclid(60);
        if minute <= self.minute {
            return None;
        }
        let over = std::mem::replace(&mut self.minute, minute);
        let had_any = self.passes > 0;
        self.passes = 0;
        had_any.then(|| Finished {
            minute: over,
            zones: self.sides.iter_mut().map(take).collect(),
        })
    }

    /// Records whose port found no room.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }

    /// Octets of memory.
    pub(crate) fn octets(&self) -> usize {
        let each = |side: &Side| {
            side.protocols.capacity() * size_of::<MinuteSums>()
                + side.ports.len() * size_of::<((u8, u16), Port)>()
        };
        self.sides.iter().flatten().map(each).sum()
    }
}

/// Parts of one zone's directions in a minute.
pub(crate) type ZoneParts = [Vec<(TrafficPart, MinuteSums)>; 2];

/// A minute that is over.
#[derive(Debug)]
pub(crate) struct Finished {
    /// Since the epoch.
    pub(crate) minute: i64,
    pub(crate) zones: Vec<ZoneParts>,
}

fn take(sides: &mut [Side; 2]) -> ZoneParts {
    [0, 1].map(|side| {
        let Side { protocols, ports } = &mut sides[side];
        let mut parts = Vec::new();
        for (protocol, sums) in (0..=u8::MAX).zip(protocols.iter_mut()) {
            let sums = std::mem::take(sums);
            if sums != MinuteSums::default() {
                parts.push((TrafficPart::Protocol(protocol), sums));
            }
        }
        ports.retain(|(protocol, port), counted| {
            let sums = std::mem::take(&mut counted.sums);
            if sums != MinuteSums::default() {
                let (protocol, port) = (*protocol, *port);
                parts.push((TrafficPart::Port { protocol, port }, sums));
            }
            counted.idle = counted.idle.saturating_add(1);
            counted.idle <= IDLE
        });
        parts
    })
}

/// Whether the target's own port is one that it serves, and not one that it asks from.
fn is_service(protocol: u8, own: u16, peer: u16) -> bool {
    matches!(protocol, TCP | UDP | SCTP)
        && own != 0
        && (own < 1024 || own < EPHEMERAL && own <= peer)
}

/// Attempts to connect that a record stands for: a SYN is a packet that is sampled like others. An answer to one is none; a
/// record without flags may be one.
fn attempts(protocol: u8, flags: u16, rate: u32) -> u64 {
    let rate = u64::from(rate.max(1));
    match protocol {
        SCTP => 1,
        TCP if flags == 0 => 1,
        TCP if flags & !TCP_RST == TCP_SYN | TCP_ACK => 0,
        TCP if flags & TCP_SYN != 0 => rate,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_served_where_it_is_the_lower_one() {
        for (protocol, own, peer, served) in [
            (6, 443, 51_000, true),
            (6, 51_000, 443, false),
            (17, 53, 53, true),
            (17, 8000, 9000, true),
            (17, 40_000, 50_000, false),
            (1, 0, 0, false),
            (6, 900, 80, true),
        ] {
            assert_eq!(is_service(protocol, own, peer), served, "{own} {peer}");
        }
    }

    #[test]
    fn a_syn_is_an_attempt_and_stands_for_those_that_were_not_sampled() {
        assert_eq!(attempts(6, TCP_SYN, 100), 100);
        assert_eq!(attempts(6, TCP_SYN | TCP_ACK, 100), 0);
        assert_eq!(attempts(6, TCP_SYN | TCP_ACK | 8, 1), 1);
        assert_eq!(attempts(6, TCP_ACK, 100), 0);
        assert_eq!(attempts(6, 0, 100), 1);
        assert_eq!(attempts(17, 0, 100), 0);
    }

    #[test]
    fn of_many_passes_some_stand_for_all() {
        let mut parts = Parts::new(1);
        parts.advance(60);
        let (mut counted, mut stood_for) = (0, 0);
        for _ in 0..400_000 {
            parts.begin_pass();
            counted += u64::from(parts.is_counting());
            stood_for += parts.weight;
        }
        assert!(counted < 20_000, "{counted}");
        assert!((399_000..401_000).contains(&stood_for), "{stood_for}");
        assert_eq!(parts.advance(120).map(|finished| finished.minute), Some(1));
        assert!(parts.advance(120).is_none() && parts.advance(180).is_none());
    }
}
