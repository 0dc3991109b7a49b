//! What filters is another program: told what is to be filtered, and asked what it has dropped.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use weir_dots_proto::body::Scope;

use super::message::{Action, Answer, Message, MessageItem};
use super::meter::Meter;
use super::settings::ExternalSettings;
use super::worker::{Backend, Change};
use super::{MitigationId, MitigatorReport};

/// Waits between two tries: this, doubled with each, up to [`MAX_WAIT`].
const FIRST_WAIT: Duration = Duration::from_secs(1);
const MAX_WAIT: Duration = Duration::from_secs(60);
/// Tries in vain after which mitigations are reported as not being done.
const PATIENCE: u32 = 3;
/// A mitigation that the back end refuses to end this often is forgotten.
const MAX_STOPS: u32 = 10;
/// Mitigations that wait for their end. Beyond, the back end is told to end all and begins anew.
const MAX_STOPPING: usize = 2_000;
/// Mitigations that one message asks about.
const MAX_ASKED: usize = 256;

/// Carries a message to the back end and its answer back, within a time limit.
pub(crate) trait Carrier: Send + 'static {
    /// What it is called in logs.
    fn name(&self) -> &str;

    /// Returns the answer, which may be empty.
    fn exchange(&mut self, message: &[u8]) -> Result<Vec<u8>, CarrierError>;
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CarrierError {
    /// The back end cannot be spoken to: all that waits, waits.
    #[error("{0}")]
    Unreachable(String),
    /// The back end does not do this.
    #[error("{0}")]
    Refused(String),
}

/// A back end behind a [`Carrier`].
pub(crate) struct External<C> {
    carrier: C,
    settings: ExternalSettings,
    run: u64,
    sequence: u64,
    entries: BTreeMap<MitigationId, Entry>,
    /// The back end is to end first what is there: an earlier run may have left something.
    reset: Option<Reset>,
    /// The back end is left alone until then.
    held_until: Option<Instant>,
    failures: u32,
    next_report: Instant,
    /// The last that was asked about: the next message goes on from there.
    asked: MitigationId,
    reports: VecDeque<MitigatorReport>,
}

/// A message that is due.
#[derive(Clone, Copy)]
struct Reset {
    since: Instant,
    sequence: u64,
}

/// A mitigation as the back end knows it.
struct Entry {
    scope: Scope,
    step: Option<Action>,
    sequence: u64,
    /// Whether the back end may know of it.
    known: bool,
    /// Tries in vain, and how many of them were refused.
    tries: u32,
    refusals: u32,
    due: Instant,
    meter: Meter,
    told: Option<MitigatorReport>,
}

impl<C: Carrier> External<C> {
    /// A back end that was told nothing yet. `run` tells this run of the server from others.
    pub(crate) fn new(carrier: C, settings: &ExternalSettings, run: u64) -> Self {
        let now = Instant::now();
        Self {
            carrier,
            settings: settings.clone(),
            run,
            sequence: 0,
            entries: BTreeMap::new(),
            reset: Some(Reset {
                since: now,
                sequence: 0,
            }),
            held_until: None,
            failures: 0,
            next_report: now + settings.report_interval,
            asked: MitigationId(0),
            reports: VecDeque::new(),
        }
    }

    fn apply(&mut self, now: Instant, id: MitigationId, scope: Scope) {
        self.sequence += 1;
        let quiet_after = self.settings.quiet_after;
        let entry = self.entries.entry(id).or_insert_with(|| Entry {
            scope: Scope::default(),
            step: None,
            sequence: 0,
            known: false,
            tries: 0,
            refusals: 0,
            due: now,
            meter: Meter::new(now, id, quiet_after),
            told: None,
        });
        if entry.known && entry.step.is_none() && entry.scope == scope {
            return;
        }
        let is_started = entry.known && entry.step != Some(Action::Start);
        entry.step = Some(if is_started {
            Action::Change
        } else {
            Action::Start
        });
        entry.scope = scope;
        entry.renew(now, self.sequence);
    }

    fn withdraw(&mut self, now: Instant, id: MitigationId) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        if !entry.known {
            self.entries.remove(&id);
            return;
        }
        self.sequence += 1;
        entry.step = Some(Action::Stop);
        entry.renew(now, self.sequence);
        let stopping = self
            .entries
            .values()
            .filter(|entry| entry.step == Some(Action::Stop));
        if stopping.count() > MAX_STOPPING {
            tracing::error!(
                mitigator = self.carrier.name(),
                "too much waits for its end: the back end begins anew"
            );
            self.begin_anew(now);
        }
    }

    fn begin_anew(&mut self, now: Instant) {
        self.entries
            .retain(|_, entry| entry.step != Some(Action::Stop));
        self.sequence += 1;
        self.reset = Some(Reset {
            since: now,
            sequence: self.sequence,
        });
        for entry in self.entries.values_mut() {
            self.sequence += 1;
            entry.renew(now, self.sequence);
            entry.step = Some(Action::Start);
            entry.known = false;
        }
    }

    fn send(
        &mut self,
        now: Instant,
        action: Action,
        sequence: u64,
        ids: &[MitigationId],
    ) -> Result<Answer, CarrierError> {
        let item = |id: &MitigationId| {
            let entry = self.entries.get(id)?;
            Some(MessageItem {
                id: id.0,
                scope: (action != Action::Report).then_some(&entry.scope),
            })
        };
        let message = Message {
            action,
            run: self.run,
            sequence,
            mitigations: ids.iter().filter_map(item).collect(),
        };
        let octets = serde_json::to_vec(&message)
            .map_err(|error| CarrierError::Refused(error.to_string()))?;
        let answer = self.carrier.exchange(&octets)?;
        self.held_until = None;
        if std::mem::take(&mut self.failures) >= PATIENCE {
            // It was gone, and is back: nothing has to wait any more.
            for entry in self.entries.values_mut() {
                entry.tries = 0;
                entry.due = entry.due.min(now);
            }
        }
        Ok(Answer::read(&answer).unwrap_or_else(|error| {
            // Many say "ok": only one that is asked for a report has to know the format.
            if action == Action::Report {
                tracing::warn!(mitigator = self.carrier.name(), %error, "an answer that cannot be read");
            }
            Answer::default()
        }))
    }

    fn reset(&mut self, now: Instant, sequence: u64) {
        match self.send(now, Action::Reset, sequence, &[]) {
            Ok(_) => self.reset = None,
            Err(CarrierError::Refused(error)) => {
                tracing::warn!(
                    mitigator = self.carrier.name(),
                    error,
                    "the back end does not end what an earlier run has left"
                );
                self.reset = None;
            }
            Err(CarrierError::Unreachable(error)) => self.back_off(now, &error),
        }
    }

    fn tell(&mut self, now: Instant, id: MitigationId) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        let Some(action) = entry.step else { return };
        // Where the answer is lost, the back end may have heard it nevertheless.
        entry.known = true;
        let sequence = entry.sequence;
        match self.send(now, action, sequence, &[id]) {
            Ok(answer) => {
                tracing::info!(mitigator = self.carrier.name(), id = id.0, ?action, "told");
                self.settle(now, id, action);
                self.handle_answer(now, &answer);
            }
            Err(CarrierError::Unreachable(error)) => {
                self.back_off(now, &error);
                self.postpone(now, id, action, PATIENCE);
            }
            Err(CarrierError::Refused(error)) => {
                tracing::error!(
                    mitigator = self.carrier.name(),
                    id = id.0,
                    ?action,
                    error,
                    "the back end refuses"
                );
                self.postpone(now, id, action, 1);
                self.give_up(id, action);
            }
        }
    }

    /// The others come first: it may be this one that the back end cannot get over.
    fn postpone(&mut self, now: Instant, id: MitigationId, action: Action, patience: u32) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        entry.tries = entry.tries.saturating_add(1);
        entry.due = now + wait(entry.tries);
        if entry.tries >= patience && action != Action::Stop {
            self.publish(MitigatorReport::unable(id));
        }
    }

    /// What cannot be ended is forgotten in the end.
    fn give_up(&mut self, id: MitigationId, action: Action) {
        if let Some(entry) = self.entries.get_mut(&id)
            && action == Action::Stop
        {
            entry.refusals += 1;
            if entry.refusals >= MAX_STOPS {
                self.entries.remove(&id);
            }
        }
    }

    fn settle(&mut self, now: Instant, id: MitigationId, action: Action) {
        if action == Action::Stop {
            self.entries.remove(&id);
        } else if let Some(entry) = self.entries.get_mut(&id) {
            entry.step = None;
            entry.tries = 0;
            let report = entry.meter.report(now);
            self.publish(report);
        }
    }

    fn back_off(&mut self, now: Instant, error: &str) {
        self.failures = self.failures.saturating_add(1);
        let wait = wait(self.failures);
        self.held_until = Some(now + wait);
        tracing::error!(
            mitigator = self.carrier.name(),
            error,
            failures = self.failures,
            seconds = wait.as_secs(),
            "the back end is not there: tried again"
        );
        if self.failures < PATIENCE {
            return;
        }
        let waiting: Vec<MitigationId> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.step == Some(Action::Start))
            .map(|(id, _)| *id)
            .collect();
        for id in waiting {
            self.publish(MitigatorReport::unable(id));
        }
    }

    /// Asks for a report of those that run, some at a time.
    fn ask(&mut self, now: Instant) {
        let running = |(_, entry): &(&MitigationId, &Entry)| entry.step.is_none();
        let after = MitigationId(self.asked.0.saturating_add(1));
        let ids: Vec<MitigationId> = self
            .entries
            .range(after..)
            .filter(running)
            .map(|(id, _)| *id)
            .take(MAX_ASKED)
            .collect();
        self.asked = if ids.len() < MAX_ASKED {
            self.next_report = now + self.settings.report_interval;
            MitigationId(0)
        } else {
            ids.last().copied().unwrap_or(MitigationId(0))
        };
        if ids.is_empty() {
            return;
        }
        self.sequence += 1;
        match self.send(now, Action::Report, self.sequence, &ids) {
            Ok(answer) => self.handle_answer(now, &answer),
            Err(CarrierError::Unreachable(error)) => self.back_off(now, &error),
            Err(CarrierError::Refused(error)) => {
                tracing::warn!(mitigator = self.carrier.name(), error, "no report");
                self.next_report = now + self.settings.report_interval;
            }
        }
    }

    fn handle_answer(&mut self, now: Instant, answer: &Answer) {
        for said in &answer.reports {
            let id = MitigationId(said.id);
            let running = self
                .entries
                .get_mut(&id)
                .filter(|entry| entry.step.is_none());
            let Some(entry) = running else {
                tracing::debug!(id = said.id, "a report of a mitigation that does not run");
                continue;
            };
            if let Some((bytes, packets)) = said.totals() {
                entry.meter.handle_totals(now, bytes, packets);
            }
            let report = said.over(entry.meter.report(now));
            self.publish(report);
        }
    }

    fn publish(&mut self, report: MitigatorReport) {
        if let Some(entry) = self.entries.get_mut(&report.id)
            && entry.told != Some(report)
        {
            entry.told = Some(report);
            self.reports.push_back(report);
        }
    }

    /// What is to be told next: filters before ends.
    fn next_step(&self) -> Option<(Instant, MitigationId)> {
        self.entries
            .iter()
            .filter_map(|(id, entry)| Some((entry.step?, entry.due, *id)))
            .min_by_key(|(step, due, id)| (*due, *step == Action::Stop, *id))
            .map(|(_, due, id)| (due, id))
    }

    fn is_asking(&self) -> bool {
        !self.settings.report_interval.is_zero()
            && self.entries.values().any(|entry| entry.step.is_none())
    }
}

impl<C: Carrier> Backend for External<C> {
    fn handle_changes(&mut self, now: Instant, changes: Vec<Change>) {
        // What is new is not to wait until a failure that is long past has been waited for.
        self.held_until = self.held_until.map(|until| until.min(now + FIRST_WAIT));
        for change in changes {
            match change {
                Change::Apply(id, scope) => self.apply(now, id, *scope),
                Change::Withdraw(id) => self.withdraw(now, id),
            }
        }
    }

    fn work(&mut self, now: Instant) {
        if self.held_until.is_some_and(|until| until > now) {
            return;
        }
        if let Some(reset) = self.reset {
            return self.reset(now, reset.sequence);
        }
        match self.next_step().filter(|(due, _)| *due <= now) {
            Some((_, id)) => self.tell(now, id),
            None if self.is_asking() && self.next_report <= now => self.ask(now),
            None => {}
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        if let Some(reset) = self.reset {
            return Some(self.held_until.unwrap_or(reset.since));
        }
        let step = self.next_step().map(|(due, _)| due);
        let report = self.is_asking().then_some(self.next_report);
        let due = step.into_iter().chain(report).min()?;
        Some(self.held_until.map_or(due, |until| until.max(due)))
    }

    fn poll_report(&mut self) -> Option<MitigatorReport> {
        self.reports.pop_front()
    }

    fn handle_shutdown(&mut self, now: Instant) {
        if self.settings.keep_on_exit || self.entries.is_empty() {
            return;
        }
        self.sequence += 1;
        if let Err(error) = self.send(now, Action::Reset, self.sequence, &[]) {
            tracing::error!(mitigator = self.carrier.name(), %error, "the back end does not end what it filters");
        }
    }
}

impl Entry {
    /// Another message is due.
    fn renew(&mut self, now: Instant, sequence: u64) {
        self.sequence = sequence;
        self.tries = 0;
        self.refusals = 0;
        self.due = now;
    }
}

fn wait(failures: u32) -> Duration {
    let doubled = FIRST_WAIT.saturating_mul(1 << failures.saturating_sub(1).min(10));
    doubled.min(MAX_WAIT)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use serde_json::{Value, json};
    use weir_dots_proto::body::MitigationStatus;

    use super::*;

    /// Answers from a script, and notes what it is asked.
    #[derive(Default)]
    struct Scripted {
        answers: VecDeque<Result<Vec<u8>, CarrierError>>,
        heard: Vec<Value>,
    }

    impl Carrier for Scripted {
        fn name(&self) -> &str {
            "scripted"
        }

        fn exchange(&mut self, message: &[u8]) -> Result<Vec<u8>, CarrierError> {
            self.heard.push(serde_json::from_slice(message).unwrap());
            self.answers.pop_front().unwrap_or(Ok(Vec::new()))
        }
    }

    struct Trial {
        external: External<Scripted>,
        now: Instant,
    }

    impl Trial {
        fn new() -> Self {
            let settings = ExternalSettings {
                report_interval: Duration::from_secs(5),
                quiet_after: Duration::from_secs(30),
                keep_on_exit: false,
            };
            let mut external = External::new(Scripted::default(), &settings, 9);
            let now = Instant::now();
            external.work(now);
            Self { external, now }
        }

        fn change(&mut self, changes: Vec<Change>) {
            self.external.handle_changes(self.now, changes);
        }

        fn fails(&mut self, count: usize) {
            let dead = || Err(CarrierError::Unreachable("dead".to_owned()));
            self.external
                .carrier
                .answers
                .extend(std::iter::repeat_with(dead).take(count));
        }

        fn answers(&mut self, answer: &Value) {
            let answer = Ok(answer.to_string().into_bytes());
            self.external.carrier.answers.push_back(answer);
        }

        fn advance(&mut self, seconds: u64) {
            let end = self.now + Duration::from_secs(seconds);
            while let Some(due) = self.external.poll_timeout().filter(|due| *due <= end) {
                self.now = self.now.max(due);
                self.external.work(self.now);
            }
            self.now = end;
        }

        fn heard(&mut self) -> Vec<String> {
            std::mem::take(&mut self.external.carrier.heard)
                .iter()
                .map(|message| {
                    let ids: Vec<String> = message["mitigations"]
                        .as_array()
                        .unwrap()
                        .iter()
                        .map(|item| item["id"].to_string())
                        .collect();
                    format!("{} {}", message["action"].as_str().unwrap(), ids.join(","))
                })
                .collect()
        }

        fn statuses(&mut self) -> Vec<(u64, u8)> {
            std::iter::from_fn(|| self.external.poll_report())
                .map(|report| (report.id.0, report.status.number()))
                .collect()
        }
    }

    fn apply(id: u64, prefix: &str) -> Change {
        let scope = Scope {
            target_prefix: vec![prefix.parse().unwrap()],
            ..Scope::default()
        };
        Change::Apply(MitigationId(id), Box::new(scope))
    }

    fn withdraw(id: u64) -> Change {
        Change::Withdraw(MitigationId(id))
    }

    #[test]
    fn a_mitigation_from_start_to_stop() {
        let mut trial = Trial::new();
        assert_eq!(trial.heard(), ["reset "]);
        trial.change(vec![apply(1, "192.0.2.1/32")]);
        trial.advance(1);
        assert_eq!(trial.heard(), ["start 1"]);
        assert_eq!(trial.statuses(), [(1, 1)]);

        trial.answers(
            &json!({"reports": [{"id": 1, "bytes-dropped": 1000, "pkts-dropped": 10}, {"id": 5}]}),
        );
        trial.advance(4);
        assert_eq!(trial.heard(), ["report 1"]);
        assert_eq!(trial.statuses(), [(1, 2)]);

        // The same scope again is no news; another one is.
        trial.change(vec![apply(1, "192.0.2.1/32")]);
        trial.change(vec![apply(2, "192.0.2.2/32"), apply(1, "192.0.2.0/28")]);
        trial.advance(1);
        assert_eq!(trial.heard(), ["change 1", "start 2"]);
        trial.change(vec![apply(3, "192.0.2.3/32"), withdraw(1)]);
        trial.advance(1);
        assert_eq!(trial.heard(), ["start 3", "stop 1"]);
        trial.external.handle_shutdown(trial.now);
        assert_eq!(trial.heard(), ["reset "]);
    }

    #[test]
    fn a_dead_back_end_is_tried_with_growing_waits_and_reported() {
        let mut trial = Trial::new();
        trial.heard();
        trial.fails(4);
        trial.change(vec![apply(1, "192.0.2.1/32"), apply(2, "192.0.2.2/32")]);
        trial.advance(2);
        // At 0 s and 1 s; the next at 3 s, then 7 s.
        assert_eq!(trial.heard(), ["start 1", "start 2"]);
        assert_eq!(trial.statuses(), []);
        trial.advance(2);
        assert_eq!(trial.heard(), ["start 1"]);
        assert_eq!(trial.statuses(), [(1, 4), (2, 4)]);
        // Something new is tried soon.
        trial.change(vec![apply(3, "192.0.2.3/32")]);
        trial.advance(1);
        assert_eq!(trial.heard(), ["start 2"]);
        assert_eq!(trial.statuses(), [(3, 4)]);
        // Nobody knows whether it has heard of the first and the second; it has not of the third.
        trial.change(vec![withdraw(1), withdraw(2), withdraw(3)]);
        trial.advance(20);
        assert_eq!(trial.heard(), ["stop 1", "stop 2"]);
        assert_eq!(trial.external.poll_timeout(), None);
    }

    #[test]
    fn a_back_end_that_is_back_is_told_all_at_once() {
        let mut trial = Trial::new();
        trial.heard();
        trial.fails(6);
        trial.change((1..=6).map(|id| apply(id, "192.0.2.1/32")).collect());
        // At 0, 1, 3, 7, 15 and 31 s; then at 63 s.
        trial.advance(62);
        assert_eq!(trial.heard().len(), 6);
        assert!(trial.statuses().iter().all(|(_, status)| *status == 4));
        trial.advance(1);
        let told: Vec<(u64, u8)> = trial.statuses();
        assert_eq!(told.len(), 6);
        assert!(told.iter().all(|(_, status)| *status == 1));
    }

    #[test]
    fn one_that_the_back_end_hangs_at_does_not_keep_the_others_waiting() {
        let mut trial = Trial::new();
        trial.heard();
        trial.fails(1);
        trial.change(vec![apply(1, "192.0.2.1/32"), apply(2, "192.0.2.2/32")]);
        trial.advance(1);
        assert_eq!(trial.heard(), ["start 1", "start 2", "start 1"]);
        assert_eq!(trial.statuses(), [(2, 1), (1, 1)]);
    }

    #[test]
    fn a_refusal_is_of_one_mitigation_only() {
        let mut trial = Trial::new();
        trial.heard();
        let refused = CarrierError::Refused("no such route".to_owned());
        trial.external.carrier.answers.push_back(Err(refused));
        trial.change(vec![apply(1, "192.0.2.1/32"), apply(2, "192.0.2.2/32")]);
        trial.advance(0);
        assert_eq!(trial.heard(), ["start 1", "start 2"]);
        assert_eq!(trial.statuses(), [(1, 4), (2, 1)]);
        trial.advance(1);
        assert_eq!(trial.heard(), ["start 1"]);
        assert_eq!(trial.statuses(), [(1, 1)]);
    }

    #[test]
    fn all_are_asked_about_though_not_at_once() {
        let mut trial = Trial::new();
        trial.change((1..=600).map(|id| apply(id, "192.0.2.1/32")).collect());
        trial.advance(1);
        trial.heard();
        trial.advance(4);
        let messages: Vec<Value> = std::mem::take(&mut trial.external.carrier.heard);
        let sizes: Vec<usize> = messages
            .iter()
            .map(|message| message["mitigations"].as_array().unwrap().len())
            .collect();
        assert_eq!(sizes, [256, 256, 88]);
        assert!(messages[0]["mitigations"][0].get("scope").is_none());
    }

    #[test]
    fn a_back_end_that_never_ends_anything_does_not_make_the_server_grow() {
        let mut trial = Trial::new();
        trial.change(vec![apply(u64::MAX, "192.0.2.1/32")]);
        for id in 1..=MAX_STOPPING as u64 + 1 {
            trial.change(vec![apply(id, "192.0.2.1/32")]);
            let entry = trial.external.entries.get_mut(&MitigationId(id)).unwrap();
            entry.known = true;
            trial.change(vec![withdraw(id)]);
        }
        assert_eq!(trial.external.entries.len(), 1);
        trial.heard();
        trial.advance(0);
        assert_eq!(
            trial.heard(),
            ["reset ", format!("start {}", u64::MAX).as_str()]
        );
        assert_eq!(
            trial.external.poll_report().unwrap().status,
            MitigationStatus::AttackMitigationInProgress
        );
    }
}
