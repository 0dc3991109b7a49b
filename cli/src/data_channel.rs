//! The data channel (RFC 8783) as tasks: the embedded server's, and each upstream's client.

use std::sync::Arc;

use anyhow::Context;
use ipnet::IpNet;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use weir_attack_event::description;
use weir_data_channel::client::{
    ClientSettings, DataClient, Desired, Intervals, UpkeepState, keep_up,
};
use weir_data_channel::filters::{Plan, read_prefixes};
use weir_data_channel::model::{Alias, AttackMapping, Vendor, VendorMapping};
use weir_data_channel::{DataHandle, DataServer, Folder, TlsFiles};
use weir_dots_export::{ClientCommand, UpstreamSettings};
use weir_dots_proto::Cuid;
use weir_dots_proto::body::{AclActivation, ActivationType, Target};
use weir_dots_server::DataChannel;
use weir_dtls::{CredentialFiles, OwnFiles};
use weir_flow_record::Vector;

use crate::config::Settings;

/// Folder in the state directory.
const FOLDER: &str = "data-channel";
/// What names of ours begin with: entries without it are somebody else's, and stay.
const PREFIX: &str = "weir-";
/// Entries of an accept list.
const MAX_ENTRIES: usize = 10_000;
/// Weir's catalogue of attacks has numbers that never change; this is when the last was added, in seconds since the epoch.
const CATALOGUE_UPDATED: u64 = 1_790_000_000;

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
    let Some(client) = client(upstream, cuid)? else {
        return Ok(None);
    };
    let (desired, wanted) = watch::channel(desired(settings, upstream)?);
    let (state, known) = watch::channel(UpkeepState::default());
    tokio::spawn(tell_once_shared(known, commands.clone()));
    let task = tokio::spawn(keep_up(client, wanted, state, Intervals::default()));
    Ok(Some(Kept {
        _desired: desired,
        task,
    }))
}

/// Tells the signal channel's client once the server has our catalogue.
async fn tell_once_shared(
    mut known: watch::Receiver<UpkeepState>,
    commands: mpsc::Sender<ClientCommand>,
) {
    let done = known.wait_for(|state| state.done.is_some()).await.is_ok();
    if done {
        // The client may have ended.
        let _ = commands.send(ClientCommand::MappingShared).await;
    }
}

/// A data channel that is kept up until this is dropped.
pub(crate) struct Kept {
    _desired: watch::Sender<Desired>,
    task: JoinHandle<()>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A client of an upstream's data channel, where it has one.
pub(crate) fn client(
    upstream: &UpstreamSettings,
    cuid: &Cuid,
) -> anyhow::Result<Option<DataClient>> {
    let Some(server) = &upstream.data_channel else {
        return Ok(None);
    };
    let tls = tls_files(upstream.files()).context("the data channel needs a certificate")?;
    let mut settings = ClientSettings::new(server, tls, cuid.clone());
    settings.bind = upstream.source_address;
    settings.interface = upstream.interface.clone();
    Ok(Some(DataClient::new(settings)?))
}

/// What is wanted at an upstream: zones as aliases, the accept list, our catalogue.
fn desired(settings: &Settings, upstream: &UpstreamSettings) -> anyhow::Result<Desired> {
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
    if let Some(path) = &upstream.accept_list {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let sources = read_prefixes(&text).with_context(|| path.display().to_string())?;
        let plan = Plan::accept(&format!("{PREFIX}accept"), &sources, &own);
        acls = plan.acls(MAX_ENTRIES)?;
    }
    Ok(Desired {
        aliases: aliases.collect(),
        acls,
        mapping: mapping(settings.detector.vendor_id),
        prefix: PREFIX.to_owned(),
        under_attack: false,
    })
}

/// What the numbers of Weir's attacks mean (RFC 9244 §8.1.6).
fn mapping(vendor_id: u32) -> VendorMapping {
    let attacks = Vector::ALL.into_iter().map(|vector| AttackMapping {
        id: vector.attack_id(),
        description: format!("{}: {}", vector.name(), description(vector)),
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

/// Whether a filter is switched on, in a word.
pub(crate) fn activation_name(activation: ActivationType) -> &'static str {
    match activation {
        ActivationType::ActivateWhenMitigating => "activate-when-mitigating",
        ActivationType::Immediate => "immediate",
        ActivationType::Deactivate => "deactivate",
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
        .filter(|one| one.data_channel.is_some())
        .map(|one| &one.name)
}
