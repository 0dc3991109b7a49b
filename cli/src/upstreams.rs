//! Upstream clients and the embedded DOTS server as tasks.

use std::sync::Arc;

use anyhow::Context;
use ipnet::IpNet;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use weir_baseline::BaselineReport;
use weir_data_channel::DataServer;
use weir_dots_export::{
    Client, ClientCommand, ClientNotice, ClientParameters, HeldMitigation, Link, SessionState,
    UpstreamSettings, baseline_plan, is_operators, run_upstream, setup_plan,
};
use weir_dots_proto::Cuid;
use weir_dots_server::{
    BoundServer, DotsServerSettings, Mitigator, Observation, Report, ReportedBaselines,
    TransportView, start_mitigators,
};
use weir_state::State;

use crate::config::Settings;
use crate::data_channel;
use crate::journal::{ClientJournal, Journal};
use crate::views::Views;

/// Commands that wait for a client.
const QUEUE: usize = 256;

/// A client that runs.
pub(crate) struct Started {
    pub(crate) name: Arc<str>,
    pub(crate) cuid: Cuid,
    pub(crate) commands: mpsc::Sender<ClientCommand>,
    pub(crate) task: JoinHandle<()>,
    /// Mitigations of earlier runs.
    pub(crate) held: Vec<HeldMitigation>,
    /// Its data channel, as long as it is to be kept up.
    pub(crate) data: Option<data_channel::Kept>,
}

/// Starts the clients of all upstreams, in the order of the configuration, each with a cuid of its own that ends with `suffix`.
/// Call within a runtime.
pub(crate) fn start(
    settings: &Settings,
    journal: &Arc<Journal>,
    notices: &mpsc::Sender<ClientNotice>,
    stopped: &watch::Receiver<bool>,
    normal: &[BaselineReport],
    suffix: &str,
) -> anyhow::Result<Vec<Started>> {
    settings
        .export
        .upstreams()
        .iter()
        .map(|upstream| {
            let mut started = launch(upstream, journal, notices, stopped, suffix)?;
            started.data =
                data_channel::start_client(settings, upstream, &started.cuid, &started.commands)?;
            // An empty queue has room.
            let _ = started.commands.try_send(setup(settings, upstream, normal));
            if upstream.subscribe {
                let targets = targets(settings, upstream);
                let _ = started.commands.try_send(ClientCommand::Watch { targets });
            }
            Ok(started)
        })
        .collect()
}

/// Prefixes of the zones that concern an upstream, each once.
fn targets(settings: &Settings, upstream: &UpstreamSettings) -> Vec<IpNet> {
    let zones = settings.detector.zones.iter();
    let own: Vec<IpNet> = zones
        .filter(|zone| upstream.holds(&zone.prefixes))
        .flat_map(|zone| zone.prefixes.iter().copied())
        .collect();
    IpNet::aggregate(&own)
}

/// What the upstream is told of normal times.
pub(crate) fn setup(
    settings: &Settings,
    upstream: &UpstreamSettings,
    normal: &[BaselineReport],
) -> ClientCommand {
    let zones = settings.detector.zones.iter();
    let links: Vec<Link> = zones
        .filter_map(|zone| {
            Some(Link {
                name: zone.name.to_string(),
                prefixes: zone.prefixes.clone(),
                capacity: zone.pipe_capacity?,
            })
        })
        .collect();
    let mut plan = setup_plan(upstream, &links, settings.export.telemetry_interval());
    if let Some(baselines) = baseline_plan(upstream, normal) {
        plan.insert("baseline".to_owned(), baselines);
    }
    ClientCommand::Setup { plan }
}

/// Starts the client of one upstream; the first of the configuration by default.
pub(crate) fn start_one(
    settings: &Settings,
    name: Option<&str>,
    journal: &Arc<Journal>,
    notices: &mpsc::Sender<ClientNotice>,
    stopped: &watch::Receiver<bool>,
) -> anyhow::Result<Started> {
    let upstream = match name {
        Some(name) => settings
            .export
            .upstream(name)
            .with_context(|| format!("there is no upstream `{name}`"))?,
        None => settings
            .export
            .upstreams()
            .first()
            .context("the configuration has no [[upstream]]")?,
    };
    launch(upstream, journal, notices, stopped, "")
}

fn launch(
    upstream: &UpstreamSettings,
    journal: &Arc<Journal>,
    notices: &mpsc::Sender<ClientNotice>,
    stopped: &watch::Receiver<bool>,
    suffix: &str,
) -> anyhow::Result<Started> {
    let name = Arc::clone(&upstream.name);
    let credentials = upstream
        .open_credentials()
        .with_context(|| format!("upstream `{name}`"))?;
    let cuid = Cuid::from_hash_input(credentials.spki_sha256());
    let cuid = Cuid::new(&format!("{}{suffix}", cuid.as_str())).context("cuid")?;
    let seed = weir_collector::wall_clock().unsigned_abs();
    let mut parameters = ClientParameters::new(Arc::clone(&name), cuid, seed);
    parameters.wish = upstream.session;
    let mut client = Client::new(parameters);
    client.restore(journal.client_state(&name)?);
    let held = client.mitigations().collect();
    let cuid = client.cuid().clone();
    let (commands, queue) = mpsc::channel(QUEUE);
    let journal = Arc::new(ClientJournal {
        upstream: Arc::clone(&name),
        journal: Arc::clone(journal),
    });
    let task = tokio::spawn(run_upstream(
        upstream.clone(),
        credentials,
        client,
        queue,
        notices.clone(),
        journal,
        stopped.clone(),
    ));
    Ok(Started {
        name,
        cuid,
        commands,
        task,
        held,
        data: None,
    })
}

/// What our DOTS server hears of the daemon, and the daemon of it.
#[derive(Default)]
pub(crate) struct Ears {
    /// Attacks that the daemon sees.
    pub(crate) observations: Option<mpsc::Receiver<Observation>>,
    /// Baselines that clients report.
    pub(crate) reported: Option<mpsc::Sender<ReportedBaselines>>,
    /// What clients say of attacks.
    pub(crate) labels: Option<mpsc::Sender<Report>>,
}

/// Starts the embedded DOTS server, which tells its clients of `observations` where they ask for it, and hands on the baselines
/// that they report. What filters are the back
/// ends of its configuration, and `own`. Call within a runtime.
pub(crate) fn start_server(
    settings: &DotsServerSettings,
    own: Option<Box<dyn Mitigator>>,
    data: Option<DataServer>,
    state: Arc<State>,
    ears: Ears,
    stopped: watch::Receiver<bool>,
) -> anyhow::Result<(JoinHandle<()>, Arc<TransportView>)> {
    let mitigator = start_mitigators(&settings.mitigators, own)?;
    let mut server = BoundServer::bind(settings, mitigator)?;
    if let Some(data) = &data {
        server = server.with_data_channel(data_channel::signalled(data));
    }
    let mut server = server.with_state(state)?;
    if let Some(observations) = ears.observations {
        server = server.with_observations(observations);
    }
    if let Some(reported) = ears.reported {
        server = server.with_reports(reported);
    }
    if let Some(labels) = ears.labels {
        server = server.with_labels(labels);
    }
    for address in server.addresses() {
        tracing::info!(%address, "listening for DOTS");
    }
    if let Some(data) = data {
        tokio::spawn(data.run(server.mitigating(), stopped.clone()));
    }
    let view = server.transport_view();
    Ok((tokio::spawn(server.run(stopped)), view))
}

/// Notes what an upstream says where it can be looked at.
pub(crate) fn note(views: &Views, notice: &ClientNotice) {
    match notice {
        ClientNotice::Session { upstream, state } => {
            let up = matches!(state, SessionState::Up);
            tracing::info!(%upstream, ?state, "DOTS session");
            views.set_session(upstream, up);
        }
        ClientNotice::Credentials { upstream, validity } => {
            views.set_validity(upstream, *validity);
        }
        ClientNotice::Granted(report) | ClientNotice::Status(report) => {
            views.set_mitigation(report)
        }
        ClientNotice::Withdrawn { upstream, mid, .. } => views.remove_mitigation(upstream, *mid),
        ClientNotice::Refused {
            upstream,
            mid,
            code,
            diagnostic,
            ..
        } => {
            tracing::warn!(%upstream, mid, %code, %diagnostic, "the upstream refuses");
            views.remove_mitigation(upstream, *mid);
        }
        ClientNotice::Unreachable { attack, upstream } => {
            tracing::warn!(%attack, %upstream, "the upstream does not answer");
        }
        ClientNotice::Discovered {
            upstream,
            discovery,
        } => {
            let (mechanism, domain) = (discovery.mechanism, &discovery.domain);
            for way in &discovery.endpoints {
                let (channel, host, address) = (way.channel, &way.host, way.address);
                tracing::info!(%upstream, ?mechanism, %domain, ?channel, %host, %address, "discovered");
            }
        }
        ClientNotice::Redirected {
            upstream,
            server,
            max_age,
            followed: true,
        } => {
            tracing::warn!(%upstream, %server, max_age, "redirected to another server");
            views.count_redirect(upstream, true);
        }
        ClientNotice::Redirected {
            upstream, server, ..
        } => {
            tracing::error!(%upstream, %server, "redirected in a circle: not followed");
            views.count_redirect(upstream, false);
        }
        ClientNotice::Orphan { upstream, mid } => {
            tracing::warn!(%upstream, mid, "a mitigation that nobody holds is withdrawn");
        }
        ClientNotice::Switched {
            upstream,
            filters,
            refused: None,
            ..
        } => tracing::info!(%upstream, ?filters, "filters are switched on"),
        ClientNotice::Switched {
            upstream,
            filters,
            refused: Some(words),
            ..
        } => tracing::warn!(%upstream, ?filters, %words, "filters are not switched on"),
        ClientNotice::Accepting {
            upstream, filters, ..
        } => tracing::warn!(%upstream, ?filters, "attack traffic is let through by an accept-list"),
        ClientNotice::Observed { upstream, items } => {
            tracing::info!(%upstream, attacks = items.len(), "the upstream tells of attacks");
            views.set_observed(upstream, items);
        }
        ClientNotice::Held { .. } | ClientNotice::Told { .. } => {}
    }
}

/// Mitigations of earlier runs whose attacks are over: nobody else would end them. The operator's stay.
pub(crate) fn left_over<'a>(
    held: &'a [HeldMitigation],
    is_open: impl Fn(&weir_attack_event::AttackId) -> bool + 'a,
) -> impl Iterator<Item = ClientCommand> + 'a {
    held.iter()
        .filter(move |mitigation| !is_operators(&mitigation.attack) && !is_open(&mitigation.attack))
        .map(|mitigation| ClientCommand::Withdraw {
            attack: mitigation.attack.clone(),
        })
}
