//! What we see beside what upstreams say: `weir dots status`, and `/api/v1/dots`.

use std::fmt;

use serde::{Deserialize, Serialize};
use weir_attack_event::{AttackEvent, EventKind, MitigationReport};
use weir_dots_export::is_operators;
use weir_dots_proto::body::PreOrOngoingMitigation;

use crate::views::Views;

/// How all that concerns the upstreams stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Overview {
    /// Whether the stop switch is thrown.
    pub(crate) on_hold: bool,
    pub(crate) upstreams: Vec<UpstreamRow>,
    /// Open attacks that a policy is about.
    pub(crate) attacks: Vec<AttackRow>,
    /// What operators have asked for.
    pub(crate) by_operators: Vec<MitigationRow>,
}

/// One upstream.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct UpstreamRow {
    pub(crate) name: String,
    /// Whether its session stands.
    pub(crate) up: bool,
    /// What it tells of attacks on our zones, in words (`subscribe = true`).
    #[serde(default)]
    pub(crate) sees: Vec<String>,
}

/// One attack, as we see it and as the upstreams do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct AttackRow {
    pub(crate) attack: String,
    pub(crate) target: String,
    pub(crate) zone: String,
    pub(crate) severity: String,
    /// How the request stands.
    pub(crate) request: String,
    /// What arrives here now, above normal; bit/s.
    pub(crate) seen_bits_per_second: u64,
    /// What all upstreams together say that they drop now; bit/s.
    pub(crate) dropped_bits_per_second: u64,
    /// Share of the attack that is dropped before it arrives, of 1; `None` where nothing is dropped or seen.
    pub(crate) dropped_share: Option<f64>,
    pub(crate) mitigations: Vec<MitigationRow>,
}

/// An upstream's word on a mitigation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MitigationRow {
    pub(crate) upstream: String,
    pub(crate) mid: u32,
    pub(crate) status: String,
    pub(crate) dropped_bits_per_second: Option<u64>,
    pub(crate) bytes_dropped: Option<u64>,
    /// Attack traffic that the upstream itself sees.
    pub(crate) attack_bits_per_second: Option<u64>,
    /// Seconds; `None` = no end.
    pub(crate) lifetime: Option<u32>,
}

impl Overview {
    pub(crate) fn new(views: &Views, upstreams: Vec<String>) -> Self {
        let policy = views.policy();
        let sessions = views.sessions();
        let mitigations = views.mitigations();
        let observed = views.observed();
        let attacks = views.attacks();
        let open = attacks
            .iter()
            .filter(|event| event.kind != EventKind::AttackEnd);
        let rows = open.filter_map(|event| {
            let standing = policy.standings.get(&*event.id.0)?;
            Some(AttackRow::new(event, standing, &mitigations))
        });
        let operators = mitigations
            .iter()
            .filter(|report| is_operators(&report.attack));
        Self {
            on_hold: policy.on_hold,
            upstreams: upstreams
                .into_iter()
                .map(|name| UpstreamRow {
                    up: sessions.iter().any(|(other, up)| *other == name && *up),
                    sees: observed
                        .get(&name)
                        .into_iter()
                        .flatten()
                        .map(seen)
                        .collect(),
                    name,
                })
                .collect(),
            attacks: rows.collect(),
            by_operators: operators.map(MitigationRow::new).collect(),
        }
    }
}

impl Overview {
    /// Without a daemon there is nothing but what the upstream says.
    pub(crate) fn of_reports(upstream: &str, reports: &[MitigationReport]) -> Self {
        Self {
            on_hold: false,
            upstreams: vec![UpstreamRow {
                name: upstream.to_owned(),
                up: true,
                sees: Vec::new(),
            }],
            attacks: Vec::new(),
            by_operators: reports.iter().map(MitigationRow::new).collect(),
        }
    }

    /// Leaves out what concerns other upstreams.
    pub(crate) fn keep_upstream(&mut self, name: &str) {
        self.upstreams.retain(|row| row.name == name);
        self.by_operators.retain(|row| row.upstream == name);
        for attack in &mut self.attacks {
            attack.mitigations.retain(|row| row.upstream == name);
        }
    }
}

impl fmt::Display for Overview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.on_hold {
            writeln!(
                f,
                "on hold: nothing new is asked for (weir dots hold --release)"
            )?;
        }
        for row in &self.upstreams {
            let state = if row.up { "up" } else { "DOWN" };
            writeln!(f, "upstream {}: session {state}", row.name)?;
            for line in &row.sees {
                writeln!(f, "  sees an attack on {line}")?;
            }
        }
        for row in &self.attacks {
            write!(f, "{row}")?;
        }
        for row in &self.by_operators {
            writeln!(f, "{row}")?;
        }
        if self.attacks.is_empty() && self.by_operators.is_empty() {
            writeln!(f, "no mitigations")?;
        }
        Ok(())
    }
}

impl fmt::Display for AttackRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seen, dropped) = (self.seen_bits_per_second, self.dropped_bits_per_second);
        writeln!(
            f,
            "attack {} on {} ({}, {}): {}",
            self.attack, self.target, self.zone, self.severity, self.request
        )?;
        write!(
            f,
            "  {} arrive here, {} are dropped",
            bits(seen),
            bits(dropped)
        )?;
        match self.dropped_share {
            Some(share) => writeln!(f, ": {:.0} % of the attack", share * 100.0)?,
            None => writeln!(f)?,
        }
        for row in &self.mitigations {
            writeln!(f, "  {row}")?;
        }
        Ok(())
    }
}

impl fmt::Display for MitigationRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "mitigation {} at {}: {}",
            self.mid, self.upstream, self.status
        )?;
        if let Some(octets) = self.bytes_dropped {
            write!(f, ", {octets} octets dropped")?;
        }
        if let Some(rate) = self.dropped_bits_per_second {
            write!(f, ", {} now", bits(rate))?;
        }
        if let Some(rate) = self.attack_bits_per_second {
            write!(f, ", of {} that it sees", bits(rate))?;
        }
        match self.lifetime {
            Some(seconds) => write!(f, ", {seconds} s left"),
            None => f.write_str(", no end"),
        }
    }
}

/// What an upstream tells of an attack, in words.
fn seen(item: &PreOrOngoingMitigation) -> String {
    let prefixes = item.target.iter().flat_map(|target| &target.target_prefix);
    let targets: Vec<String> = prefixes.map(ToString::to_string).collect();
    let kinds = item.attack_detail.iter().map(|detail| {
        let known = detail.attack_description.clone();
        let name = known.unwrap_or_else(|| format!("{}/{}", detail.vendor_id, detail.attack_id));
        let severity = detail.attack_severity.map_or("unknown", |one| one.name());
        format!("{name} ({severity})")
    });
    let kinds: Vec<String> = kinds.collect();
    let traffic = item.total_attack_traffic.iter();
    let rates = traffic.filter_map(|traffic| {
        let rate = traffic.current_g.or(traffic.mid_percentile_g)?;
        Some(format!("{rate} {}", traffic.unit.name()))
    });
    let parts = kinds.into_iter().chain(rates).collect::<Vec<_>>();
    format!("{}: {}", targets.join(", "), parts.join(", "))
}

/// A rate with its unit.
fn bits(rate: u64) -> String {
    match rate {
        0..10_000 => format!("{rate} bit/s"),
        10_000..10_000_000 => format!("{} kbit/s", rate / 1_000),
        10_000_000..10_000_000_000 => format!("{} Mbit/s", rate / 1_000_000),
        _ => format!("{:.1} Gbit/s", rate as f64 / 1e9),
    }
}

impl AttackRow {
    fn new(event: &AttackEvent, standing: &str, reports: &[MitigationReport]) -> Self {
        let normal = event
            .baseline
            .as_ref()
            .map_or(0, |normal| normal.bits_per_second);
        let seen = event.traffic.bits_per_second.current.saturating_sub(normal);
        let mitigations: Vec<MitigationRow> = reports
            .iter()
            .filter(|report| report.attack == event.id)
            .map(MitigationRow::new)
            .collect();
        let dropped = mitigations
            .iter()
            .filter_map(|row| row.dropped_bits_per_second)
            .fold(0, u64::saturating_add);
        Self {
            attack: event.id.to_string(),
            target: event.target.prefix.to_string(),
            zone: event.target.zone.to_string(),
            severity: format!("{:?}", event.severity).to_lowercase(),
            request: standing.to_owned(),
            seen_bits_per_second: seen,
            dropped_bits_per_second: dropped,
            dropped_share: (dropped > 0)
                .then(|| dropped as f64 / dropped.saturating_add(seen) as f64),
            mitigations,
        }
    }
}

impl MitigationRow {
    /// The newest word.
    pub(crate) fn new(report: &MitigationReport) -> Self {
        Self {
            upstream: report.upstream.to_string(),
            mid: report.mid,
            status: report.status.name().to_owned(),
            dropped_bits_per_second: report
                .bytes_dropped_per_second
                .map(|octets| octets.saturating_mul(8)),
            bytes_dropped: report.bytes_dropped,
            attack_bits_per_second: report.attack_bits_per_second,
            lifetime: report.lifetime,
        }
    }
}
