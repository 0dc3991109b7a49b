//! Two sides of a pair in one process, with a cable between them that can be cut.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "../../../cli/tests/support/ports.rs"]
mod ports;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ports::free_address;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use weir_dtls::lab::{Issue, LabNames, issue, write_keys};
use weir_standby::{Pair, Role, StandbyConfig, Turn};
use weir_state::{Stage, State};

/// Long enough for a machine that has much else to do.
const LEASE: Duration = Duration::from_millis(1500);

/// A TCP forwarder that swallows everything while it is cut.
struct Cable {
    from: SocketAddr,
    cut: Arc<AtomicBool>,
}

impl Cable {
    fn new(runtime: &Runtime, to: SocketAddr) -> Self {
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let from = listener.local_addr().unwrap();
        let cut = Arc::new(AtomicBool::new(false));
        let is_cut = Arc::clone(&cut);
        runtime.spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let is_cut = Arc::clone(&is_cut);
                tokio::spawn(async move {
                    let Ok(far) = TcpStream::connect(to).await else {
                        return;
                    };
                    let (near, far) = (near.into_split(), far.into_split());
                    tokio::join!(pump(near.0, far.1, &is_cut), pump(far.0, near.1, &is_cut));
                });
            }
        });
        Self { from, cut }
    }
}

async fn pump(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    cut: &AtomicBool,
) {
    let mut octets = vec![0; 4096];
    while let Ok(length @ 1..) = from.read(&mut octets).await {
        // What is swallowed once breaks the connection for good: nothing may follow it.
        if cut.load(Ordering::Relaxed) {
            while let Ok(1..) = from.read(&mut octets).await {}
            return;
        }
        if to.write_all(&octets[..length]).await.is_err() {
            return;
        }
    }
}

/// One daemon of the pair.
struct End {
    pair: Pair,
    state: Arc<State>,
    _folder: tempfile::TempDir,
}

fn config(
    keys: &Path,
    name: &str,
    peer_name: &str,
    peer: SocketAddr,
    listen: SocketAddr,
) -> StandbyConfig {
    StandbyConfig {
        name: name.to_owned(),
        peer_name: peer_name.to_owned(),
        peer: peer.to_string(),
        listen: listen.to_string(),
        ca: keys.join("ca.pem"),
        certificate: keys.join(format!("{name}.pem")),
        key: keys.join(format!("{name}.key")),
        priority: if name == "b" { 200 } else { 100 },
        lease: weir_flow_record::Period(LEASE),
        acknowledge: weir_flow_record::Period(Duration::from_millis(300)),
        witness: String::new(),
    }
}

impl End {
    fn start(config: StandbyConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = Arc::new(State::open(folder.path()).unwrap());
        Self::on(folder, state, &config)
    }

    fn on(folder: tempfile::TempDir, state: Arc<State>, config: &StandbyConfig) -> Self {
        let pair = Pair::start(config.check().unwrap(), Arc::clone(&state)).unwrap();
        Self {
            pair,
            state,
            _folder: folder,
        }
    }

    fn role(&self) -> Role {
        self.pair.view().role
    }
}

fn keys() -> tempfile::TempDir {
    let keys = tempfile::tempdir().unwrap();
    write_keys(keys.path(), &LabNames::default()).unwrap();
    for name in ["a", "b"] {
        let issued = Issue {
            file: name.to_owned(),
            names: vec![name.to_owned()],
            days: 2,
        };
        issue(keys.path(), &issued).unwrap();
    }
    keys
}

fn eventually(limit: Duration, mut holds: impl FnMut() -> bool) -> Option<Duration> {
    let began = Instant::now();
    while began.elapsed() < limit {
        if holds() {
            return Some(began.elapsed());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

#[test]
fn the_standby_has_each_commit_and_takes_over() {
    let keys = keys();
    let (one, other) = (free_address(), free_address());
    let mut a = End::start(config(keys.path(), "a", "b", other, one));
    let b = End::start(config(keys.path(), "b", "a", one, other));
    // Nothing else decides: the higher priority.
    assert!(eventually(3 * LEASE, || b.pair.view().in_step).is_some());
    assert_eq!((a.role(), b.role()), (Role::Standby, Role::Active));
    assert_eq!((a.pair.turn(), b.pair.turn()), (Turn::Wait, Turn::Work));
    let began = Instant::now();
    for mid in 0..50_u8 {
        b.state.put(Stage::Mitigations, &[mid], b"scope").unwrap();
        // What is waited for is there when the write returns.
        assert!(a.state.get(Stage::Mitigations, &[mid]).unwrap().is_some());
    }
    let paired = began.elapsed() / 50;
    let began = Instant::now();
    for target in 0..50_u8 {
        b.state.put(Stage::Baselines, &[target], b"normal").unwrap();
    }
    let alone = began.elapsed() / 50;
    eprintln!("a commit: {paired:?} with the standby's disk, {alone:?} without");
    b.state.delete(Stage::Mitigations, &[7]).unwrap();
    let refusal = a.state.put(Stage::Mitigations, b"mine", b"").unwrap_err();
    assert!(
        refusal.to_string().contains("not the active one"),
        "{refusal}"
    );
    assert_eq!(b.pair.view().alone_commits, 0);
    // An orderly end hands over without waiting for the lease.
    drop(b);
    let runtime = runtime();
    let began = Instant::now();
    let turn = runtime
        .block_on(async { tokio::time::timeout(4 * LEASE, a.pair.turned(Turn::Wait)).await });
    assert_eq!(turn.unwrap(), Turn::Work);
    assert!(began.elapsed() < LEASE / 2, "{:?}", began.elapsed());
    assert_eq!(a.state.entries(Stage::Mitigations).unwrap().len(), 49);
    assert!(a.state.get(Stage::Baselines, &[49]).unwrap().is_some());
    a.state.put(Stage::Mitigations, b"mine", b"").unwrap();
    assert_eq!(a.pair.view().takeovers, 1);
}

#[test]
fn cut_off_both_work_and_the_later_epoch_wins() {
    let keys = keys();
    let runtime = runtime();
    let (one, other) = (free_address(), free_address());
    let cables = [Cable::new(&runtime, one), Cable::new(&runtime, other)];
    let a = End::start(config(keys.path(), "a", "b", cables[1].from, one));
    let mut b = End::start(config(keys.path(), "b", "a", cables[0].from, other));
    assert!(eventually(3 * LEASE, || b.pair.view().in_step).is_some());
    b.state.put(Stage::Attacks, b"both", b"1").unwrap();
    let first = b.pair.view().epoch;
    for cable in &cables {
        cable.cut.store(true, Ordering::Relaxed);
    }
    // A write is confirmed by nobody, and not held up for long.
    let began = Instant::now();
    b.state.put(Stage::Attacks, b"of b", b"1").unwrap();
    assert!(
        began.elapsed() >= Duration::from_millis(290),
        "{:?}",
        began.elapsed()
    );
    assert!(began.elapsed() < LEASE, "{:?}", began.elapsed());
    assert!(b.pair.view().late_acknowledgements >= 1);
    let taken = eventually(3 * LEASE, || a.pair.turn() == Turn::Work).unwrap();
    assert!(taken < 2 * LEASE, "{taken:?}");
    // Both are alone now, and know it.
    assert!(eventually(3 * LEASE, || b.pair.view().epoch == first + 1).is_some());
    assert!(a.pair.view().epoch > b.pair.view().epoch);
    a.state.put(Stage::Attacks, b"of a", b"1").unwrap();
    b.state.put(Stage::Attacks, b"of b", b"2").unwrap();
    assert_eq!(b.pair.turn(), Turn::Work);

    for cable in &cables {
        cable.cut.store(false, Ordering::Relaxed);
    }
    let turn = runtime
        .block_on(async { tokio::time::timeout(4 * LEASE, b.pair.turned(Turn::Work)).await });
    assert_eq!(turn.unwrap(), Turn::Stop);
    // From here on nothing that rests on its rows can leave.
    assert!(b.state.put(Stage::Mitigations, b"9", b"scope").is_err());
    assert!(b.state.get(Stage::Attacks, b"of b").unwrap().is_some());
    b.pair.released();
    assert!(eventually(4 * LEASE, || a.pair.view().in_step).is_some());
    assert!(a.pair.rival_left() && !a.pair.rival_left());
    assert_eq!((a.role(), b.role()), (Role::Active, Role::Standby));
    let rows = b.state.entries(Stage::Attacks).unwrap();
    assert_eq!(rows, a.state.entries(Stage::Attacks).unwrap());
    assert_eq!(rows.len(), 2, "{rows:?}");
    let turn =
        runtime.block_on(async { tokio::time::timeout(LEASE, b.pair.turned(Turn::Stop)).await });
    assert_eq!(turn.unwrap(), Turn::Wait);
    runtime.shutdown_background();
    drop(a.pair);
}

#[test]
fn who_is_not_the_peer_is_refused() {
    let keys = keys();
    let others = self::keys();
    let (one, other) = (free_address(), free_address());
    let a = End::start(config(keys.path(), "a", "b", other, one));
    // The right name of a wrong CA; a certificate of the right CA with a wrong name; none at all.
    let foreign = config(others.path(), "b", "a", one, other);
    let mut named = config(keys.path(), "b", "a", one, free_address());
    named.certificate = keys.path().join("client.pem");
    named.key = keys.path().join("client.key");
    for config in [foreign, named] {
        let before = a.pair.view().refused_connections;
        let imposter = End::start(config);
        let refused = || a.pair.view().refused_connections > before;
        assert!(eventually(3 * LEASE, refused).is_some());
        assert!(!a.pair.view().connected && imposter.pair.view().snapshots == 0);
    }
    let mut plain = std::net::TcpStream::connect(one).unwrap();
    let before = a.pair.view().refused_connections;
    std::io::Write::write_all(&mut plain, b"GET / HTTP/1.0\r\n\r\n").unwrap();
    assert!(eventually(3 * LEASE, || a.pair.view().refused_connections > before).is_some());
    // With nobody there it works after a while, alone.
    assert!(eventually(5 * LEASE, || a.pair.turn() == Turn::Work).is_some());
    a.state.put(Stage::Mitigations, b"1", b"scope").unwrap();
    assert_eq!(a.pair.view().alone_commits, 1);
}

#[test]
fn one_that_is_cut_off_itself_does_not_take_over() {
    let keys = keys();
    let (one, other) = (free_address(), free_address());
    let witness = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let with = |name, peer_name, peer, listen, witness: String| StandbyConfig {
        witness,
        ..config(keys.path(), name, peer_name, peer, listen)
    };
    // No resolver knows it: as if it were not to be reached.
    let nobody = "witness.invalid:1".to_owned();
    let somebody = witness.local_addr().unwrap().to_string();
    let runtime = runtime();
    let (to_a, to_b) = (Cable::new(&runtime, one), Cable::new(&runtime, other));
    let b = End::start(with("b", "a", to_a.from, other, somebody));
    let a = End::start(with("a", "b", to_b.from, one, nobody));
    assert!(eventually(3 * LEASE, || b.pair.view().in_step).is_some());
    b.state.put(Stage::Attacks, b"a", b"1").unwrap();
    for cable in [&to_a, &to_b] {
        cable.cut.store(true, Ordering::Relaxed);
    }
    let cut_off = eventually(5 * LEASE, || a.pair.view().cut_off);
    assert!(cut_off.is_some(), "{:?} {:?}", a.pair.view(), b.pair.view());
    assert_eq!((a.role(), a.pair.turn()), (Role::Standby, Turn::Wait));
    b.state.put(Stage::Attacks, b"b", b"1").unwrap();
    for cable in [&to_a, &to_b] {
        cable.cut.store(false, Ordering::Relaxed);
    }
    // The one that went on working still does, and the other knows what it did.
    assert!(eventually(5 * LEASE, || b.pair.view().in_step).is_some());
    assert_eq!((b.pair.turn(), a.role()), (Turn::Work, Role::Standby));
    assert!(eventually(LEASE, || !a.pair.view().cut_off).is_some());
    assert_eq!(a.state.entries(Stage::Attacks).unwrap().len(), 2);
    drop((a, b));
    // A refusal is an answer.
    let refusing = free_address().to_string();
    let c = End::start(with("a", "b", free_address(), free_address(), refusing));
    assert!(eventually(6 * LEASE, || c.pair.turn() == Turn::Work).is_some());
}

#[test]
fn a_standby_that_comes_later_gets_everything() {
    let keys = keys();
    let (one, other) = (free_address(), free_address());
    let a = End::start(config(keys.path(), "a", "b", other, one));
    assert!(eventually(5 * LEASE, || a.pair.turn() == Turn::Work).is_some());
    let row = vec![1; 3000];
    for key in 0..2000_u32 {
        if key % 500 == 0 {
            a.state
                .put(Stage::Attacks, &key.to_be_bytes(), &row)
                .unwrap();
        }
    }
    let rows: Vec<[u8; 4]> = (0..5000_u32).map(u32::to_be_bytes).collect();
    let rows = rows.iter().map(|key| (key.as_slice(), row.as_slice()));
    a.state.put_many(Stage::Templates, rows).unwrap();
    // It had worked long ago, with rows of its own.
    let folder = tempfile::tempdir().unwrap();
    let state = Arc::new(State::open(folder.path()).unwrap());
    state.put(Stage::Attacks, b"old", b"1").unwrap();
    let config = config(keys.path(), "b", "a", one, other);
    let b = End::on(folder, state, &config);
    // A slow disk takes its time over so many rows.
    let in_step = eventually(30 * LEASE, || a.pair.view().in_step);
    assert!(in_step.is_some(), "{:?} {:?}", a.pair.view(), b.pair.view());
    assert_eq!(b.state.entries(Stage::Templates).unwrap().len(), 5000);
    assert_eq!(b.state.entries(Stage::Attacks).unwrap().len(), 4);
    assert_eq!((b.pair.view().snapshots, b.role()), (1, Role::Standby));
    assert_eq!(a.pair.view().epoch, b_epoch(&b));
}

fn b_epoch(end: &End) -> u64 {
    let row: std::collections::BTreeMap<String, serde_json::Value> = end
        .state
        .get_json(Stage::Standby, b"epoch")
        .unwrap()
        .unwrap();
    row["number"].as_u64().unwrap()
}
