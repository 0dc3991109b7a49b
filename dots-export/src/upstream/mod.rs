//! Sockets, DTLS and timers around a [`Client`].

mod link;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use weir_dtls::{ClientContext, Credentials, DtlsEvent, Ticket};

use crate::client::{Client, StateChange};
use crate::command::{ClientCommand, ClientNotice};
use crate::config::UpstreamSettings;
use link::{Destination, Link, MAX_DATAGRAM};

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
            received = receive(driver.link.as_ref(), &mut buffer) => driver.handle_received(received, &buffer),
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
    client: Client,
    notices: mpsc::Sender<ClientNotice>,
    journal: Arc<dyn Journal>,
    link: Option<Link>,
    attempt: Option<JoinHandle<Result<Link, String>>>,
    ticket: Option<Ticket>,
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
        let destination = Destination {
            host: settings.host.clone(),
            port: settings.port,
            context,
        };
        Self {
            settings,
            destination: Arc::new(destination),
            client,
            notices,
            journal,
            link: None,
            attempt: None,
            ticket: None,
            failures: 0,
            retry_at: Instant::now(),
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
        }
    }

    fn handle_timeout(&mut self) {
        let now = Instant::now();
        if let Some(link) = &mut self.link
            && link.connection.poll_timeout().is_some_and(|due| due <= now)
        {
            link.connection.handle_timeout(now);
        }
        if self.client.poll_timeout().is_some_and(|due| due <= now) {
            self.client.handle_timeout(now);
        }
    }

    fn handle_received(&mut self, received: io::Result<usize>, buffer: &[u8]) {
        let Some(link) = &mut self.link else { return };
        match received {
            Ok(length) => {
                self.refused = false;
                let datagram = buffer.get(..length).unwrap_or_default();
                link.connection.handle_datagram(Instant::now(), datagram);
            }
            // ICMP is not authenticated: the session stays, and a second one is tried beside it.
            Err(error) => {
                tracing::debug!(upstream = &*self.settings.name, %error, "cannot receive");
                self.refused = true;
            }
        }
    }

    async fn handle_attempt(&mut self, attempted: Result<Link, String>) {
        self.attempt = None;
        let now = Instant::now();
        match attempted {
            Ok(link) => {
                tracing::info!(
                    upstream = &*self.settings.name,
                    address = %link.address,
                    resumed = link.resumed,
                    "session stands"
                );
                self.drop_link(now).await;
                self.failures = 0;
                self.refused = false;
                self.retry_at = now + Duration::from_secs(1);
                self.ticket = link.connection.ticket();
                self.link = Some(link);
                self.client.handle_connected(now);
            }
            Err(reason) => {
                // A server that does not take the ticket any more takes a full handshake.
                self.ticket = None;
                self.retry_at = now + wait_after(self.failures, self.client.is_under_attack());
                self.failures = self.failures.saturating_add(1);
                tracing::warn!(upstream = &*self.settings.name, reason, "cannot connect");
                self.client.handle_connect_failed(&reason);
            }
        }
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
        while let Some(event) = link.connection.poll_event() {
            match event {
                DtlsEvent::Data(datagram) => self.client.handle_datagram(now, &datagram),
                DtlsEvent::Connected { .. } => {}
                DtlsEvent::Closed(reason) => {
                    let upstream = &*self.settings.name;
                    match reason {
                        Some(error) => tracing::warn!(upstream, %error, "session broken"),
                        None => tracing::info!(upstream, "session closed by the server"),
                    }
                    self.link = None;
                    self.client.handle_disconnected(now);
                    self.retry_at = now + AFTER_LOSS;
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
            if let Err(error) = link.connection.handle_send(&datagram) {
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
            && (self.link.is_none() || self.refused || self.client.wants_session())
    }

    /// Under attack an old session is kept until the new one stands (RFC 9132 §4.7).
    fn connect_if_needed(&mut self) {
        let now = Instant::now();
        if !self.wants_link() || self.retry_at > now {
            return;
        }
        let stagger = if self.client.is_under_attack() {
            STAGGER_UNDER_ATTACK
        } else {
            STAGGER
        };
        let attempt = link::connect(self.destination.clone(), self.ticket.clone(), stagger);
        self.attempt = Some(tokio::spawn(attempt));
    }

    fn wake_at(&self) -> Instant {
        let now = Instant::now();
        let link = self
            .link
            .as_ref()
            .and_then(|link| link.connection.poll_timeout());
        let retry = self.wants_link().then_some(self.retry_at);
        let notices = self.client.has_notices().then(|| now + NOTICE_WAIT);
        let timers = [
            self.client.poll_timeout(),
            link,
            retry,
            self.write_at,
            notices,
        ];
        timers
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(now + LONGEST_WAIT)
    }

    async fn drop_link(&mut self, now: Instant) {
        if let Some(mut link) = self.link.take() {
            link.connection.handle_close();
            link.flush().await;
            self.client.handle_disconnected(now);
        }
    }

    async fn close(mut self) {
        if let Some(attempt) = self.attempt.take() {
            attempt.abort();
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
async fn join(attempt: &mut Option<JoinHandle<Result<Link, String>>>) -> Result<Link, String> {
    match attempt {
        Some(attempt) => attempt.await.unwrap_or_else(|error| Err(error.to_string())),
        None => std::future::pending().await,
    }
}

/// Waits for a datagram. Only the socket is shared with the future, since an association need not be `Sync`.
fn receive<'d>(
    link: Option<&'d Link>,
    buffer: &'d mut [u8],
) -> impl Future<Output = io::Result<usize>> + use<'d> {
    let socket = link.map(|link| &link.socket);
    async move {
        match socket {
            Some(socket) => socket.recv(buffer).await,
            None => std::future::pending().await,
        }
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
