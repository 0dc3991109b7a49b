//! The client of one upstream: mitigations and telemetry over a session.
//!
//! `Client` holds what is wanted and what the server is known to have, and after each input sends what closes the gap. So a
//! lost answer, a reconnect and a restart need no code paths of their own.

mod advance;
mod answers;
mod discovered;
mod efficacy;
mod filters;
mod journal;
mod mitigation;
mod negotiation;
mod redirect;
mod reports;
mod restore;
mod setup;
mod told;
mod watch;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_attack_event::AttackId;
use weir_dots_proto::body::{Lifetime, Scope, SignalConfig};
use weir_dots_proto::client::{Notice, Request, RequestId, Session};
use weir_dots_proto::coap::Code;
use weir_dots_proto::{Cuid, Mid, SessionParameters, Sid, Tmid, Tsid};
use weir_dtls::Validity;

pub use self::efficacy::Efficacy;
use self::filters::Filters;
pub use self::filters::PreparedFilter;
pub use self::journal::{ChangeId, SavedState, StateChange};
use self::mitigation::{Held, Phase};
use self::negotiation::Negotiation;
pub use self::redirect::Alternate;
use self::redirect::Redirects;
use self::setup::Setup;
pub use self::setup::{SetupItem, SetupPlan};
use self::told::Told;
use self::watch::Watch;
use crate::command::{ClientCommand, ClientNotice, SessionState};
use crate::discovery::Discovery;
use crate::request::{mitigate, mitigation_body, next_id};
use crate::scope::covers;
use crate::telemetry::{MAX_BODY_OCTETS, fits};

/// Mitigations and attacks told of that are held at once; further orders are counted and dropped.
const MAX_HELD: usize = 4096;
/// Notices that wait for somebody to poll them; beyond these the oldest go, counted.
const MAX_NOTICES: usize = 4096;
/// A server that did not answer is asked again after this.
const AFTER_SILENCE: Duration = Duration::from_secs(2);
/// After a withdrawal the server is asked once more what it knows of us: a delayed PUT may have come after the DELETE.
const AUDIT_AFTER: Duration = Duration::from_secs(60);
/// A request without an answer for this long is reported: another upstream may be asked.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a refused request is made again before it is given up.
const MAX_RETRIES: u32 = 10;

/// What a client is made of.
#[derive(Clone, Debug)]
pub struct ClientParameters {
    /// The upstream's name.
    pub upstream: Arc<str>,
    /// Under which name the server knows us.
    pub cuid: Cuid,
    /// Timers of the session.
    pub session: SessionParameters,
    /// For tokens and jitter; different in each process.
    pub seed: u64,
    /// An active mitigation of which nothing was heard for this long is asked about.
    pub check_interval: Duration,
    /// Session configuration to negotiate (RFC 9132 §4.5); `None`: the defaults are good.
    pub wish: Option<SignalConfig>,
}

impl ClientParameters {
    /// Parameters with the defaults of RFC 9132 and checks every 30 s.
    #[must_use]
    pub fn new(upstream: Arc<str>, cuid: Cuid, seed: u64) -> Self {
        Self {
            upstream,
            cuid,
            session: SessionParameters::default(),
            seed,
            check_interval: Duration::from_secs(30),
            wish: None,
        }
    }
}

/// What happened so far.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ClientCounters {
    /// Orders not carried out: too much is held, or too large.
    pub refused_commands: u64,
    /// Notices dropped because nobody polled.
    pub lost_notices: u64,
    /// Requests that the session gave up.
    pub unanswered: u64,
    /// Requests answered with 4.xx or 5.xx.
    pub refused: u64,
    /// Mitigations found at the server that we did not hold.
    pub orphans: u64,
    /// Answers that could not be read.
    pub unreadable: u64,
    /// Redirections to servers that were used within the last five minutes, which are ignored.
    pub redirect_loops: u64,
}

/// A mitigation as the client holds it.
#[derive(Clone, PartialEq, Debug)]
pub struct HeldMitigation {
    /// Its identifier.
    pub mid: u32,
    /// The attack it was asked for.
    pub attack: AttackId,
    /// What was asked for.
    pub scope: Scope,
    /// Whether the server has granted it.
    pub granted: bool,
    /// Whether it is being withdrawn.
    pub withdrawing: bool,
}

/// The client's side of one upstream. After each `handle_*`: poll [`poll_persist`](Self::poll_persist),
/// [`poll_transmit`](Self::poll_transmit) and [`poll_notice`](Self::poll_notice) until they are empty, and ask
/// [`poll_timeout`](Self::poll_timeout).
pub struct Client {
    upstream: Arc<str>,
    cuid: Cuid,
    check_interval: Duration,
    session: Session,
    connected: bool,
    wants_session: bool,
    audit: Audit,
    last_mid: Option<u32>,
    last_tmid: Option<u32>,
    last_tsid: Option<u32>,
    last_sid: Option<u32>,
    negotiation: Negotiation,
    setup: Setup,
    /// How often another client had our cuid.
    collisions: u32,
    /// The server has our vendor mapping.
    mapping_shared: bool,
    filters: Filters,
    watch: Watch,
    discovered: Option<Discovery>,
    redirects: Redirects,
    mitigations: BTreeMap<Mid, Held>,
    telemetry: BTreeMap<AttackId, Told>,
    outstanding: Vec<(RequestId, Purpose)>,
    changes: VecDeque<StateChange>,
    last_change: ChangeId,
    durable: ChangeId,
    advanced_at: Option<Instant>,
    notices: VecDeque<ClientNotice>,
    counters: ClientCounters,
}

/// Where the question "what do you know of us" stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Audit {
    /// To be asked once connected, but not before.
    Due(Option<Instant>),
    Asked,
    /// Answered; to be asked again then, if ever.
    Done(Option<Instant>),
}

/// What a request is for.
#[derive(Clone, PartialEq, Debug)]
enum Purpose {
    Put(Mid),
    Observe(Mid),
    Delete(Mid),
    DeleteOrphan(Mid),
    List,
    Tell(AttackId, Tmid),
    Forget(AttackId, Tmid),
    SetupOffer,
    ConfigOffer,
    Config(Sid),
    Efficacy(Mid),
    Setup(String, Tsid),
    Subscribe(Tmid),
    Watch(Tmid),
    DeleteSetup(String),
}

impl Client {
    /// A client that holds nothing and is not connected.
    #[must_use]
    pub fn new(parameters: ClientParameters) -> Self {
        Self {
            upstream: parameters.upstream,
            cuid: parameters.cuid,
            check_interval: parameters.check_interval,
            session: Session::new(parameters.session.clone(), parameters.seed),
            connected: false,
            wants_session: false,
            audit: Audit::Due(None),
            last_mid: None,
            last_tmid: None,
            last_tsid: None,
            last_sid: None,
            negotiation: Negotiation::new(parameters.wish, &parameters.session),
            setup: Setup::default(),
            collisions: 0,
            mapping_shared: false,
            filters: Filters::default(),
            watch: Watch::default(),
            discovered: None,
            redirects: Redirects::default(),
            mitigations: BTreeMap::new(),
            telemetry: BTreeMap::new(),
            outstanding: Vec::new(),
            changes: VecDeque::new(),
            last_change: ChangeId(0),
            durable: ChangeId(0),
            advanced_at: None,
            notices: VecDeque::new(),
            counters: ClientCounters::default(),
        }
    }

    /// Takes an order.
    pub fn handle_command(&mut self, now: Instant, command: ClientCommand) {
        match command {
            ClientCommand::Request {
                attack,
                scope,
                lifetime,
            } => self.handle_request(now, attack, *scope, lifetime),
            ClientCommand::Withdraw { attack } => {
                let mids: Vec<Mid> = self.mids_of(&attack).collect();
                for mid in mids {
                    self.withdraw(mid);
                }
            }
            ClientCommand::Telemetry {
                attack,
                body,
                ended,
            } => self.handle_telemetry(attack, body, ended),
            ClientCommand::Setup { plan } => self.handle_setup(plan),
            ClientCommand::MappingShared => self.mapping_shared = true,
            ClientCommand::Efficacy { attack, efficacy } => {
                self.handle_efficacy(&attack, &efficacy);
            }
            ClientCommand::Watch { targets } => self.handle_watch(targets),
            ClientCommand::Prepared { filters } => self.handle_prepared(filters),
            ClientCommand::Vectors { attack, vectors } => self.handle_vectors(attack, vectors),
        }
        self.note_mitigating();
        self.advance(now);
    }

    /// The transport is up: what the server knows is asked for, and what is open is sent.
    pub fn handle_connected(&mut self, now: Instant) {
        self.connected = true;
        self.wants_session = false;
        self.audit = match self.audit {
            Audit::Asked => Audit::Asked,
            Audit::Due(_) | Audit::Done(_) => Audit::Due(None),
        };
        for held in self.mitigations.values_mut() {
            // The server observes nothing across transports.
            held.observed = false;
            if held.phase == Phase::Active {
                held.check_at = Some(now);
            }
        }
        self.setup.handle_connected();
        self.watch.handle_connected();
        self.negotiation.handle_connected();
        self.expect_telemetry(now);
        self.session.handle_connected(now);
        self.notify_session(SessionState::Up);
        self.settle(now);
    }

    /// The transport is gone.
    pub fn handle_disconnected(&mut self, now: Instant) {
        if self.connected {
            self.connected = false;
            self.redirects.handle_disconnected(now);
            self.session.handle_disconnected(now);
            self.notify_session(SessionState::Lost);
        }
    }

    /// A try to connect failed.
    pub fn handle_connect_failed(&mut self, reason: &str) {
        self.notify_session(SessionState::Failed(reason.to_owned()));
    }

    /// What the transport is like that is about to be up: whether it loses nothing, and the round-trip time that its handshake
    /// has measured.
    pub fn handle_transport(&mut self, reliable: bool, round_trip: Option<Duration>) {
        self.session.handle_reliable(reliable);
        self.session.handle_robust(!reliable);
        if let Some(measured) = round_trip {
            self.session.handle_round_trip(measured);
        }
    }

    /// Certificate and revocation lists were read.
    pub fn handle_validity(&mut self, validity: Validity) {
        self.notify(ClientNotice::Credentials {
            upstream: self.upstream.clone(),
            validity,
        });
    }

    /// A datagram of the server, decrypted.
    pub fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) {
        self.session.handle_datagram(now, datagram);
        self.settle(now);
    }

    /// All changes up to `id` are durable.
    pub fn handle_persisted(&mut self, now: Instant, id: ChangeId) {
        self.durable = self.durable.max(id);
        self.advance(now);
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.session.handle_timeout(now);
        self.settle(now);
    }

    /// The next row to be written; what it is about is sent only after [`handle_persisted`](Self::handle_persisted).
    #[must_use]
    pub fn poll_persist(&mut self) -> Option<StateChange> {
        self.changes.pop_front()
    }

    /// Whether there are rows to be written.
    #[must_use]
    pub fn has_changes(&self) -> bool {
        !self.changes.is_empty()
    }

    /// The next datagram, to be encrypted.
    #[must_use]
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.session.poll_transmit()
    }

    /// What there is to report.
    #[must_use]
    pub fn poll_notice(&mut self) -> Option<ClientNotice> {
        self.notices.pop_front()
    }

    /// Whether there is something to report.
    #[must_use]
    pub fn has_notices(&self) -> bool {
        !self.notices.is_empty()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let audit = match self.audit {
            Audit::Done(at) | Audit::Due(at) => at,
            Audit::Asked => None,
        };
        let held = self.mitigations.values().flat_map(Held::timers);
        let told = self.telemetry.values().filter_map(Told::due);
        // What was due at the last input has been done then, or waits for another input.
        let later = |at: &Instant| self.advanced_at.is_none_or(|last| *at > last);
        let silent = self
            .mitigations
            .values()
            .filter_map(|held| held.silent_at)
            .filter(later);
        let later = |at: &Instant| self.connected && later(at);
        let told = told
            .chain(self.setup.timers())
            .chain(self.negotiation.timer())
            .chain(self.redirects.due())
            .chain(self.filters.timer())
            .chain(self.watch.timer());
        let own = audit.into_iter().chain(held).chain(told).filter(later);
        own.chain(silent).chain(self.session.poll_timeout()).min()
    }

    /// Whether a new transport is wanted: the session was lost (in peace), or requests stay unanswered (under attack,
    /// when the old one is kept until the new one stands: RFC 9132 §4.7).
    #[must_use]
    pub fn wants_session(&self) -> bool {
        self.wants_session
    }

    /// Whether an attack is on that this upstream is told of or asked about.
    #[must_use]
    pub fn is_under_attack(&self) -> bool {
        self.mitigations.values().any(Held::is_open)
            || self.telemetry.values().any(|told| !told.ended)
    }

    /// What is held, by identifier.
    pub fn mitigations(&self) -> impl Iterator<Item = HeldMitigation> + '_ {
        self.mitigations.iter().map(|(mid, held)| HeldMitigation {
            mid: mid.0,
            attack: held.attack.clone(),
            scope: held.scope.clone(),
            granted: held.phase == Phase::Active,
            withdrawing: held.phase == Phase::Withdrawing,
        })
    }

    /// Under which name the server knows us.
    #[must_use]
    pub fn cuid(&self) -> &Cuid {
        &self.cuid
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> ClientCounters {
        self.counters
    }

    fn handle_request(&mut self, now: Instant, attack: AttackId, scope: Scope, lifetime: Lifetime) {
        let held = self.mids_of(&attack).find(|mid| {
            let held = self.mitigations.get(mid);
            held.is_some_and(|held| covers(&held.scope, &scope))
        });
        if held.is_some() {
            return;
        }
        if self.mitigations.len() >= MAX_HELD {
            let words = format!("{MAX_HELD} mitigations are held");
            return self.refuse(attack, Code::SERVICE_UNAVAILABLE, words);
        }
        if !fits(&mitigation_body(&scope, lifetime), MAX_BODY_OCTETS) {
            let words = "the targets do not fit one datagram".to_owned();
            return self.refuse(attack, Code::REQUEST_ENTITY_TOO_LARGE, words);
        }
        // A narrower request that never left is not worth a datagram.
        let unsent = |mid: &Mid| self.mitigations.get(mid).is_some_and(|held| !held.put_sent);
        let unsent: Vec<Mid> = self.mids_of(&attack).filter(unsent).collect();
        for mid in unsent {
            self.forget(mid);
        }
        let held = self.hold(attack, scope, lifetime);
        held.silent_at = Some(now + PATIENCE);
    }

    /// Notes a request under a new identifier, which is made once it is durable.
    fn hold(&mut self, attack: AttackId, scope: Scope, lifetime: Lifetime) -> &mut Held {
        let mid = Mid(next_id(self.last_mid, !self.is_under_attack()));
        self.last_mid = Some(mid.0);
        self.persist_identifiers();
        let mut held = Held::new(attack, scope, lifetime, ChangeId(0));
        held.waits_for = self.persist(held.saved(mid));
        self.mitigations.entry(mid).insert_entry(held).into_mut()
    }

    /// Answers in the server's place: what cannot be asked must not be waited for.
    fn refuse(&mut self, attack: AttackId, code: Code, words: String) {
        self.counters.refused_commands += 1;
        self.notify(ClientNotice::Refused {
            attack,
            upstream: self.upstream.clone(),
            mid: next_id(self.last_mid, false),
            code: code.to_string(),
            diagnostic: words,
            retry_in: None,
        });
    }

    fn withdraw(&mut self, mid: Mid) {
        let Some(held) = self.mitigations.get_mut(&mid).filter(|held| held.is_open()) else {
            return;
        };
        held.phase = Phase::Withdrawing;
        held.retry_at = None;
        if !held.put_sent {
            // The server never heard of it.
            let attack = held.attack.clone();
            self.forget(mid);
            self.notify(ClientNotice::Withdrawn {
                attack,
                upstream: self.upstream.clone(),
                mid: mid.0,
            });
            return;
        }
        let saved = held.saved(mid);
        let id = self.persist(saved);
        if let Some(held) = self.mitigations.get_mut(&mid) {
            held.waits_for = id;
        }
    }

    fn forget(&mut self, mid: Mid) {
        if self.mitigations.remove(&mid).is_some() {
            self.session.handle_forgotten(&mitigate(&self.cuid, mid));
            self.persist(SavedState::NoMitigation { mid });
        }
    }

    /// Open mitigations of an attack, lowest first.
    fn mids_of<'c>(&'c self, attack: &'c AttackId) -> impl Iterator<Item = Mid> + 'c {
        let of_attack = move |(_, held): &(&Mid, &Held)| held.attack == *attack && held.is_open();
        self.mitigations
            .iter()
            .filter(of_attack)
            .map(|(mid, _)| *mid)
    }

    /// Whether a newer request for the same attack is to replace this one.
    fn is_superseded(&self, mid: Mid, attack: &AttackId) -> bool {
        self.mids_of(attack).any(|other| other > mid)
    }

    fn persist_identifiers(&mut self) {
        self.persist(SavedState::Identifiers {
            cuid: self.cuid.clone(),
            last_mid: self.last_mid,
            last_tmid: self.last_tmid,
            last_tsid: self.last_tsid,
            last_sid: self.last_sid,
        });
    }

    fn persist(&mut self, state: SavedState) -> ChangeId {
        self.last_change = ChangeId(self.last_change.0 + 1);
        self.changes.push_back(StateChange {
            id: self.last_change,
            upstream: self.upstream.clone(),
            state,
        });
        self.last_change
    }

    fn notify(&mut self, notice: ClientNotice) {
        if self.notices.len() >= MAX_NOTICES {
            self.notices.pop_front();
            self.counters.lost_notices += 1;
        }
        self.notices.push_back(notice);
    }

    fn notify_session(&mut self, state: SessionState) {
        self.notify(ClientNotice::Session {
            upstream: self.upstream.clone(),
            state,
        });
    }

    fn note_mitigating(&mut self) {
        let under_attack = self.is_under_attack();
        self.session.handle_mitigating(under_attack);
    }

    /// Takes in what the session has to say, and sends what follows.
    fn settle(&mut self, now: Instant) {
        while let Some(notice) = self.session.poll_notice() {
            match notice {
                Notice::Response {
                    id,
                    code,
                    body,
                    diagnostic,
                    max_age,
                } => {
                    let answer = answers::Answer {
                        code,
                        body,
                        diagnostic,
                        max_age,
                    };
                    if let Some(purpose) = self.take_purpose(id) {
                        self.handle_answer(now, purpose, &answer);
                    }
                }
                Notice::Notification { resource, body, .. } if self.is_watched(&resource) => {
                    self.handle_watch_notification(&body);
                }
                Notice::Notification { body, max_age, .. } => {
                    self.handle_notification(now, body, max_age);
                }
                Notice::Unanswered { id } => {
                    if let Some(purpose) = self.take_purpose(id) {
                        self.handle_silence(now, id, purpose);
                    }
                }
                Notice::SessionLost => {
                    self.wants_session = true;
                }
                _ => {}
            }
        }
        self.note_mitigating();
        self.advance(now);
    }

    fn take_purpose(&mut self, id: RequestId) -> Option<Purpose> {
        let index = self
            .outstanding
            .iter()
            .position(|(known, _)| *known == id)?;
        Some(self.outstanding.swap_remove(index).1)
    }

    fn send(&mut self, now: Instant, request: Request, purpose: Purpose) -> RequestId {
        let id = self.session.handle_request(now, request);
        self.outstanding.push((id, purpose));
        id
    }
}
