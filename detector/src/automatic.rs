//! Automatic prefixes: what limits hold for them, and which cells make up one target.

use std::time::Duration;

use ipnet::IpNet;
use weir_flow_aggregate::TargetScope;
use weir_flow_record::{Direction, Vector};

use crate::config::{Threshold, Zone};
use crate::track::Limit;

/// Share of a prefix' cells that must be hit for it to be one target.
const DENSE: f64 = 0.5;
/// The same where very many are hit, and how many that are.
const SPARSE: (f64, usize) = (0.125, 8);
/// Least number of equal hosts that make a carpet: of traffic that is normal in itself, and of traffic that is not.
const HOSTS: (u32, u32) = (16, 8);
/// Part of its limit from which on a cell may belong to a larger target, as a divisor.
pub(crate) const PART: u64 = 32;
/// Of addresses in a small prefix, the share that such a carpet needs.
const PART_OF_SMALL: f64 = 0.5;

/// Limits of one vector on automatic prefixes, which follow from those of hosts.
#[derive(Clone, Debug)]
pub(crate) struct AutomaticLimit {
    pub(crate) vector: Vector,
    /// Bits, packets and (never) flows per second.
    pub(crate) limits: [Option<u64>; 3],
    /// The threshold of hosts that they follow from.
    pub(crate) hold: i64,
    pub(crate) clear_below: f64,
    pub(crate) clear_for: Duration,
}

/// How long and well the usual level is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Known {
    /// Seconds.
    pub(crate) known_for: u32,
    /// Equal hosts.
    pub(crate) effective_hosts: u32,
    /// Addresses in the prefix; saturates.
    pub(crate) addresses: u64,
}

/// Whether traffic of a vector is what services live on: then there must be far more of it than usual.
pub(crate) fn is_ordinary(vector: Vector) -> bool {
    matches!(
        vector,
        Vector::Total | Vector::TcpAckFlood | Vector::UdpFlood
    )
}

impl AutomaticLimit {
    /// The limits of a direction, of the vectors that have any.
    pub(crate) fn all(zone: &Zone, direction: Direction) -> Vec<Self> {
        let of_hosts = |vector: Vector| {
            zone.thresholds.iter().find(move |threshold| {
                threshold.scope == TargetScope::Host
                    && threshold.direction == direction
                    && threshold.vector == vector
            })
        };
        let total = of_hosts(Vector::Total);
        Vector::ALL
            .into_iter()
            .filter_map(|vector| Self::of(vector, of_hosts(vector), total))
            .collect()
    }

    fn of(vector: Vector, own: Option<&Threshold>, total: Option<&Threshold>) -> Option<Self> {
        let lead = own.or(total)?;
        let factor = if is_ordinary(vector) { 2 } else { 1 };
        let least = |metric: usize| {
            let limits = [own, total].into_iter().flatten();
            let least = limits
                .filter_map(|threshold| threshold.limits[metric])
                .min();
            least.map(|limit| limit.saturating_mul(factor))
        };
        let limits = [least(0), least(1), None];
        limits.iter().any(Option::is_some).then_some(Self {
            vector,
            limits,
            hold: lead.hold,
            clear_below: lead.clear_below,
            clear_for: lead.clear_for,
        })
    }

    /// The limit where `usual` octets and packets a second are; `None` where what is known does not suffice.
    pub(crate) fn limit(&self, usual: [u64; 2], known: Known) -> Option<Limit> {
        let ordinary = is_ordinary(self.vector);
        let least = if ordinary { HOSTS.0 } else { HOSTS.1 };
        let of_small = (known.addresses as f64 * PART_OF_SMALL) as u32;
        if known.effective_hosts < least.min(of_small.max(2)) {
            return None;
        }
        // Times the usual level, and times the limit where the level is hardly known.
        let (rise, factor) = match (known.known_for, ordinary) {
            (60.., true) => (5, 1),
            (60.., false) => (3, 1),
            (10..60, true) => (8, 1),
            (10..60, false) => (4, 1),
            // What is there from the first second on may have been there for ever.
            (0..10, false) => (0, 2),
            (0..10, true) => return None,
        };
        let of = |limit: Option<u64>, usual: u64| {
            limit.map(|limit| limit.saturating_mul(factor).max(usual.saturating_mul(rise)))
        };
        Some(Limit {
            vector: self.vector,
            unexplained: matches!(
                self.vector,
                Vector::TcpSynFlood | Vector::TcpSynackReflection
            ),
            relative: false,
            limits: [
                of(self.limits[0], usual[0].saturating_mul(8)),
                of(self.limits[1], usual[1]),
                None,
            ],
            clear_below: self.clear_below,
            clear_for: self.clear_for,
        })
    }
}

/// What a cell usually has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usually<'c> {
    pub(crate) effective_hosts: u32,
    pub(crate) known_for: u32,
    /// Octets and packets a second.
    pub(crate) levels: &'c [(Vector, [u64; 2])],
}

/// What is usual in several cells together.
pub(crate) fn usual<'c>(
    cells: impl Iterator<Item = Usually<'c>>,
    prefixes: &[IpNet],
    vector: Vector,
) -> ([u64; 2], Known) {
    let mut sum = [0_u64; 2];
    let mut known = Known {
        known_for: u32::MAX,
        effective_hosts: 0,
        addresses: prefixes.iter().map(addresses).fold(0, u64::saturating_add),
    };
    for cell in cells {
        known.known_for = known.known_for.min(cell.known_for);
        known.effective_hosts = known.effective_hosts.saturating_add(cell.effective_hosts);
        for (other, level) in cell.levels {
            if vector == Vector::Total || *other == vector {
                sum[0] = sum[0].saturating_add(level[0]);
                sum[1] = sum[1].saturating_add(level[1]);
            }
        }
    }
    (sum, known)
}

fn addresses(prefix: &IpNet) -> u64 {
    let bits = prefix.max_prefix_len() - prefix.prefix_len();
    1_u64.checked_shl(u32::from(bits)).unwrap_or(u64::MAX)
}

/// Cells that are one target: the prefixes that hold them, and the cells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Cluster {
    /// Largest first.
    pub(crate) prefixes: Vec<IpNet>,
    pub(crate) cells: Vec<IpNet>,
}

/// Puts cells together that are near each other. `cells` ascend and do not overlap; a target lies inside one of the zone's
/// prefixes.
pub(crate) fn clusters(cells: &[IpNet], zone: &[IpNet]) -> Vec<Cluster> {
    let mut dense = Vec::new();
    gather(cells, zone, &mut dense);
    let mut clusters: Vec<Cluster> = Vec::new();
    for next in dense {
        match clusters.last_mut() {
            Some(last) if are_near(last, &next) => {
                last.prefixes.extend(next.prefixes);
                last.cells.extend(next.cells);
            }
            _ => clusters.push(next),
        }
    }
    for cluster in &mut clusters {
        cluster
            .prefixes
            .sort_by_key(|prefix| (prefix.prefix_len(), *prefix));
    }
    clusters
}

/// Whether cells are one target as they lie.
pub(crate) fn is_one(cells: &[IpNet], zone: &[IpNet]) -> bool {
    clusters(cells, zone).len() == 1
}

fn gather(cells: &[IpNet], zone: &[IpNet], out: &mut Vec<Cluster>) {
    let (Some(first), Some(last)) = (cells.first(), cells.last()) else {
        return;
    };
    let hull = hull(first, last);
    if let Some(hull) = hull
        && is_dense(&hull, cells)
        && zone.iter().any(|prefix| prefix.contains(&hull))
    {
        out.push(Cluster {
            prefixes: vec![hull],
            cells: cells.to_vec(),
        });
        return;
    }
    // Of two families, or of both halves of the hull.
    let split = match hull.and_then(|hull| upper_half(&hull)) {
        Some(upper) => cells.partition_point(|cell| !upper.contains(cell)),
        None => cells.partition_point(|cell| cell.addr().is_ipv4()),
    };
    if split == 0 || split == cells.len() {
        out.push(Cluster {
            prefixes: cells.to_vec(),
            cells: cells.to_vec(),
        });
        return;
    }
    gather(&cells[..split], zone, out);
    gather(&cells[split..], zone, out);
}

/// The narrowest prefix that holds both; `None` where they are of two families.
pub(crate) fn hull(first: &IpNet, last: &IpNet) -> Option<IpNet> {
    let mut hull = *first;
    while !hull.contains(last) {
        hull = hull.supernet()?;
    }
    Some(hull)
}

fn is_dense(hull: &IpNet, cells: &[IpNet]) -> bool {
    let all = addresses(hull) as f64;
    let hit: f64 = cells.iter().map(|cell| addresses(cell) as f64).sum();
    // Addresses saturate for wide IPv6 prefixes: their lengths tell.
    let share = match cells.first() {
        Some(cell) if addresses(hull) == u64::MAX => {
            let bits = i32::from(cell.prefix_len()) - i32::from(hull.prefix_len());
            cells.len() as f64 / 2_f64.powi(bits)
        }
        _ => hit / all,
    };
    share >= DENSE || (cells.len() >= SPARSE.1 && share >= SPARSE.0)
}

fn upper_half(hull: &IpNet) -> Option<IpNet> {
    let mut halves = hull.subnets(hull.prefix_len().checked_add(1)?).ok()?;
    halves.nth(1)
}

/// Whether the gap between two clusters is no larger than the smaller of both.
fn are_near(before: &Cluster, after: &Cluster) -> bool {
    let (Some(last), Some(first)) = (before.prefixes.last(), after.prefixes.first()) else {
        return false;
    };
    if last.addr().is_ipv4() != first.addr().is_ipv4() {
        return false;
    }
    let number = |address: std::net::IpAddr| match address {
        std::net::IpAddr::V4(v4) => u128::from(u32::from(v4)),
        std::net::IpAddr::V6(v6) => u128::from(v6),
    };
    let size = |prefix: &IpNet| {
        let bits = prefix.max_prefix_len() - prefix.prefix_len();
        1_u128.checked_shl(u32::from(bits)).unwrap_or(u128::MAX)
    };
    let end = number(last.network()).saturating_add(size(last));
    let gap = number(first.network()).saturating_sub(end);
    gap < size(last).min(size(first)).max(1)
}

/// The prefix that a target is told as: of a single cell the part that holds nearly all of its traffic.
pub(crate) fn told_prefix(cluster: &Cluster, holds: Option<IpNet>) -> IpNet {
    let prefix = cluster.prefixes.first().copied().unwrap_or_default();
    match (holds, cluster.cells.as_slice()) {
        (Some(holds), [cell])
            if cell.contains(&holds) && holds.prefix_len() < holds.max_prefix_len() =>
        {
            holds
        }
        _ => prefix,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn found(cells: &[&str]) -> Vec<Vec<IpNet>> {
        let zone = nets(&["10.0.0.0/8", "2001:db8::/32"]);
        let clusters = clusters(&nets(cells), &zone);
        clusters.into_iter().map(|c| c.prefixes).collect()
    }

    #[test]
    fn neighbours_are_one_target_and_strangers_are_not() {
        let all: Vec<String> = (4..8).map(|third| format!("10.1.{third}.0/24")).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        assert_eq!(found(&all), [nets(&["10.1.4.0/22"])]);
        assert_eq!(found(&all[..3]), [nets(&["10.1.4.0/22"])]);
        assert_eq!(found(&all[..1]), [nets(&["10.1.4.0/24"])]);
        assert_eq!(
            found(&["10.1.4.0/24", "10.9.4.0/24"]),
            [nets(&["10.1.4.0/24"]), nets(&["10.9.4.0/24"])]
        );
        // Eight that begin anywhere are half of a /20.
        let off: Vec<String> = (4..12).map(|third| format!("10.1.{third}.0/24")).collect();
        let off: Vec<&str> = off.iter().map(String::as_str).collect();
        assert_eq!(found(&off), [nets(&["10.1.0.0/20"])]);
        // Two that meet where a large prefix ends are one target of two prefixes.
        assert_eq!(
            found(&["10.1.127.0/24", "10.1.128.0/24"]),
            [nets(&["10.1.127.0/24", "10.1.128.0/24"])]
        );
        assert_eq!(
            found(&["10.1.4.0/24", "2001:db8:0:100::/56", "2001:db8::/56"]).len(),
            2
        );
    }

    #[test]
    fn a_target_stays_inside_the_zone() {
        let zone = nets(&["10.1.4.0/24", "10.1.5.0/24"]);
        let found = clusters(&zone, &zone);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].prefixes, zone);
    }
}
