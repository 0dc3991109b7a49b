//! Sockets and clock around listener and server.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use weir_dots_proto::Cuid;
use weir_dots_proto::body::PreOrOngoingMitigation;
use weir_dtls::{
    DtlsError, FileWatch, Listener, ListenerEvent, ListenerLimits, ServerContext, SessionId,
};

use weir_state::{Batch, Stage, State, StateError};

use crate::sockets::{Bound, Incoming, Sockets};
use crate::streams::{StreamLimits, Streams};
use crate::transport_figures::{TransportFigures, TransportView};
use crate::{
    DataChannel, DotsServerSettings, Mitigator, Report, ReportedBaselines, SavedRow, Server,
    ServerChange,
};

/// Longest wait for the addresses of a name.
const LOOKUP: Duration = Duration::from_secs(4);
/// Answers of the resolver that may wait.
const LOOKUPS: usize = 64;
/// Rows that could not be written are tried again after this.
const STATE_WAIT: Duration = Duration::from_secs(1);
/// Datagrams that are taken in before the rows that they change are written, all at once.
const MAX_BURST: usize = 64;

/// How often the files of certificates, keys and revocation lists are looked at.
const FILES: Duration = Duration::from_secs(10);
/// The listener number of connections of TLS over TCP: no listener of datagrams has it.
const STREAMS: usize = 0xffff;

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Its certificate or key.
    #[error(transparent)]
    Credentials(#[from] DtlsError),
    /// Its address.
    #[error("cannot listen on {address} for DOTS: {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// A server that has its sockets and waits to be [`run`](Self::run).
pub struct BoundServer {
    bound: Vec<Bound>,
    listeners: Vec<Listener>,
    streams: Streams,
    context: ServerContext,
    files: FileWatch,
    files_at: Instant,
    view: Arc<TransportView>,
    figures: TransportFigures,
    server: Server,
    kept: Option<Kept>,
    observations: Option<mpsc::Receiver<Observation>>,
    reported: Option<mpsc::Sender<ReportedBaselines>>,
    labels: Option<mpsc::Sender<Report>>,
    mitigating: watch::Sender<BTreeSet<Cuid>>,
}

/// How an attack stands that this side observes.
#[derive(Clone, Debug)]
pub struct Observation {
    /// The attack's name, of no meaning to clients.
    pub attack: String,
    /// One item, without `tmid`; `None`: the attack is over.
    pub item: Option<Box<PreOrOngoingMitigation>>,
}

/// Where rows are kept, and those that are not yet.
struct Kept {
    state: Arc<State>,
    unwritten: BTreeMap<String, ServerChange>,
    write_at: Option<Instant>,
}

impl std::fmt::Debug for BoundServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BoundServer")
            .field("addresses", &self.addresses())
            .finish_non_exhaustive()
    }
}

impl BoundServer {
    /// Reads the credentials and opens the sockets. Call within a tokio runtime.
    pub fn bind(
        settings: &DotsServerSettings,
        mitigator: Box<dyn Mitigator>,
    ) -> Result<Self, StartError> {
        let files = FileWatch::new(settings.files.clone());
        let credentials = settings.files.open()?;
        let context = ServerContext::new(&credentials)?;
        let limits = ListenerLimits {
            max_half_open: settings.max_half_open,
            max_sessions: settings.max_sessions,
        };
        let mut bound = Vec::new();
        let mut listeners = Vec::new();
        for address in &settings.listen {
            let opened = Bound::open(*address).map_err(|source| StartError::Listen {
                address: *address,
                source,
            })?;
            bound.push(opened);
            listeners.push(Listener::new(context.clone(), limits));
        }
        let limits = StreamLimits {
            max_half_open: settings.max_half_open,
            max_sessions: settings.max_sessions,
        };
        let unix = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let now = Instant::now();
        let server = Server::new(settings.policy.clone(), mitigator, (now, unix), unix);
        Ok(Self {
            bound,
            listeners,
            streams: Streams::new(context.clone(), limits),
            context,
            files,
            files_at: now + FILES,
            view: Arc::default(),
            figures: TransportFigures {
                validity: credentials.validity(),
                ..TransportFigures::default()
            },
            server,
            kept: None,
            observations: None,
            reported: None,
            labels: None,
            mitigating: watch::Sender::default(),
        })
    }

    /// Takes back what an earlier run left in the state file, and keeps there what changes from now on: an answer leaves
    /// after its row is on disk. Without this a restart forgets all mitigations.
    pub fn with_state(mut self, state: Arc<State>) -> Result<Self, StateError> {
        let rows: Vec<(Vec<u8>, SavedRow)> = state.entries_json(Stage::DotsServer)?;
        self.server.restore(rows.into_iter().map(|(_, row)| row));
        self.kept = Some(Kept {
            state,
            unwritten: BTreeMap::new(),
            write_at: None,
        });
        Ok(self)
    }

    /// Aliases and filters are those of this data channel. To be said before [`with_state`](Self::with_state).
    #[must_use]
    pub fn with_data_channel(mut self, data: Box<dyn DataChannel>) -> Self {
        self.server = self.server.with_data_channel(data);
        self
    }

    /// Clients of whom a mitigation filters, as that changes.
    #[must_use]
    pub fn mitigating(&self) -> watch::Receiver<BTreeSet<Cuid>> {
        self.mitigating.subscribe()
    }

    /// Clients that ask for it are told of these attacks.
    #[must_use]
    pub fn with_observations(mut self, observations: mpsc::Receiver<Observation>) -> Self {
        self.observations = Some(observations);
        self
    }

    /// Baselines that clients report go there.
    #[must_use]
    pub fn with_reports(mut self, reported: mpsc::Sender<ReportedBaselines>) -> Self {
        self.reported = Some(reported);
        self
    }

    /// What clients say of attacks and of peace goes there, as often as it changes, once it is written to the state file.
    #[must_use]
    pub fn with_labels(mut self, labels: mpsc::Sender<Report>) -> Self {
        self.labels = Some(labels);
        self
    }

    /// Where it listens, over UDP and TCP alike.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.bound
            .iter()
            .filter_map(|bound| bound.datagrams.local_addr().ok())
            .collect()
    }

    /// What its transports count, while it runs.
    pub fn transport_view(&self) -> Arc<TransportView> {
        Arc::clone(&self.view)
    }

    /// Serves until `shutdown` is true.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        let mut sockets = Sockets::new(&self.bound);
        let (found, mut lookups) = mpsc::channel::<(String, Vec<IpAddr>)>(LOOKUPS);
        loop {
            let due = self.next_timer();
            tokio::select! {
                stop = shutdown.wait_for(|stop| *stop) => {
                    let _ = stop;
                    break;
                }
                incoming = sockets.receive() => {
                    let Some(incoming) = incoming else { break };
                    self.receive(incoming, &mut sockets);
                    // One wait for the disk serves all that is there.
                    for _ in 0..MAX_BURST {
                        let Some(incoming) = sockets.try_receive() else { break };
                        self.receive(incoming, &mut sockets);
                    }
                }
                Some((name, addresses)) = lookups.recv() => {
                    self.server.handle_lookup(Instant::now(), &name, addresses);
                }
                observation = observed(&mut self.observations) => {
                    let item = observation.item.map(|item| *item);
                    self.server
                        .handle_observation(Instant::now(), &observation.attack, item);
                }
                () = tokio::time::sleep_until(due.into()) => {
                    let now = Instant::now();
                    self.listeners.iter_mut().for_each(|listener| listener.handle_timeout(now));
                    self.streams.handle_timeout(now);
                    self.server.handle_timeout(now);
                    self.view.set_mitigators(self.server.mitigator_figures());
                    self.look_at_files(now);
                }
            }
            self.pump(&mut sockets).await;
            while let Some(name) = self.server.poll_lookup() {
                tokio::spawn(look_up(name, found.clone()));
            }
        }
        // Clients that are told need not wait for missed heartbeats.
        self.listeners
            .iter_mut()
            .for_each(Listener::handle_shutdown);
        self.streams.handle_shutdown();
        self.pump(&mut sockets).await;
        sockets.shut_down().await;
    }

    fn receive(&mut self, incoming: Incoming, sockets: &mut Sockets) {
        let now = Instant::now();
        match incoming {
            Incoming::Datagram(index, from, datagram) => {
                if let Some(listener) = self.listeners.get_mut(index) {
                    listener.handle_datagram(now, from, &datagram);
                }
            }
            Incoming::Accepted(stream, from) => {
                if let Some(id) = self.streams.handle_accepted(now, from) {
                    sockets.open(id, stream);
                }
            }
            Incoming::Octets(id, octets) => self.streams.handle_octets(now, id, &octets),
            Incoming::Ended(id) => self.streams.handle_end(id),
        }
    }

    /// New certificates, keys and lists hold for sessions that begin from now on; those that stand go on.
    fn look_at_files(&mut self, now: Instant) {
        if self.files_at > now {
            return;
        }
        self.files_at = now + FILES;
        let renewed = match self.files.poll_changed() {
            None => return,
            Some(Ok(credentials)) => self
                .context
                .renewed(&credentials)
                .map(|context| (context, credentials.validity())),
            Some(Err(error)) => Err(error),
        };
        match renewed {
            Ok((context, validity)) => {
                tracing::info!(?validity, "certificates and keys are read again");
                for listener in &mut self.listeners {
                    listener.handle_context(context.clone());
                }
                self.streams.handle_context(context.clone());
                self.context = context;
                self.figures.validity = validity;
                self.figures.reloads += 1;
            }
            Err(error) => {
                tracing::error!(%error, "certificates and keys stay as they were");
                self.figures.failed_reloads += 1;
            }
        }
    }

    /// Writes the rows that have changed. Where the disk fails, clients are served on: help now matters more than after a
    /// restart.
    async fn write_rows(&mut self) {
        while let Some(change) = self.server.poll_persist() {
            if let Some(kept) = &mut self.kept {
                kept.unwritten.insert(change.key.text(), change);
            }
        }
        let Some(kept) = &mut self.kept else { return };
        let held_back = kept.write_at.is_some_and(|at| at > Instant::now());
        if kept.unwritten.is_empty() || held_back {
            return;
        }
        let written = match batch_of(&kept.unwritten) {
            Ok(batch) => {
                let state = Arc::clone(&kept.state);
                let task = tokio::task::spawn_blocking(move || state.write(&batch));
                match task.await {
                    Ok(written) => written.map_err(|error| error.to_string()),
                    Err(error) => Err(error.to_string()),
                }
            }
            Err(error) => Err(error.to_string()),
        };
        kept.write_at = None;
        match written {
            Ok(()) => {
                let written = std::mem::take(&mut kept.unwritten);
                if let Some(labels) = &self.labels {
                    tell_labels(labels, written);
                }
            }
            Err(error) => {
                let rows = kept.unwritten.len();
                tracing::error!(error, rows, "the DOTS server's state is not written");
                kept.write_at = Some(Instant::now() + STATE_WAIT);
            }
        }
    }

    fn next_timer(&self) -> Instant {
        let listeners = self.listeners.iter().filter_map(Listener::poll_timeout);
        let fallback = Instant::now() + Duration::from_secs(1);
        listeners
            .chain(self.streams.poll_timeout())
            .chain(self.server.poll_timeout())
            .chain([self.files_at])
            .chain(self.kept.as_ref().and_then(|kept| kept.write_at))
            .chain([fallback])
            .min()
            .unwrap_or(fallback)
    }

    /// Carries what the listeners and the server have for each other and for the sockets.
    async fn pump(&mut self, sockets: &mut Sockets) {
        let now = Instant::now();
        for index in 0..self.listeners.len() {
            while let Some(event) = self.listeners.get_mut(index).and_then(Listener::poll_event) {
                self.handle_event(now, index, event);
            }
        }
        while let Some(event) = self.streams.poll_event() {
            self.handle_event(now, STREAMS, event);
        }
        if let Some(mitigating) = self.server.poll_mitigating() {
            self.mitigating.send_if_modified(|before| {
                let moved = *before != mitigating;
                *before = mitigating;
                moved
            });
        }
        self.tell_reports();
        self.write_rows().await;
        while let Some((session, datagram)) = self.server.poll_transmit() {
            let sent = match listener_of(session) {
                (STREAMS, session) => self.streams.handle_send(session, &datagram),
                (index, session) => match self.listeners.get_mut(index) {
                    Some(listener) => listener.handle_send(session, &datagram),
                    None => Ok(()),
                },
            };
            if let Err(error) = sent {
                tracing::debug!(%error, "a DOTS message is not sent");
            }
        }
        while let Some(session) = self.server.poll_close() {
            let (index, session) = listener_of(session);
            if index == STREAMS {
                self.streams.handle_close(session);
            } else if let Some(listener) = self.listeners.get_mut(index) {
                listener.handle_close(session);
            }
        }
        for (listener, bound) in self.listeners.iter_mut().zip(&self.bound) {
            while let Some((to, datagram)) = listener.poll_transmit() {
                // A full socket buffer loses a datagram, as the network may.
                let _ = bound.datagrams.send_to(&datagram, to).await;
            }
        }
        while let Some((id, octets)) = self.streams.poll_transmit() {
            if !sockets.write(id, octets) {
                self.streams.handle_end(id);
            }
        }
        while let Some(id) = self.streams.poll_closed() {
            sockets.close(id);
        }
        self.figures.count(self.listeners.iter(), &self.streams);
        self.figures.forgotten_telemetry = self.server.forgotten_telemetry();
        self.figures.forgotten_reports = self.server.forgotten_reports();
        self.view.set(self.figures);
    }

    fn tell_reports(&mut self) {
        while let Some(report) = self.server.poll_baselines() {
            let client = Arc::clone(&report.client);
            let sent = self.reported.as_ref().map(|to| to.try_send(report));
            if matches!(sent, Some(Err(_))) {
                tracing::warn!(%client, "baselines that a client reports are not taken in");
            }
        }
    }

    fn handle_event(&mut self, now: Instant, index: usize, event: ListenerEvent) {
        match event {
            ListenerEvent::Connected {
                session,
                address,
                peer,
                resumed,
            } => {
                let over = if index == STREAMS { "TLS" } else { "DTLS" };
                tracing::info!(%address, over, names = ?peer.names, resumed, "DOTS session");
                let session = numbered(index, session);
                self.server.handle_connected(now, session, &peer);
            }
            ListenerEvent::Data { session, data } => {
                let session = numbered(index, session);
                self.server.handle_data(now, session, &data);
            }
            ListenerEvent::Closed { session } => {
                self.server.handle_closed(now, numbered(index, session));
            }
        }
    }
}

/// Asks the system's resolver, which an operator points to one that is reached over TLS or HTTPS (RFC 9132 §11).
async fn look_up(name: String, found: mpsc::Sender<(String, Vec<IpAddr>)>) {
    let asked = tokio::time::timeout(LOOKUP, tokio::net::lookup_host((name.as_str(), 0)));
    let addresses = match asked.await {
        Ok(Ok(addresses)) => addresses.map(|address| address.ip()).collect(),
        Ok(Err(error)) => {
            tracing::info!(name, %error, "a target's name has no address");
            Vec::new()
        }
        Err(_) => Vec::new(),
    };
    // The server may have ended.
    let _ = found.send((name, addresses)).await;
}

/// The next observation, if anybody makes any.
async fn observed(observations: &mut Option<mpsc::Receiver<Observation>>) -> Observation {
    if let Some(receiver) = observations {
        if let Some(observation) = receiver.recv().await {
            return observation;
        }
        *observations = None;
    }
    std::future::pending().await
}

/// Passes on those of the rows that are reports.
fn tell_labels(labels: &mpsc::Sender<Report>, written: BTreeMap<String, ServerChange>) {
    for change in written.into_values() {
        if let Some(SavedRow::Report { report }) = change.row
            && let Err(error) = labels.try_send(*report)
        {
            tracing::warn!(%error, "what a client says of an attack is not passed on");
        }
    }
}

/// Rows as one transaction.
fn batch_of(changes: &BTreeMap<String, ServerChange>) -> Result<Batch, StateError> {
    let mut batch = Batch::new();
    for (key, change) in changes {
        match &change.row {
            Some(row) => batch.put_json(Stage::DotsServer, key.as_bytes(), row)?,
            None => batch.delete(Stage::DotsServer, key.as_bytes()),
        }
    }
    Ok(batch)
}

/// Sessions of several listeners in one number space: the listener in the upper bits.
fn numbered(listener: usize, session: SessionId) -> SessionId {
    SessionId((listener as u64) << 48 | session.0)
}

fn listener_of(session: SessionId) -> (usize, SessionId) {
    (
        (session.0 >> 48) as usize,
        SessionId(session.0 & ((1 << 48) - 1)),
    )
}
