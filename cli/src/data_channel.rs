//! The data channel (RFC 8783) as tasks: the embedded server's, and each upstream's client.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use ipnet::IpNet;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use weir_attack_event::AttackName;
use weir_data_channel::client::{
    ClientSettings, DataClient, Desired, Intervals, UpkeepState, keep_up,
};
use weir_data_channel::filters::{Plan, read_prefixes};
use weir_data_channel::model::{Acl, Alias, AttackMapping, Vendor, VendorMapping};
use weir_data_channel::{DataHandle, DataServer, Folder, TlsFiles};
use weir_dots_export::{
    AcceptListWhen, ClientCommand, ClientNotice, DiscoverySettings, PreparedFilter,
    UpstreamSettings, discover,
};
use weir_dots_proto::Cuid;
use weir_dots_proto::body::{AclActivation, ActivationType, Target};
use weir_dots_server::DataChannel;
use weir_dtls::{CredentialFiles, OwnFiles};
use weir_flow_record::Vector;

use crate::config::Settings;
use crate::filters;
use crate::views::Views;

/// Folder in the state directory.
const FOLDER: &str = "data-channel";
/// What names of ours begin with: entries without it are somebody else's, and stay.
const PREFIX: &str = "weir-";
/// What the DNS says of a data channel is taken for this long at least.
const LEAST_HOLD: Duration = Duration::from_secs(3600);
/// A DNS that does not answer is asked again after this.
const AFTER_FAILURE: Duration = Duration::from_secs(300);
/// Entries of an accept list.
const MAX_ENTRIES: usize = 10_000;
/// Weir's catalogue of attacks has numbers that never change; this is when the last was added, in seconds since the epoch.
const CATALOGUE_UPDATED: u64 = 1_795_219_200;

/// The signal channel's view of what clients have set up.
struct Signalled(DataHandle);

impl DataChannel for Signalled {
    fn alias(&self, client: &str, cuid: &Cuid, name: &str) -> Option<Target> {
        self.0.alias(client, cuid, name)
    }

    fn has_filter(&self, client: &str, cuid: &Cuid, name: &str) -> bool {
        self.0.acl_exists(client, cuid, name)
    }

    fn switch_filter(&mut self, client: &str, cuid: &Cuid, switch: &AclActivation) -> bool {
        // RFC 9133 §3.2.1: without a type the filter's own holds.
        let Some(activation) = switch.activation_type else {
            return true;
        };
        let switched = self
            .0
            .set_activation(client, cuid, &switch.acl_name, activation);
        switched.is_ok()
    }

    fn accepting(
        &self,
        client: &str,
        cuid: &Cuid,
        sources: &[IpNet],
        targets: &[IpNet],
    ) -> Vec<String> {
        self.0.accepting(client, cuid, sources, targets)
    }

    fn attack_name(
        &self,
        client: &str,
        cuid: &Cuid,
        (vendor_id, attack_id): (u32, u32),
    ) -> Option<String> {
        let mapping = self.0.mapping(client, cuid)?;
        let vendor = mapping.vendors.iter().find(|one| one.id == vendor_id)?;
        let attack = vendor.attacks.iter().find(|one| one.id == attack_id)?;
        Some(attack.description.clone())
    }
}

/// Opens the data channel of the embedded server, with what clients have set up in earlier runs; `None` where it has none. Call
/// within a runtime.
pub(crate) async fn open_server(settings: &Settings) -> anyhow::Result<Option<DataServer>> {
    let Some(data) = &settings.data_channel else {
        return Ok(None);
    };
    let folder = Folder::open(&settings.state_dir.join(FOLDER))?;
    let (rows, unreadable) = folder.load()?;
    for path in unreadable {
        tracing::error!(path = %path.display(), "a client's data cannot be read: it registers again");
    }
    let mapping = mapping(settings.detector.vendor_id);
    let server = DataServer::bind(data.clone(), mapping, rows, Some(Box::new(folder))).await?;
    for address in server.addresses() {
        tracing::info!(%address, "listening for the DOTS data channel");
    }
    Ok(Some(server))
}

/// What the signal channel's server looks up there.
pub(crate) fn signalled(server: &DataServer) -> Box<dyn DataChannel> {
    Box::new(Signalled(server.handle()))
}

/// Keeps an upstream's data channel at what the configuration says; `None` where it has none. Call within a runtime.
pub(crate) fn start_client(
    settings: &Settings,
    upstream: &UpstreamSettings,
    cuid: &Cuid,
    commands: &mpsc::Sender<ClientCommand>,
) -> anyhow::Result<Option<Kept>> {
    let (desired, prepared) = desired(settings, upstream)?;
    let (desired, wanted) = watch::channel(desired);
    let (state, known) = watch::channel(UpkeepState::default());
    let task = match (&upstream.data_channel, &upstream.discovery) {
        (Some(server), _) => {
            let client = DataClient::new(client_settings(upstream, server, cuid)?)?;
            tokio::spawn(keep_up(client, wanted, state, Intervals::default()))
        }
        (None, Some(discovery)) if tls_files(upstream.files()).is_some() => {
            let (upstream, discovery, cuid) = (upstream.clone(), discovery.clone(), cuid.clone());
            tokio::spawn(async move {
                keep_up_discovered(&upstream, &discovery, &cuid, (wanted, state)).await;
            })
        }
        _ => return Ok(None),
    };
    tokio::spawn(tell_installed(known, commands.clone(), prepared));
    Ok(Some(Kept {
        upstream: Arc::clone(&upstream.name),
        desired,
        task,
    }))
}

/// Tells the signal channel's client once the server has our catalogue, and whenever filters were installed there that it may
/// switch.
async fn tell_installed(
    mut known: watch::Receiver<UpkeepState>,
    commands: mpsc::Sender<ClientCommand>,
    prepared: Vec<PreparedFilter>,
) {
    let mut told = false;
    loop {
        let done = known.borrow_and_update().done;
        if let Some(done) = done {
            let mut words = Vec::new();
            if !told {
                words.push(ClientCommand::MappingShared);
            }
            if !prepared.is_empty() && (!told || done.put > 0) {
                let filters = prepared.clone();
                words.push(ClientCommand::Prepared { filters });
            }
            told = true;
            for word in words {
                if commands.send(word).await.is_err() {
                    return;
                }
            }
        }
        if known.changed().await.is_err() {
            return;
        }
    }
}

/// Keeps data channels up, and tells each whether a mitigation stands at its upstream, until all stops.
pub(crate) async fn follow_attacks(
    kept: Vec<Kept>,
    mut heard: broadcast::Receiver<ClientNotice>,
    views: Arc<Views>,
    mut stopped: watch::Receiver<bool>,
) {
    loop {
        tokio::select! {
            notice = heard.recv() => match notice {
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return,
            },
            _ = stopped.wait_for(|stopped| *stopped) => return,
        }
        for channel in &kept {
            channel.note_attack(views.has_mitigation(&channel.upstream));
        }
    }
}

/// A data channel that is kept up until this is dropped.
pub(crate) struct Kept {
    upstream: Arc<str>,
    desired: watch::Sender<Desired>,
    task: JoinHandle<()>,
}

impl Kept {
    /// While an attack is mitigated what the signal channel has switched stays so; after it all filters get their own activation
    /// back (RFC 9133 §3.1).
    fn note_attack(&self, is_on: bool) {
        self.desired.send_if_modified(|desired| {
            let changed = desired.under_attack != is_on;
            desired.under_attack = is_on;
            changed
        });
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A client of an upstream's data channel, where it has one.
pub(crate) async fn client(
    upstream: &UpstreamSettings,
    cuid: &Cuid,
) -> anyhow::Result<Option<DataClient>> {
    match (&upstream.data_channel, &upstream.discovery) {
        (Some(server), _) => {
            let settings = client_settings(upstream, server, cuid)?;
            Ok(Some(DataClient::new(settings)?))
        }
        (None, Some(discovery)) => Ok(discovered(upstream, discovery, cuid).await?.0),
        (None, None) => Ok(None),
    }
}

fn client_settings(
    upstream: &UpstreamSettings,
    server: &str,
    cuid: &Cuid,
) -> anyhow::Result<ClientSettings> {
    let tls = tls_files(upstream.files()).context("the data channel needs a certificate")?;
    let mut settings = ClientSettings::new(server, tls, cuid.clone());
    settings.bind = upstream.source_address;
    settings.interface = upstream.interface.clone();
    Ok(settings)
}

/// A client of the data channel that the DNS names (RFC 8973), if it names one, and how long that holds. The server's
/// certificate has to name the domain.
async fn discovered(
    upstream: &UpstreamSettings,
    discovery: &DiscoverySettings,
    cuid: &Cuid,
) -> anyhow::Result<(Option<DataClient>, Duration)> {
    let found = discover(discovery).await?;
    let source = upstream.source_address;
    let mut ways = found.data().map(|way| way.address);
    let address = ways.find(|way| source.is_none_or(|own| own.is_ipv4() == way.is_ipv4()));
    let Some(address) = address else {
        return Ok((None, found.valid_for));
    };
    let mut settings = client_settings(upstream, &address.to_string(), cuid)?;
    settings.server_name = Some(found.domain.clone());
    Ok((Some(DataClient::new(settings)?), found.valid_for))
}

/// As [`keep_up`], at the server that the DNS names, which may become another one.
async fn keep_up_discovered(
    upstream: &UpstreamSettings,
    discovery: &DiscoverySettings,
    cuid: &Cuid,
    (wanted, state): (watch::Receiver<Desired>, watch::Sender<UpkeepState>),
) {
    loop {
        let hold = match discovered(upstream, discovery, cuid).await {
            Ok((Some(client), valid_for)) => {
                let kept = keep_up(client, wanted.clone(), state.clone(), Intervals::default());
                if timeout(valid_for.max(LEAST_HOLD), kept).await.is_ok() {
                    return;
                }
                Duration::ZERO
            }
            Ok((None, valid_for)) => valid_for.max(LEAST_HOLD),
            Err(error) => {
                tracing::warn!(upstream = %upstream.name, %error, "no data channel is discovered");
                AFTER_FAILURE
            }
        };
        sleep(hold).await;
    }
}

/// What is wanted at an upstream: zones as aliases, the accept list, filters that wait, our catalogue; and which of the filters the
/// signal channel switches on.
fn desired(
    settings: &Settings,
    upstream: &UpstreamSettings,
) -> anyhow::Result<(Desired, Vec<PreparedFilter>)> {
    let zones = settings.detector.zones.iter();
    let zones: Vec<_> = zones
        .filter(|zone| upstream.holds(&zone.prefixes))
        .collect();
    let aliases = zones.iter().map(|zone| Alias {
        name: format!("{PREFIX}{}", zone.name),
        target: Target {
            target_prefix: zone.prefixes.clone(),
            ..Target::default()
        },
    });
    let own: Vec<IpNet> = zones
        .iter()
        .flat_map(|zone| zone.prefixes.iter().copied())
        .collect();
    let mut acls = Vec::new();
    let mut prepared = Vec::new();
    // What is known to be good goes before all that drops.
    if let Some(path) = &upstream.accept_list {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let sources = read_prefixes(&text).with_context(|| path.display().to_string())?;
        let mut plan = Plan::accept(&format!("{PREFIX}accept"), &sources, &own);
        let switched = upstream.accept_list_when == AcceptListWhen::Switched;
        if switched {
            plan.activation = ActivationType::Deactivate;
        }
        acls = plan.acls(MAX_ENTRIES)?;
        if switched {
            prepared.extend(waiting(&acls, None));
        }
    }
    for vector in &upstream.prepared_filters {
        let name = format!("{PREFIX}{}", vector.name());
        let found = filters::prepared(&name, *vector, &own, MAX_ENTRIES)?;
        prepared.extend(waiting(&found, Some(*vector)));
        acls.extend(found);
    }
    let desired = Desired {
        aliases: aliases.collect(),
        acls,
        mapping: mapping(settings.detector.vendor_id),
        prefix: PREFIX.to_owned(),
        under_attack: false,
    };
    Ok((desired, prepared))
}

/// Filters by the names under which they are switched.
fn waiting(acls: &[Acl], vector: Option<Vector>) -> impl Iterator<Item = PreparedFilter> {
    acls.iter().map(move |acl| PreparedFilter {
        acl_name: acl.name.clone(),
        vector,
    })
}

/// What the numbers of Weir's attacks mean (RFC 9244 §8.1.6).
fn mapping(vendor_id: u32) -> VendorMapping {
    let attacks = AttackName::catalogue().map(|name| AttackMapping {
        id: name.attack_id(),
        description: format!("{name}: {}", name.description()),
    });
    VendorMapping {
        vendors: vec![Vendor {
            id: vendor_id,
            name: Some("Weir".to_owned()),
            language: None,
            last_updated: CATALOGUE_UPDATED,
            attacks: attacks.collect(),
        }],
    }
}

/// The same files for HTTPS; `None` for a pre-shared key.
pub(crate) fn tls_files(files: &CredentialFiles) -> Option<TlsFiles> {
    match &files.own {
        OwnFiles::Certificate {
            ca,
            certificate,
            key,
        } => Some(TlsFiles {
            ca: ca.clone(),
            certificate: certificate.clone(),
            key: key.clone(),
            crl: files.revocations.clone(),
        }),
        OwnFiles::PresharedKey { .. } => None,
    }
}

/// The configuration's upstreams that have a data channel.
pub(crate) fn upstreams<'s>(
    settings: &'s Settings,
    wanted: Option<&'s str>,
) -> impl Iterator<Item = &'s Arc<str>> {
    settings
        .export
        .upstreams()
        .iter()
        .filter(move |one| wanted.is_none_or(|wanted| *one.name == *wanted))
        .filter(|one| one.data_channel.is_some() || one.discovery.is_some())
        .map(|one| &one.name)
}

#[cfg(test)]
mod tests {
    use weir_data_channel::client::Synchronised;

    use super::*;

    fn prepared() -> Vec<PreparedFilter> {
        vec![PreparedFilter {
            acl_name: "weir-accept-v4".to_owned(),
            vector: None,
        }]
    }

    #[tokio::test]
    async fn filters_are_named_once_they_are_installed_and_whenever_they_are_put_anew() {
        let (state, known) = watch::channel(UpkeepState::default());
        let (commands, mut orders) = mpsc::channel(8);
        let task = tokio::spawn(tell_installed(known, commands, prepared()));
        let installed = ClientCommand::Prepared {
            filters: prepared(),
        };
        for (put, expected) in [
            (2, vec![ClientCommand::MappingShared, installed.clone()]),
            (0, vec![]),
            (1, vec![installed.clone()]),
        ] {
            state.send_modify(|state| {
                state.done = Some(Synchronised {
                    put,
                    ..Synchronised::default()
                });
            });
            for command in expected {
                assert_eq!(orders.recv().await, Some(command), "{put}");
            }
            tokio::task::yield_now().await;
            assert!(orders.try_recv().is_err(), "{put}");
        }
        drop(state);
        assert!(task.await.is_ok());
    }

    #[tokio::test]
    async fn what_is_wanted_says_whether_an_attack_is_on() {
        let (desired, mut wanted) = watch::channel(Desired::default());
        let kept = Kept {
            upstream: "provider".into(),
            desired,
            task: tokio::spawn(std::future::pending()),
        };
        for (on, changes) in [(false, false), (true, true), (true, false), (false, true)] {
            kept.note_attack(on);
            assert_eq!(wanted.has_changed().ok(), Some(changes), "{on}");
            assert_eq!(wanted.borrow_and_update().under_attack, on);
        }
    }
}
