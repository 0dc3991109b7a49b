//! One daemon's side of the pair: looks for the other, leads or follows it, takes over, steps down.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{sleep_until, timeout};
use weir_state::{Batch, Stage, State, StateError};

use crate::claim::Epoch;
use crate::feed::Feed;
use crate::link::{self, Ended, Shared, Stream};
use crate::message::{self, Hello, Message, VERSION};
use crate::tls::{Tls, TlsError};
use crate::{Claim, Role, StandbySettings, StandbyView};

/// Row of the epoch.
const EPOCH: &[u8] = b"epoch";
/// Handshakes at once.
const HANDSHAKES: usize = 8;
/// A connection that ends within this is not followed by another at once.
const SHORT: Duration = Duration::from_millis(500);
/// Longest handshake.
const HANDSHAKE: Duration = Duration::from_secs(2);

/// Why a pair does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StandbyError {
    /// Certificates or key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Its address.
    #[error("cannot listen on {address} for the peer: {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The rows.
    #[error(transparent)]
    State(#[from] StateError),
    /// No thread, or no runtime on it.
    #[error("cannot start the pair's thread: {0}")]
    Thread(io::Error),
}

/// What the daemon is to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// Wait: the other works, or is looked for.
    Wait,
    /// Work, on the rows as they are.
    Work,
    /// Stop at once, since the other works; say [`Pair::released`] when nothing uses the rows any more.
    Stop,
}

/// A daemon's side of the pair, which runs on a thread of its own.
pub struct Pair {
    turn: watch::Receiver<Turn>,
    stop: watch::Sender<bool>,
    released: watch::Sender<u64>,
    feed: Arc<Feed>,
    state: Arc<State>,
    rival_left: Arc<AtomicBool>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Pair {
    /// Reads the files, listens for the peer and begins to look for it. From now on `state` takes writes only while this
    /// daemon works.
    pub fn start(settings: StandbySettings, state: Arc<State>) -> Result<Self, StandbyError> {
        let tls = Tls::open(&settings)?;
        let bound = std::net::TcpListener::bind(settings.listen).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok((listener.local_addr()?, listener))
        });
        let (address, listener) = bound.map_err(|source| StandbyError::Listen {
            address: settings.listen,
            source,
        })?;
        let epoch: Epoch = state.get_json(Stage::Standby, EPOCH)?.unwrap_or_default();
        let feed = Arc::new(Feed::new(&settings));
        feed.set_epoch(&epoch);
        state.set_mirror(Some(feed.clone()));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(StandbyError::Thread)?;
        let (say_turn, turn) = watch::channel(Turn::Wait);
        let (stop, stopped) = watch::channel(false);
        let (released, releases) = watch::channel(0);
        let rival_left = Arc::new(AtomicBool::new(false));
        let shared = Shared {
            state: Arc::clone(&state),
            feed: Arc::clone(&feed),
            lease: settings.lease,
        };
        let (offer, incoming) = mpsc::channel(1);
        let side = Side {
            tls: tls.clone(),
            shared,
            role: Role::Starting,
            epoch,
            incoming,
            pending: None,
            linked_at: None,
            not_understood: None,
            is_cut_off: false,
            stranger: None,
            turn: say_turn,
            stopped,
            releases,
            rival_left: Arc::clone(&rival_left),
            settings,
        };
        let accepting = Arc::clone(&feed);
        // Not the daemon's runtime: what waits for a confirmation there must not keep it from coming.
        let thread = std::thread::Builder::new()
            .name("weir-standby".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    match TcpListener::from_std(listener) {
                        Ok(listener) => drop(tokio::spawn(accept(listener, tls, offer, accepting))),
                        Err(error) => tracing::error!(%error, "the peer cannot call"),
                    }
                    side.run().await;
                });
                // A name that is still being looked up is not waited for.
                runtime.shutdown_background();
            })
            .map_err(StandbyError::Thread)?;
        Ok(Self {
            turn,
            stop,
            released,
            feed,
            state,
            rival_left,
            address,
            thread: Some(thread),
        })
    }

    /// Where it listens for the peer.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What this daemon is to do now.
    pub fn turn(&self) -> Turn {
        *self.turn.borrow()
    }

    /// Waits until it is to do something else than `now`.
    pub async fn turned(&mut self, now: Turn) -> Turn {
        match self.turn.wait_for(|turn| *turn != now).await {
            Ok(turn) => *turn,
            // The thread is gone, which only a panic of it can be: nobody renews the lease.
            Err(_) => Turn::Stop,
        }
    }

    /// Whether, since this was last asked, another active has stepped down for this one: it may have asked upstreams for what
    /// nobody here knows of.
    pub fn rival_left(&self) -> bool {
        self.rival_left.swap(false, Ordering::Relaxed)
    }

    /// The daemon has stopped as it was told to: the peer's rows may replace those here.
    pub fn released(&self) {
        self.released.send_modify(|count| *count += 1);
    }

    /// Waits until it has taken notice of [`released`](Self::released).
    pub async fn waiting(&self) {
        // An error means that the thread is gone; that is seen when its turn is waited for.
        let _ = self.turn.clone().wait_for(|turn| *turn != Turn::Stop).await;
    }

    /// The rows of this daemon.
    pub fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// How the pair stands.
    pub fn view(&self) -> StandbyView {
        self.feed.view()
    }

    /// What tells how the pair stands, as long as anyone wants to know.
    pub fn viewer(&self) -> Viewer {
        Viewer(Arc::clone(&self.feed))
    }
}

/// Tells how a pair stands.
#[derive(Clone, Debug)]
pub struct Viewer(Arc<Feed>);

impl Viewer {
    /// How the pair stands.
    pub fn view(&self) -> StandbyView {
        self.0.view()
    }
}

impl Drop for Pair {
    /// Hands over in order: the standby gets what is left, and need not wait for the lease.
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.state.set_mirror(None);
    }
}

/// Takes calls; only those of the peer are handed on.
async fn accept(listener: TcpListener, tls: Tls, offer: mpsc::Sender<Stream>, feed: Arc<Feed>) {
    let places = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a call of the peer cannot be taken");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (tls, offer, feed) = (tls.clone(), offer.clone(), Arc::clone(&feed));
        tokio::spawn(async move {
            match timeout(HANDSHAKE, tls.accept(stream)).await {
                // Where one waits already, the peer calls again.
                Ok(Ok(stream)) => drop(offer.try_send(stream)),
                Ok(Err(error)) => {
                    feed.count_refused_connection();
                    tracing::warn!(%from, %error, "a call that is not the peer's is refused");
                }
                Err(_) => feed.count_refused_connection(),
            }
            drop(place);
        });
    }
}

/// The state machine.
struct Side {
    settings: StandbySettings,
    tls: Tls,
    shared: Shared,
    role: Role,
    epoch: Epoch,
    incoming: mpsc::Receiver<Stream>,
    /// A call that ended the connection before it.
    pending: Option<Stream>,
    /// When the last connection began.
    linked_at: Option<Instant>,
    /// When a peer of another version was last heard.
    not_understood: Option<Instant>,
    /// Whether the witness did not answer either.
    is_cut_off: bool,
    /// Why the last call came to nothing, if somebody else answered.
    stranger: Option<String>,
    turn: watch::Sender<Turn>,
    stopped: watch::Receiver<bool>,
    releases: watch::Receiver<u64>,
    rival_left: Arc<AtomicBool>,
}

/// What looking for the peer has come to.
enum Found {
    /// The peer, after both have said who they are.
    Peer(Box<Stream>, Hello, Claim),
    /// Nobody, for as long as was to be waited.
    Nobody,
    /// This daemon ends.
    Stopped,
}

impl Side {
    async fn run(mut self) {
        // Who worked last has the newest rows, and need not wait long for another who says so.
        let patience = if self.epoch.active == self.settings.name {
            self.settings.lease
        } else {
            3 * self.settings.lease
        };
        let mut until = Some(Instant::now() + patience);
        let mut handed_over = false;
        loop {
            // Whatever broke a connection at once breaks the next one too.
            if self.linked_at.take().is_some_and(|at| at.elapsed() < SHORT) {
                tokio::time::sleep(self.settings.lease / 6).await;
            }
            let found = self.look_for_peer(until).await;
            match found {
                Found::Stopped => return,
                // It lives, but speaks another version of the protocol: two who work are worse than none in reserve.
                Found::Nobody if self.heard_a_stranger() => {
                    until = Some(Instant::now() + self.settings.lease);
                }
                Found::Nobody if !handed_over && !self.is_connected_to_anything().await => {
                    until = Some(Instant::now() + self.settings.lease / 3);
                }
                Found::Nobody => {
                    tracing::warn!(peer = %self.settings.peer_name, "the peer is silent: taking over");
                    // Two more: an active that has lost its standby has one more.
                    handed_over = false;
                    self.take_over(self.epoch.number + 2);
                    until = None;
                }
                Found::Peer(stream, theirs, ours) if ours.wins(&theirs.claim) => {
                    let ended = self.lead(*stream, &theirs).await;
                    if ended == Ended::Stopped {
                        return;
                    }
                    until = None;
                }
                Found::Peer(stream, theirs, _) => {
                    handed_over = false;
                    until = if self.role == Role::Active {
                        drop(stream);
                        if !self.step_down(&theirs.claim).await {
                            return;
                        }
                        Some(Instant::now() + self.settings.lease)
                    } else {
                        match self.follow(*stream, &theirs).await {
                            Ended::Stopped => return,
                            Ended::Bye => {
                                handed_over = true;
                                Some(Instant::now())
                            }
                            Ended::Lost(heard) => Some(heard + self.settings.lease),
                        }
                    };
                }
            }
        }
    }

    /// Whether a peer that is not understood was heard within the lease.
    fn heard_a_stranger(&self) -> bool {
        self.not_understood
            .is_some_and(|at| at.elapsed() < self.settings.lease)
    }

    /// Whether the witness answers, so that it is not this one that is cut off; without one that is taken for granted.
    async fn is_connected_to_anything(&mut self) -> bool {
        let Some(witness) = &self.settings.witness else {
            return true;
        };
        let called = timeout(self.settings.lease / 3, TcpStream::connect(witness)).await;
        let answers = match called {
            Ok(Ok(_)) => true,
            // Somebody is there to refuse.
            Ok(Err(error)) => error.kind() == io::ErrorKind::ConnectionRefused,
            Err(_) => false,
        };
        if !answers && !self.is_cut_off {
            tracing::error!(witness, "neither peer nor witness answer: not taking over");
        }
        self.is_cut_off = !answers;
        self.shared.feed.set_cut_off(!answers);
        answers
    }

    /// Calls the peer again and again, and takes its calls.
    async fn look_for_peer(&mut self, until: Option<Instant>) -> Found {
        let mut dial_at = Instant::now();
        loop {
            if let Some(stream) = self.pending.take() {
                if let Some(found) = self.greet(stream, false).await {
                    return found;
                }
                continue;
            }
            let far = Instant::now() + Duration::from_secs(3600);
            tokio::select! {
                biased;
                () = link::told_to_stop(&mut self.stopped) => return Found::Stopped,
                Some(stream) = self.incoming.recv() => self.pending = Some(stream),
                () = sleep_until(until.unwrap_or(far).into()), if until.is_some() => {
                    return Found::Nobody;
                }
                () = sleep_until(dial_at.into()) => {
                    if let Some(found) = self.dial().await {
                        return found;
                    }
                    dial_at = Instant::now() + self.settings.lease / 8;
                }
            }
        }
    }

    /// Calls the peer once.
    async fn dial(&mut self) -> Option<Found> {
        let called = timeout(self.settings.lease / 3, async {
            let stream = TcpStream::connect(&self.settings.peer).await.ok()?;
            Some(self.tls.connect(stream).await)
        });
        // A call that the peer has made meanwhile waits in `incoming`.
        let found = match called.await {
            Ok(Some(Ok(stream))) => self.greet(stream, true).await,
            Ok(Some(Err(error))) => {
                self.note_stranger(&error);
                None
            }
            _ => None,
        };
        if found.is_none() && self.role == Role::Active && self.shared.feed.nobody_there() {
            tracing::warn!(peer = %self.settings.peer_name, "no standby: going on alone");
            self.set_epoch(self.epoch.number + 1);
        }
        found
    }

    /// Says once why what answers is not the peer.
    fn note_stranger(&mut self, error: &TlsError) {
        let error = error.to_string();
        if self.stranger.as_ref() != Some(&error) {
            tracing::warn!(
                peer = self.settings.peer,
                error,
                "what answers is not the peer"
            );
            self.stranger = Some(error);
        }
    }

    /// Exchanges who is who. Of two calls at once that of the lower name is gone on with.
    async fn greet(&mut self, mut stream: Stream, own_call: bool) -> Option<Found> {
        let ours = self.claim();
        let hello = Hello {
            version: VERSION,
            lease: u64::try_from(self.settings.lease.as_millis()).unwrap_or(u64::MAX),
            claim: ours.clone(),
        };
        let yields = own_call && self.settings.name > self.settings.peer_name;
        let exchanged = async {
            link::send(&mut stream, &Message::Hello(hello)).await?;
            message::read(&mut stream).await
        };
        let answer = tokio::select! {
            answer = timeout(self.settings.lease / 3, exchanged) => answer,
            Some(other) = self.incoming.recv(), if yields => {
                self.pending = Some(other);
                return None;
            }
        };
        match answer {
            Ok(Ok(Message::Hello(theirs))) if theirs.version != VERSION => {
                self.not_understood = Some(Instant::now());
                tracing::error!(
                    theirs = theirs.version,
                    ours = VERSION,
                    "the peer is of another version"
                );
                None
            }
            Ok(Ok(Message::Hello(theirs))) if theirs.claim.name != self.settings.peer_name => {
                tracing::error!(name = theirs.claim.name, expected = %self.settings.peer_name, "the peer has another name");
                None
            }
            Ok(Ok(Message::Hello(theirs))) => Some(Found::Peer(Box::new(stream), theirs, ours)),
            _ => None,
        }
    }

    fn claim(&self) -> Claim {
        Claim {
            name: self.settings.name.clone(),
            role: self.role,
            epoch: self.epoch.number,
            was_active: self.epoch.active == self.settings.name,
            priority: self.settings.priority,
        }
    }

    async fn lead(&mut self, stream: Stream, theirs: &Hello) -> Ended {
        self.linked_at = Some(Instant::now());
        let later = self.epoch.number.max(theirs.claim.epoch).saturating_add(1);
        if self.role != Role::Active {
            self.take_over(later);
        } else if theirs
            .claim
            .epoch
            .saturating_add(u64::from(theirs.claim.was_active))
            > self.epoch.number
        {
            // It has rows of an epoch that ours would be taken for.
            self.set_epoch(later);
        }
        if theirs.claim.role == Role::Active {
            tracing::warn!(peer = %self.settings.peer_name, "the peer worked too: it steps down");
            self.rival_left.store(true, Ordering::Relaxed);
        }
        tracing::info!(peer = %self.settings.peer_name, epoch = self.epoch.number, "leading the standby");
        self.shared.feed.set_connected(true);
        let lease = Duration::from_millis(theirs.lease.max(1));
        let ended = tokio::select! {
            ended = link::lead(stream, &self.shared, lease, &mut self.stopped) => ended,
            // It has given this connection up.
            Some(call) = self.incoming.recv() => {
                self.pending = Some(call);
                Ended::Lost(Instant::now())
            }
        };
        self.shared.feed.lost();
        ended
    }

    async fn follow(&mut self, stream: Stream, theirs: &Hello) -> Ended {
        self.linked_at = Some(Instant::now());
        self.set_role(Role::Standby);
        tracing::info!(peer = %self.settings.peer_name, epoch = theirs.claim.epoch, "following the active");
        self.shared.feed.set_connected(true);
        let lease = Duration::from_millis(theirs.lease.max(1));
        let ended = link::follow(stream, &self.shared, lease, &mut self.stopped).await;
        self.shared.feed.set_connected(false);
        self.set_role(Role::Standby);
        match self.shared.state.get_json(Stage::Standby, EPOCH) {
            Ok(epoch) => self.epoch = epoch.unwrap_or_default(),
            Err(error) => tracing::error!(%error, "the epoch cannot be read"),
        }
        self.shared.feed.set_epoch(&self.epoch);
        ended
    }

    fn take_over(&mut self, epoch: u64) {
        self.set_epoch(epoch);
        self.role = Role::Active;
        self.shared.feed.begin();
        self.turn.send_replace(Turn::Work);
        tracing::info!(epoch, "this daemon is the active one");
    }

    /// Lets nothing leave any more, and waits until the daemon has stopped; `false` where it ends for good.
    async fn step_down(&mut self, winner: &Claim) -> bool {
        tracing::warn!(peer = %winner.name, theirs = winner.epoch, ours = self.epoch.number, "the peer is the active one: stepping down");
        self.shared.feed.fence();
        self.releases.mark_unchanged();
        self.turn.send_replace(Turn::Stop);
        tokio::select! {
            () = link::told_to_stop(&mut self.stopped) => return false,
            released = self.releases.changed() => if released.is_err() { return false },
        }
        self.set_role(Role::Standby);
        self.turn.send_replace(Turn::Wait);
        true
    }

    fn set_role(&mut self, role: Role) {
        self.role = role;
        self.shared.feed.set_role(role);
    }

    /// Keeps the epoch with the rows; a standby gets it with the snapshot, since there is none now.
    fn set_epoch(&mut self, number: u64) {
        self.epoch = Epoch {
            number,
            active: self.settings.name.clone(),
        };
        self.shared.feed.set_epoch(&self.epoch);
        let mut batch = Batch::new();
        let kept = batch
            .put_json(Stage::Standby, EPOCH, &self.epoch)
            .and_then(|()| self.shared.state.apply(&batch));
        if let Err(error) = kept {
            tracing::error!(%error, "the epoch is not kept");
        }
    }
}
