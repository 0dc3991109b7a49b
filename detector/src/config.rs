use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use weir_flow_aggregate::{
    Automatic, Interesting, LinkInterfaces, PrefixLength, TargetScope, ZonePrefixes,
};
use weir_flow_record::{Direction, Period, Quantity, Vector, ZoneId};

use crate::automatic::{AutomaticLimit, PART};
use crate::links::{self, Link, LinkConfig};
use crate::maintenance::{self, Maintenance, MaintenanceConfig};

/// The table `[detector]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct DetectorConfig {
    /// Attacks are detected and told, and nobody is asked for help.
    pub dry_run: bool,
    /// Private enterprise number whose catalogue the attack identifiers are of (RFC 9244 §7.6).
    pub vendor_id: u32,
    /// Top talkers told of an attack, at most.
    pub top_talkers: usize,
    /// Time between updates of an attack that does not change.
    pub update_interval: Period,
    /// A target that is attacked again within this time is held open for longer each time; 0 = never.
    pub repeat_within: Period,
    /// Attacks on a target within that time until it is held for `longest_hold`.
    pub repeat_budget: u32,
    /// The longest quiet that is held through.
    pub longest_hold: Period,
    /// Attacks on many hosts of a prefix, each below its own limit, are looked for.
    pub automatic_prefixes: bool,
    /// Age of a zone's baseline until which nothing is held against it,
    pub learn_for: Period,
    /// and for how long attacks that only it shows are then told without asking for help.
    pub dry_run_for: Period,
}

impl Default for DetectorConfig {
    fn default() -> Self {
        Self {
            dry_run: false,
            vendor_id: 32473,
            top_talkers: 10,
            update_interval: Period(Duration::from_secs(10)),
            repeat_within: Period(Duration::from_secs(3600)),
            repeat_budget: 5,
            longest_hold: Period(Duration::from_secs(1800)),
            automatic_prefixes: true,
            learn_for: Period(Duration::from_secs(86_400)),
            dry_run_for: Period(Duration::from_secs(86_400)),
        }
    }
}

/// What a threshold is measured on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Each address.
    Host,
    /// Each prefix of `prefix_length`.
    Prefix,
    /// The zone as a whole.
    Zone,
    /// Each `[[link]]` that names interfaces.
    Link,
    /// Each `[[link]]` that is all of an exporter.
    Exporter,
}

/// One `[[threshold]]` or `[[zone.threshold]]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct ThresholdConfig {
    /// `host`, `prefix` or `zone`.
    pub scope: Scope,
    /// IPv4 prefix length, with scope `prefix`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix_length: Option<u8>,
    /// IPv6 prefix length, with scope `prefix`; twice the IPv4 length by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix_length_v6: Option<u8>,
    /// `in` or `out`.
    pub direction: Direction,
    /// `total`, or a name of the catalogue.
    pub vector: String,
    /// Limit; absent = not tested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bits_per_second: Option<Quantity>,
    /// Limit; absent = not tested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packets_per_second: Option<Quantity>,
    /// Limit; absent = not tested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flows_per_second: Option<Quantity>,
    /// Times what is normal in the hour (the high percentile of the baseline) from which on it fires too, once that is known;
    /// tested on the rates that have a floor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline_factor: Option<f64>,
    /// A limit by `baseline_factor` is not lower; absent = this rate is not held against the baseline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floor_bits_per_second: Option<Quantity>,
    /// A limit by `baseline_factor` is not lower.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floor_packets_per_second: Option<Quantity>,
    /// A limit by `baseline_factor` is not lower.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floor_flows_per_second: Option<Quantity>,
    /// With scope `link` or `exporter`: the share of the link's capacity that is a limit in bits per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity_share: Option<f64>,
    /// Of `tcp-syn-flood` and `tcp-synack-reflection`: only what accepted connections do not explain is tested.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub beyond_connections: bool,
    /// Consecutive seconds over the limit.
    #[serde(rename = "for")]
    pub hold: Period,
    /// Share of the limit below which it is quiet.
    pub clear_below: f64,
    /// How long it must be quiet.
    pub clear_for: Period,
}

impl Default for ThresholdConfig {
    /// A threshold of the file: no rate is tested but those that it states.
    fn default() -> Self {
        Self {
            scope: Scope::Host,
            prefix_length: None,
            prefix_length_v6: None,
            direction: Direction::In,
            vector: "total".to_owned(),
            bits_per_second: None,
            packets_per_second: None,
            flows_per_second: None,
            baseline_factor: None,
            floor_bits_per_second: None,
            floor_packets_per_second: None,
            floor_flows_per_second: None,
            capacity_share: None,
            beyond_connections: false,
            hold: Period(Duration::from_secs(1)),
            clear_below: 0.8,
            clear_for: Period(Duration::from_secs(60)),
        }
    }
}

/// How far a zone has come. Limits that a threshold states act from the first second, whatever the stage.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// By the age of its baseline: `learn_for` learning, then `dry_run_for` dry, then active.
    #[default]
    Auto,
    /// What is normal is learned; nothing is held against it.
    Learning,
    /// Attacks that only the baseline shows are told, and nobody is asked for help.
    DryRun,
    /// They are attacks like all others.
    Active,
}

/// One `[[zone]]`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ZoneConfig {
    /// Unique name.
    pub name: String,
    /// At least one.
    pub prefixes: Vec<IpNet>,
    /// Capacity of the zone's link, bits per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pipe_capacity: Option<Quantity>,
    /// As in `[detector]`, for this zone.
    pub dry_run: bool,
    /// `auto`, `learning`, `dry-run` or `active`.
    pub stage: Stage,
    /// A `[[policy]]`; absent = report only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Replace defaults of the same scope, direction and vector.
    #[serde(rename = "threshold", skip_serializing_if = "Vec::is_empty")]
    pub thresholds: Vec<ThresholdConfig>,
}

/// A mistake: where, as a path, and what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// The key, such as `zone[1].threshold[0].vector`.
    pub path: String,
    /// What is wrong with it.
    pub message: String,
}

/// A checked threshold.
#[derive(Clone, PartialEq, Debug)]
pub struct Threshold {
    /// Host, prefix or zone.
    pub scope: TargetScope,
    /// Lengths (IPv4, IPv6) with scope prefix.
    pub prefix_length: Option<(u8, u8)>,
    /// To the target or from it.
    pub direction: Direction,
    /// The traffic that is tested; `Total` = all of it.
    pub vector: Vector,
    /// Limits in bits, packets and flows per second.
    pub limits: [Option<u64>; 3],
    /// Times what is normal.
    pub baseline_factor: Option<f64>,
    /// Least limits by the baseline.
    pub floors: [Option<u64>; 3],
    /// Seconds over the limit; at least 1.
    pub hold: i64,
    /// Share of the limit below which it is quiet.
    pub clear_below: f64,
    /// How long it must be quiet.
    pub clear_for: Duration,
    /// Of SYN and SYN-ACK: only what accepted connections do not explain is tested.
    pub unexplained: bool,
    /// Of links: whether it is for those that are all of an exporter.
    pub of_exporters: bool,
    /// Of links: a limit as a share of the capacity.
    pub capacity_share: Option<f64>,
}

/// A checked zone.
#[derive(Clone, Debug)]
pub struct Zone {
    /// Its place in the configuration.
    pub id: ZoneId,
    /// Its name.
    pub name: Arc<str>,
    /// Its prefixes.
    pub prefixes: Vec<IpNet>,
    /// Bits per second.
    pub pipe_capacity: Option<u64>,
    /// Nobody is asked for help.
    pub dry_run: bool,
    /// How far it has come.
    pub stage: Stage,
    /// Age of the baseline until which it only learns,
    pub learn_for: Duration,
    /// and for how long it then runs dry, with stage `auto`.
    pub dry_run_for: Duration,
    /// What holds in it.
    pub thresholds: Vec<Threshold>,
    /// Whether attacks on many hosts, each below its limit, are looked for.
    pub automatic_prefixes: bool,
}

/// A checked configuration of the detector.
#[derive(Clone, Debug)]
pub struct DetectorSettings {
    /// Private enterprise number.
    pub vendor_id: u32,
    /// At most.
    pub top_talkers: usize,
    /// Time between updates.
    pub update_interval: Duration,
    /// Memory of attacks that are over.
    pub repeat_within: Duration,
    /// Attacks within the memory until the longest hold.
    pub repeat_budget: u32,
    /// The longest quiet that is held through.
    pub longest_hold: Duration,
    /// By [`ZoneId`].
    pub zones: Vec<Zone>,
    /// Times at which attacks on some prefixes are not told.
    pub maintenance: Vec<Maintenance>,
    /// By their number.
    pub links: Vec<Link>,
    /// How far the active model's word goes.
    pub models: crate::model::ModelsConfig,
    /// Thresholds of all links.
    of_links: Vec<Threshold>,
}

/// Checks the tables; all mistakes at once.
pub fn check(
    detector: &DetectorConfig,
    thresholds: &[ThresholdConfig],
    zones: &[ZoneConfig],
) -> Result<DetectorSettings, Vec<Fault>> {
    let mut checker = Checker::default();
    let defaults: Vec<Threshold> = thresholds
        .iter()
        .enumerate()
        .filter_map(|(index, threshold)| {
            checker.threshold(&format!("threshold[{index}]"), threshold)
        })
        .collect();
    let of_links: Vec<Threshold> = defaults
        .iter()
        .filter(|threshold| threshold.scope == TargetScope::Link)
        .cloned()
        .collect();
    if detector.update_interval.0 < Duration::from_secs(1) {
        checker.fault("detector.update_interval", "must be at least 1s");
    }
    if zones.len() > usize::from(u16::MAX) {
        checker.fault("zone", "too many zones: at most 65535");
    }
    let zones = zones
        .iter()
        .enumerate()
        .map(|(index, zone)| checker.zone(index, zone, &defaults, detector))
        .collect();
    if checker.faults.is_empty() {
        Ok(DetectorSettings {
            vendor_id: detector.vendor_id,
            top_talkers: detector.top_talkers,
            update_interval: detector.update_interval.0,
            repeat_within: detector.repeat_within.0,
            repeat_budget: detector.repeat_budget,
            longest_hold: detector.longest_hold.0,
            zones,
            maintenance: Vec::new(),
            models: crate::model::ModelsConfig::default(),
            links: Vec::new(),
            of_links,
        })
    } else {
        Err(checker.faults)
    }
}

#[derive(Default)]
struct Checker {
    faults: Vec<Fault>,
    names: BTreeSet<String>,
    prefixes: BTreeSet<IpNet>,
}

impl Checker {
    fn fault(&mut self, path: &str, message: impl Into<String>) {
        self.faults.push(Fault {
            path: path.to_owned(),
            message: message.into(),
        });
    }

    fn zone(
        &mut self,
        index: usize,
        zone: &ZoneConfig,
        defaults: &[Threshold],
        detector: &DetectorConfig,
    ) -> Zone {
        let path = format!("zone[{index}]");
        if zone.name.is_empty() {
            self.fault(&path, "a zone needs a name");
        } else if !self.names.insert(zone.name.clone()) {
            self.fault(
                &format!("{path}.name"),
                format!("there is another zone `{}`", zone.name),
            );
        }
        if zone.prefixes.is_empty() {
            self.fault(&path, "a zone needs prefixes");
        }
        let prefixes: Vec<IpNet> = zone.prefixes.iter().map(IpNet::trunc).collect();
        for prefix in &prefixes {
            if !self.prefixes.insert(*prefix) {
                self.fault(
                    &format!("{path}.prefixes"),
                    format!("{prefix} is in another zone already"),
                );
            }
        }
        let own: Vec<Threshold> = zone
            .thresholds
            .iter()
            .enumerate()
            .filter_map(|(at, threshold)| {
                self.threshold(&format!("{path}.threshold[{at}]"), threshold)
            })
            .collect();
        let same = |a: &Threshold, b: &Threshold| {
            (a.scope, a.prefix_length, a.direction, a.vector)
                == (b.scope, b.prefix_length, b.direction, b.vector)
        };
        let mut thresholds: Vec<Threshold> = defaults
            .iter()
            .filter(|default| !own.iter().any(|own| same(own, default)))
            .cloned()
            .collect();
        thresholds.extend(own);
        Zone {
            id: ZoneId(u16::try_from(index).unwrap_or(u16::MAX)),
            name: zone.name.as_str().into(),
            prefixes,
            pipe_capacity: zone.pipe_capacity.map(|capacity| capacity.0),
            dry_run: detector.dry_run || zone.dry_run,
            stage: zone.stage,
            learn_for: detector.learn_for.0,
            dry_run_for: detector.dry_run_for.0,
            thresholds,
            automatic_prefixes: detector.automatic_prefixes,
        }
    }

    fn threshold(&mut self, path: &str, threshold: &ThresholdConfig) -> Option<Threshold> {
        let before = self.faults.len();
        let vector = Vector::by_name(&threshold.vector);
        if vector.is_none() {
            let names: Vec<&str> = Vector::ALL.iter().map(|vector| vector.name()).collect();
            let message = format!("`{}` is none of {}", threshold.vector, names.join(", "));
            self.fault(&format!("{path}.vector"), message);
        }
        let limits = [
            threshold.bits_per_second,
            threshold.packets_per_second,
            threshold.flows_per_second,
        ]
        .map(|limit| limit.map(|limit| limit.0));
        let floors = [
            threshold.floor_bits_per_second,
            threshold.floor_packets_per_second,
            threshold.floor_flows_per_second,
        ]
        .map(|floor| floor.map(|floor| floor.0));
        let by_baseline = threshold.baseline_factor.is_some();
        let of_link = matches!(threshold.scope, Scope::Link | Scope::Exporter);
        if let Some(share) = threshold.capacity_share {
            if !of_link {
                self.fault(
                    &format!("{path}.capacity_share"),
                    "goes with scope `link` and `exporter` only",
                );
            }
            if !(share > 0.0 && share <= 1.0) {
                self.fault(
                    &format!("{path}.capacity_share"),
                    "must be more than 0 and at most 1",
                );
            }
        }
        let by_share = threshold.capacity_share.is_some();
        if limits.iter().all(Option::is_none) && !by_baseline && !by_share {
            self.fault(path, "a threshold tests at least one of bits_per_second, packets_per_second, flows_per_second");
        }
        if by_baseline != floors.iter().any(Option::is_some) {
            self.fault(path, "baseline_factor and a floor (floor_bits_per_second, floor_packets_per_second, floor_flows_per_second) go together");
        }
        if threshold
            .baseline_factor
            .is_some_and(|factor| !(factor >= 1.0 && factor.is_finite()))
        {
            self.fault(&format!("{path}.baseline_factor"), "must be at least 1");
        }
        let connections = [Some(Vector::TcpSynFlood), Some(Vector::TcpSynackReflection)];
        if threshold.beyond_connections && !connections.contains(&vector) {
            self.fault(
                &format!("{path}.beyond_connections"),
                "goes with tcp-syn-flood and tcp-synack-reflection only",
            );
        }
        if limits.contains(&Some(0)) {
            self.fault(path, "a limit must be more than 0");
        }
        let prefix_length = self.prefix_length(path, threshold);
        let hold = threshold.hold.0;
        if hold < Duration::from_secs(1)
            || hold.subsec_nanos() != 0
            || hold > Duration::from_secs(30)
        {
            self.fault(
                &format!("{path}.for"),
                "must be whole seconds from 1s to 30s",
            );
        }
        if !(threshold.clear_below > 0.0 && threshold.clear_below <= 1.0) {
            self.fault(
                &format!("{path}.clear_below"),
                "must be more than 0 and at most 1",
            );
        }
        if threshold.clear_for.0 < Duration::from_secs(1) {
            self.fault(&format!("{path}.clear_for"), "must be at least 1s");
        }
        (self.faults.len() == before).then(|| Threshold {
            scope: match threshold.scope {
                Scope::Host => TargetScope::Host,
                Scope::Prefix => TargetScope::Prefix,
                Scope::Zone => TargetScope::Zone,
                Scope::Link | Scope::Exporter => TargetScope::Link,
            },
            prefix_length,
            direction: threshold.direction,
            vector: vector.unwrap_or(Vector::Total),
            limits,
            baseline_factor: threshold.baseline_factor,
            floors,
            hold: i64::try_from(hold.as_secs()).unwrap_or(1),
            clear_below: threshold.clear_below,
            clear_for: threshold.clear_for.0,
            unexplained: threshold.beyond_connections,
            of_exporters: threshold.scope == Scope::Exporter,
            capacity_share: threshold.capacity_share,
        })
    }

    fn prefix_length(&mut self, path: &str, threshold: &ThresholdConfig) -> Option<(u8, u8)> {
        let at = format!("{path}.prefix_length");
        match (threshold.scope, threshold.prefix_length) {
            (Scope::Prefix, Some(v4)) => {
                let v6 = threshold.prefix_length_v6.unwrap_or(v4.saturating_mul(2));
                if v4 > 32 || v6 > 128 {
                    self.fault(&at, "must be at most 32 (IPv6: 128)");
                }
                Some((v4, v6))
            }
            (Scope::Prefix, None) => {
                self.fault(path, "scope `prefix` needs a prefix_length");
                None
            }
            (_, Some(_)) => {
                self.fault(&at, "goes with scope `prefix` only");
                None
            }
            (_, None) => None,
        }
    }
}

impl DetectorSettings {
    /// Adds the tables `[[maintenance]]`; all their mistakes at once.
    pub fn with_maintenance(mut self, tables: &[MaintenanceConfig]) -> Result<Self, Vec<Fault>> {
        self.maintenance = maintenance::check(tables)?;
        Ok(self)
    }

    /// What aggregation needs of the zones: prefixes, and the rates from which on a target is worth telling. Half of the
    /// lowest limit, divided by the number of shards, since each sees only a part.
    #[must_use]
    pub fn zone_prefixes(&self, shards: u16) -> Vec<ZonePrefixes> {
        self.zones
            .iter()
            .map(|zone| zone.for_aggregation(u64::from(shards.max(1))))
            .collect()
    }

    /// Adds the tables `[[link]]`; all their mistakes at once.
    pub fn with_links(mut self, tables: &[LinkConfig]) -> Result<Self, Vec<Fault>> {
        self.links = links::check(tables, &self.of_links, &self.zones)?;
        Ok(self)
    }

    /// What aggregation needs of the links.
    #[must_use]
    pub fn link_interfaces(&self) -> Vec<LinkInterfaces> {
        let links = self.links.iter();
        links.map(|link| link.interfaces.clone()).collect()
    }

    /// A zone, or a link, by its number.
    #[must_use]
    pub fn zone(&self, id: ZoneId) -> Option<&Zone> {
        let link = || Some(&self.links.get(usize::from(u16::MAX - id.0))?.zone);
        self.zones.get(usize::from(id.0)).or_else(link)
    }
}

impl Zone {
    fn for_aggregation(&self, shards: u64) -> ZonePrefixes {
        let mut prefix_lengths: Vec<PrefixLength> = Vec::new();
        for threshold in self
            .thresholds
            .iter()
            .filter(|threshold| threshold.scope == TargetScope::Prefix)
        {
            let Some((v4, v6)) = threshold.prefix_length else {
                continue;
            };
            let rates = threshold.interesting(shards);
            let known = prefix_lengths.iter_mut().find(|length| {
                (length.v4, length.v6, length.interesting.direction)
                    == (v4, v6, threshold.direction)
            });
            match known {
                Some(known) => known.interesting = lower(known.interesting, rates),
                None => prefix_lengths.push(PrefixLength {
                    v4,
                    v6,
                    interesting: rates,
                }),
            }
        }
        ZonePrefixes {
            zone: self.id,
            prefixes: self.prefixes.clone(),
            interesting: self
                .thresholds
                .iter()
                .filter(|threshold| threshold.scope == TargetScope::Host)
                .map(|threshold| threshold.interesting(shards))
                .collect(),
            prefix_lengths,
            automatic: [Direction::In, Direction::Out]
                .into_iter()
                .filter(|_| self.automatic_prefixes)
                .flat_map(|direction| self.automatic(direction, shards))
                .collect(),
        }
    }

    /// From which rates on a part of an automatic prefix is worth telling.
    fn automatic(&self, direction: Direction, shards: u64) -> impl Iterator<Item = Automatic> {
        let limits = AutomaticLimit::all(self, direction);
        limits.into_iter().map(move |limit| {
            let part =
                |metric: usize, unit: u64| limit.limits[metric].map(|l| l / unit / PART / shards);
            Automatic {
                direction,
                vector: limit.vector,
                octets: part(0, 8),
                packets: part(1, 1),
            }
        })
    }
}

impl Threshold {
    fn interesting(&self, shards: u64) -> Interesting {
        let part =
            |limit: Option<u64>, unit: u64| limit.map(|limit| (limit / unit / 2 / shards).max(1));
        let least = |metric: usize| {
            let both = self.limits[metric].into_iter().chain(self.floors[metric]);
            both.min()
        };
        let [bits, packets, flows] = [least(0), least(1), least(2)];
        Interesting {
            direction: self.direction,
            octets: part(bits, 8),
            packets: part(packets, 1),
            flows: part(flows, 1),
        }
    }
}

fn lower(a: Interesting, b: Interesting) -> Interesting {
    let least = |a: Option<u64>, b: Option<u64>| a.into_iter().chain(b).min();
    Interesting {
        direction: a.direction,
        octets: least(a.octets, b.octets),
        packets: least(a.packets, b.packets),
        flows: least(a.flows, b.flows),
    }
}
