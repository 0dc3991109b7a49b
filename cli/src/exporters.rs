//! `weir exporters`: who exports to the running daemon.

use anyhow::Context;
use hyper::Method;
use serde_json::Value;
use weir_flow_record::ColumnSet;

use crate::admin;
use crate::arguments::ExportersArguments;
use crate::config;
use crate::dots::runtime;

/// Runs the command.
pub(crate) fn run(arguments: &ExportersArguments) -> anyhow::Result<()> {
    let settings = config::load(&arguments.config.config, ColumnSet::NONE)?;
    let answer = runtime()?.block_on(admin::ask::<()>(
        &settings.state_dir,
        Method::GET,
        "/api/v1/exporters",
        None,
    ))?;
    let octets =
        answer.with_context(|| format!("no daemon runs on {}", settings.state_dir.display()))?;
    let exporters: Vec<Value> = serde_json::from_slice(&octets)?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&exporters)?);
        return Ok(());
    }
    println!(
        "{:<24} {:<16} {:>11} {:>13} {:>9} {:>5} {:>8} {:>9} {:>8} {:>9} {:>9} {:>11}",
        "EXPORTER",
        "PROTOCOLS",
        "DATAGRAMS",
        "RECORDS",
        "TEMPLATES",
        "GAPS",
        "MISSING",
        "DUPLICATE",
        "BAD SETS",
        "SKEW s",
        "COVERAGE",
        "OF COUNTERS"
    );
    for exporter in &exporters {
        let protocols: Vec<&str> = exporter["protocols"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let figure = |name: &str| exporter[name].as_u64().unwrap_or(0);
        println!(
            "{:<24} {:<16} {:>11} {:>13} {:>9} {:>5} {:>8} {:>9} {:>8} {:>9.3} {:>8.2}% {:>11}{}",
            exporter["name"].as_str().unwrap_or(""),
            protocols.join(","),
            figure("datagrams"),
            figure("records"),
            figure("templates"),
            figure("sequence_gaps"),
            figure("missing_records"),
            figure("duplicate_datagrams"),
            figure("undecodable_sets"),
            exporter["skew_seconds"].as_f64().unwrap_or(0.0),
            exporter["coverage_share"].as_f64().unwrap_or(1.0) * 100.0,
            explained(figure("interface_flow_octets"), figure("interface_octets")),
            exporter["silent_since"]
                .as_str()
                .map(|since| format!("  silent since {since}"))
                .unwrap_or_default(),
        );
    }
    Ok(())
}

/// How much of what interface counters tell the flow samples make up, where the exporter tells both.
fn explained(flows: u64, counters: u64) -> String {
    match counters {
        0 => "–".to_owned(),
        _ => format!("{:.1}%", flows as f64 / counters as f64 * 100.0),
    }
}
