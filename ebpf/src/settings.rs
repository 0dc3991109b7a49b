use std::fmt;
use std::str::FromStr;

/// How packets are got at, best first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Method {
    /// XDP in the driver.
    Native,
    /// XDP in the kernel's network stack: every driver has it; slower, and behind receive offloads.
    Generic,
    /// A packet ring (`TPACKET_V3`): every packet's first octets are copied to user space.
    Tpacket,
    /// `pnet`'s datalink: a system call for each packet; no VLAN tags, and losses are not told.
    Pnet,
}

impl Method {
    /// All, best first.
    pub const ALL: [Self; 4] = [Self::Native, Self::Generic, Self::Tpacket, Self::Pnet];

    /// Its name in configuration and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Tpacket => "tpacket",
            Self::Pnet => "pnet",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "XDP in the driver",
            Self::Generic => "XDP in the network stack (generic)",
            Self::Tpacket => "a packet ring (TPACKET_V3)",
            Self::Pnet => "pnet's datalink",
        })
    }
}

/// Which method is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Mode {
    /// The best that works.
    #[default]
    Auto,
    /// This one or none.
    Only(Method),
}

impl Mode {
    /// Names in the configuration.
    pub const NAMES: [&'static str; 5] = ["auto", "native", "generic", "tpacket", "pnet"];

    pub(crate) fn allows(self, method: Method) -> bool {
        self == Self::Auto || self == Self::Only(method)
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let method = Method::ALL.into_iter().find(|method| method.name() == text);
        method.map(Self::Only).ok_or_else(|| {
            let names = Self::NAMES.join(", ");
            format!("`{text}` is none of {names}")
        })
    }
}

/// What a sampler is opened by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SamplerSettings {
    /// The interface's name.
    pub interface: String,
    /// One in how many packets is sampled; at least 1, at most 2³⁰. In exact mode these samples serve for their headers alone.
    pub sample_one_in: u32,
    /// How packets are got at.
    pub mode: Mode,
    /// Counts all packets by flow instead.
    pub exact: bool,
    /// Keeps the first 128 octets of sampled frames: for evidence, and to see into tunnels.
    pub headers: bool,
    /// Lets the interface take in frames for others, as a mirror port needs it; needs `CAP_NET_RAW`.
    pub promiscuous: bool,
    /// Octets of the ring: a power of two, at least 4,096.
    pub ring_octets: u32,
    /// Bound of the flow table of exact mode.
    pub max_flows: u32,
}

impl Default for SamplerSettings {
    fn default() -> Self {
        Self {
            interface: String::new(),
            sample_one_in: 100,
            mode: Mode::Auto,
            exact: false,
            headers: true,
            promiscuous: true,
            ring_octets: 16 << 20,
            max_flows: 131_072,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_have_names() {
        for name in Mode::NAMES {
            assert!(name.parse::<Mode>().is_ok());
        }
        assert_eq!("tpacket".parse(), Ok(Mode::Only(Method::Tpacket)));
        assert!("driver".parse::<Mode>().is_err());
    }
}
