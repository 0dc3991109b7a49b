//! What baselines tell others, and take from them: plain figures, without any form of a protocol.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use weir_flow_record::{Direction, Timestamp, ZoneId};

use crate::cell::METRICS;
use crate::learner::{Imported, Learner};
use crate::saved;
use crate::{Aspect, BaselineTarget, Baselines, CapacityConfig, Level, Metric, Normal, Subject};

/// Aspects taken of one imported baseline.
const MAX_IMPORTED: usize = 256;

/// What is normal for a target over all hours of the week.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct BaselineReport {
    /// `zone`, `prefix`, `exporter` or `link`.
    pub kind: String,
    /// The zone's, exporter's or link's name, or the prefix.
    pub name: String,
    /// The target's prefixes; none of an exporter or link.
    pub prefixes: Vec<IpNet>,
    /// To it, or from it.
    pub direction: Direction,
    /// All of its traffic.
    pub total: Normal,
    /// By IP protocol.
    pub protocols: Vec<ProtocolNormal>,
    /// By port on the target's side.
    pub ports: Vec<PortNormal>,
    /// By vector of the catalogue.
    pub vectors: Vec<VectorNormal>,
    /// What the operator says that it bears.
    pub capacities: Vec<CapacityConfig>,
}

/// What is normal of an IP protocol.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct ProtocolNormal {
    /// Its number.
    pub protocol: u8,
    /// What is normal.
    #[serde(flatten)]
    pub normal: Normal,
}

/// What is normal of a port.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct PortNormal {
    /// IP protocol; 0 = not told apart.
    pub protocol: u8,
    /// The port.
    pub port: u16,
    /// What is normal.
    #[serde(flatten)]
    pub normal: Normal,
}

/// What is normal of a vector of the catalogue.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct VectorNormal {
    /// Its name.
    pub vector: String,
    /// What is normal.
    #[serde(flatten)]
    pub normal: Normal,
}

/// What is normal in one hour of the week.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct HourNormal {
    /// From Monday, 0:00 UTC: 0 to 167.
    pub hour: u8,
    /// What is normal.
    #[serde(flatten)]
    pub normal: Normal,
}

/// What somebody else says is normal for a target.
#[derive(Clone, PartialEq, Debug)]
pub struct ImportedBaseline {
    /// The target's prefixes; none = the whole domain.
    pub prefixes: Vec<IpNet>,
    /// To it, or from it.
    pub direction: Direction,
    /// What is said of all, of protocols, and of ports (protocol 0 = not told apart).
    pub aspects: Vec<(Aspect, Vec<(Metric, Level)>)>,
}

/// Why a baseline is not imported.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// It names nothing, and there is not exactly one zone.
    #[error("it names no target, and there are several zones")]
    NoTarget,
    /// It is of several prefixes together, which are no zone.
    #[error("its {0} prefixes are not those of one zone")]
    SeveralPrefixes(usize),
    /// It is of somebody else's network.
    #[error("{0} is in no zone")]
    OutsideZones(IpNet),
    /// There is no room for another target.
    #[error("there are too many targets")]
    Full,
    /// It says nothing.
    #[error("it says nothing that is known here")]
    Empty,
}

impl Baselines {
    /// What is normal for a target, of its aspects too; `None` while unknown.
    #[must_use]
    pub fn report(&self, target: &BaselineTarget) -> Option<BaselineReport> {
        let learner = self.targets.get(target)?;
        let of = |aspect| learner.normal(&self.settings, aspect, None, self.now);
        let (kind, name, prefixes) = self.describe(target)?;
        let mut report = BaselineReport {
            kind: kind.to_owned(),
            name,
            prefixes,
            direction: target.direction,
            total: of(Aspect::Total)?,
            protocols: Vec::new(),
            ports: Vec::new(),
            vectors: Vec::new(),
            capacities: Vec::new(),
        };
        let imported = learner.imported.iter().flat_map(|it| it.aspects.keys());
        let mut aspects: Vec<Aspect> = learner.aspects.keys().chain(imported).copied().collect();
        aspects.sort_unstable();
        aspects.dedup();
        for aspect in aspects {
            let Some(normal) = of(aspect) else { continue };
            match aspect {
                Aspect::Total => {}
                Aspect::Vector(vector) => report.vectors.push(VectorNormal {
                    vector: vector.name().to_owned(),
                    normal,
                }),
                Aspect::Protocol(protocol) => {
                    report.protocols.push(ProtocolNormal { protocol, normal })
                }
                Aspect::Port { protocol, port } => report.ports.push(PortNormal {
                    protocol,
                    port,
                    normal,
                }),
            }
        }
        if let (Subject::Zone(_), Direction::In) = (target.subject, target.direction) {
            let capacities = self.settings.config.capacities.iter();
            let of_zone = capacities.filter(|capacity| capacity.zone == report.name);
            report.capacities = of_zone.cloned().collect();
        }
        Some(report)
    }

    /// What is normal for a target in each hour of the week, as far as it is known.
    #[must_use]
    pub fn hours(&self, target: &BaselineTarget) -> Vec<HourNormal> {
        let Some(learner) = self.targets.get(target) else {
            return Vec::new();
        };
        // A Monday long ago.
        let monday = |hour: u8| (4 * 24 + i64::from(hour)) * 3600;
        let normal = |hour| {
            let second = Some(monday(hour));
            let normal = learner.normal(&self.settings, Aspect::Total, second, self.now)?;
            Some(HourNormal { hour, normal })
        };
        (0..168).filter_map(normal).collect()
    }

    /// Reports of inbound traffic, `most` of them: zones first, then prefixes and hosts, the busiest first.
    #[must_use]
    pub fn reports(&self, most: usize) -> Vec<BaselineReport> {
        let all = self.ranked(Direction::In);
        let told = all.filter(|report| matches!(report.kind.as_str(), "zone" | "prefix"));
        told.take(most).collect()
    }

    /// The same of one direction with exporters and links behind the zones.
    #[must_use]
    pub fn list(&self, direction: Direction, most: usize) -> Vec<BaselineReport> {
        self.ranked(direction).take(most).collect()
    }

    fn ranked(&self, direction: Direction) -> impl Iterator<Item = BaselineReport> {
        let mut targets: Vec<(u8, u64, BaselineTarget)> = self
            .targets
            .iter()
            .filter(|(target, _)| target.direction == direction)
            .map(|(target, learner)| match target.subject {
                Subject::Zone(_) => (0, 0, *target),
                Subject::Exporter(_) | Subject::Link(_) => (1, 0, *target),
                Subject::Prefix(_) => {
                    let weight = learner.total.weight() as u64;
                    (2, u64::MAX - weight, *target)
                }
            })
            .collect();
        targets.sort_unstable();
        targets
            .into_iter()
            .filter_map(|(_, _, target)| self.report(&target))
    }

    /// The target of a name: a zone's or link's name, a prefix, or the address of a host or exporter.
    #[must_use]
    pub fn named(&self, name: &str, direction: Direction) -> Option<BaselineTarget> {
        let number = |place: Option<usize>| place.and_then(|place| u16::try_from(place).ok());
        let zones = &self.settings.zones;
        let zone = number(zones.iter().position(|zone| *zone.name == *name));
        let links = &self.settings.links;
        let link = number(links.iter().position(|link| **link == *name));
        let address = name.parse::<IpAddr>().ok();
        let prefix = name.parse::<IpNet>().ok().or(address.map(IpNet::from));
        let subjects = [
            zone.map(|zone| Subject::Zone(ZoneId(zone))),
            link.map(Subject::Link),
            prefix.map(|prefix| Subject::Prefix(prefix.trunc())),
            address.map(Subject::Exporter),
        ];
        subjects
            .into_iter()
            .flatten()
            .map(|subject| BaselineTarget { subject, direction })
            .find(|target| self.targets.contains_key(target))
    }

    /// Takes what somebody else says, as if learned for `import_weight`; it replaces what was imported of the target before.
    pub fn import(
        &mut self,
        baseline: &ImportedBaseline,
        at: Timestamp,
    ) -> Result<BaselineTarget, ImportError> {
        let target = BaselineTarget {
            subject: self.subject_of(&baseline.prefixes)?,
            direction: baseline.direction,
        };
        let mut imported = Imported {
            at: at.second(),
            ..Imported::default()
        };
        for (aspect, metrics) in baseline.aspects.iter().take(MAX_IMPORTED) {
            let mut levels = [None; METRICS];
            for (metric, level) in metrics {
                levels[*metric as usize] = Some(sound(level.to_array()));
            }
            imported.aspects.insert(*aspect, levels);
        }
        if imported.aspects.is_empty() {
            return Err(ImportError::Empty);
        }
        if !self.targets.contains_key(&target) {
            if self.targets.len() >= self.settings.config.max_targets {
                return Err(ImportError::Full);
            }
            let full = self.enters(&target);
            self.targets.insert(target, Learner::new(full));
        }
        if let Some(learner) = self.targets.get_mut(&target) {
            learner.imported = Some(Box::new(imported));
            // It is kept at once: nobody tells it again.
            self.rows
                .extend(saved::row(&self.settings, &target, learner));
        }
        self.counters.imported += 1;
        Ok(target)
    }

    fn subject_of(&self, prefixes: &[IpNet]) -> Result<Subject, ImportError> {
        let zones = &self.settings.zones;
        let id = |place: usize| Subject::Zone(ZoneId(u16::try_from(place).unwrap_or(u16::MAX)));
        let sorted = |prefixes: &[IpNet]| {
            let mut prefixes: Vec<IpNet> = prefixes.iter().map(IpNet::trunc).collect();
            prefixes.sort_unstable();
            prefixes.dedup();
            prefixes
        };
        let wanted = sorted(prefixes);
        let Some(first) = wanted.first() else {
            return if zones.len() == 1 {
                Ok(id(0))
            } else {
                Err(ImportError::NoTarget)
            };
        };
        if let Some(place) = zones
            .iter()
            .position(|zone| sorted(&zone.prefixes) == wanted)
        {
            return Ok(id(place));
        }
        if wanted.len() > 1 {
            return Err(ImportError::SeveralPrefixes(wanted.len()));
        }
        let mut all = zones.iter().flat_map(|zone| &zone.prefixes);
        if all.any(|prefix| prefix.contains(first)) {
            Ok(Subject::Prefix(*first))
        } else {
            Err(ImportError::OutsideZones(*first))
        }
    }

    fn describe(&self, target: &BaselineTarget) -> Option<(&'static str, String, Vec<IpNet>)> {
        Some(match target.subject {
            Subject::Zone(zone) => {
                let zone = self.settings.zones.get(usize::from(zone.0))?;
                ("zone", zone.name.to_string(), zone.prefixes.clone())
            }
            Subject::Prefix(prefix) => ("prefix", prefix.to_string(), vec![prefix]),
            Subject::Exporter(address) => ("exporter", address.to_string(), Vec::new()),
            Subject::Link(link) => {
                let name = self.settings.links.get(usize::from(link))?;
                ("link", name.to_string(), Vec::new())
            }
        })
    }
}

/// Finite, not negative, and in order, whatever was said.
fn sound(levels: [f64; 5]) -> [f64; 5] {
    let mut levels = levels.map(|level| {
        if level.is_finite() {
            level.max(0.0)
        } else {
            0.0
        }
    });
    levels[1] = levels[1].max(levels[0]);
    levels[2] = levels[2].max(levels[1]);
    levels[3] = levels[3].max(levels[2]);
    levels
}
