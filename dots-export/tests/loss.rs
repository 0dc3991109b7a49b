//! Sessions over networks that lose much, with real sockets, real DTLS and real time.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::time::{Duration, Instant};

use support::net::{
    Lossy, RealClient, RealServer, is_granted, is_up, server_config, upstream_config, upstream_of,
};
use weir_dots_export::Transport;
use weir_dots_server::ClientConfig;
use weir_dtls::lab::{Issue, LabNames, issue, write_keys};

/// Clients at once.
const CLIENTS: u64 = 40;

/// When sessions stood and requests were granted, in order; what was not within the patience is missing.
struct Times {
    up: Vec<Duration>,
    granted: Vec<Duration>,
}

/// Clients that ask for help through a network of so much loss in each direction, from the beginning.
async fn trial(loss: u64, transport: Transport, patience: Duration, seed: u64) -> Times {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path();
    write_keys(keys, &LabNames::default()).unwrap();
    let mut served = server_config(keys);
    served.clients = (0..CLIENTS)
        .map(|number| ClientConfig {
            name: format!("client-{number}"),
            ..served.clients[0].clone()
        })
        .collect();
    let server = RealServer::start(&served);
    let mut running = Vec::new();
    for number in 0..CLIENTS {
        let network = Lossy::start(server.address, [loss, loss], seed * 1000 + number).await;
        let mut config = upstream_config(network.address);
        config.transport = transport;
        let file = format!("client-{number}");
        let names = vec![file.clone()];
        config.certificate = format!("{file}.pem").into();
        config.key = format!("{file}.key").into();
        let days = 1;
        issue(keys, &Issue { file, names, days }).unwrap();
        let settings = upstream_of(config, keys);
        running.push(tokio::spawn(async move {
            let began = Instant::now();
            let mut client = RealClient::start(&settings, number);
            client.ask(number).await;
            let up = client.until(patience, is_up).await.map(|_| began.elapsed());
            let left = patience.saturating_sub(began.elapsed());
            let granted = client.until(left, is_granted).await;
            let granted = granted.map(|_| began.elapsed());
            client.stop().await;
            drop(network);
            (up, granted)
        }));
    }
    let mut times = Times {
        up: Vec::new(),
        granted: Vec::new(),
    };
    for task in running {
        let (up, granted) = task.await.unwrap();
        times.up.extend(up);
        times.granted.extend(granted);
    }
    times.up.sort();
    times.granted.sort();
    let of = |times: &[Duration], percent: usize| times.get(times.len() * percent / 100).copied();
    eprintln!(
        "{transport:?}, {loss} % loss: {} of {CLIENTS} up (median {:?}, p95 {:?}), {} granted (median {:?}, p95 {:?}, last {:?})",
        times.up.len(),
        of(&times.up, 50),
        of(&times.up, 95),
        times.granted.len(),
        of(&times.granted, 50),
        of(&times.granted, 95),
        times.granted.last(),
    );
    times
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_30_percent_loss_all_are_helped_soon() {
    let times = trial(30, Transport::Udp, Duration::from_secs(60), 1).await;
    assert_eq!(times.granted.len() as u64, CLIENTS);
    let p95 = times.granted[times.granted.len() * 95 / 100];
    assert!(p95 <= Duration::from_secs(20), "{p95:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_50_percent_loss_nearly_all_are_helped_within_a_minute() {
    let times = trial(50, Transport::Udp, Duration::from_secs(60), 2).await;
    assert!(times.granted.len() >= 36, "{} of 40", times.granted.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_datagrams_hardly_pass_tcp_is_there_at_once() {
    let times = trial(80, Transport::Auto, Duration::from_secs(30), 3).await;
    assert_eq!(times.granted.len() as u64, CLIENTS);
    let last = times.granted[times.granted.len() - 1];
    assert!(last <= Duration::from_secs(10), "{last:?}");
}
