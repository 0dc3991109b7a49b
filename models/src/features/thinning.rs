use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use weir_flow_record::{Row, TCP_ACK, TCP_FIN, TCP_PSH, TCP_RST, TCP_SYN};

/// Samples records as a router would have sampled their packets, seeded: augmentation against sampling.
///
/// A flow that keeps some packets keeps a SYN, a FIN or an RST only if that one packet is among them; its times shrink to the
/// packets that are left.
#[derive(Debug)]
pub struct Thinner {
    one_in: u32,
    random: ChaCha8Rng,
}

impl Thinner {
    /// Keeps one packet in `one_in`; 1 keeps all.
    pub fn new(one_in: u32, seed: u64) -> Self {
        Self {
            one_in: one_in.max(1),
            random: ChaCha8Rng::seed_from_u64(seed ^ (u64::from(one_in) << 32)),
        }
    }

    /// One packet in how many is kept.
    pub(crate) fn one_in(&self) -> u32 {
        self.one_in
    }

    /// What is left of a record; `None` if no packet of it was sampled.
    pub fn thin(&mut self, row: &Row) -> Option<Row> {
        if self.one_in == 1 {
            return Some(*row);
        }
        let kept = self.binomial(row.packets, 1.0 / f64::from(self.one_in));
        if kept == 0 {
            return None;
        }
        let mut thin = *row;
        thin.packets = kept;
        thin.octets =
            (u128::from(row.octets) * u128::from(kept) / u128::from(row.packets.max(1))) as u64;
        thin.sampling_rate = row.sampling_rate.max(1).saturating_mul(self.one_in);
        thin.tcp_flags = self.flags(row, kept);
        self.shrink(&mut thin);
        Some(thin)
    }

    fn flags(&mut self, row: &Row, kept: u64) -> u16 {
        let share = kept as f64 / row.packets.max(1) as f64;
        let mut flags = row.tcp_flags;
        for flag in [TCP_SYN, TCP_FIN, TCP_RST] {
            if flags & flag != 0 && row.packets > 1 && !self.random.random_bool(share.min(1.0)) {
                flags &= !flag;
            }
        }
        // A lone SYN that is left came before any acknowledgement or data.
        if kept == 1 && flags & TCP_SYN != 0 && row.tcp_flags & TCP_PSH != 0 {
            flags &= !(TCP_ACK | TCP_PSH | TCP_FIN | TCP_RST);
        }
        flags
    }

    /// The first and last of the packets left, which lie anywhere in the flow.
    fn shrink(&mut self, row: &mut Row) {
        let whole = row.flow_end.saturating_sub(row.flow_start).max(0);
        if whole == 0 {
            return;
        }
        let inner = (row.packets as f64 - 1.0) / (row.packets as f64 + 1.0);
        let length = (whole as f64 * inner) as i64;
        let offset = self.random.random_range(0..=whole - length);
        row.flow_start += offset;
        row.flow_end = row.flow_start + length;
    }

    /// Exact for few packets, normal approximation for many.
    fn binomial(&mut self, trials: u64, chance: f64) -> u64 {
        if trials <= 256 {
            return (0..trials)
                .filter(|_| self.random.random_bool(chance))
                .count() as u64;
        }
        let mean = trials as f64 * chance;
        let deviation = (mean * (1.0 - chance)).sqrt();
        let value = mean + deviation * normal(&mut self.random);
        (value.round().max(0.0) as u64).min(trials)
    }
}

/// A standard normal number, as a sum of twelve uniform ones.
fn normal(random: &mut impl Rng) -> f64 {
    (0..12).map(|_| random.random::<f64>()).sum::<f64>() - 6.0
}
