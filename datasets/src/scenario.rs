use std::time::Duration;

use ipnet::IpNet;
use weir_flow_record::{Address, Timestamp, Vector};

/// What is simulated. The same scenario gives the same datagrams, octet by octet.
#[derive(Clone, PartialEq, Debug)]
pub struct Scenario {
    /// Seeds all chance.
    pub seed: u64,
    /// When the simulation begins.
    pub start: Timestamp,
    /// The protected zone.
    pub prefixes: Vec<IpNet>,
    /// Hosts in each prefix, at its addresses 10 and up.
    pub hosts_per_prefix: u32,
    /// Clients outside, per address family.
    pub clients: u32,
    /// Normal traffic, both ways together.
    pub packets_per_second: u64,
    /// The router looks at one in so many packets; at least 1.
    pub sampling_rate: u32,
    /// A flow that lasts is exported this often.
    pub active_timeout: Duration,
    /// A flow that paused so long is exported.
    pub inactive_timeout: Duration,
    /// Templates and options data are repeated this often.
    pub template_interval: Duration,
    /// The router's observation domain.
    pub domain: u32,
    /// Attacks; further ones may begin later by [`crate::Network::handle_attack`].
    pub attacks: Vec<Attack>,
}

/// An attack on one host.
#[derive(Clone, PartialEq, Debug)]
pub struct Attack {
    /// The host, within the zone.
    pub target: Address,
    /// What it consists of; all at once.
    pub vectors: Vec<AttackVector>,
    /// First packet.
    pub start: Timestamp,
    /// From the first packet to the last.
    pub duration: Duration,
}

/// One kind of traffic of an attack.
#[derive(Clone, PartialEq, Debug)]
pub struct AttackVector {
    /// The kind; `Total` is a flood of GRE.
    pub vector: Vector,
    /// How many packets.
    pub packets_per_second: u64,
    /// Length of each, IP header included.
    pub packet_octets: u32,
    /// Who sends them.
    pub sources: Sources,
}

/// Senders of an attack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sources {
    /// So many hosts with addresses of their own: reflectors, bots.
    Hosts(u32),
    /// Each packet comes from another, forged address.
    Forged,
}

/// Why a scenario cannot be simulated.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScenarioError {
    /// A zone needs prefixes with hosts, and hosts need clients.
    #[error("the zone needs a prefix, a host and a client")]
    Empty,
    /// Hosts begin at address 10 of their prefix.
    #[error("prefix {0} is too small for its hosts")]
    SmallPrefix(IpNet),
    /// Attacks go to the zone.
    #[error("target {0} lies outside the zone")]
    ForeignTarget(Address),
    /// Sampling, timeouts and intervals must be above zero.
    #[error("{0} must be above zero")]
    Zero(&'static str),
    /// The simulation is made for labs.
    #[error("{what} must be at most {most}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The bound.
        most: u64,
    },
}

/// The first host's place in its prefix.
const FIRST_HOST: u32 = 10;
const MOST_HOSTS: u64 = 65_536;
const MOST_SOURCES: u64 = 1_000_000;
const MOST_PACKETS_PER_SECOND: u64 = 100_000_000;
/// Largest IP packet.
const MOST_PACKET_OCTETS: u64 = 65_535;

impl Scenario {
    /// The lab's network without an attack: a zone of one IPv4 and one IPv6 prefix with 16 hosts each, 4,000 packets per
    /// second, sampled 1:100, exported each second.
    pub fn lab(seed: u64, start: Timestamp) -> Self {
        let v4 = Address::from_v4([203, 0, 113, 0]).prefix(24, 48);
        let v6 = Address::from_octets([0x20, 1, 0x0d, 0xb8, 0, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        Self {
            seed,
            start,
            prefixes: vec![v4, v6.prefix(24, 48)],
            hosts_per_prefix: 16,
            clients: 2000,
            packets_per_second: 4000,
            sampling_rate: 100,
            active_timeout: Duration::from_secs(1),
            inactive_timeout: Duration::from_secs(1),
            template_interval: Duration::from_secs(10),
            domain: 1,
            attacks: Vec::new(),
        }
    }

    /// The address of host number `host` of prefix number `prefix`, if the zone has it.
    pub fn host(&self, prefix: usize, host: u32) -> Option<Address> {
        let prefix = self
            .prefixes
            .get(prefix)
            .filter(|_| host < self.hosts_per_prefix)?;
        host_address(prefix, host)
    }

    /// Finds what makes the scenario impossible.
    pub fn check(&self) -> Result<(), ScenarioError> {
        if self.prefixes.is_empty() || self.hosts_per_prefix == 0 || self.clients == 0 {
            return Err(ScenarioError::Empty);
        }
        at_most("hosts_per_prefix", self.hosts_per_prefix.into(), MOST_HOSTS)?;
        at_most("clients", self.clients.into(), MOST_SOURCES)?;
        at_most(
            "packets_per_second",
            self.packets_per_second,
            MOST_PACKETS_PER_SECOND,
        )?;
        for (what, zero) in [
            ("sampling_rate", self.sampling_rate == 0),
            ("active_timeout", self.active_timeout.is_zero()),
            ("inactive_timeout", self.inactive_timeout.is_zero()),
            ("template_interval", self.template_interval.is_zero()),
        ] {
            if zero {
                return Err(ScenarioError::Zero(what));
            }
        }
        for prefix in &self.prefixes {
            let last = host_address(prefix, self.hosts_per_prefix - 1);
            last.ok_or(ScenarioError::SmallPrefix(*prefix))?;
        }
        self.attacks
            .iter()
            .try_for_each(|attack| self.check_attack(attack))
    }

    /// Finds what makes an attack impossible in this network.
    pub fn check_attack(&self, attack: &Attack) -> Result<(), ScenarioError> {
        if !self
            .prefixes
            .iter()
            .any(|prefix| attack.target.is_in(prefix))
        {
            return Err(ScenarioError::ForeignTarget(attack.target));
        }
        for vector in &attack.vectors {
            at_most(
                "packets_per_second",
                vector.packets_per_second,
                MOST_PACKETS_PER_SECOND,
            )?;
            at_most(
                "packet_octets",
                vector.packet_octets.into(),
                MOST_PACKET_OCTETS,
            )?;
            match vector.sources {
                Sources::Hosts(0) => return Err(ScenarioError::Zero("sources")),
                Sources::Hosts(hosts) => at_most("sources", hosts.into(), MOST_SOURCES)?,
                Sources::Forged => {}
            }
        }
        Ok(())
    }
}

impl Attack {
    /// The lab's attack: amplified DNS responses of 800 reflectors (60,000 packets of 1,200 octets per second, 576 Mb/s),
    /// and beside it a flood of 20,000 forged SYN per second.
    pub fn lab(target: Address, start: Timestamp, duration: Duration) -> Self {
        Self {
            target,
            vectors: vec![
                AttackVector {
                    vector: Vector::DnsAmplification,
                    packets_per_second: 60_000,
                    packet_octets: 1200,
                    sources: Sources::Hosts(800),
                },
                AttackVector {
                    vector: Vector::TcpSynFlood,
                    packets_per_second: 20_000,
                    packet_octets: 60,
                    sources: Sources::Forged,
                },
            ],
            start,
            duration,
        }
    }

    /// After the last packet.
    pub fn end(&self) -> Timestamp {
        self.start.plus(self.duration)
    }

    /// The vector with most octets: what a label calls the attack.
    pub fn name(&self) -> Vector {
        let octets = |vector: &&AttackVector| {
            vector
                .packets_per_second
                .saturating_mul(vector.packet_octets.into())
        };
        self.vectors
            .iter()
            .max_by_key(octets)
            .map_or(Vector::Total, |vector| vector.vector)
    }
}

fn at_most(what: &'static str, value: u64, most: u64) -> Result<(), ScenarioError> {
    if value > most {
        return Err(ScenarioError::TooMany { what, most });
    }
    Ok(())
}

fn host_address(prefix: &IpNet, host: u32) -> Option<Address> {
    let number = u128::from(FIRST_HOST) + u128::from(host);
    let host_bits = u32::from(prefix.max_prefix_len() - prefix.prefix_len());
    // The last address of an IPv4 prefix is its broadcast address.
    if host_bits < 128 && number + 1 >= 1_u128 << host_bits {
        return None;
    }
    let base = u128::from_be_bytes(Address::from(prefix.network()).octets());
    Some(Address::from_octets((base + number).to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_lie_in_their_prefix() {
        let scenario = Scenario::lab(1, Timestamp::from_seconds(0));
        assert_eq!(
            scenario.host(0, 0),
            Some(Address::from_v4([203, 0, 113, 10]))
        );
        assert_eq!(scenario.host(1, 5).unwrap().to_string(), "2001:db8:a::f");
        assert_eq!((scenario.host(0, 16), scenario.host(2, 0)), (None, None));
        assert_eq!(scenario.check(), Ok(()));
    }

    #[test]
    fn impossible_scenarios_are_refused() {
        let lab = || Scenario::lab(1, Timestamp::from_seconds(0));
        let narrow: IpNet = "192.0.2.0/28".parse().unwrap();
        let foreign = Address::from_v4([192, 0, 2, 1]);
        let attack = Attack::lab(foreign, Timestamp::from_seconds(0), Duration::from_secs(1));
        for (scenario, error) in [
            (
                Scenario {
                    prefixes: Vec::new(),
                    ..lab()
                },
                ScenarioError::Empty,
            ),
            (
                Scenario {
                    prefixes: vec![narrow],
                    ..lab()
                },
                ScenarioError::SmallPrefix(narrow),
            ),
            (
                Scenario {
                    sampling_rate: 0,
                    ..lab()
                },
                ScenarioError::Zero("sampling_rate"),
            ),
            (
                Scenario {
                    attacks: vec![attack],
                    ..lab()
                },
                ScenarioError::ForeignTarget(foreign),
            ),
        ] {
            assert_eq!(scenario.check(), Err(error));
        }
    }
}
