//! Links: interfaces of an exporter, or all that it tells, with the capacity of the pipe.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use weir_flow_aggregate::{LinkInterfaces, TargetScope};
use weir_flow_record::{Address, Direction, Quantity};

use crate::config::{Fault, Stage, Threshold, Zone};

/// One `[[link]]`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LinkConfig {
    /// Unique name, among those of zones too.
    pub name: String,
    /// Address of the exporter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exporter: Option<IpAddr>,
    /// SNMP indexes of its interfaces that are this link; none = all that the exporter tells.
    pub interfaces: Vec<u32>,
    /// Bits per second in each direction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Quantity>,
}

/// A checked link: what is judged as a zone, and its interfaces.
#[derive(Clone, Debug)]
pub struct Link {
    /// The link as a target: its prefix is the exporter's address.
    pub zone: Zone,
    /// What passes it.
    pub interfaces: LinkInterfaces,
}

/// A settled second of a link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkLevel {
    /// The link's name.
    pub name: Arc<str>,
    /// Over its interfaces inwards or outwards.
    pub direction: Direction,
    /// Scaled by the sampling rate.
    pub bits_per_second: u64,
    /// The same in packets.
    pub packets_per_second: u64,
    /// Bits per second, where it is configured.
    pub capacity: Option<u64>,
}

/// Checks the tables; all mistakes at once. `thresholds` are those for all links.
pub(crate) fn check(
    tables: &[LinkConfig],
    thresholds: &[Threshold],
    zones: &[Zone],
) -> Result<Vec<Link>, Vec<Fault>> {
    let mut faults = Vec::new();
    let mut names: BTreeSet<&str> = zones.iter().map(|zone| &*zone.name).collect();
    let mut links = Vec::new();
    if zones.len() + tables.len() > usize::from(u16::MAX) {
        faults.push(Fault {
            path: "link".to_owned(),
            message: "too many zones and links: at most 65535 together".to_owned(),
        });
    }
    for (index, table) in tables.iter().enumerate() {
        let mut fault = |key: &str, message: String| {
            let path = format!("link[{index}]{key}");
            faults.push(Fault { path, message });
        };
        if table.name.is_empty() {
            fault("", "a link needs a name".to_owned());
        } else if !names.insert(&table.name) {
            let message = format!("there is another zone or link `{}`", table.name);
            fault(".name", message);
        }
        if table.capacity == Some(Quantity(0)) {
            fault(".capacity", "must be more than 0".to_owned());
        }
        let Some(exporter) = table.exporter else {
            fault("", "a link needs the address of its exporter".to_owned());
            continue;
        };
        links.push(link(index, table, exporter, thresholds));
    }
    if faults.is_empty() {
        Ok(links)
    } else {
        Err(faults)
    }
}

fn link(index: usize, table: &LinkConfig, exporter: IpAddr, thresholds: &[Threshold]) -> Link {
    let id = LinkInterfaces::number(index);
    let exporter = Address::from(exporter);
    let prefix: IpNet = exporter.host();
    let whole = table.interfaces.is_empty();
    let holds = |threshold: &&Threshold| match threshold.scope {
        // An exporter is a link of all interfaces.
        TargetScope::Link => threshold.of_exporters == whole,
        _ => false,
    };
    let capacity = table.capacity.map(|capacity| capacity.0);
    let with_share = |threshold: &Threshold| {
        let mut threshold = threshold.clone();
        if let (Some(share), Some(capacity)) = (threshold.capacity_share, capacity) {
            let limit = (capacity as f64 * share) as u64;
            let least = threshold.limits[0].map_or(limit, |known| known.min(limit));
            threshold.limits[0] = Some(least.max(1));
        }
        threshold
    };
    Link {
        zone: Zone {
            id,
            name: table.name.as_str().into(),
            prefixes: vec![prefix],
            pipe_capacity: capacity,
            dry_run: false,
            stage: Stage::Active,
            learn_for: Duration::ZERO,
            dry_run_for: Duration::ZERO,
            thresholds: thresholds.iter().filter(holds).map(with_share).collect(),
            automatic_prefixes: false,
        },
        interfaces: LinkInterfaces {
            id,
            exporter,
            interfaces: table.interfaces.clone(),
        },
    }
}
