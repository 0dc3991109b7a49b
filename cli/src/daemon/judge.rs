//! The thread that owns detector and export policy.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender};
use std::time::{Duration, Instant};

use weir_attack_event::{AttackEvent, AttackId, EventKind, Findings};
use weir_collector::wall_clock;
use weir_detector::{ModelVerdict, Overridden, Override, OverrideError, Saved};
use weir_dots_export::{ClientCommand, ClientNotice, Decision, telemetry_body};
use weir_dots_server::{Observation, ReportedBaselines};
use weir_flow_aggregate::{WatchList, WindowSummary};
use weir_flow_record::{Direction, Timestamp, ZoneId};

use super::Story;
use super::cluster::{Arrival, Owned};
use super::teaching::{self, Teaching};
use super::window::Ask;
use crate::attacks::Said;
use crate::audit::AuditLog;
use crate::baseline::{self, BaselineOrder};
use crate::journal::Journal;
use crate::judge::{Judge, Verdict, Watcher};
use crate::kafka::Announcer;
use crate::views::{PolicyView, Views};

/// What the judge thread takes in.
pub(crate) enum Input {
    Summary(Box<WindowSummary>),
    /// What a collector published.
    Arrival(Box<Arrival>),
    Findings(Box<Findings>),
    Notice(ClientNotice),
    /// What the active model says, and when.
    Model(Timestamp, Box<ModelVerdict>),
    /// An operator's word, and where the answer goes: whether anything came of it.
    Operator(Order, tokio::sync::oneshot::Sender<bool>),
    /// An operator's word on attacks, and where the answer goes.
    Override(
        Override,
        tokio::sync::oneshot::Sender<Result<Overridden, OverrideError>>,
    ),
    /// What an operator has asked an upstream for.
    Decision(Box<Decision>),
    /// A question about what is normal, and where the answer goes.
    Baselines(
        BaselineOrder,
        tokio::sync::oneshot::Sender<Result<serde_json::Value, String>>,
    ),
    /// What a client of our DOTS server says is normal.
    Reported(ReportedBaselines),
}

/// What an operator says to the policy.
pub(crate) enum Order {
    /// Help may be asked for (`request = "confirm"`).
    Confirm(AttackId),
    /// The stop switch.
    Hold { hold: bool, withdraw: bool },
}

/// Where all inputs come together.
pub(super) struct JudgeThread {
    pub(super) judge: Judge,
    pub(super) inputs: Receiver<Input>,
    pub(super) questions: SyncSender<Ask>,
    /// To shards or collectors.
    pub(super) watches: Watches,
    pub(super) commands: BTreeMap<Arc<str>, tokio::sync::mpsc::Sender<ClientCommand>>,
    pub(super) journal: Arc<Journal>,
    pub(super) views: Arc<Views>,
    pub(super) events: Option<File>,
    pub(super) audit: AuditLog,
    pub(super) announcer: Announcer,
    pub(super) story: Option<Sender<Story>>,
    /// The embedded DOTS server, whose clients may want to know of attacks on them.
    pub(super) observer: Option<tokio::sync::mpsc::Sender<Observation>>,
    /// Octets of seconds that are not settled yet, for the story.
    pub(super) levels: BTreeMap<(i64, ZoneId), u64>,
    pub(super) teaching: Teaching,
    /// Whether flows of attacks are kept.
    pub(super) keeps_evidence: bool,
    pub(super) stop: Arc<AtomicBool>,
    /// Where the judge owns a partition.
    pub(super) owned: Option<Owned>,
}

/// Brings watch lists to who is to watch.
pub(super) type Watches = Box<dyn Fn(Watcher, WatchList) + Send>;

impl JudgeThread {
    /// Judges until nobody has anything to say any more.
    pub(super) fn run(mut self) {
        loop {
            match self.inputs.recv_timeout(self.patience()) {
                Ok(input) => self.handle_input(input),
                Err(RecvTimeoutError::Timeout) if self.stop.load(Ordering::Relaxed) => break,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            let now = self.now();
            if self.judge.poll_timeout().is_some_and(|due| due <= now) {
                self.judge.handle_timeout(now);
            }
            self.carry_out();
            if self.is_lost() {
                return;
            }
            self.teach(now);
        }
        self.keep_position();
        self.teaching
            .keep_all(self.judge.baselines_mut(), &self.journal);
    }

    /// The time that counts: that of the summaries where they come from afar.
    fn now(&self) -> Timestamp {
        let owned = self.owned.as_ref();
        owned.map_or_else(|| Timestamp::from_nanos(wall_clock()), Owned::now)
    }

    /// Whether another one owns the partition by now, so that nothing more may come of it here.
    fn is_lost(&self) -> bool {
        self.owned.as_ref().is_some_and(Owned::is_lost)
    }

    /// Keeps how far it has judged.
    fn keep_position(&self) {
        if let Some(position) = self.owned.as_ref().and_then(Owned::position)
            && let Err(error) = self.journal.keep_attacks(&[], Some(&position))
        {
            tracing::warn!(%error, "the next owner judges some seconds again");
        }
    }

    /// Keeps, shows and tells what was learned.
    fn teach(&mut self, now: Timestamp) {
        self.teaching
            .keep(self.judge.baselines_mut(), &self.journal);
        self.teaching.show(now, self.judge.baselines(), &self.views);
        for (upstream, command) in self.teaching.tell(now, self.judge.baselines()) {
            self.send(&upstream, command);
        }
    }

    fn patience(&self) -> Duration {
        let now = self.now();
        let due = self
            .judge
            .poll_timeout()
            .map_or(Duration::MAX, |due| due.since(now));
        due.clamp(Duration::from_millis(1), Duration::from_millis(100))
    }

    fn handle_input(&mut self, input: Input) {
        match input {
            Input::Summary(summary) => {
                self.tell_level(&summary);
                self.judge.handle_summary(*summary);
                self.views.set_links(self.judge.link_levels());
            }
            Input::Arrival(arrival) => self.handle_arrival(*arrival),
            Input::Findings(findings) => self.judge.handle_findings(*findings),
            Input::Model(now, verdict) => {
                self.judge.handle_model(now, &verdict);
                self.views.set_model_words(self.judge.model_counters());
            }
            Input::Notice(notice) => {
                let now = self.now();
                if let ClientNotice::Granted(report) | ClientNotice::Status(report) = &notice {
                    self.announcer.mitigation(now, report);
                }
                self.judge.handle_notice(now, &notice);
            }
            Input::Operator(order, answer) => {
                // Whoever asked may have gone.
                let _ = answer.send(self.handle_order(order));
            }
            Input::Override(word, answer) => {
                tracing::info!(?word, "an operator's word");
                let now = self.now();
                let result = self.judge.handle_override(now, word);
                // Durable before it is answered.
                self.carry_out();
                self.show_mutes();
                let _ = answer.send(result);
            }
            Input::Decision(decision) => self.audit.write(&decision),
            Input::Baselines(order, reply) => {
                let now = Timestamp::from_nanos(wall_clock());
                let told = baseline::answer(self.judge.baselines_mut(), now, &order);
                // Whoever asked may have gone.
                let _ = reply.send(told.map_err(|error| format!("{error:#}")));
            }
            Input::Reported(reported) => {
                let now = Timestamp::from_nanos(wall_clock());
                teaching::import(now, self.judge.baselines_mut(), &reported);
            }
        }
    }

    fn handle_arrival(&mut self, arrival: Arrival) {
        let Some(owned) = &mut self.owned else {
            return;
        };
        owned.handle_arrival(&arrival);
        let admission = self.judge.handle_part(arrival.part, arrival.is_past);
        owned.note(admission, self.judge.collector_counters());
        self.views.set_links(self.judge.link_levels());
    }

    fn handle_order(&mut self, order: Order) -> bool {
        let now = self.now();
        match order {
            Order::Confirm(attack) => self.judge.handle_confirmation(now, &attack),
            Order::Hold { hold, withdraw } => {
                if let Err(error) = self.journal.keep_hold(hold) {
                    tracing::error!(%error, "the stop switch is not saved: a restart releases it");
                }
                self.judge.handle_hold(now, hold, withdraw);
                true
            }
        }
    }

    /// Shows how requests stand where it can be looked at.
    fn show_policy(&self) {
        let standings = self.judge.standings();
        self.views.set_policy(PolicyView {
            on_hold: self.judge.is_on_hold(),
            standings: standings
                .map(|(attack, standing)| (attack.to_string(), standing.to_string()))
                .collect(),
            counters: self.judge.policy_counters(),
        });
    }

    /// What must survive is durable before anybody is told, and before any command leaves that rests on it.
    fn carry_out(&mut self) {
        let mut commands = Vec::new();
        let mut events = Vec::new();
        let mut saved = Vec::new();
        let mut decisions = Vec::new();
        while let Some(verdict) = self.judge.poll_verdict() {
            match verdict {
                Verdict::Persist(row) => saved.push(*row),
                Verdict::Event(event) => events.push(event),
                Verdict::Watch(watcher, list) => (self.watches)(watcher, list),
                Verdict::DrillDown(question) => {
                    let ask = Ask::DrillDown(question, Instant::now());
                    if self.questions.try_send(ask).is_err() {
                        let lost = &self.views.counters.lost_drill_downs;
                        lost.fetch_add(1, Ordering::Relaxed);
                        tracing::warn!("the recent window is behind: a drill-down was left out");
                    }
                }
                Verdict::Decision(decision) => decisions.push(decision),
                Verdict::Command(upstream, command) => commands.push((upstream, *command)),
            }
        }
        let refused = self.judge.refused_series();
        let shown = &self.views.counters.refused_series;
        shown.store(refused, Ordering::Relaxed);
        if !self.keep(&saved) {
            return;
        }
        events.into_iter().for_each(|event| self.tell(event));
        let is_news = !decisions.is_empty() || !commands.is_empty();
        for decision in &decisions {
            self.audit.write(decision);
        }
        if is_news {
            self.show_policy();
        }
        if saved.iter().any(|row| matches!(row, Saved::Mute(_))) {
            self.show_mutes();
        }
        for (upstream, command) in commands {
            self.send(&upstream, command);
        }
    }

    /// Makes rows durable; false where the partition is another's by now, so that nobody may be told.
    fn keep(&mut self, saved: &[Saved]) -> bool {
        let position = match &mut self.owned {
            Some(owned) => owned.poll_position(!saved.is_empty()),
            None => None,
        };
        if saved.is_empty() && position.is_none() {
            return !self.is_lost();
        }
        if let Err(error) = self.journal.keep_attacks(saved, position.as_ref()) {
            tracing::error!(%error, "attacks are not saved");
            if let Some(owned) = &self.owned {
                owned.lose();
                return false;
            }
        }
        true
    }

    fn send(&self, upstream: &Arc<str>, command: ClientCommand) {
        let sent = self
            .commands
            .get(upstream)
            .map(|sender| sender.try_send(command));
        if !matches!(sent, Some(Ok(()))) {
            tracing::error!(%upstream, "the upstream's client does not take commands");
        }
    }

    /// Shows the muted prefixes where they can be looked at.
    fn show_mutes(&self) {
        self.views.set_mutes(self.judge.mutes().cloned().collect());
    }

    fn tell(&mut self, event: Box<AttackEvent>) {
        self.views.handle_event(&event);
        if self.keeps_evidence && self.questions.try_send(Ask::Attack(event.clone())).is_err() {
            let lost = &self.views.counters.evidence_lost_events;
            lost.fetch_add(1, Ordering::Relaxed);
        }
        self.announcer.event(&event);
        if event.kind == EventKind::AttackEnd {
            match self.journal.end_label(&event) {
                Ok(Some(label)) => self.announcer.label(&Said::Operator(label)),
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(%error, "a label does not know when its attack ended");
                }
            }
        }
        tracing::info!(
            event = ?event.kind,
            id = %event.id,
            target = %event.target.prefix,
            zone = %event.target.zone,
            severity = ?event.severity,
            why = event.why.first().map_or("", |reason| reason.0.as_str()),
            "attack"
        );
        if let Some(file) = &mut self.events {
            let line = serde_json::to_vec(&event).map_err(std::io::Error::other);
            let written = line.and_then(|mut line| {
                line.push(b'\n');
                file.write_all(&line)
            });
            if let Err(error) = written {
                tracing::error!(%error, "an event is not in the file");
            }
        }
        if let Some(observer) = &self.observer
            && observer.try_send(observation(&event)).is_err()
        {
            tracing::warn!(id = %event.id, "the DOTS server is behind: its clients are not told");
        }
        if let Some(story) = &self.story {
            let _ = story.send(Story::Event(event));
        }
    }

    /// Tells each second of the zones once it is settled.
    fn tell_level(&mut self, summary: &WindowSummary) {
        let Some(story) = &self.story else { return };
        let inbound = summary
            .zones
            .iter()
            .filter(|zone| zone.target.direction == Direction::In);
        for zone in inbound {
            for (second, bucket) in (zone.first_second..).zip(&zone.total) {
                self.levels
                    .insert((second, zone.target.zone), bucket.octets);
            }
        }
        while let Some(((second, _), _)) = self.levels.first_key_value()
            && *second < summary.settled_until
            && let Some(((second, _), octets)) = self.levels.pop_first()
        {
            let _ = story.send(Story::Level { second, octets });
        }
    }
}

/// An attack as the clients of the embedded server are told of it; those who attack from within are none of their business.
fn observation(event: &AttackEvent) -> Observation {
    let told = event.kind != EventKind::AttackEnd && event.target.direction == Direction::In;
    let items = telemetry_body(event).pre_or_ongoing_mitigation;
    Observation {
        attack: event.id.to_string(),
        item: items.into_iter().next().filter(|_| told).map(Box::new),
    }
}
