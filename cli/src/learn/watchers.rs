//! The models of a daemon: the active one, whose verdicts go to the judge, and those in shadow. What is promoted, taken up or rolled
//! back is noticed within seconds, without a restart.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use anyhow::Context;
use weir_detector::ModelVerdict;
use weir_flow_record::{FlowBatch, Timestamp};

use super::watcher::Watcher;
use super::{Artefact, read_model, registry};
use crate::config::Settings;

/// Models that watch at a time.
const MODELS: usize = 4;

/// Verdicts of a daemon's models, in the folder of models.
const VERDICTS: &str = "verdicts.ndjson";

/// How often it is looked whether other models are to watch.
const LOOK: Duration = Duration::from_secs(10);

/// A daemon's models.
pub(crate) struct Watchers {
    settings: Settings,
    watchers: Vec<Watcher>,
    /// What was to watch when it was last looked.
    wanted: Vec<(String, bool)>,
    looked: Instant,
}

/// What a daemon's models do.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct WatchersView {
    /// Whether one of them is acted on.
    pub(crate) active: bool,
    pub(crate) in_shadow: u64,
    pub(crate) targets: u64,
    pub(crate) refused_targets: u64,
    pub(crate) windows: u64,
    /// One packet in how many they look at; the largest of theirs.
    pub(crate) thinned_to: u64,
}

impl Watchers {
    /// Those that the state directory names.
    pub(crate) fn of_daemon(settings: &Settings) -> anyhow::Result<Self> {
        let mut watchers = Self {
            settings: settings.clone(),
            watchers: Vec::new(),
            wanted: Vec::new(),
            looked: Instant::now(),
        };
        registry::ship(&settings.state_dir, settings.detector.models.default)?;
        watchers.take_up()?;
        Ok(watchers)
    }

    /// Takes a batch to all of them; one that cannot write its verdicts is dismissed.
    pub(crate) fn handle_batch(&mut self, batch: &FlowBatch) {
        self.each(|watcher| watcher.handle_batch(batch));
    }

    /// The time has come to `now`, ns, without a batch.
    pub(crate) fn handle_time(&mut self, now: i64) {
        self.each(|watcher| watcher.handle_time(now));
    }

    fn each(&mut self, mut handle: impl FnMut(&mut Watcher) -> anyhow::Result<()>) {
        self.watchers.retain_mut(|watcher| {
            let result = handle(watcher);
            if let Err(error) = &result {
                let error = format!("{error:#}");
                tracing::error!(model = watcher.id(), error, "a model watches no more");
            }
            result.is_ok()
        });
    }

    /// The next verdict that is acted on.
    #[must_use]
    pub(crate) fn poll_verdict(&mut self) -> Option<(Timestamp, ModelVerdict)> {
        self.watchers.iter_mut().find_map(Watcher::poll_verdict)
    }

    /// Looks, now and then, whether other models are to watch; gives figures when it did.
    pub(crate) fn look(&mut self) -> Option<WatchersView> {
        if self.looked.elapsed() < LOOK {
            return None;
        }
        self.looked = Instant::now();
        if let Err(error) = self.take_up() {
            tracing::warn!(error = format!("{error:#}"), "models go on as they are");
        }
        Some(self.view())
    }

    /// What they do.
    pub(crate) fn view(&self) -> WatchersView {
        let mut view = WatchersView::default();
        for watcher in &self.watchers {
            watcher.add_to(&mut view);
        }
        view
    }

    /// Takes up the models that are to watch now; those that watch already keep what they know of their targets.
    fn take_up(&mut self) -> anyhow::Result<()> {
        let mut wanted = registry::watching(&self.settings.state_dir)?;
        wanted.truncate(MODELS);
        let names: Vec<(String, bool)> = wanted
            .iter()
            .map(|one| (one.id.clone(), one.acts))
            .collect();
        if names == self.wanted {
            return Ok(());
        }
        let mut before = std::mem::take(&mut self.watchers);
        for one in wanted {
            let known = before.iter().position(|watcher| watcher.id() == one.id);
            let watcher = match known {
                Some(at) => Ok(before.swap_remove(at)),
                None => self.open(&one.path),
            };
            match watcher {
                Ok(mut watcher) => {
                    watcher.act(one.acts);
                    if one.acts {
                        tracing::info!(model = watcher.id(), "this model acts");
                    }
                    self.watchers.push(watcher);
                }
                // An old model must not keep the daemon from its work.
                Err(error) => {
                    tracing::warn!(error = format!("{error:#}"), "a model was left out");
                }
            }
        }
        self.wanted = names;
        Ok(())
    }

    fn open(&self, model: &std::path::Path) -> anyhow::Result<Watcher> {
        let path = self
            .settings
            .state_dir
            .join(registry::FOLDER)
            .join(VERDICTS);
        let out = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path);
        let out = out.with_context(|| format!("cannot write {}", path.display()))?;
        let Artefact { model, id, .. } = read_model(model)?;
        Ok(Watcher::new((model, id), &self.settings, Box::new(out)))
    }
}
