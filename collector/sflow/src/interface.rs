//! How sFlow names interfaces, and why a packet left by none.

/// The packet came from, or went to, the device itself.
const INTERNAL: u32 = 0x3fff_ffff;

/// An interface of a flow sample.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Interface {
    /// ifIndex; 0 = unknown, internal, several, or none.
    pub(crate) index: u32,
    /// IE 89 where the packet was discarded; 0 = not stated.
    pub(crate) forwarding_status: u8,
}

impl Interface {
    /// The form of compact samples: a format in the upper two bits.
    #[inline]
    pub(crate) fn compact(word: u32) -> Self {
        Self::expanded(word >> 30, word & INTERNAL)
    }

    /// The form of expanded samples. Formats: 0 ifIndex, 1 discarded for a reason, 2 several interfaces.
    #[inline]
    pub(crate) fn expanded(format: u32, value: u32) -> Self {
        match format {
            0 if value != INTERNAL => Self {
                index: value,
                forwarding_status: 0,
            },
            1 => Self {
                index: 0,
                forwarding_status: forwarding_status(value),
            },
            _ => Self::default(),
        }
    }
}

/// A discard reason (sflow.org/sflow_drops.txt; below 256 the codes of ICMP's destination unreachable) as IE 89
/// forwardingStatus (RFC 7270 §4.12).
fn forwarding_status(reason: u32) -> u8 {
    const UNKNOWN: u8 = 128;
    const ACL_DENY: u8 = 129;
    const ACL_DROP: u8 = 130;
    const UNROUTABLE: u8 = 131;
    const ADJACENCY: u8 = 132;
    const FRAGMENTATION: u8 = 133;
    const BAD_CHECKSUM: u8 = 134;
    const BAD_LENGTH: u8 = 135;
    const BAD_TTL: u8 = 137;
    const POLICER: u8 = 138;
    const WRED: u8 = 139;
    const REVERSE_PATH: u8 = 140;
    const HARDWARE: u8 = 143;
    match reason {
        4 => FRAGMENTATION,
        8 | 279 => ADJACENCY,
        9 | 10 | 13 => ACL_DENY,
        0..=15 | 263 | 281 => UNROUTABLE,
        257 => BAD_TTL,
        258 | 269 => ACL_DROP,
        259 => HARDWARE,
        260 => WRED,
        261 => POLICER,
        262 => BAD_LENGTH,
        275 => BAD_CHECKSUM,
        280 | 302 => REVERSE_PATH,
        _ => UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_of_interfaces() {
        let known = |index, forwarding_status| Interface {
            index,
            forwarding_status,
        };
        assert_eq!(Interface::compact(7), known(7, 0));
        assert_eq!(Interface::compact(INTERNAL), known(0, 0));
        assert_eq!(Interface::compact(1 << 30 | 258), known(0, 130));
        assert_eq!(Interface::compact(2 << 30 | 5), known(0, 0));
        assert_eq!(Interface::expanded(0, 1 << 31), known(1 << 31, 0));
        assert_eq!(Interface::expanded(1, 9_999), known(0, 128));
    }
}
