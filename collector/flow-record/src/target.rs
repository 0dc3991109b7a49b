use ipnet::IpNet;

/// Whether traffic goes to a target or comes from it.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The target is the destination.
    In,
    /// The target is the source.
    Out,
}

/// A zone by its place in the configuration.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Debug,
    Default,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct ZoneId(pub u16);

/// What is measured and judged: a prefix (a host is a /32 or /128) in one direction, inside one zone.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize,
)]
pub struct TargetKey {
    /// Addresses of the target. For a target that is a whole zone: see the carrier of the key.
    pub prefix: IpNet,
    /// Traffic to it or from it.
    pub direction: Direction,
    /// The zone that holds it.
    pub zone: ZoneId,
}
