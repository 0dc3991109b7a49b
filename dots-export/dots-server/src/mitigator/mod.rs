//! What really filters: the trait, and the back ends of `[[dots_server.mitigator]]`.

mod command;
mod external;
mod message;
mod meter;
mod nftables;
mod probe;
mod settings;
mod several;
mod webhook;
mod worker;

use std::collections::VecDeque;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use weir_dots_proto::body::{MitigationStatus, Scope};

/// A mitigation by its number at this server; never used twice in a run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MitigationId(pub u64);

pub use probe::probe_mitigators;
pub(crate) use settings::check_all;
pub use settings::{
    CommandSettings, ExternalSettings, MitigatorConfig, MitigatorSettings, NftablesSettings,
    RateLimit, WebhookSettings, WebhookTls,
};

use command::Command;
use external::External;
use nftables::Nftables;
use several::Several;
use webhook::{Webhook, WebhookError};
use worker::Worker;

/// What really filters: the lab's simulated network, nftables, a command, a webhook, or several of them
/// ([`start_mitigators`]).
///
/// What it reports is what it measured, never what it was told or expects.
pub trait Mitigator: Send {
    /// Begins to filter traffic to the scope's targets, or changes the scope of a mitigation that runs.
    fn apply(&mut self, id: MitigationId, scope: &Scope);

    /// Ends a mitigation.
    fn withdraw(&mut self, id: MitigationId);

    /// The next report since the last poll; `None` until something new was measured. Polled a few times a second.
    fn poll_report(&mut self) -> Option<MitigatorReport>;

    /// What its back ends have done so far, where they count it.
    fn figures(&self) -> Vec<MitigatorFigures> {
        Vec::new()
    }
}

/// What a back end has done since it began.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct MitigatorFigures {
    /// Its name in the configuration.
    pub name: String,
    /// Mitigations that it was told to filter, or to filter by another scope.
    pub applied: u64,
    /// Mitigations that it was told to end.
    pub withdrawn: u64,
    /// Mitigations that it was not able to filter, each time that it said so anew.
    pub failed: u64,
    /// Mitigations that it was not told of, because it had too many or was gone.
    pub refused: u64,
    /// Mitigations that it holds.
    pub held: u64,
    /// Time that it took.
    pub busy: Duration,
}

/// What a mitigator measured of one mitigation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MitigatorReport {
    /// The mitigation.
    pub id: MitigationId,
    /// 1 to 4 of RFC 9132 Table 3: in progress, successfully mitigated, attack stopped, capability exceeded.
    pub status: MitigationStatus,
    /// Octets dropped since it began.
    pub bytes_dropped: u64,
    /// Packets dropped since it began.
    pub packets_dropped: u64,
    /// Octets dropped per second now.
    pub bytes_per_second_dropped: u64,
    /// Packets dropped per second now.
    pub packets_per_second_dropped: u64,
}

impl MitigatorReport {
    /// Status 1: it has begun, and has dropped nothing yet.
    #[must_use]
    pub fn begun(id: MitigationId) -> Self {
        Self {
            id,
            status: MitigationStatus::AttackMitigationInProgress,
            bytes_dropped: 0,
            packets_dropped: 0,
            bytes_per_second_dropped: 0,
            packets_per_second_dropped: 0,
        }
    }

    /// Status 4: it cannot be done here.
    #[must_use]
    pub fn unable(id: MitigationId) -> Self {
        Self {
            status: MitigationStatus::AttackExceededCapability,
            ..Self::begun(id)
        }
    }
}

/// Accepts everything and filters nothing: status 1, nothing dropped.
#[derive(Debug, Default)]
pub struct NoMitigator {
    reports: VecDeque<MitigatorReport>,
}

impl Mitigator for NoMitigator {
    fn apply(&mut self, id: MitigationId, _scope: &Scope) {
        self.reports.push_back(MitigatorReport::begun(id));
    }

    fn withdraw(&mut self, _id: MitigationId) {}

    fn poll_report(&mut self) -> Option<MitigatorReport> {
        self.reports.pop_front()
    }
}

/// Why a back end does not start.
#[derive(Debug, thiserror::Error)]
#[error("mitigator `{name}`: {source}")]
pub struct MitigatorError {
    name: String,
    source: MitigatorFault,
}

#[derive(Debug, thiserror::Error)]
enum MitigatorFault {
    #[error("cannot start its thread: {0}")]
    Thread(#[from] std::io::Error),
    #[error(transparent)]
    Webhook(#[from] WebhookError),
}

/// Starts the back ends of the configuration, each on a thread of its own, beside `own` if there is one; all of them get
/// every mitigation. Without any nothing is filtered ([`NoMitigator`]). Dropped, they remove what they have put in place, if
/// their settings do not say otherwise.
pub fn start_mitigators(
    settings: &[MitigatorSettings],
    own: Option<Box<dyn Mitigator>>,
) -> Result<Box<dyn Mitigator>, MitigatorError> {
    let mut all: Vec<Box<dyn Mitigator>> = own.into_iter().collect();
    for settings in settings {
        let started = start(settings).map_err(|source| MitigatorError {
            name: settings.name().to_owned(),
            source,
        })?;
        tracing::info!(mitigator = settings.name(), "a back end of the DOTS server");
        all.push(Box::new(started));
    }
    Ok(match all.len() {
        0 => Box::new(NoMitigator::default()),
        1 => all.remove(0),
        _ => Box::new(Several::new(all)),
    })
}

fn start(settings: &MitigatorSettings) -> Result<Worker, MitigatorFault> {
    let run = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        });
    let name = settings.name();
    Ok(match settings {
        MitigatorSettings::Command(settings) => {
            let carrier = Command::new(settings);
            Worker::start(name, External::new(carrier, &settings.external, run))?
        }
        MitigatorSettings::Webhook(settings) => {
            let carrier = Webhook::new(settings)?;
            Worker::start(name, External::new(carrier, &settings.external, run))?
        }
        MitigatorSettings::Nftables(settings) => {
            Worker::start(name, Nftables::new(settings.clone()))?
        }
    })
}
