//! Baselines as tables.

use std::fmt::Write as _;

use weir_baseline::{BaselineReport, Level, Normal};
use weir_flow_record::Direction;

use super::orders::Shown;

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// A line for each target.
pub(super) fn list(reports: &[BaselineReport]) -> String {
    let mut text = format!(
        "{:<10} {:<28} {:<3} {:>9} {:>9} {:>9} {:>9} {:>9} {:>8} {:>5}\n",
        "KIND", "TARGET", "DIR", "LOW", "MID", "HIGH", "PEAK", "PACKETS", "LEARNED", "SURE"
    );
    for report in reports {
        let Level {
            low,
            mid,
            high,
            peak,
            ..
        } = report.total.bits;
        let _ = writeln!(
            text,
            "{:<10} {:<28} {:<3} {:>9} {:>9} {:>9} {:>9} {:>9} {:>8} {:>4.0}%",
            report.kind,
            report.name,
            direction(report.direction),
            scaled(low),
            scaled(mid),
            scaled(high),
            scaled(peak),
            scaled(report.total.packets.mid),
            learned(&report.total),
            report.total.confidence * 100.0,
        );
    }
    if reports.is_empty() {
        text.push_str("nothing is known yet\n");
    }
    text
}

/// One target: over all hours, by protocol, port and vector, and by hour of the week.
pub(super) fn target(shown: &Shown) -> String {
    let report = &shown.report;
    let total = &report.total;
    let mut text = format!(
        "{} {} {}: learned {} from {} to {}, {:.0} % sure",
        report.kind,
        report.name,
        direction(report.direction),
        learned(total),
        total.since,
        total.updated,
        total.confidence * 100.0,
    );
    if total.imported > 0.0 {
        let _ = write!(text, ", {:.0} % of it imported", total.imported * 100.0);
    }
    let _ = writeln!(
        text,
        "\n\n{:<24} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "PER SECOND", "LOW", "MID", "HIGH", "PEAK", "AVERAGE"
    );
    line(&mut text, "bits", &total.bits);
    line(&mut text, "packets", &total.packets);
    line(&mut text, "flows", &total.flows);
    if let Some(connections) = &total.connections {
        line(&mut text, "connections", connections);
    }
    for it in &report.protocols {
        line(
            &mut text,
            &format!("protocol {}, bits", it.protocol),
            &it.normal.bits,
        );
    }
    for it in &report.ports {
        let name = format!("port {}/{}, bits", it.port, protocol(it.protocol));
        line(&mut text, &name, &it.normal.bits);
    }
    for it in &report.vectors {
        line(&mut text, &format!("{}, bits", it.vector), &it.normal.bits);
    }
    week(&mut text, shown);
    text
}

fn week(text: &mut String, shown: &Shown) {
    let _ = write!(text, "\nBITS, MID");
    for day in DAYS {
        let _ = write!(text, " {day:>9}");
    }
    text.push_str("   UTC\n");
    for hour in 0..24 {
        let _ = write!(text, "{hour:>6}:00");
        for day in 0..7 {
            let wanted = day * 24 + hour;
            let found = shown.hours.iter().find(|it| it.hour == wanted);
            let level = found.map(|it| scaled(it.normal.bits.mid));
            let _ = write!(text, " {:>9}", level.unwrap_or_else(|| "-".to_owned()));
        }
        text.push('\n');
    }
}

fn line(text: &mut String, name: &str, level: &Level) {
    let levels = [level.low, level.mid, level.high, level.peak, level.average].map(scaled);
    let [low, mid, high, peak, average] = levels;
    let _ = writeln!(
        text,
        "{name:<24} {low:>9} {mid:>9} {high:>9} {peak:>9} {average:>9}"
    );
}

fn protocol(number: u8) -> String {
    match number {
        0 => "any".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        132 => "sctp".to_owned(),
        other => other.to_string(),
    }
}

fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::In => "in",
        Direction::Out => "out",
    }
}

/// Time that was learned from.
fn learned(normal: &Normal) -> String {
    let seconds = normal.seconds_learned;
    match seconds {
        0..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Three or four digits and an SI letter.
fn scaled(value: f64) -> String {
    const UNITS: [(f64, &str); 4] = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    for (factor, letter) in UNITS {
        if value >= factor {
            return format!("{:.2} {letter}", value / factor);
        }
    }
    format!("{value:.0}  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        for (value, text) in [
            (0.4, "0  "),
            (999.0, "999  "),
            (1500.0, "1.50 k"),
            (4.2e9, "4.20 G"),
        ] {
            assert_eq!(scaled(value), text);
        }
        assert!(list(&[]).contains("nothing is known"));
    }
}
