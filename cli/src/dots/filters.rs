//! `weir dots filters`: what is installed at an upstream, and what an attack suggests to install.

use anyhow::{Context, bail};
use hyper::Method;
use ipnet::IpNet;
use weir_attack_event::AttackEvent;
use weir_data_channel::filters::Plan;
use weir_data_channel::model::{Acl, Acls};
use weir_dots_proto::Cuid;
use weir_flow_record::ColumnSet;

use super::runtime;
use crate::admin;
use crate::arguments::FiltersArguments;
use crate::config::{self, Settings};
use crate::data_channel::{client, upstreams};
use crate::filters::answer_to;

/// Entries of a proposal.
const MAX_ENTRIES: usize = 64;
/// Sources with a smaller share of an attack are not worth a filter.
const LEAST_SHARE: f64 = 0.01;

pub(super) fn run(arguments: &FiltersArguments) -> anyhow::Result<()> {
    let settings = config::load(&arguments.config.config, ColumnSet::NONE)?;
    let upstream = upstreams(&settings, arguments.upstream.as_deref())
        .next()
        .context("no such upstream has a data_channel")?;
    let runtime = runtime()?;
    match &arguments.propose {
        None => runtime.block_on(list(&settings, upstream)),
        Some(attack) => {
            let event = runtime.block_on(find(&settings, attack))?;
            let acls = propose(&event)?;
            println!(
                "{}",
                serde_json::to_string_pretty(&Acls(acls.clone()).json())?
            );
            if arguments.install {
                runtime.block_on(install(&settings, upstream, &acls))?;
                println!("installed at {upstream}");
            }
            Ok(())
        }
    }
}

async fn list(settings: &Settings, upstream: &str) -> anyhow::Result<()> {
    let mut client = open(settings, upstream).await?;
    client.register().await?;
    let states = client.acl_states().await?;
    let entries = client.acls().await?;
    if entries.is_empty() {
        println!("no filters at {upstream}");
    }
    for entry in entries {
        let acl = &entry.acl;
        print!(
            "{}: {}, {} entries",
            acl.name,
            acl.activation.name(),
            acl.aces.len()
        );
        let state = states.iter().find(|state| state.name == acl.name);
        if let Some(state) = state {
            let matched = state.matched.values().map(|matched| matched.packets);
            let packets = matched.fold(0, u64::saturating_add);
            print!(", {packets} packets matched");
            if let Some(minutes) = state.pending_lifetime {
                print!(", {minutes} minutes left");
            }
        }
        println!();
    }
    Ok(())
}

async fn install(settings: &Settings, upstream: &str, acls: &[Acl]) -> anyhow::Result<()> {
    let mut client = open(settings, upstream).await?;
    client.register().await?;
    for acl in acls {
        client.put_acl(acl, None).await?;
    }
    Ok(())
}

async fn open(
    settings: &Settings,
    upstream: &str,
) -> anyhow::Result<weir_data_channel::client::DataClient> {
    let upstream = settings
        .export
        .upstream(upstream)
        .context("there is no such upstream")?;
    let credentials = upstream.open_credentials()?;
    let cuid = Cuid::from_hash_input(credentials.spki_sha256());
    let client = client(upstream, &cuid).await?;
    client.context("the upstream has no data_channel")
}

/// The latest event of an attack, from the running daemon.
async fn find(settings: &Settings, attack: &str) -> anyhow::Result<AttackEvent> {
    let path = "/api/v1/attacks";
    let octets = admin::ask::<()>(&settings.state_dir, Method::GET, path, None)
        .await?
        .context("no daemon runs on this state directory")?;
    let events: Vec<AttackEvent> = serde_json::from_slice(&octets)?;
    let Some(event) = events.into_iter().find(|event| &*event.id.0 == attack) else {
        bail!("there is no attack `{attack}`")
    };
    Ok(event)
}

/// Filters that an attack suggests: its kinds of traffic limited or dropped, its top talkers dropped where they are not forged.
fn propose(event: &AttackEvent) -> anyhow::Result<Vec<Acl>> {
    let target = [event.target.prefix];
    let normal = event.baseline.as_ref();
    let normal = normal.map(|normal| normal.bits_per_second / 8);
    let mut acls = Vec::new();
    for share in event.vectors.iter().filter(|one| one.share >= 0.1) {
        let answer = share.name.vector();
        if let Some((traffic, actions)) = answer.and_then(|vector| answer_to(vector, normal)) {
            let name = format!("op-{}", share.name.name());
            acls.extend(Plan::traffic(&name, traffic, &target, actions).acls(MAX_ENTRIES)?);
        }
    }
    let talkers: Vec<IpNet> = event
        .findings
        .iter()
        .flat_map(|findings| &findings.top_talkers)
        .filter(|talker| talker.spoofed != Some(true) && talker.share >= LEAST_SHARE)
        .map(|talker| talker.source_prefix)
        .take(MAX_ENTRIES)
        .collect();
    if !talkers.is_empty() {
        let plan = Plan::drop_sources("op-top-talkers", &talkers, &target);
        acls.extend(plan.acls(MAX_ENTRIES)?);
    }
    if acls.is_empty() {
        bail!("nothing in this attack tells it from other traffic");
    }
    Ok(acls)
}
