//! Discovery of DOTS servers over the DNS (RFC 8973): S-NAPTR (§6), and where that has nothing, DNS-SD (§7).
//!
//! What configuration states goes before all of this (§4). DHCP is not asked.
//!
//! The DNS says where a server is, never who it is: its certificate has to name the domain that was asked for (§8.2), so a
//! forged answer leads to a server that is refused.

mod lookup;
mod path;
mod settings;
mod walk;
mod weigh;

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::settings::DiscoverySettings;
pub(crate) use self::settings::{ResolverSettings, read_domain, read_resolver};
use lookup::Lookups;
use walk::Walk;

/// A discovery that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why nothing was discovered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiscoveryError {
    /// The DNS knows of no server.
    #[error("no DOTS server is published under {0}")]
    NoServer(String),
    /// The DNS does not answer, or not in order.
    #[error("DNS: {0}")]
    Dns(#[from] hickory_resolver::net::NetError),
    /// It took too long.
    #[error("DNS: no answer in time")]
    TimedOut,
    /// The resolver cannot be used.
    #[error("resolver: {0}")]
    Resolver(String),
}

/// What is looked for, and over which transport it is spoken to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Channel {
    /// The signal channel over DTLS.
    SignalUdp,
    /// The signal channel over TLS.
    SignalTcp,
    /// The data channel.
    DataTcp,
}

impl Channel {
    const ALL: [Self; 3] = [Self::SignalUdp, Self::SignalTcp, Self::DataTcp];

    /// Application protocol tag of S-NAPTR (RFC 8973 §9.4).
    const fn tag(self) -> &'static str {
        match self {
            Self::SignalUdp => "signal.udp",
            Self::SignalTcp => "signal.tcp",
            Self::DataTcp => "data.tcp",
        }
    }

    /// Service of DNS-SD (RFC 8973 §7).
    const fn service(self) -> &'static str {
        match self {
            Self::SignalUdp => "_dots-signal._udp",
            Self::SignalTcp => "_dots-signal._tcp",
            Self::DataTcp => "_dots-data._tcp",
        }
    }

    /// Port where the DNS states none.
    const fn port(self) -> u16 {
        match self {
            Self::SignalUdp | Self::SignalTcp => 4646,
            Self::DataTcp => 443,
        }
    }
}

/// How a server was discovered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mechanism {
    /// RFC 8973 §6.
    SNaptr,
    /// RFC 8973 §7.
    DnsSd,
}

/// One way to a server.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Endpoint {
    /// What is spoken there.
    pub channel: Channel,
    /// The host's name, as the DNS has it; no certificate has to carry it.
    pub host: String,
    /// Address and port.
    pub address: SocketAddr,
    /// Those of one channel with a lower rank are to be tried first.
    pub rank: u16,
}

/// What the DNS says of a domain's DOTS servers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Discovery {
    /// The domain that was asked for: what the server's certificate has to name.
    pub domain: String,
    /// How.
    pub mechanism: Mechanism,
    /// All ways, the preferred one first.
    pub endpoints: Vec<Endpoint>,
    /// How long it holds; nothing where it comes from before a restart.
    #[serde(skip)]
    pub valid_for: Duration,
}

impl Discovery {
    /// Ways to the data channel, the preferred one first.
    pub fn data(&self) -> impl Iterator<Item = &Endpoint> {
        self.endpoints
            .iter()
            .filter(|endpoint| endpoint.channel == Channel::DataTcp)
    }

    /// Ways to the signal channel, in the order of the DNS.
    pub fn signal(&self) -> impl Iterator<Item = &Endpoint> {
        self.endpoints
            .iter()
            .filter(|endpoint| endpoint.channel != Channel::DataTcp)
    }

    /// Whether it leads to the same places.
    #[must_use]
    pub fn is_as(&self, other: &Self) -> bool {
        self.domain == other.domain
            && self.mechanism == other.mechanism
            && self.endpoints == other.endpoints
    }
}

/// Asks the DNS. That it has no records of the first mechanism leads to the second; that it does not answer does not, since
/// whoever can keep an answer away must not choose the mechanism (RFC 8973 §8).
pub async fn discover(settings: &DiscoverySettings) -> Result<Discovery, DiscoveryError> {
    let asked = tokio::time::timeout(PATIENCE, ask(settings)).await;
    asked.unwrap_or(Err(DiscoveryError::TimedOut))
}

async fn ask(settings: &DiscoverySettings) -> Result<Discovery, DiscoveryError> {
    let lookups = Lookups::open(settings)?;
    for mechanism in [Mechanism::SNaptr, Mechanism::DnsSd] {
        let mut walk = Walk::new(&lookups);
        match mechanism {
            Mechanism::SNaptr => walk.s_naptr(&settings.domain).await?,
            Mechanism::DnsSd => walk.dns_sd(&settings.domain).await?,
        }
        let found = Discovery {
            domain: settings.name(),
            mechanism,
            endpoints: walk.into_endpoints(),
            valid_for: lookups.valid_for(),
        };
        if found.signal().next().is_some() {
            return Ok(found);
        }
    }
    match lookups.into_failure() {
        Some(failure) => Err(failure.into()),
        None => Err(DiscoveryError::NoServer(settings.name())),
    }
}
