//! Sockets, DTLS and timers around a [`Client`].

mod connect;
mod link;
mod paths;
mod probe;
mod search;
mod whereto;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use weir_dtls::{ClientContext, Credentials, FileWatch};

use crate::client::{Alternate, Client, StateChange};
use crate::command::{ClientCommand, ClientNotice};
use crate::config::{Transport, UpstreamSettings};
use connect::{Attempt, Attempted, Destination, Tickets, connect, resolve};
use link::{Link, LinkEvent, MAX_DATAGRAM, Ready, receive};
use paths::{Outcomes, ordered, schedule};
use probe::Probe;
use search::{Search, discovered_schedule};

/// Waits between two tries to connect in peace: RFC 9132 §4.7 forbids less than a minute, and recommends five.
const FIRST_WAIT: Duration = Duration::from_secs(60);
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// Waits between two tries to connect under attack.
const FIRST_WAIT_UNDER_ATTACK: Duration = Duration::from_secs(1);
const LONGEST_WAIT_UNDER_ATTACK: Duration = Duration::from_secs(2);
/// A session that is lost is opened again after this.
const AFTER_LOSS: Duration = Duration::from_secs(1);
/// Time between tries of one server's addresses (RFC 9132 §4.3: 100 ms under attack).
const STAGGER: Duration = Duration::from_millis(250);
const STAGGER_UNDER_ATTACK: Duration = Duration::from_millis(100);
/// Time that a way which worked lately has for itself, before the others are tried too.
const HEAD_START: Duration = Duration::from_secs(3);
const HEAD_START_UNDER_ATTACK: Duration = Duration::from_secs(1);
/// Handshakes of one attempt, beside one another, and the time between them.
const ROUNDS: u32 = 2;
const ROUND: Duration = Duration::from_secs(10);
const ROUNDS_UNDER_ATTACK: u32 = 6;
const ROUND_UNDER_ATTACK: Duration = Duration::from_secs(3);
/// How often the files of certificate, key and revocation lists are looked at.
const FILES: Duration = Duration::from_secs(10);
/// A row that could not be written is tried again after this.
const JOURNAL_WAIT: Duration = Duration::from_secs(1);
/// Notices that nobody has room for are offered again after this.
const NOTICE_WAIT: Duration = Duration::from_millis(20);

/// Where a client's rows are kept.
pub trait Journal: Send + Sync {
    /// Writes a row under its key, or deletes it; durable when it returns. It is called from a thread that may block.
    fn write(&self, change: &StateChange) -> io::Result<()>;
}

/// Runs the client of one upstream until `shutdown` is true or the senders of `commands` are gone. Then the session is
/// closed, and nothing is withdrawn: mitigations stand until the next run carries on with them.
///
/// The server is connected to at once, and again whenever the session is lost: with a growing wait in peace, without one
/// under attack.
pub async fn run_upstream(
    settings: UpstreamSettings,
    credentials: Credentials,
    client: Client,
    mut commands: mpsc::Receiver<ClientCommand>,
    notices: mpsc::Sender<ClientNotice>,
    journal: Arc<dyn Journal>,
    mut shutdown: watch::Receiver<bool>,
) {
    let context = match ClientContext::new(&credentials) {
        Ok(context) => context,
        Err(error) => {
            tracing::error!(upstream = &*settings.name, %error, "credentials cannot be used");
            return;
        }
    };
    let mut driver = Driver::new(settings, context, client, notices, journal);
    driver.client.handle_validity(credentials.validity());
    if driver.discovered().is_some() {
        driver.client.notify_discovered();
    }
    let mut buffer = vec![0; MAX_DATAGRAM];
    while !*shutdown.borrow() {
        driver.settle().await;
        let wake_at = driver.wake_at();
        tokio::select! {
            changed = shutdown.changed() => if changed.is_err() { break },
            command = commands.recv() => match command {
                Some(command) => driver.handle_command(command),
                None => break,
            },
            attempted = join(&mut driver.attempt) => driver.handle_attempt(attempted).await,
            found = Search::join(driver.search.as_mut()) => driver.handle_found(found),
            received = receive(driver.link.as_deref(), &mut buffer) => driver.handle_received(received, &buffer),
            () = tokio::time::sleep_until(wake_at.into()) => driver.handle_timeout(),
        }
    }
    // Orders that were given before the end are at least written down.
    while let Ok(command) = commands.try_recv() {
        driver.handle_command(command);
    }
    driver.settle().await;
    driver.close().await;
}

struct Driver {
    settings: UpstreamSettings,
    destination: Arc<Destination>,
    /// The server to which the configured one, or one after it, has redirected.
    alternate: Option<Alternate>,
    /// Where the server is looked for.
    search: Option<Search>,
    context: ClientContext,
    files: FileWatch,
    files_at: Instant,
    client: Client,
    notices: mpsc::Sender<ClientNotice>,
    journal: Arc<dyn Journal>,
    link: Option<Box<Link>>,
    /// The server that the link leads to.
    linked_to: String,
    attempt: Option<JoinHandle<Attempted>>,
    /// Whether the attempt is for UDP beside a session over TCP.
    probing: bool,
    probe: Probe,
    outcomes: Arc<Mutex<Outcomes>>,
    /// Addresses that the server's name had.
    known: Arc<Mutex<Vec<SocketAddr>>>,
    tickets: Tickets,
    attempts: u64,
    failures: u32,
    retry_at: Instant,
    /// The network says that nobody listens where the server was.
    refused: bool,
    unwritten: VecDeque<StateChange>,
    write_at: Option<Instant>,
}

impl Driver {
    fn new(
        settings: UpstreamSettings,
        context: ClientContext,
        client: Client,
        notices: mpsc::Sender<ClientNotice>,
        journal: Arc<dyn Journal>,
    ) -> Self {
        let destination = Destination::of(&settings, None);
        let now = Instant::now();
        let discovery = settings.discovery.clone();
        Self {
            files: FileWatch::new(settings.files().clone()),
            files_at: now + FILES,
            settings,
            destination: Arc::new(destination),
            alternate: None,
            search: discovery.map(|settings| Search::new(settings, now)),
            context,
            client,
            notices,
            journal,
            link: None,
            linked_to: String::new(),
            attempt: None,
            probing: false,
            probe: Probe::default(),
            outcomes: Arc::default(),
            known: Arc::default(),
            tickets: Tickets::default(),
            attempts: 0,
            failures: 0,
            retry_at: now,
            refused: false,
            unwritten: VecDeque::new(),
            write_at: None,
        }
    }

    fn handle_command(&mut self, command: ClientCommand) {
        let peace = !self.client.is_under_attack();
        self.client.handle_command(Instant::now(), command);
        if peace && self.client.is_under_attack() {
            self.failures = 0;
            self.retry_at = Instant::now();
            if let Some(search) = &mut self.search {
                search.handle_attack(self.retry_at);
            }
        }
    }

    fn handle_timeout(&mut self) {
        let now = Instant::now();
        if let Some(link) = &mut self.link
            && link.poll_timeout().is_some_and(|due| due <= now)
        {
            link.handle_timeout(now);
        }
        if self.client.poll_timeout().is_some_and(|due| due <= now) {
            self.client.handle_timeout(now);
        }
        if self.files_at <= now {
            self.files_at = now + FILES;
            self.look_at_files();
        }
    }

    /// New files hold for sessions that begin from now on; one that stands goes on.
    fn look_at_files(&mut self) {
        let upstream = &*self.settings.name;
        let renewed = match self.files.poll_changed() {
            None => return,
            Some(Ok(credentials)) => {
                let context = ClientContext::new(&credentials);
                context.map(|context| (context, credentials.validity()))
            }
            Some(Err(error)) => Err(error),
        };
        match renewed {
            Ok((context, validity)) => {
                tracing::info!(upstream, ?validity, "certificates and keys are read again");
                self.context = context;
                self.client.handle_validity(validity);
            }
            Err(error) => {
                tracing::error!(upstream, %error, "certificates and keys stay as they were");
            }
        }
    }

    fn handle_received(&mut self, received: io::Result<Ready>, buffer: &[u8]) {
        let Some(link) = &mut self.link else { return };
        match received {
            Ok(Ready::Read(length)) => {
                self.refused = false;
                let octets = buffer.get(..length).unwrap_or_default();
                link.handle_received(Instant::now(), octets);
            }
            Ok(Ready::Writable) => {}
            // ICMP is not authenticated: the session stays, and a second one is tried beside it.
            Err(error) => {
                tracing::debug!(upstream = &*self.settings.name, %error, "cannot receive");
                link.handle_failure(&error);
                self.refused = link.path.is_datagrams();
            }
        }
    }

    async fn handle_attempt(&mut self, attempted: Attempted) {
        self.attempt = None;
        let now = Instant::now();
        self.note_outcomes(now, &attempted);
        let probing = std::mem::take(&mut self.probing);
        match attempted.result {
            Ok(link) => self.take_link(now, link).await,
            Err(reason) if probing => {
                tracing::info!(
                    upstream = &*self.settings.name,
                    reason,
                    "UDP does not work yet"
                );
                self.probe.handle_failed(now);
            }
            Err(reason) => {
                // A server that does not take the ticket any more takes a full handshake.
                self.tickets = Tickets::default();
                self.retry_at = now + wait_after(self.failures, self.client.is_under_attack());
                self.failures = self.failures.saturating_add(1);
                tracing::warn!(upstream = &*self.settings.name, reason, "cannot connect");
                // A session with another server goes on.
                if !self.is_elsewhere() {
                    self.client.handle_connect_failed(&reason);
                }
                self.handle_unreachable(now);
            }
        }
    }

    fn note_outcomes(&self, now: Instant, attempted: &Attempted) {
        let mut outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        for path in &attempted.failed {
            outcomes.note(now, *path, false);
        }
        if let Ok(link) = &attempted.result {
            outcomes.note(now, link.path, true);
        }
    }

    /// The new link replaces the old one.
    async fn take_link(&mut self, now: Instant, link: Box<Link>) {
        tracing::info!(
            upstream = &*self.settings.name,
            path = %link.path,
            resumed = link.resumed,
            "session stands"
        );
        self.drop_link(now).await;
        self.failures = 0;
        self.refused = false;
        self.retry_at = now + Duration::from_secs(1);
        let may_move = !link.path.is_datagrams() && self.settings.transport == Transport::Auto;
        self.probe.handle_connected(now, may_move);
        self.tickets.note(&link);
        let reliable = !link.path.is_datagrams();
        self.client.handle_transport(reliable, link.round_trip);
        self.link = Some(link);
        self.linked_to.clone_from(&self.destination.host);
        self.client.handle_server(&self.linked_to);
        self.client.handle_connected(now);
    }

    /// Does all that can be done without waiting for the outside.
    async fn settle(&mut self) {
        loop {
            self.write_rows().await;
            self.read_link(Instant::now());
            let sent = self.write_link().await;
            self.offer_notices();
            if !sent && !self.client.has_changes() {
                break;
            }
        }
        self.follow_redirect();
        self.search_if_due();
        self.connect_if_needed();
    }

    async fn write_rows(&mut self) {
        while let Some(change) = self.client.poll_persist() {
            self.unwritten.push_back(change);
        }
        if self.write_at.is_some_and(|at| at > Instant::now()) {
            return;
        }
        self.write_at = None;
        while let Some(change) = self.unwritten.front() {
            let (journal, row) = (self.journal.clone(), change.clone());
            let written = tokio::task::spawn_blocking(move || journal.write(&row)).await;
            match written.unwrap_or_else(|error| Err(io::Error::other(error))) {
                Ok(()) => {
                    let id = change.id;
                    self.unwritten.pop_front();
                    self.client.handle_persisted(Instant::now(), id);
                }
                Err(error) => {
                    let upstream = &*self.settings.name;
                    tracing::error!(upstream, %error, "state not written: requests wait for it");
                    self.write_at = Some(Instant::now() + JOURNAL_WAIT);
                    return;
                }
            }
        }
    }

    fn read_link(&mut self, now: Instant) {
        let Some(link) = &mut self.link else { return };
        while let Some(event) = link.poll_event() {
            match event {
                LinkEvent::Datagram(datagram) => self.client.handle_datagram(now, &datagram),
                LinkEvent::Connected { .. } => {}
                LinkEvent::Closed(reason, hold_off) => {
                    let upstream = &*self.settings.name;
                    match reason {
                        Some(reason) => tracing::warn!(upstream, reason, "session broken"),
                        None => tracing::info!(upstream, "session closed by the server"),
                    }
                    self.tickets.note(link);
                    self.link = None;
                    self.client.handle_disconnected(now);
                    // A server may ask to be left alone, but not for long by a client under attack.
                    let longest = if self.client.is_under_attack() {
                        LONGEST_WAIT_UNDER_ATTACK
                    } else {
                        LONGEST_WAIT
                    };
                    self.retry_at = now + hold_off.unwrap_or(AFTER_LOSS).min(longest);
                    return;
                }
            }
        }
    }

    /// True if there was something to send.
    async fn write_link(&mut self) -> bool {
        let mut sent = false;
        while let Some(datagram) = self.client.poll_transmit() {
            sent = true;
            let Some(link) = &mut self.link else { continue };
            if let Err(error) = link.handle_send(&datagram) {
                tracing::warn!(upstream = &*self.settings.name, %error, "cannot encrypt");
            }
        }
        if let Some(link) = &mut self.link {
            link.flush().await;
        }
        sent
    }

    fn offer_notices(&mut self) {
        while self.client.has_notices() {
            match self.notices.try_reserve() {
                Ok(permit) => {
                    if let Some(notice) = self.client.poll_notice() {
                        permit.send(notice);
                    }
                }
                Err(mpsc::error::TrySendError::Full(())) => return,
                // Nobody listens any more; the client works on.
                Err(mpsc::error::TrySendError::Closed(())) => {
                    let _ = self.client.poll_notice();
                }
            }
        }
    }

    fn wants_link(&self) -> bool {
        self.attempt.is_none()
            && self.has_destination()
            && (self.link.is_none()
                || self.refused
                || self.is_elsewhere()
                || self.client.wants_session())
    }

    /// A session over TCP is left for UDP when nothing else is going on.
    fn probe_due(&self) -> Option<Instant> {
        let idle = self.attempt.is_none() && !self.client.is_under_attack();
        self.probe.due().filter(|_| idle && self.link.is_some())
    }

    /// Under attack an old session is kept until the new one stands (RFC 9132 §4.7).
    fn connect_if_needed(&mut self) {
        let now = Instant::now();
        if self.wants_link() && self.retry_at <= now {
            self.begin_attempt(self.settings.transport);
        } else if self.probe_due().is_some_and(|at| at <= now) {
            self.probing = true;
            self.begin_attempt(Transport::Udp);
        }
    }

    fn begin_attempt(&mut self, transport: Transport) {
        let under_attack = self.client.is_under_attack();
        let (stagger, head_start, rounds, round) = if under_attack {
            (
                STAGGER_UNDER_ATTACK,
                HEAD_START_UNDER_ATTACK,
                ROUNDS_UNDER_ATTACK,
                ROUND_UNDER_ATTACK,
            )
        } else {
            (STAGGER, HEAD_START, ROUNDS, ROUND)
        };
        self.attempts = self.attempts.wrapping_add(1);
        let mut attempt = Attempt {
            destination: Arc::clone(&self.destination),
            context: self.context.clone(),
            tickets: self.tickets.clone(),
            schedule: Vec::new(),
            rounds,
            round,
            seed: self.attempts,
        };
        let (outcomes, known) = (Arc::clone(&self.outcomes), Arc::clone(&self.known));
        let source = self.settings.source_address;
        let discovered = self.discovered().map(|discovery| {
            let outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
            let times = (stagger, head_start);
            let how = (transport, source);
            discovered_schedule(discovery, how, Instant::now(), &outcomes, times)
        });
        self.attempt = Some(tokio::spawn(async move {
            if let Some(schedule) = discovered {
                attempt.schedule = schedule;
            } else {
                let before = known.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let addresses = match resolve(&attempt.destination, before).await {
                    Ok(addresses) => addresses,
                    Err(reason) => return Attempted::failed(reason),
                };
                let now = Instant::now();
                let outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
                let paths = ordered(&addresses, transport, source, now, &outcomes);
                attempt.schedule = schedule(&paths, now, &outcomes, stagger, head_start);
                *known.lock().unwrap_or_else(PoisonError::into_inner) = addresses;
            }
            if attempt.schedule.is_empty() {
                return Attempted::failed("no address can be reached from the source".to_owned());
            }
            connect(attempt).await
        }));
    }

    fn wake_at(&self) -> Instant {
        let now = Instant::now();
        let link = self.link.as_ref().and_then(|link| link.poll_timeout());
        let retry = self.wants_link().then_some(self.retry_at);
        let notices = self.client.has_notices().then(|| now + NOTICE_WAIT);
        let timers = [
            self.client.poll_timeout(),
            link,
            retry,
            self.write_at,
            notices,
            self.probe_due(),
            self.search.as_ref().and_then(Search::due),
            Some(self.files_at),
        ];
        timers
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(now + LONGEST_WAIT)
    }

    async fn drop_link(&mut self, now: Instant) {
        if let Some(mut link) = self.link.take() {
            self.tickets.note(&link);
            link.handle_close();
            link.flush().await;
            self.client.handle_disconnected(now);
        }
    }

    async fn close(mut self) {
        if let Some(attempt) = self.attempt.take() {
            attempt.abort();
        }
        if let Some(search) = &mut self.search {
            search.abort();
        }
        self.drop_link(Instant::now()).await;
        self.offer_notices();
    }
}

/// Time until the next try to connect, after so many that failed before this one.
fn wait_after(failures: u32, under_attack: bool) -> Duration {
    let (first, longest) = if under_attack {
        (FIRST_WAIT_UNDER_ATTACK, LONGEST_WAIT_UNDER_ATTACK)
    } else {
        (FIRST_WAIT, LONGEST_WAIT)
    };
    let doubled = 1_u32.checked_shl(failures).unwrap_or(u32::MAX);
    first.saturating_mul(doubled).min(longest)
}

/// Waits for a try to connect, if one is under way.
async fn join(attempt: &mut Option<JoinHandle<Attempted>>) -> Attempted {
    match attempt {
        Some(attempt) => attempt
            .await
            .unwrap_or_else(|error| Attempted::failed(error.to_string())),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_gone_is_left_alone_in_peace_and_looked_for_under_attack() {
        let waits = |under_attack| [0, 1, 2, 40].map(|n| wait_after(n, under_attack).as_secs());
        assert_eq!(waits(false), [60, 120, 240, 300]);
        assert_eq!(waits(true), [1, 2, 2, 2]);
    }
}
