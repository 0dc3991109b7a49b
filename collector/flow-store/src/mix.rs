use weir_attack_event::{Evidence, FlagsShare, PacketSizes, SizeShare, TtlShare, flag_names};

use crate::forged::is_impossible_source;
use crate::segment::StoredRow;

/// The upper ends of classes of packet sizes: minimal packets, the powers of two, Ethernet's largest frame.
const CLASSES: [u32; 6] = [64, 128, 256, 512, 1024, 1518];
/// Largest IP packet.
const LARGEST: usize = 65_535;
/// TTLs and combinations of flags that are named at most.
const MOST_NAMED: usize = 10;
/// What is rarer is not named.
const LEAST_SHARE: f64 = 0.001;
const TCP: u8 = 6;

/// How packets look: counts per TTL, size and TCP flags, in one pass over the rows.
pub(crate) struct Mix {
    packets: u64,
    octets: u64,
    by_ttl: [u64; 256],
    by_flags: [u64; 256],
    impossible: u64,
    /// By size in octets.
    by_size: Vec<u64>,
}

impl Default for Mix {
    fn default() -> Self {
        Self {
            packets: 0,
            octets: 0,
            by_ttl: [0; 256],
            by_flags: [0; 256],
            impossible: 0,
            by_size: vec![0; LARGEST + 1],
        }
    }
}

impl Mix {
    /// Takes in a row, whose packets are scaled to `packets` (at most 2⁴³, and a million rows at most).
    pub(crate) fn add(&mut self, row: &StoredRow, packets: u64) {
        self.packets += packets;
        self.by_ttl[usize::from(row.ttl)] += packets;
        if row.protocol == TCP {
            self.by_flags[usize::from(row.tcp_flags as u8)] += packets;
        }
        if is_impossible_source(row.source) {
            self.impossible += packets;
        }
        // Nothing is larger than the largest packet, whatever a record says.
        let mean = row.octets.checked_div(row.packets).unwrap_or(0);
        let size = usize::try_from(mean).unwrap_or(LARGEST).min(LARGEST);
        self.by_size[size] += packets;
        self.octets = self
            .octets
            .saturating_add(packets.saturating_mul(size as u64));
    }

    /// All packets.
    pub(crate) fn packets(&self) -> u64 {
        self.packets
    }

    /// Says it in shares.
    pub(crate) fn tell(&self, evidence: &mut Evidence) {
        // TTL 0 is never forwarded: it stands for "not stated".
        let ttls = top(&self.by_ttl, 1);
        evidence.ttl_count = (!ttls.is_empty()).then(|| {
            self.by_ttl
                .iter()
                .skip(1)
                .filter(|count| **count > 0)
                .count() as u64
        });
        evidence.ttl = ttls
            .into_iter()
            .map(|(ttl, share)| TtlShare { ttl, share })
            .collect();
        evidence.tcp_flags = top(&self.by_flags, 0)
            .into_iter()
            .map(|(flags, share)| FlagsShare {
                flags: flag_names(flags),
                share,
            })
            .collect();
        evidence.packet_size = self.sizes();
        evidence.impossible_sources =
            (self.impossible > 0).then(|| self.impossible as f64 / self.packets as f64);
    }

    fn sizes(&self) -> Option<PacketSizes> {
        if self.packets == 0 || self.octets == 0 {
            return None;
        }
        let mut from = 0;
        let ends = CLASSES.into_iter().map(Some).chain([None]);
        let classes = ends.filter_map(|to| {
            let first = std::mem::replace(&mut from, to.map_or(0, |to| to + 1));
            let last = to.map_or(LARGEST, |to| to as usize);
            let packets: u64 = self.by_size[first as usize..=last].iter().sum();
            (packets > 0).then(|| SizeShare {
                from: first,
                to,
                share: packets as f64 / self.packets as f64,
            })
        });
        Some(PacketSizes {
            mean: self.octets / self.packets,
            classes: classes.collect(),
            low: self.percentile(10),
            mid: self.percentile(50),
            high: self.percentile(90),
        })
    }

    /// Nearest rank.
    fn percentile(&self, percent: u64) -> u64 {
        let rank = (self.packets / 100 * percent + self.packets % 100 * percent / 100).max(1);
        let mut below = 0;
        let found = self.by_size.iter().position(|count| {
            below += count;
            below >= rank
        });
        found.unwrap_or(LARGEST) as u64
    }
}

/// The largest counts from value `first` on, as shares of their sum.
fn top(counts: &[u64; 256], first: u8) -> Vec<(u8, f64)> {
    let all = || (0..=u8::MAX).zip(counts).skip(usize::from(first));
    let sum: u64 = all().map(|(_, count)| *count).sum();
    let mut shares: Vec<(u8, f64)> = all()
        .filter(|(_, count)| **count > 0)
        .map(|(value, count)| (value, *count as f64 / sum as f64))
        .collect();
    shares.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    shares.truncate(MOST_NAMED);
    // The first is always told.
    let rare = shares
        .iter()
        .skip(1)
        .position(|(_, share)| *share < LEAST_SHARE);
    shares.truncate(rare.map_or(MOST_NAMED, |place| place + 1));
    shares
}
