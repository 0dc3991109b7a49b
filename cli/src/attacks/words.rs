//! An attack in words: what was seen, how sure that is, and where its flows are.

use std::fmt::{self, Write as _};

use weir_attack_event::{
    AttackEvent, EventKind, Evidence, Findings, Gauge, PortSide, TopTalker, VectorShare,
};
use weir_flow_record::{Direction, Timestamp};
use weir_flow_store::Bundle;

use super::AttackView;

impl fmt::Display for AttackView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        head(f, &self.event)?;
        traffic(f, &self.event)?;
        if let Some(findings) = &self.event.findings {
            found(f, findings, self.event.target.direction)?;
        }
        if let Some(report) = &self.event.mitigation {
            let dropped = report
                .bytes_dropped_per_second
                .map(|octets| rate(octets.saturating_mul(8), "bit/s"));
            writeln!(
                f,
                "mitigation {} by {}: {}{}",
                report.mid,
                report.upstream,
                report.status.name(),
                dropped.map_or_else(String::new, |dropped| format!(", {dropped} dropped")),
            )?;
        }
        match &self.label {
            Some(label) => {
                write!(f, "labelled {} by {}, {}", label.name, label.by, label.at)?;
                let note = &label.note;
                writeln!(f, "{}{note}", if note.is_empty() { "" } else { ": " })?;
            }
            None => writeln!(f, "no label (weir attacks label {} NAME)", self.event.id)?,
        }
        match &self.bundle {
            Some(bundle) => files(f, bundle),
            None => writeln!(f, "no flows of it are kept"),
        }
    }
}

fn head(f: &mut fmt::Formatter<'_>, event: &AttackEvent) -> fmt::Result {
    let side = match event.target.direction {
        Direction::In => "on",
        Direction::Out => "from inside, from",
    };
    let state = match event.kind {
        EventKind::AttackEnd => "ended",
        _ => "open",
    };
    writeln!(
        f,
        "attack {} {side} {} (zone {}): {state}, severity {}{}",
        event.id,
        event.target.prefix,
        event.target.zone,
        format!("{:?}", event.severity).to_lowercase(),
        if event.dry_run { ", dry run" } else { "" },
    )?;
    let until = event.end_time.unwrap_or(event.time);
    writeln!(
        f,
        "from {} {} {} ({}); detected {}",
        event.start_time,
        if event.end_time.is_some() {
            "to"
        } else {
            "until now,"
        },
        until,
        span(event.start_time, until),
        event.detected_at,
    )?;
    if !event.vectors.is_empty() {
        writeln!(f, "kinds of traffic: {}", vectors(&event.vectors))?;
    }
    for reason in &event.why {
        writeln!(f, "why: {}", reason.0)?;
    }
    Ok(())
}

fn traffic(f: &mut fmt::Formatter<'_>, event: &AttackEvent) -> fmt::Result {
    gauge(f, "bits", "bit/s", &event.traffic.bits_per_second)?;
    gauge(f, "packets", "packets/s", &event.traffic.packets_per_second)?;
    if let Some(normal) = &event.baseline {
        writeln!(
            f,
            "normal: {}, {}",
            rate(normal.bits_per_second, "bit/s"),
            rate(normal.packets_per_second, "packets/s")
        )?;
    }
    writeln!(
        f,
        "coverage: {:.1} % of what exporters sent was seen",
        event.coverage.0 * 100.0
    )
}

fn gauge(f: &mut fmt::Formatter<'_>, name: &str, unit: &str, gauge: &Gauge) -> fmt::Result {
    let (low, high) = gauge.interval;
    let high = high.map_or("no upper bound".to_owned(), |high| rate(high, unit));
    writeln!(
        f,
        "{name}: {} now (95 %: {} to {high}), median {}, peak {}",
        rate(gauge.current, unit),
        rate(low, unit),
        rate(gauge.mid, unit),
        rate(gauge.peak, unit),
    )
}

fn found(f: &mut fmt::Formatter<'_>, findings: &Findings, direction: Direction) -> fmt::Result {
    let evidence = &findings.evidence;
    let sources = match direction {
        Direction::In => "sources",
        Direction::Out => "hosts inside that send",
    };
    writeln!(f, "{sources} seen: {}", findings.source_count)?;
    forged(f, findings)?;
    for talker in &findings.top_talkers {
        writeln!(f, "  {}", line(talker))?;
    }
    if !evidence.inside_sources.is_empty() {
        writeln!(f, "inside sources, largest first:")?;
        for host in &evidence.inside_sources {
            writeln!(
                f,
                "  {:<40} {:>16} {:>16} {:>7}",
                host.address,
                rate(host.bits_per_second, "bit/s"),
                rate(host.packets_per_second, "packets/s"),
                percent(host.share)
            )?;
        }
    }
    if let Some(count) = evidence.destination_count {
        let hit = evidence.destinations.iter();
        let hit: Vec<String> = hit
            .map(|hit| format!("{} {}", hit.prefix, percent(hit.share)))
            .collect();
        writeln!(f, "destinations seen: {count}; {}", hit.join(", "))?;
    }
    let ports: Vec<String> = findings
        .ports
        .iter()
        .map(|port| {
            let side = match port.side {
                PortSide::Source => "from",
                PortSide::Destination => "to",
            };
            let protocol = protocol(port.protocol);
            format!("{side} {protocol}/{} {}", port.port, percent(port.share))
        })
        .collect();
    list(f, "ports", ports)?;
    let protocols = findings.protocols.iter();
    list(
        f,
        "protocols",
        protocols
            .map(|share| format!("{} {}", protocol(share.protocol), percent(share.share)))
            .collect(),
    )?;
    packets(f, evidence)
}

fn forged(f: &mut fmt::Formatter<'_>, findings: &Findings) -> fmt::Result {
    let all = !findings.top_talkers.is_empty();
    if all && findings.top_talkers.iter().all(|t| t.spoofed == Some(true)) {
        writeln!(
            f,
            "the sources look forged: nearly all occur once, spread evenly over all addresses"
        )?;
    }
    if let Some(share) = findings.evidence.impossible_sources {
        writeln!(
            f,
            "{} of the packets come from addresses that nobody can have: forged",
            percent(share)
        )?;
    }
    Ok(())
}

fn packets(f: &mut fmt::Formatter<'_>, evidence: &Evidence) -> fmt::Result {
    let ttls = evidence.ttl.iter();
    list(
        f,
        "TTL",
        ttls.map(|ttl| format!("{} {}", ttl.ttl, percent(ttl.share)))
            .collect(),
    )?;
    if let Some(sizes) = &evidence.packet_size {
        let classes = sizes.classes.iter().map(|class| {
            let to = class.to.map_or(String::new(), |to| to.to_string());
            format!("{}-{to} {}", class.from, percent(class.share))
        });
        let classes: Vec<String> = classes.collect();
        writeln!(
            f,
            "packet size: mean {}, median {} octets; {}",
            sizes.mean,
            sizes.mid,
            classes.join(", ")
        )?;
    }
    let flags = evidence.tcp_flags.iter();
    list(
        f,
        "TCP flags",
        flags
            .map(|share| format!("{} {}", share.flags, percent(share.share)))
            .collect(),
    )?;
    let systems = evidence.source_as.iter();
    list(
        f,
        "source AS",
        systems
            .map(|system| {
                let name = system.name.as_deref().unwrap_or("");
                let space = if name.is_empty() { "" } else { " " };
                format!("{}{space}{name} {}", system.asn, percent(system.share))
            })
            .collect(),
    )?;
    let countries = evidence.source_countries.iter();
    list(
        f,
        "countries",
        countries
            .map(|country| format!("{} {}", country.country, percent(country.share)))
            .collect(),
    )
}

fn list(f: &mut fmt::Formatter<'_>, name: &str, items: Vec<String>) -> fmt::Result {
    if items.is_empty() {
        return Ok(());
    }
    writeln!(f, "{name}: {}", items.join(", "))
}

fn files(f: &mut fmt::Formatter<'_>, bundle: &Bundle) -> fmt::Result {
    match &bundle.info {
        Some(info) => writeln!(
            f,
            "flows: {} records kept, {} left out (weir replay {})",
            info.rows,
            info.left_out_rows,
            bundle.folder.display()
        )?,
        None => writeln!(f, "flows in {}", bundle.folder.display())?,
    }
    for (path, octets) in &bundle.files {
        writeln!(f, "  {:>10}  {}", octets, path.display())?;
    }
    Ok(())
}

fn line(talker: &TopTalker) -> String {
    let origin = &talker.origin;
    let mut text = format!(
        "{:<40} {:>16} {:>16} {:>7}",
        talker.source_prefix,
        rate(talker.bits_per_second, "bit/s"),
        rate(talker.packets_per_second, "packets/s"),
        percent(talker.share)
    );
    if let Some(asn) = origin.asn {
        // Writing to a String cannot fail.
        let _ = write!(text, "  AS{asn}");
    }
    for word in [&origin.as_name, &origin.country, &origin.network] {
        text.extend(word.iter().flat_map(|word| [" ", word.as_str()]));
    }
    text
}

/// Kinds of traffic and their shares.
pub(super) fn vectors(vectors: &[VectorShare]) -> String {
    let named: Vec<String> = vectors
        .iter()
        .map(|vector| format!("{} {}", vector.name, percent(vector.share)))
        .collect();
    named.join(", ")
}

/// A rate with its unit, in three digits or so.
pub(super) fn rate(value: u64, unit: &str) -> String {
    let (value, prefix) = match value {
        0..10_000 => return format!("{value} {unit}"),
        10_000..1_000_000 => (value as f64 / 1e3, "k"),
        1_000_000..1_000_000_000 => (value as f64 / 1e6, "M"),
        _ => (value as f64 / 1e9, "G"),
    };
    format!("{value:.1} {prefix}{unit}")
}

/// Time between two points, in whole seconds.
pub(super) fn span(from: Timestamp, to: Timestamp) -> String {
    let seconds = to.since(from).as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

fn protocol(number: u8) -> String {
    match number {
        1 => "ICMP".to_owned(),
        6 => "TCP".to_owned(),
        17 => "UDP".to_owned(),
        47 => "GRE".to_owned(),
        50 => "ESP".to_owned(),
        58 => "ICMPv6".to_owned(),
        132 => "SCTP".to_owned(),
        _ => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_readable() {
        assert_eq!(rate(9_999, "bit/s"), "9999 bit/s");
        assert_eq!(rate(1_234_567, "bit/s"), "1.2 Mbit/s");
        let at = Timestamp::from_seconds;
        assert_eq!(span(at(0), at(59)), "59 s");
        assert_eq!(span(at(0), at(61)), "1 min 1 s");
        assert_eq!(span(at(0), at(7_261)), "2 h 1 min");
    }
}
