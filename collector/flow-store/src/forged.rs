use ipnet::IpNet;
use weir_flow_record::Address;

/// Fewer sources tell nothing.
const FEWEST_SOURCES: u64 = 500;
/// So many of the sources occur in one row only.
const ONCE: f64 = 0.95;
/// Bound of the index of dispersion: 1 for a uniform distribution, with 31 or more degrees of freedom hardly above 2;
/// hundreds for real users, who live in few networks.
const MOST_DISPERSION: f64 = 2.0;

/// Whether the sources of the rows that are no reflection look forged, from how they are spread.
///
/// Forged addresses are mostly drawn at random: nearly every one occurs once (95 %, of at least 500), and they are uniform
/// over the address space. That is tested by the index of dispersion (χ² by its degrees of freedom) of the counts per /8 —
/// the unicast ones but 10/8 and 127/8, which borders filter — or per first octet of 2000::/3. It says `Some(true)` where
/// all that holds and `None` elsewhere: real sources and forged ones of one network look alike.
pub(crate) struct ForgedHint {
    sources: u64,
    once: u64,
    v4: Bins,
    v6: Bins,
}

struct Bins {
    counts: [u64; 256],
    sources: u64,
}

impl ForgedHint {
    pub(crate) fn new() -> Self {
        let bins = || Bins {
            counts: [0; 256],
            sources: 0,
        };
        Self {
            sources: 0,
            once: 0,
            v4: bins(),
            v6: bins(),
        }
    }

    /// Takes in a source and in how many rows it occurred.
    pub(crate) fn add(&mut self, source: Address, rows: u64) {
        self.sources += 1;
        self.once += u64::from(rows == 1);
        let octets = source.octets();
        let (bins, bin) = if source.is_v4() {
            (&mut self.v4, octets[12])
        } else {
            (&mut self.v6, octets[0])
        };
        bins.counts[usize::from(bin)] += 1;
        bins.sources += 1;
    }

    pub(crate) fn verdict(&self) -> Option<bool> {
        let once = self.once as f64 >= ONCE * self.sources as f64;
        let v4 = |bin: usize| (1..224).contains(&bin) && bin != 10 && bin != 127;
        let v6 = |bin: usize| (0x20..0x40).contains(&bin);
        let uniform = (self.v4.sources == 0 || self.v4.is_uniform(v4))
            && (self.v6.sources == 0 || self.v6.is_uniform(v6));
        (self.sources >= FEWEST_SOURCES && once && uniform).then_some(true)
    }
}

impl Bins {
    fn is_uniform(&self, holds: impl Fn(usize) -> bool) -> bool {
        let counts = || {
            self.counts
                .iter()
                .enumerate()
                .filter(|(bin, _)| holds(*bin))
                .map(|(_, count)| *count as f64)
        };
        let (bins, sum) = (counts().count() as f64, counts().sum::<f64>());
        let mean = sum / bins;
        if sum < FEWEST_SOURCES as f64 {
            return false;
        }
        let chi_squared: f64 = counts()
            .map(|count| (count - mean) * (count - mean) / mean)
            .sum();
        chi_squared / (bins - 1.0) <= MOST_DISPERSION
    }
}

/// Whether nobody can have this address: no host on the Internet sends from "this network", loopback, link-local, multicast
/// or reserved addresses (RFC 6890; RFC 4291 §2.4), whereas private ones do leak.
pub(crate) fn is_impossible_source(source: Address) -> bool {
    let octets = source.octets();
    if source.is_v4() {
        matches!(octets[12], 0 | 127 | 224..) || octets[12..14] == [169, 254]
    } else {
        let is_low = octets[..15].iter().all(|octet| *octet == 0) && octets[15] < 2;
        is_low || octets[0] == 0xff || (octets[0] == 0xfe && octets[1] & 0xc0 == 0x80)
    }
}

/// The same of a prefix: all of its addresses.
pub(crate) fn is_impossible(prefix: &IpNet) -> bool {
    is_impossible_source(Address::from(prefix.network()))
        && is_impossible_source(Address::from(prefix.broadcast()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_nobody_can_have() {
        let impossible = |text: &str| is_impossible(&text.parse().unwrap());
        for text in [
            "0.1.2.3/32",
            "127.0.0.1/32",
            "169.254.0.0/16",
            "224.0.0.0/24",
            "255.255.255.255/32",
            "::/127",
            "ff02::/48",
            "fe80::/48",
        ] {
            assert!(impossible(text), "{text}");
        }
        for text in [
            "10.0.0.0/24",
            "1.1.1.1/32",
            "169.253.0.0/24",
            "223.255.255.255/32",
            "2001:db8::/48",
            "::2/128",
            "fec0::/48",
        ] {
            assert!(!impossible(text), "{text}");
        }
    }

    /// A small generator (SplitMix64), so that the test needs no other crate.
    fn random(state: &mut u64) -> u64 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = *state;
        value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ value >> 31
    }

    fn hint(sources: u64, rows: u64, mut make: impl FnMut(&mut u64) -> Address) -> Option<bool> {
        let mut state = 1;
        let mut hint = ForgedHint::new();
        for _ in 0..sources {
            hint.add(make(&mut state), rows);
        }
        hint.verdict()
    }

    fn any_v4(state: &mut u64) -> Address {
        let [a, b, c, d, ..] = random(state).to_be_bytes();
        match a {
            0 | 10 | 127 | 224.. => any_v4(state),
            _ => Address::from_v4([a, b, c, d]),
        }
    }

    fn any_v6(state: &mut u64) -> Address {
        let high = random(state) >> 3 | 1 << 61;
        crate::frame::address(high, random(state))
    }

    #[test]
    fn random_sources_look_forged() {
        assert_eq!(hint(600, 1, any_v4), Some(true));
        assert_eq!(hint(600, 1, any_v6), Some(true));
        assert_eq!(hint(50_000, 1, any_v4), Some(true));
    }

    #[test]
    fn real_sources_do_not() {
        assert_eq!(hint(100, 1, any_v4), None, "too few");
        assert_eq!(hint(5000, 2, any_v4), None, "they come again");
        let clustered = |state: &mut u64| {
            let [a, b, c, d, ..] = random(state).to_be_bytes();
            Address::from_v4([(a & b) % 220 + 1, b, c, d])
        };
        assert_eq!(hint(5000, 1, clustered), None, "they live in some networks");
        let one_prefix =
            |state: &mut u64| crate::frame::address(0x2001_0db8_0000_0000, random(state));
        assert_eq!(hint(5000, 1, one_prefix), None);
    }
}
