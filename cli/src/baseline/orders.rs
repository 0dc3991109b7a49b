//! What is asked of baselines, by the daemon's judge or over the state file.

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use weir_baseline::{BaselineReport, Baselines, HourNormal};
use weir_dots_export::{baseline_body, imported_baselines};
use weir_dots_proto::body::{Baseline, Body, TelemetrySetup};
use weir_dots_server::ReportedBaselines;
use weir_flow_record::{Direction, Timestamp};

/// Targets listed at most: each costs the judge some time.
const MAX_LISTED: usize = 1000;

/// What is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum BaselineOrder {
    /// Reports of targets: zones, exporters and links, then prefixes and hosts, the busiest first.
    List { direction: Direction, most: usize },
    /// One target with its hours of the week.
    Show {
        target: String,
        direction: Direction,
    },
    /// The body of a telemetry setup (RFC 9244 §7.3).
    Export { most: usize },
    /// Takes such a body in.
    Import { body: Value },
}

/// A target with its hours.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Shown {
    #[serde(flatten)]
    pub(crate) report: BaselineReport,
    /// What is normal in each hour of the week.
    pub(crate) hours: Vec<HourNormal>,
}

/// What became of a body.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub(crate) struct Imported {
    /// Targets that are known better now.
    pub(crate) targets: Vec<String>,
    /// Why something was left out.
    pub(crate) refused: Vec<String>,
}

/// Does what is asked.
pub(crate) fn answer(
    baselines: &mut Baselines,
    now: Timestamp,
    order: &BaselineOrder,
) -> anyhow::Result<Value> {
    Ok(match order {
        BaselineOrder::List { direction, most } => {
            let most = (*most).min(MAX_LISTED);
            serde_json::to_value(baselines.list(*direction, most))?
        }
        BaselineOrder::Show { target, direction } => {
            let unknown = || format!("nothing is known of `{target}`");
            let found = baselines.named(target, *direction).with_context(unknown)?;
            let shown = Shown {
                report: baselines.report(&found).with_context(unknown)?,
                hours: baselines.hours(&found),
            };
            serde_json::to_value(shown)?
        }
        BaselineOrder::Export { most } => {
            let reports = baselines.reports((*most).min(MAX_LISTED));
            if reports.is_empty() {
                bail!("nothing is known yet");
            }
            baseline_body(&reports).to_json()
        }
        BaselineOrder::Import { body } => {
            let setup = TelemetrySetup::from_json(body).context("this is no telemetry setup")?;
            let all = setup.telemetry.iter().flat_map(|it| &it.baseline);
            serde_json::to_value(take(baselines, now, all, &[]))?
        }
    })
}

/// Takes in what a client of the DOTS server reports.
pub(crate) fn import_reported(
    baselines: &mut Baselines,
    now: Timestamp,
    reported: &ReportedBaselines,
) -> Imported {
    take(baselines, now, &reported.baselines, &reported.prefixes)
}

fn take<'a>(
    baselines: &mut Baselines,
    now: Timestamp,
    all: impl IntoIterator<Item = &'a Baseline>,
    owned: &[ipnet::IpNet],
) -> Imported {
    let (imported, unknown) = imported_baselines(all, owned);
    let mut result = Imported::default();
    for one in &imported {
        let prefixes: Vec<String> = one.prefixes.iter().map(ToString::to_string).collect();
        let name = if prefixes.is_empty() {
            "the whole domain".to_owned()
        } else {
            prefixes.join(", ")
        };
        match baselines.import(one, now) {
            Ok(_) => result.targets.push(name),
            Err(error) => result.refused.push(format!("{name}: {error}")),
        }
    }
    if unknown > 0 {
        let why = "of names, of several ports or protocols together, or without traffic";
        result.refused.push(format!("{unknown} baselines {why}"));
    }
    result
}
