//! What the stages keep over a restart, as rows of the state file.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};

use anyhow::Context;
use weir_detector::SavedAttack;
use weir_dots_export::StateChange as ClientChange;
use weir_netflow::StateChange as DecoderChange;
use weir_state::{Batch, Stage, State};

/// Decoder changes that wait to be written.
const QUEUE: usize = 4096;

/// Reads and writes what survives.
pub(crate) struct Journal {
    state: Arc<State>,
    decoder: SyncSender<Vec<DecoderChange>>,
}

impl Journal {
    /// A journal on an open state file. Decoder state is written by a thread of its own, which ends with the journal:
    /// the packet path waits for no disk.
    pub(crate) fn new(state: Arc<State>) -> Self {
        let (decoder, changes) = sync_channel::<Vec<DecoderChange>>(QUEUE);
        let keeper = Arc::clone(&state);
        let spawned = std::thread::Builder::new()
            .name("weir-keeper".to_owned())
            .spawn(move || {
                while let Ok(mut batch) = changes.recv() {
                    batch.extend(changes.try_iter().flatten());
                    if let Err(error) = write_decoder_state(&keeper, &batch) {
                        tracing::error!(%error, "templates are not saved");
                    }
                }
            });
        if let Err(error) = spawned {
            tracing::error!(%error, "no thread to save templates");
        }
        Self { state, decoder }
    }

    /// Templates and sampling rates of earlier runs.
    pub(crate) fn decoder_state(&self) -> anyhow::Result<Vec<DecoderChange>> {
        self.read(Stage::Templates)
    }

    /// Keeps templates and sampling rates, soon.
    pub(crate) fn keep_decoder_state(&self, changes: Vec<DecoderChange>) {
        if let Err(TrySendError::Full(_)) = self.decoder.try_send(changes) {
            tracing::warn!("the disk is behind: templates are not saved");
        }
    }

    /// Attacks that were open.
    pub(crate) fn attacks(&self) -> anyhow::Result<Vec<SavedAttack>> {
        self.read(Stage::Attacks)
    }

    /// Keeps attacks; durable when it returns.
    pub(crate) fn keep_attacks(&self, attacks: &[SavedAttack]) -> anyhow::Result<()> {
        let mut batch = Batch::new();
        for attack in attacks {
            let key = attack.id().to_string();
            if attack.is_closed() {
                batch.delete(Stage::Attacks, key.as_bytes());
            } else {
                batch.put_json(Stage::Attacks, key.as_bytes(), attack)?;
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

/// One transaction, and one wait for the disk, however many changes there are.
fn write_decoder_state(state: &State, changes: &[DecoderChange]) -> anyhow::Result<()> {
    let mut batch = Batch::new();
    for change in changes {
        let key = change.key();
        if change.is_removal() {
            batch.delete(Stage::Templates, &key);
        } else {
            batch.put_json(Stage::Templates, &key, change)?;
        }
    }
    Ok(state.write(&batch)?)
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
