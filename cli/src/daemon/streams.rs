//! The thread of IPFIX over TCP and TLS.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use weir_collector::{CollectorSettings, StreamInlet, Streams, stream_feed};

use crate::views::{StreamView, Views};

/// Longest wait, so that a stop is seen in time.
const PATIENCE: Duration = Duration::from_millis(100);

/// Opens the sockets; an inlet for each shard, and the thread that feeds them. Nothing where nothing is configured.
pub(super) fn start(
    settings: &CollectorSettings,
    views: Arc<Views>,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<Option<(Vec<StreamInlet>, JoinHandle<()>)>> {
    let streams = Streams::bind(settings.streams.clone())?;
    if streams.addresses().next().is_none() {
        return Ok(None);
    }
    for (transport, address) in streams.addresses() {
        tracing::info!(?transport, %address, "listening for IPFIX sessions");
    }
    let (feed, inlets) = stream_feed(settings.shards);
    let thread = super::spawn("weir-streams", move || run(streams, feed, &views, &stop))?;
    Ok(Some((inlets, thread)))
}

fn run(
    mut streams: Streams,
    mut feed: weir_collector::StreamFeed,
    views: &Views,
    stop: &AtomicBool,
) {
    let mut published = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        if let Err(error) = streams.turn(PATIENCE, |event| feed.handle_event(event)) {
            tracing::error!(%error, "cannot wait for IPFIX sessions");
            std::thread::sleep(PATIENCE);
        }
        while let Some(peer) = feed.poll_fault() {
            streams.end(peer);
        }
        if published.elapsed() >= Duration::from_secs(1) {
            published = Instant::now();
            views.set_streams(StreamView {
                connections: streams.len(),
                counters: *streams.counters(),
            });
        }
    }
}
