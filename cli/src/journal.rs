//! What the stages keep over a restart, as rows of the state file.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use weir_attack_event::{AttackEvent, AttackId};
use weir_baseline::SavedRow;
use weir_collector::DecoderState;
use weir_detector::Saved;
use weir_dots_export::StateChange as ClientChange;
use weir_enrichment::{LearnedName, Subject};
use weir_flow_record::Timestamp;
use weir_state::{Batch, Stage, State};

use crate::attacks::{Label, Said};

/// Row of the stop switch.
const HOLD: &[u8] = b"hold";
/// Row of how far a partition is judged.
const POSITION: &[u8] = b"summaries";
/// Changes that wait to be written.
const QUEUE: usize = 16_384;

/// What exporters stated and traffic taught. It is written soon, and by a thread of its own: the packet path waits for no disk.
enum Learned {
    Decoder(DecoderState),
    Name(LearnedName),
    Baseline(SavedRow),
    /// All before it is to be written, and then told.
    Flush(SyncSender<()>),
}

/// How far the summaries of a partition are judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Position {
    /// Offset of the first message that is not judged.
    pub(crate) offset: i64,
    /// Offset from which on messages tell of seconds that are still looked at.
    pub(crate) rewind: i64,
    /// Time of the newest tick.
    pub(crate) time: Timestamp,
}

/// Reads and writes what survives.
pub(crate) struct Journal {
    state: Arc<State>,
    learned: SyncSender<Learned>,
}

impl Journal {
    /// A journal on an open state file. The thread that writes what exporters stated ends with it.
    pub(crate) fn new(state: Arc<State>) -> Self {
        let (learned, changes) = sync_channel::<Learned>(QUEUE);
        let keeper = Arc::clone(&state);
        let spawned = std::thread::Builder::new()
            .name("weir-keeper".to_owned())
            .spawn(move || {
                while let Ok(first) = changes.recv() {
                    let batch = std::iter::once(first).chain(changes.try_iter());
                    if let Err(error) = write_learned(&keeper, batch) {
                        tracing::error!(%error, "templates and baselines are not saved");
                    }
                }
            });
        if let Err(error) = spawned {
            tracing::error!(%error, "no thread to save templates");
        }
        Self { state, learned }
    }

    /// The rows.
    pub(crate) fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// Templates, sampling rates and sequences of earlier runs. Sequences are taken out: those of exporters that are still there
    /// come back within a second, and the others are gone.
    pub(crate) fn decoder_state(&self) -> anyhow::Result<Vec<DecoderState>> {
        let rows: Vec<DecoderState> = self.read(Stage::Templates)?;
        let mut batch = Batch::new();
        for row in rows.iter().filter(|row| row.is_sequence()) {
            batch.delete(Stage::Templates, &row.key());
        }
        self.state.write(&batch)?;
        Ok(rows)
    }

    /// Keeps a template, a sampling rate or a sequence, soon.
    pub(crate) fn keep_decoder_state(&self, change: DecoderState) {
        self.learn(Learned::Decoder(change));
    }

    /// Names of earlier runs.
    pub(crate) fn names(&self) -> anyhow::Result<Vec<LearnedName>> {
        self.read(Stage::Names)
    }

    /// Keeps a name, soon.
    pub(crate) fn keep_name(&self, name: LearnedName) {
        self.learn(Learned::Name(name));
    }

    fn learn(&self, learned: Learned) {
        if let Err(TrySendError::Full(_)) = self.learned.try_send(learned) {
            tracing::warn!("the disk is behind: what an exporter stated is not saved");
        }
    }

    /// Keeps a baseline, soon; gives it back where the disk is behind.
    pub(crate) fn keep_baseline(&self, row: SavedRow) -> Result<(), SavedRow> {
        match self.learned.try_send(Learned::Baseline(row)) {
            Err(TrySendError::Full(Learned::Baseline(row))) => Err(row),
            _ => Ok(()),
        }
    }

    /// Keeps baselines; durable when it returns.
    pub(crate) fn keep_baselines(&self, rows: impl Iterator<Item = SavedRow>) {
        let (written, all) = sync_channel(1);
        // The keeper is gone only when everything is.
        for row in rows {
            let _ = self.learned.send(Learned::Baseline(row));
        }
        let _ = self.learned.send(Learned::Flush(written));
        let _ = all.recv();
    }

    /// What the detector knew: attacks that were open, mutes, and targets that were attacked before.
    pub(crate) fn attacks(&self) -> anyhow::Result<Vec<Saved>> {
        self.read(Stage::Attacks)
    }

    /// How far an earlier owner of a partition has judged.
    pub(crate) fn position(&self) -> anyhow::Result<Option<Position>> {
        Ok(self.state.get_json(Stage::Sequences, POSITION)?)
    }

    /// Keeps what the detector knows, and up to where it has judged in the same transaction; durable when it returns.
    pub(crate) fn keep_attacks(
        &self,
        rows: &[Saved],
        position: Option<&Position>,
    ) -> anyhow::Result<()> {
        let mut batch = Batch::new();
        if let Some(position) = position {
            batch.put_json(Stage::Sequences, POSITION, position)?;
        }
        for row in rows {
            let key = row.key();
            if row.is_removal() {
                batch.delete(Stage::Attacks, key.as_bytes());
            } else {
                batch.put_json(Stage::Attacks, key.as_bytes(), row)?;
            }
        }
        Ok(self.state.write(&batch)?)
    }

    /// An upstream's mitigations and numbers.
    pub(crate) fn client_state(&self, upstream: &str) -> anyhow::Result<Vec<ClientChange>> {
        let prefix = format!("{upstream}\0");
        let rows = self.state.entries(Stage::Mitigations)?;
        rows.into_iter()
            .filter(|(key, _)| key.starts_with(prefix.as_bytes()))
            .map(|(_, value)| {
                serde_json::from_slice(&value)
                    .context("the state file holds a row that cannot be read")
            })
            .collect()
    }

    /// Keeps a client's change; durable when it returns.
    pub(crate) fn keep_client_state(
        &self,
        upstream: &str,
        change: &ClientChange,
    ) -> anyhow::Result<()> {
        let key = format!("{upstream}\0{}", change.key());
        if change.is_removal() {
            self.state.delete(Stage::Mitigations, key.as_bytes())?;
        } else {
            self.state
                .put_json(Stage::Mitigations, key.as_bytes(), change)?;
        }
        Ok(())
    }

    /// Whether an operator has thrown the stop switch.
    pub(crate) fn is_on_hold(&self) -> anyhow::Result<bool> {
        let rows = self.state.entries(Stage::Policy)?;
        Ok(rows.iter().any(|(key, _)| key == HOLD))
    }

    /// Keeps the stop switch as it is; durable when it returns.
    pub(crate) fn keep_hold(&self, hold: bool) -> anyhow::Result<()> {
        let kept = if hold {
            self.state.put_json(Stage::Policy, HOLD, &true)
        } else {
            self.state.delete(Stage::Policy, HOLD)
        };
        Ok(kept?)
    }

    /// What operators say that attacks really were, by the attacks' names.
    pub(crate) fn labels(&self) -> anyhow::Result<Vec<Label>> {
        self.read(Stage::Labels)
    }

    /// All that is said of attacks: operators' labels, and what clients of the DOTS server report.
    pub(crate) fn said(&self) -> anyhow::Result<Vec<Said>> {
        let labels = self.labels()?.into_iter().map(Said::Operator);
        let reports = weir_dots_server::kept_reports(&self.state)?;
        Ok(labels
            .chain(reports.into_iter().map(Said::Client))
            .collect())
    }

    /// Keeps a label, in the place of an earlier one of that attack; durable when it returns.
    pub(crate) fn keep_label(&self, label: &Label) -> anyhow::Result<()> {
        let key = label.attack.to_string();
        Ok(self.state.put_json(Stage::Labels, key.as_bytes(), label)?)
    }

    /// What an operator says of an attack.
    pub(crate) fn label(&self, attack: &AttackId) -> anyhow::Result<Option<Label>> {
        let key = attack.to_string();
        Ok(self.state.get_json(Stage::Labels, key.as_bytes())?)
    }

    /// Notes when a labelled attack ended; gives the label as it is now, if there is one.
    pub(crate) fn end_label(&self, event: &AttackEvent) -> anyhow::Result<Option<Label>> {
        let Some(mut label) = self.label(&event.id)? else {
            return Ok(None);
        };
        label.end = event.end_time;
        self.keep_label(&label)?;
        Ok(Some(label))
    }

    fn read<T: serde::de::DeserializeOwned>(&self, stage: Stage) -> anyhow::Result<Vec<T>> {
        self.state
            .entries(stage)?
            .into_iter()
            .map(|(_, value)| {
                serde_json::from_slice(&value)
                    .context("the state file holds a row that cannot be read")
            })
            .collect()
    }
}

/// One transaction, and one wait for the disk, however many there are.
fn write_learned(state: &State, learned: impl Iterator<Item = Learned>) -> anyhow::Result<()> {
    let mut batch = Batch::new();
    let mut waiting = Vec::new();
    for learned in learned {
        match learned {
            Learned::Baseline(row) => match &row.value {
                Some(value) => batch.put(Stage::Baselines, &row.key, value),
                None => batch.delete(Stage::Baselines, &row.key),
            },
            Learned::Flush(written) => waiting.push(written),
            Learned::Decoder(change) if change.is_removal() => {
                batch.delete(Stage::Templates, &change.key());
            }
            Learned::Decoder(change) => {
                batch.put_json(Stage::Templates, &change.key(), &change)?;
            }
            Learned::Name(name) => {
                batch.put_json(Stage::Names, name_key(&name).as_bytes(), &name)?;
            }
        }
    }
    let written = state.write(&batch);
    for waiting in waiting {
        // Whoever waits is told of a failure by the log.
        let _ = waiting.send(());
    }
    Ok(written?)
}

/// Where a learned name is kept; see the step in `weir_state` that led here.
fn name_key(name: &LearnedName) -> String {
    let (kind, number) = match name.subject {
        Subject::Interface(index) => ("interface", index.into()),
        Subject::Domain(domain) => ("domain", domain.into()),
        Subject::Application(application) => ("application", application),
    };
    format!("{}/{kind}/{number}", name.exporter)
}

/// The journal of one upstream's client.
pub(crate) struct ClientJournal {
    pub(crate) upstream: Arc<str>,
    pub(crate) journal: Arc<Journal>,
}

impl weir_dots_export::Journal for ClientJournal {
    fn write(&self, change: &ClientChange) -> std::io::Result<()> {
        self.journal
            .keep_client_state(&self.upstream, change)
            .map_err(std::io::Error::other)
    }
}
