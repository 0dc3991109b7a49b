use std::fmt::Write as _;

use super::scenario::ScenarioFile;

/// A configuration of Weir that fits a scenario: its zones, its limits in both directions, and the sampling rates that an
/// operator would have to know. What the scenario's own `configuration` says follows.
pub fn configuration(file: &ScenarioFile) -> String {
    let mut text = String::new();
    let limits = file.limits;
    // Writing to a String cannot fail.
    for (number, exporter) in (1..).zip(&file.exporters) {
        let Some(rate) = exporter
            .sampling
            .first()
            .filter(|_| exporter.configured_rate)
        else {
            continue;
        };
        let last = u8::try_from(number).unwrap_or(254);
        let address = exporter.address.unwrap_or_else(|| [192, 0, 2, last].into());
        let _ = writeln!(
            text,
            "[[exporter]]\naddress = \"{address}\"\nname = \"exporter-{number}\"\ndefault_sampling_rate = {rate}\n"
        );
    }
    for direction in ["in", "out"] {
        let _ = writeln!(
            text,
            "[[threshold]]\nscope = \"host\"\ndirection = \"{direction}\"\nvector = \"total\"\nbits_per_second = {}\npackets_per_second = {}\nflows_per_second = {}\n",
            limits.bits_per_second.0, limits.packets_per_second.0, limits.flows_per_second.0,
        );
    }
    for zone in &file.zones {
        let prefixes: Vec<String> = zone
            .prefixes
            .iter()
            .map(|prefix| format!("\"{}\"", prefix.trunc()))
            .collect();
        let _ = writeln!(
            text,
            "[[zone]]\nname = \"{}\"\nprefixes = [{}]\n",
            zone.name,
            prefixes.join(", ")
        );
    }
    text.push_str(file.configuration.trim_start());
    text
}
