//! Shadow mode: a model watches the zones' hosts, its verdicts are told and not acted on.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;
use ipnet::IpNet;
use serde::Serialize;
use weir_flow_record::{FlowBatch, Timestamp, Vector};
use weir_models::{Alarm, ModelId, Sentry};

use super::{Artefact, read_model, registry};
use crate::config::Settings;

/// Hosts watched at most; idle ones make room.
const TARGETS: usize = 4096;

/// Models that watch at a time.
const MODELS: usize = 4;

/// Verdicts of a daemon's models, in the folder of models.
const VERDICTS: &str = "verdicts.ndjson";

/// The first number of attacks that models know and the catalogue does not (design.md).
const LEARNED: u32 = 64;

/// A model in shadow, and where its verdicts go.
pub(crate) struct Shadow {
    sentry: Sentry,
    id: ModelId,
    vendor_id: u32,
    zones: Vec<(String, IpNet)>,
    out: Box<dyn Write + Send>,
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

impl Shadow {
    /// Reads the model.
    pub(crate) fn open(
        model: &Path,
        settings: &Settings,
        out: Box<dyn Write + Send>,
    ) -> anyhow::Result<Self> {
        let Artefact { model, id, .. } = read_model(model)?;
        let zones = settings.detector.zones.iter();
        let prefixes = zones.flat_map(|zone| {
            zone.prefixes
                .iter()
                .map(|prefix| (zone.name.to_string(), *prefix))
        });
        Ok(Self {
            sentry: Sentry::new(model, TARGETS),
            id,
            vendor_id: settings.detector.vendor_id,
            zones: prefixes.collect(),
            out,
            now: 0,
        })
    }

    /// Takes in records and tells what follows.
    pub(crate) fn handle_batch(&mut self, batch: &FlowBatch) -> anyhow::Result<()> {
        for target in &batch.destination_address {
            if !self.sentry.is_watched(*target)
                && self.zones.iter().any(|(_, prefix)| target.is_in(prefix))
            {
                self.sentry.watch(*target);
            }
        }
        self.sentry.handle_batch(batch);
        let newest = batch
            .datagrams
            .iter()
            .map(|datagram| datagram.received_at.nanos())
            .max();
        self.now = self.now.max(newest.unwrap_or(0));
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

    fn tell(&mut self) -> anyhow::Result<()> {
        while let Some(alarm) = self.sentry.poll_alarm() {
            let mut line = serde_json::to_vec(&self.line(&alarm))?;
            line.push(b'\n');
            self.out
                .write_all(&line)
                .context("cannot write the model's verdicts")?;
        }
        Ok(())
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
        let zone = self
            .zones
            .iter()
            .find(|(_, prefix)| alarm.target.is_in(prefix));
        let known = Vector::by_name(&alarm.class).map(Vector::attack_id);
        let classes = &self.sentry.model().card().classes;
        let number = classes
            .iter()
            .position(|class| *class == alarm.class)
            .unwrap_or(0);
        // A window of one second is judged when it and what may come late are over.
        let detected_at = Timestamp::from_seconds(alarm.detected + 1);
        Line {
            event: if alarm.end.is_some() {
                "attack-end"
            } else {
                "attack-start"
            },
            id: format!("{}-{}-{}", self.id, alarm.target, alarm.start),
            time: Timestamp::from_nanos(self.now),
            detected_at,
            start_time: Timestamp::from_seconds(alarm.start),
            end_time: alarm.end.map(Timestamp::from_seconds),
            target: alarm.target.host(),
            zone: zone.map_or("", |(name, _)| name),
            direction: "in",
            vectors: [Named {
                vendor_id: self.vendor_id,
                attack_id: known.unwrap_or(LEARNED + number as u32),
                name: &alarm.class,
                share: 1.0,
                confidence: alarm.confidence,
            }],
            why: alarm
                .reasons
                .iter()
                .map(|reason| reason.words.clone())
                .collect(),
            model: &self.id.0,
            shadow: true,
        }
    }
}

/// The models of a daemon: the active one and those in shadow, a few at most; their verdicts are added to a file in the state
/// directory.
pub(crate) fn of_daemon(settings: &Settings) -> anyhow::Result<Vec<Shadow>> {
    let mut shadows = Vec::new();
    for model in registry::watching(&settings.state_dir)?
        .into_iter()
        .take(MODELS)
    {
        let path = settings.state_dir.join(registry::FOLDER).join(VERDICTS);
        let out = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path);
        let out = out.with_context(|| format!("cannot write {}", path.display()))?;
        match Shadow::open(&model, settings, Box::new(out)) {
            Ok(shadow) => shadows.push(shadow),
            // An old model must not keep the daemon from its work.
            Err(error) => tracing::warn!(error = format!("{error:#}"), "a model was left out"),
        }
    }
    Ok(shadows)
}

/// Takes a batch to all of them; one that cannot write its verdicts is dismissed.
pub(crate) fn show(shadows: &mut Vec<Shadow>, batch: &FlowBatch) {
    shadows.retain_mut(|shadow| match shadow.handle_batch(batch) {
        Ok(()) => true,
        Err(error) => {
            tracing::error!(model = %shadow.id, error = format!("{error:#}"), "a model watches no more");
            false
        }
    });
}
