//! `weir dots drill`: whether each upstream would help, and how soon, without any traffic being touched.

use std::time::Instant;

use anyhow::{Context, bail};
use hyper::Method;
use ipnet::IpNet;
use serde::Serialize;
use weir_attack_event::MitigationReport;
use weir_dots_export::{ClientCommand, UpstreamSettings};
use weir_flow_record::ColumnSet;

use super::{OwnSession, runtime};
use crate::admin::{self, MitigationRequest, Withdrawal};
use crate::arguments::{self, DrillArguments};
use crate::config::{self, Settings};

/// Lifetime of the request, in case that the withdrawal gets lost.
const LIFETIME: u32 = 120;

/// How an upstream did.
#[derive(Serialize)]
struct Drilled {
    upstream: String,
    target: IpNet,
    /// Milliseconds to the answer; without a daemon the handshake counts in.
    accepted_ms: Option<u128>,
    /// Milliseconds to the answer to the withdrawal.
    withdrawn_ms: Option<u128>,
    /// What went wrong.
    error: Option<String>,
}

pub(super) fn run(arguments: &DrillArguments) -> anyhow::Result<()> {
    let settings = config::load(&arguments.config.config, ColumnSet::NONE)?;
    let named = |upstream: &&UpstreamSettings| {
        let wanted = arguments.upstream.as_deref();
        wanted.is_none_or(|wanted| wanted == &*upstream.name)
    };
    let upstreams: Vec<&UpstreamSettings> =
        settings.export.upstreams().iter().filter(named).collect();
    if upstreams.is_empty() {
        bail!("there is no such upstream");
    }
    let runtime = runtime()?;
    let mut all = Vec::new();
    for upstream in upstreams {
        let target = target(arguments, &settings, upstream)?;
        let drilled = runtime.block_on(drill(&settings, &upstream.name, target));
        if !arguments.json {
            tell(&drilled);
        }
        all.push(drilled);
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&all)?);
    }
    let failed = all.iter().filter(|one| one.error.is_some()).count();
    if failed > 0 {
        bail!("{failed} of {} upstreams did not pass", all.len());
    }
    Ok(())
}

fn target(
    arguments: &DrillArguments,
    settings: &Settings,
    upstream: &UpstreamSettings,
) -> anyhow::Result<IpNet> {
    if let Some(text) = &arguments.target {
        return arguments::prefix(text).map_err(anyhow::Error::msg);
    }
    let zones = settings.detector.zones.iter();
    let prefix = upstream
        .prefixes
        .first()
        .or_else(|| zones.flat_map(|zone| &zone.prefixes).next())
        .context("say --target: neither the upstream nor a zone has a prefix")?;
    Ok(IpNet::from(prefix.addr()))
}

async fn drill(settings: &Settings, upstream: &str, target: IpNet) -> Drilled {
    let mut drilled = Drilled {
        upstream: upstream.to_owned(),
        target,
        accepted_ms: None,
        withdrawn_ms: None,
        error: None,
    };
    if let Err(error) = try_drill(settings, &mut drilled).await {
        drilled.error = Some(format!("{error:#}"));
    }
    drilled
}

async fn try_drill(settings: &Settings, drilled: &mut Drilled) -> anyhow::Result<()> {
    let wanted = MitigationRequest {
        upstream: Some(drilled.upstream.clone()),
        targets: vec![drilled.target],
        protocols: Vec::new(),
        ports: Vec::new(),
        lifetime: LIFETIME,
        keep: false,
        drill: true,
        on_signal_loss: false,
    };
    let began = Instant::now();
    let path = "/api/v1/dots/request";
    let Some(octets) = admin::ask(&settings.state_dir, Method::POST, path, Some(&wanted)).await?
    else {
        return drill_alone(settings, drilled, &wanted).await;
    };
    drilled.accepted_ms = Some(began.elapsed().as_millis());
    let report: MitigationReport = serde_json::from_slice(&octets)?;
    let withdrawal = Withdrawal {
        upstream: wanted.upstream,
        mid: report.mid,
    };
    let began = Instant::now();
    let path = "/api/v1/dots/withdraw";
    admin::ask(&settings.state_dir, Method::POST, path, Some(&withdrawal)).await?;
    drilled.withdrawn_ms = Some(began.elapsed().as_millis());
    Ok(())
}

/// Without a daemon: over a session of this command's own.
async fn drill_alone(
    settings: &Settings,
    drilled: &mut Drilled,
    wanted: &MitigationRequest,
) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut session = OwnSession::open(settings, wanted.upstream.as_deref())?;
    let (attack, command) = wanted.command();
    session.send(command).await?;
    let answer = session
        .wait(|notice| admin::answer_to(&attack, notice))
        .await?;
    answer?;
    drilled.accepted_ms = Some(began.elapsed().as_millis());
    let began = Instant::now();
    let withdrawal = ClientCommand::Withdraw {
        attack: attack.clone(),
    };
    session.send(withdrawal).await?;
    session
        .wait(|notice| admin::is_withdrawn(&attack, notice).then_some(()))
        .await?;
    drilled.withdrawn_ms = Some(began.elapsed().as_millis());
    session.close().await;
    Ok(())
}

fn tell(drilled: &Drilled) {
    let Drilled {
        upstream, target, ..
    } = drilled;
    match (drilled.accepted_ms, drilled.withdrawn_ms, &drilled.error) {
        (Some(accepted), Some(withdrawn), _) => {
            println!("{upstream}: {target} accepted in {accepted} ms, withdrawn in {withdrawn} ms");
        }
        (Some(accepted), None, error) => println!(
            "{upstream}: {target} accepted in {accepted} ms, but not withdrawn: {}",
            error.as_deref().unwrap_or_default()
        ),
        (None, _, error) => println!(
            "{upstream}: {target} not accepted: {}",
            error.as_deref().unwrap_or_default()
        ),
    }
}
