//! Questions to the DNS: how many, and how long the answers hold.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Resolver, ResolverBuilder};

use super::DiscoveryError;
use super::path::OwnPath;
use super::settings::{DiscoverySettings, ResolverSettings};

/// Questions of one discovery: hostile answers lead no further.
const MAX_QUESTIONS: u32 = 64;
/// Records of one answer that are looked at.
const MAX_RECORDS: usize = 32;
/// An answer is waited for this long, then the question is put again.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How often a question is put again.
const REPETITIONS: usize = 2;

/// The questions of one discovery.
pub(super) struct Lookups {
    resolver: Resolver<OwnPath>,
    begun: Instant,
    progress: Mutex<Progress>,
}

#[derive(Default)]
struct Progress {
    asked: u32,
    valid_until: Option<Instant>,
    failure: Option<NetError>,
}

impl Lookups {
    pub(super) fn open(settings: &DiscoverySettings) -> Result<Self, DiscoveryError> {
        let mut builder = builder(settings)?;
        let options = builder.options_mut();
        options.timeout = TIMEOUT;
        options.attempts = REPETITIONS;
        // What UDP loses or cuts, TCP may bring.
        options.try_tcp_on_error = true;
        let resolver = builder.build()?;
        Ok(Self {
            resolver,
            begun: Instant::now(),
            progress: Mutex::default(),
        })
    }

    /// Records of a name; none where the DNS says that there are none.
    pub(super) async fn records(
        &self,
        name: &Name,
        kind: RecordType,
    ) -> Result<Vec<RData>, NetError> {
        if !self.may_ask() {
            tracing::warn!(%name, "the DNS leads too far: the rest is not looked at");
            return Ok(Vec::new());
        }
        let answer = match self.resolver.lookup(name.clone(), kind).await {
            Ok(answer) => answer,
            Err(error) if error.is_no_records_found() => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let until = answer.valid_until();
        let mut progress = self.progress();
        let least = progress.valid_until.map_or(until, |least| least.min(until));
        progress.valid_until = Some(least);
        drop(progress);
        let data = answer.answers().iter().map(|record| &record.data);
        Ok(data
            .filter(|data| data.record_type() == kind)
            .take(MAX_RECORDS)
            .cloned()
            .collect())
    }

    /// Records of something that has others beside it: where the DNS does not answer, there are none, and that is remembered.
    pub(super) async fn records_if_any(&self, name: &Name, kind: RecordType) -> Vec<RData> {
        match self.records(name, kind).await {
            Ok(records) => records,
            Err(error) => {
                tracing::warn!(%name, %kind, %error, "the DNS does not answer");
                self.progress().failure.get_or_insert(error);
                Vec::new()
            }
        }
    }

    /// A host's addresses that can be connected to, IPv6 first.
    pub(super) async fn addresses(&self, host: &Name) -> Vec<IpAddr> {
        let (v6, v4) = tokio::join!(
            self.records_if_any(host, RecordType::AAAA),
            self.records_if_any(host, RecordType::A)
        );
        let found = v6.iter().chain(&v4).filter_map(RData::ip_addr);
        found.filter(|address| is_usable(*address)).collect()
    }

    /// How long all answers hold, from the beginning.
    pub(super) fn valid_for(&self) -> Duration {
        let until = self.progress().valid_until.unwrap_or(self.begun);
        until.saturating_duration_since(self.begun)
    }

    /// What went wrong first.
    pub(super) fn into_failure(self) -> Option<NetError> {
        self.progress().failure.take()
    }

    fn may_ask(&self) -> bool {
        let mut progress = self.progress();
        progress.asked = progress.asked.saturating_add(1);
        progress.asked <= MAX_QUESTIONS
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Loopback is: a gateway may run beside the client.
fn is_usable(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => !v4.is_unspecified() && !v4.is_multicast() && !v4.is_broadcast(),
        IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_multicast(),
    }
}

fn builder(settings: &DiscoverySettings) -> Result<ResolverBuilder<OwnPath>, DiscoveryError> {
    let path = OwnPath::new(settings.source, settings.interface.clone());
    let (address, connections) = match &settings.resolver {
        ResolverSettings::System => return Ok(Resolver::builder(path)?),
        ResolverSettings::Plain(address) => (
            *address,
            vec![ConnectionConfig::udp(), ConnectionConfig::tcp()],
        ),
        ResolverSettings::Tls { address, name, .. } => {
            (*address, vec![ConnectionConfig::tls(Arc::clone(name))])
        }
    };
    let connections = connections.into_iter().map(|mut connection| {
        connection.port = address.port();
        connection
    });
    let server = NameServerConfig::new(address.ip(), true, connections.collect());
    let config = ResolverConfig::from_name_servers(vec![server]);
    let builder = Resolver::builder_with_config(config, path);
    match &settings.resolver {
        ResolverSettings::Tls { ca, .. } => {
            let tls = super::settings::tls(ca.as_deref()).map_err(DiscoveryError::Resolver)?;
            Ok(builder.with_tls_config(tls))
        }
        _ => Ok(builder),
    }
}
