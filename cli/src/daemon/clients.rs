//! Upstream clients at work: commands go to them, and their words to the judge and to whoever listens.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;

use anyhow::Context;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinHandle;
use weir_attack_event::AttackId;
use weir_baseline::BaselineReport;
use weir_dots_export::{ClientCommand, ClientNotice};

use super::judge::Input;
use super::{QUEUE, Story};
use crate::config::Settings;
use crate::data_channel;
use crate::journal::Journal;
use crate::upstreams;
use crate::views::Views;

/// Clients that run.
pub(super) struct Clients {
    pub(super) commands: BTreeMap<Arc<str>, mpsc::Sender<ClientCommand>>,
    /// Tells whoever subscribes what they say.
    pub(super) heard: broadcast::Sender<ClientNotice>,
    pub(super) tasks: Vec<JoinHandle<()>>,
}

/// Who hears every word of theirs.
pub(super) struct Hearers {
    pub(super) input: SyncSender<Input>,
    pub(super) views: Arc<Views>,
    pub(super) story: Option<std::sync::mpsc::Sender<Story>>,
}

impl Clients {
    /// Starts the clients of all upstreams, whose cuids end with `suffix`, and keeps up their data channels. They are told what is
    /// normal; what they still hold for attacks that are not open any more is withdrawn. Call within a runtime.
    pub(super) fn start(
        settings: &Settings,
        suffix: &str,
        journal: &Arc<Journal>,
        (open, normal): (&[AttackId], &[BaselineReport]),
        hearers: Hearers,
        stopped: &watch::Receiver<bool>,
    ) -> anyhow::Result<Self> {
        let (notice, notices) = mpsc::channel(QUEUE);
        let (heard, _) = broadcast::channel(QUEUE);
        let started = upstreams::start(settings, journal, &notice, stopped, normal, suffix)?;
        let mut commands = BTreeMap::new();
        let mut data_channels = Vec::new();
        let mut tasks = Vec::new();
        for client in started {
            for command in upstreams::left_over(&client.held, |attack| open.contains(attack)) {
                client
                    .commands
                    .try_send(command)
                    .context("too many mitigations are left over")?;
            }
            data_channels.extend(client.data);
            commands.insert(client.name, client.commands);
            tasks.push(client.task);
        }
        tasks.push(tokio::spawn(data_channel::follow_attacks(
            data_channels,
            heard.subscribe(),
            Arc::clone(&hearers.views),
            stopped.clone(),
        )));
        tasks.push(tokio::spawn(hearers.listen(notices, heard.clone())));
        Ok(Self {
            commands,
            heard,
            tasks,
        })
    }
}

impl Hearers {
    /// Until no client has anything to say any more.
    async fn listen(
        self,
        mut notices: mpsc::Receiver<ClientNotice>,
        heard: broadcast::Sender<ClientNotice>,
    ) {
        while let Some(notice) = notices.recv().await {
            upstreams::note(&self.views, &notice);
            // Nobody needs to listen.
            let _ = heard.send(notice.clone());
            if let Some(story) = &self.story {
                let _ = story.send(Story::Notice(notice.clone()));
            }
            let mut waiting = Input::Notice(notice);
            while let Err(error) = self.input.try_send(waiting) {
                match error {
                    TrySendError::Full(input) => waiting = input,
                    TrySendError::Disconnected(_) => return,
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
}
