//! A model that watches the zones' hosts: what it says is noted, and acted on where it is the active one.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::Arc;

use anyhow::Context;
use ipnet::IpNet;
use serde::Serialize;
use weir_attack_event::AttackName;
use weir_detector::ModelVerdict;
use weir_flow_record::{FlowBatch, Timestamp};
use weir_models::{Alarm, Model, ModelId, Phase, Sentry};

use super::watchers::WatchersView;
use super::zones::Zones;
use crate::config::Settings;

/// A model, and where its verdicts go.
pub(crate) struct Watcher {
    sentry: Sentry,
    id: ModelId,
    name: Arc<str>,
    acts: bool,
    vendor_id: u32,
    zones: Zones,
    out: Box<dyn Write + Send>,
    verdicts: VecDeque<(Timestamp, ModelVerdict)>,
    now: i64,
}

/// A verdict in the shape of an attack event, so that `weir score` takes it as one.
#[derive(Serialize)]
struct Line<'a> {
    event: &'static str,
    id: String,
    time: Timestamp,
    detected_at: Timestamp,
    start_time: Timestamp,
    end_time: Option<Timestamp>,
    target: IpNet,
    zone: &'a str,
    direction: &'static str,
    vectors: [Named<'a>; 1],
    why: Vec<String>,
    model: &'a str,
    shadow: bool,
}

#[derive(Serialize)]
struct Named<'a> {
    vendor_id: u32,
    attack_id: u32,
    name: &'a str,
    share: f32,
    confidence: f32,
}

impl Watcher {
    /// A model in shadow; [`act`](Self::act) makes it the active one.
    pub(crate) fn new(
        (model, id): (Model, ModelId),
        settings: &Settings,
        out: Box<dyn Write + Send>,
    ) -> Self {
        let detector = &settings.detector;
        let models = &detector.models;
        Self {
            sentry: Sentry::new(model, models.targets, models.least_confidence as f32),
            name: id.0.as_str().into(),
            id,
            acts: false,
            vendor_id: detector.vendor_id,
            zones: Zones::new(
                detector
                    .zones
                    .iter()
                    .map(|zone| (&zone.name, &zone.prefixes)),
            ),
            out,
            verdicts: VecDeque::new(),
            now: 0,
        }
    }

    /// Whether what it says is acted on.
    pub(crate) fn act(&mut self, acts: bool) {
        self.acts = acts;
    }

    pub(crate) fn id(&self) -> &str {
        &self.id.0
    }

    /// Adds what it does to a view.
    pub(crate) fn add_to(&self, view: &mut WatchersView) {
        let (targets, refused) = self.sentry.watched();
        view.active |= self.acts;
        view.in_shadow += u64::from(!self.acts);
        view.targets += targets as u64;
        view.refused_targets += refused;
        view.windows += self.sentry.judged();
        view.thinned_to = view.thinned_to.max(self.sentry.thinned_to().into());
    }

    /// Takes in records and notes what follows.
    pub(crate) fn handle_batch(&mut self, batch: &FlowBatch) -> anyhow::Result<()> {
        for target in &batch.destination_address {
            let is_new = !self.sentry.is_watched(*target) && self.zones.hold(*target);
            if is_new && !self.sentry.watch(*target) {
                // There is no room for the others either.
                break;
            }
        }
        self.sentry.handle_batch(batch);
        let received = batch.datagrams.iter().map(|one| one.received_at.nanos());
        self.handle_time(received.max().unwrap_or(0))
    }

    /// The data's time has come to `now`, ns.
    pub(crate) fn handle_time(&mut self, now: i64) -> anyhow::Result<()> {
        self.now = self.now.max(now);
        self.sentry.handle_time(self.now);
        self.tell_drift();
        self.tell()
    }

    /// No more records will come.
    pub(crate) fn finish(&mut self) -> anyhow::Result<()> {
        self.sentry.handle_end();
        self.tell()?;
        self.out
            .flush()
            .context("cannot write the model's verdicts")
    }

    /// The next verdict to be acted on, and its time; of a model in shadow there is none.
    #[must_use]
    pub(crate) fn poll_verdict(&mut self) -> Option<(Timestamp, ModelVerdict)> {
        self.verdicts.pop_front()
    }

    fn tell(&mut self) -> anyhow::Result<()> {
        while let Some(alarm) = self.sentry.poll_alarm() {
            if self.acts && alarm.phase != Phase::Over {
                let verdict = self.verdict(&alarm);
                let now = Timestamp::from_nanos(self.now);
                self.verdicts.push_back((now, verdict));
            }
            if alarm.phase != Phase::GoesOn {
                let mut line = serde_json::to_vec(&self.line(&alarm))?;
                line.push(b'\n');
                self.out
                    .write_all(&line)
                    .context("cannot write the model's verdicts")?;
            }
        }
        Ok(())
    }

    fn verdict(&self, alarm: &Alarm) -> ModelVerdict {
        ModelVerdict {
            target: alarm.target.host(),
            model: Arc::clone(&self.name),
            name: AttackName::of(&alarm.class),
            attack: f64::from(alarm.attack),
            confidence: f64::from(alarm.confidence),
            start: alarm.start,
            last: alarm.last,
            reasons: words(alarm),
        }
    }

    /// Drift is told once an hour or so at most, by its worst features.
    fn tell_drift(&mut self) {
        if let Some(changed) = self.sentry.poll_drift() {
            let worst: Vec<String> = changed
                .iter()
                .take(3)
                .map(|(name, index)| format!("{name} {index:.2}"))
                .collect();
            tracing::warn!(
                model = %self.id, features = changed.len(), worst = worst.join(", "),
                "traffic has drifted from what this model learned"
            );
        }
    }

    fn line<'a>(&'a self, alarm: &'a Alarm) -> Line<'a> {
        let over = alarm.phase == Phase::Over;
        // A window of one second is judged when it and what may come late are over.
        let detected_at = Timestamp::from_seconds(alarm.detected + 1);
        Line {
            event: if over { "attack-end" } else { "attack-start" },
            id: format!("{}-{}-{}", self.id, alarm.target, alarm.start),
            time: Timestamp::from_nanos(self.now),
            detected_at,
            start_time: Timestamp::from_seconds(alarm.start),
            end_time: over.then(|| Timestamp::from_seconds(alarm.last + 1)),
            target: alarm.target.host(),
            zone: self.zones.of(alarm.target),
            direction: "in",
            vectors: [Named {
                vendor_id: self.vendor_id,
                attack_id: AttackName::of(&alarm.class).attack_id(),
                name: &alarm.class,
                share: 1.0,
                confidence: alarm.confidence,
            }],
            why: words(alarm),
            model: &self.id.0,
            shadow: !self.acts,
        }
    }
}

fn words(alarm: &Alarm) -> Vec<String> {
    let reasons = alarm.reasons.iter();
    reasons.map(|reason| reason.words.clone()).collect()
}
