//! The role `detect`: a member of the group that shares the zones.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{broadcast, watch};
use weir_kafka::{Publisher, TopicError};
use weir_state::{State, StateError};

use super::bus::Bus;
use super::feed::Feed;
use super::orders::Orders;
use super::partition::Common;
use super::{QUEUE, topics};
use crate::admin::Admin;
use crate::config::Settings;
use crate::config::cluster::ClusterSettings;
use crate::daemon::{serve_http, spawn};
use crate::journal::Journal;
use crate::kafka::{self, Announcer};
use crate::views::Views;

/// A running detector.
pub(crate) struct Detectors {
    stop: Arc<AtomicBool>,
    shutdown: watch::Sender<bool>,
    feed: JoinHandle<()>,
    orders: JoinHandle<()>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    /// Events and reports of mitigations, to whoever reads them.
    publisher: Publisher,
    /// Nobody else may use the folder.
    _state: Arc<State>,
}

/// Opens the state file, which what ran before a reload lets go of in a moment.
fn open(folder: &Path) -> Result<State, StateError> {
    let give_up = Instant::now() + Duration::from_secs(2);
    loop {
        match State::open(folder) {
            Err(_) if Instant::now() < give_up => std::thread::sleep(Duration::from_millis(20)),
            opened => return opened,
        }
    }
}

impl Detectors {
    /// Joins the other detectors.
    pub(crate) fn start(
        runtime: &Handle,
        settings: &Settings,
        cluster: &ClusterSettings,
        views: &Arc<Views>,
    ) -> anyhow::Result<Self> {
        let state = Arc::new(open(&settings.state_dir)?);
        match topics::ensure(runtime, cluster) {
            Ok(()) => {}
            Err(error @ TopicError::Kafka(_)) => {
                tracing::warn!(%error, "Kafka does not answer yet");
            }
            Err(error) => return Err(error.into()),
        }
        let publisher = Publisher::start(&cluster.kafka)?;
        views.set_kafka(Some(publisher.figures()));
        let announcer = Announcer::new(publisher.notes(), settings.detector.vendor_id);
        let common = Arc::new(Common {
            settings: settings.clone(),
            cluster: cluster.clone(),
            runtime: runtime.clone(),
            bus: Bus::open(cluster)?,
            views: Arc::clone(views),
            view: views.cluster(),
            announcer: announcer.clone(),
        });
        common.view.is_detector.store(true, Ordering::Relaxed);
        let stop = Arc::new(AtomicBool::new(false));
        let (shutdown, stopped) = watch::channel(false);
        let (input, inputs) = sync_channel(QUEUE);
        let (heard, _) = broadcast::channel(QUEUE);
        let mut tasks = Vec::new();
        let _runtime = runtime.enter();
        let admin = Arc::new(Admin::new(
            BTreeMap::new(),
            None,
            heard,
            Arc::clone(views),
            input,
            Arc::new(Journal::new(Arc::clone(&state))),
            announcer,
        ));
        let feed = Feed::new(Arc::clone(&common), Arc::clone(&stop));
        let orders = Orders {
            common,
            holdings: Arc::clone(&feed.holdings),
            inputs,
            stop: Arc::clone(&stop),
        };
        let address: SocketAddr = serve_http(settings, views, &admin, &stopped, &mut tasks)?;
        tracing::info!(%address, member = %cluster.name, group = %cluster.group, "detects");
        Ok(Self {
            orders: spawn("weir-words", move || orders.run())?,
            feed: spawn("weir-feed", move || feed.run())?,
            stop,
            shutdown,
            tasks,
            publisher,
            _state: state,
        })
    }

    /// Gives all partitions up, with everything kept for who takes them up.
    pub(crate) fn stop(self, runtime: &Handle) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.feed.join();
        let _ = self.orders.join();
        let _ = self.shutdown.send(true);
        runtime.block_on(async {
            for task in self.tasks {
                let _ = tokio::time::timeout(Duration::from_secs(5), task).await;
            }
        });
        kafka::finish(self.publisher);
    }
}
