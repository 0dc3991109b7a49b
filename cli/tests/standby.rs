//! A pair of daemons: the standby goes on where the active was killed; cut off from each other, one of them yields.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use support::ports::free_address;
use support::{Daemon, Exporter, Lab, Random, eventually};
use weir_dtls::lab::{Issue, issue};
use weir_flow_record::Address;

/// What issue 9 asks for: from the kill to the standby's work.
const TAKEOVER: Duration = Duration::from_secs(5);

/// One of the pair: its configuration, and where it can be asked.
struct Member {
    config: PathBuf,
    events: PathBuf,
    http: SocketAddr,
}

impl Member {
    /// Writes a configuration like the lab's. `peer` is where its calls go, `listen` where the other's come in.
    fn new(
        lab: &Lab,
        name: &str,
        collector: SocketAddr,
        peer: SocketAddr,
        listen: SocketAddr,
    ) -> Self {
        let peer_name = if name == "a" { "b" } else { "a" };
        let issued = Issue {
            file: name.to_owned(),
            names: vec![name.to_owned()],
            days: 2,
        };
        issue(lab.folder.path(), &issued).unwrap();
        let http = free_address();
        let priority = if name == "a" { 200 } else { 100 };
        let text = std::fs::read_to_string(&lab.config)
            .unwrap()
            .replace(
                "state_dir = \"state\"",
                &format!("state_dir = \"state-{name}\""),
            )
            .replace("listen = \"127.0.0.1:0\"", &format!("listen = \"{http}\""))
            .replace(&lab.collector.to_string(), &collector.to_string());
        let text = format!(
            r#"{text}
[events]
file = "events-{name}.ndjson"
[standby]
name = "{name}"
peer_name = "{peer_name}"
peer = "{peer}"
listen = "{listen}"
ca = "ca.pem"
certificate = "{name}.pem"
key = "{name}.key"
priority = {priority}
"#
        );
        let config = lab.folder.path().join(format!("{name}.toml"));
        std::fs::write(&config, text).unwrap();
        Self {
            config,
            events: lab.folder.path().join(format!("events-{name}.ndjson")),
            http,
        }
    }

    fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(self.http).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: weir\r\nconnection: close\r\n\r\n"
        )
        .ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let status = text.split(' ').nth(1)?.parse().ok()?;
        let body = text.split_once("\r\n\r\n")?.1.to_owned();
        Some((status, body))
    }

    fn is_active(&self) -> bool {
        self.get("/healthz/active")
            .is_some_and(|(status, _)| status == 200)
    }

    fn pair(&self) -> serde_json::Value {
        let body = self.get("/api/v1/standby").map(|(_, body)| body);
        body.and_then(|body| serde_json::from_str(&body).ok())
            .unwrap_or_default()
    }

    fn in_step(&self) -> bool {
        self.pair()["in_step"] == true
    }

    /// Mids that it holds.
    fn mids(&self) -> Vec<u64> {
        let (_, body) = self.get("/api/v1/mitigations").unwrap_or_default();
        let rows: Vec<serde_json::Value> = serde_json::from_str(&body).unwrap_or_default();
        rows.iter().filter_map(|row| row["mid"].as_u64()).collect()
    }

    /// How many events of a kind it has told.
    fn told(&self, kind: &str) -> usize {
        let text = std::fs::read_to_string(&self.events).unwrap_or_default();
        let wanted = format!("\"event\":\"{kind}\"");
        text.lines().filter(|line| line.contains(&wanted)).count()
    }
}

/// Attacks that go on until they are told to stop, on each of some collectors.
struct Traffic {
    targets: Arc<Mutex<Vec<Address>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Traffic {
    fn start(collectors: &[SocketAddr]) -> Self {
        let targets = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let threads = collectors.iter().map(|collector| {
            let mut exporter = Exporter::new(*collector);
            let (targets, stop) = (Arc::clone(&targets), Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut round = 0_u32;
                while !stop.load(Ordering::Relaxed) {
                    if round.is_multiple_of(10) {
                        exporter.send_templates();
                    }
                    round += 1;
                    let targets = targets.lock().unwrap().clone();
                    exporter.send_packets(&targets, 30_000);
                    std::thread::sleep(Duration::from_millis(100));
                }
            })
        });
        let threads = threads.collect();
        Self {
            targets,
            stop,
            threads,
        }
    }

    fn attack(&self, host: u8) {
        let target = Address::from_v4([203, 0, 113, host]);
        self.targets.lock().unwrap().push(target);
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}

fn held(lab: &Lab) -> usize {
    lab.ledger.lock().unwrap().active.len()
}

#[test]
fn the_standby_goes_on_where_the_active_was_killed() {
    let lab = Lab::new();
    let (one, other) = (free_address(), free_address());
    let a = Member::new(&lab, "a", lab.collector, other, one);
    let b = Member::new(&lab, "b", lab.collector, one, other);
    let active = Daemon::start(&a.config);
    let standby = Daemon::start(&b.config);
    assert!(eventually(Duration::from_secs(10), || a.is_active() && a.in_step()));
    assert_eq!(b.get("/healthz"), Some((200, "ok standby\n".to_owned())));
    assert_eq!(b.get("/healthz/active").unwrap().0, 503);
    // An operator is told where to go.
    let hold = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["dots", "hold", "--config"])
        .arg(&b.config)
        .output()
        .unwrap();
    assert_eq!(hold.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&hold.stderr).contains("ask `a`"));

    let traffic = Traffic::start(&[lab.collector]);
    traffic.attack(7);
    assert!(eventually(Duration::from_secs(10), || held(&lab) == 1
        && a.mids().len() == 1));
    let mids = a.mids();

    let killed = Instant::now();
    active.kill();
    assert!(eventually(2 * TAKEOVER, || b.is_active()), "nobody works");
    let taken = killed.elapsed();
    eprintln!("from kill to takeover: {taken:?}");
    assert!(taken <= TAKEOVER, "{taken:?}");
    // The same mitigation, under its mid.
    assert!(
        eventually(Duration::from_secs(5), || b.mids() == mids),
        "{:?} {mids:?}",
        b.mids()
    );
    assert_eq!(held(&lab), 1);

    // The old active comes back, and follows.
    let returned = Daemon::start(&a.config);
    assert!(eventually(Duration::from_secs(10), || b.in_step()));
    assert_eq!(a.get("/healthz"), Some((200, "ok standby\n".to_owned())));
    let (_, metrics) = b.get("/metrics").unwrap();
    assert!(
        metrics.contains("weir_standby_active 1")
            && metrics.contains("weir_standby_takeovers_total 1")
    );

    // New configurations leave the roles as they are.
    let epoch = b.pair()["epoch"].clone();
    returned.reload();
    standby.reload();
    std::thread::sleep(Duration::from_millis(500));
    let both = || {
        b.is_active()
            && b.in_step()
            && a.get("/healthz/active")
                .is_some_and(|(status, _)| status == 503)
    };
    assert!(eventually(Duration::from_secs(10), both));
    assert_eq!(b.pair()["epoch"], epoch);

    // The attack goes on for a while under the new active, then ends once.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!((held(&lab), b.mids()), (1, mids));
    traffic.end();
    assert!(
        eventually(Duration::from_secs(20), || held(&lab) == 0),
        "an orphan"
    );
    assert!(eventually(Duration::from_secs(5), || b.told("attack-end") == 1));
    assert_eq!((a.told("attack-start"), b.told("attack-start")), (1, 0));
    assert_eq!((a.told("attack-end"), b.told("attack-end")), (0, 1));
    {
        let ledger = lab.ledger.lock().unwrap();
        assert_eq!(ledger.doubles, Vec::<String>::new());
        assert_eq!(ledger.began.len(), 1, "{:?}", ledger.began);
    }

    // An orderly end hands over at once.
    let ended = Instant::now();
    assert_eq!(standby.terminate(), Some(0));
    let down = ended.elapsed();
    assert!(eventually(TAKEOVER, || a.is_active()));
    eprintln!(
        "orderly: ended after {down:?}, taken over after {:?}",
        ended.elapsed()
    );
    assert_eq!(returned.terminate(), Some(0));
}

/// Forwards TCP connections until it is cut; then it swallows everything.
fn cable(to: SocketAddr, cut: &Arc<AtomicBool>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let cut = Arc::clone(cut);
    std::thread::spawn(move || {
        for near in listener.incoming() {
            let (Ok(near), Ok(far)) = (near, TcpStream::connect(to)) else {
                continue;
            };
            let (Ok(near_too), Ok(far_too)) = (near.try_clone(), far.try_clone()) else {
                continue;
            };
            for (mut from, mut into) in [(near, far), (far_too, near_too)] {
                let cut = Arc::clone(&cut);
                std::thread::spawn(move || {
                    let mut octets = [0; 4096];
                    let mut broken = false;
                    while let Ok(length @ 1..) = from.read(&mut octets) {
                        // After a gap nothing may follow.
                        broken |= cut.load(Ordering::Relaxed);
                        if !broken && into.write_all(&octets[..length]).is_err() {
                            break;
                        }
                    }
                    let _ = into.shutdown(std::net::Shutdown::Both);
                });
            }
        }
    });
    address
}

#[test]
fn cut_off_from_each_other_one_yields_in_the_end() {
    let lab = Lab::new();
    let (one, other) = (free_address(), free_address());
    let cut = Arc::new(AtomicBool::new(false));
    let (to_one, to_other) = (cable(one, &cut), cable(other, &cut));
    // Both hosts get the exporters' datagrams.
    let second = free_address();
    let a = Member::new(&lab, "a", lab.collector, to_other, one);
    let b = Member::new(&lab, "b", second, to_one, other);
    let first = Daemon::start(&a.config);
    let last = Daemon::start(&b.config);
    assert!(eventually(Duration::from_secs(10), || a.is_active() && a.in_step()));
    let traffic = Traffic::start(&[lab.collector, second]);
    traffic.attack(7);
    assert!(eventually(Duration::from_secs(10), || held(&lab) == 1
        && a.mids().len() == 1));

    cut.store(true, Ordering::Relaxed);
    assert!(eventually(2 * TAKEOVER, || b.is_active()));
    assert!(a.is_active(), "cut off, both work");
    // Another attack, which both see.
    traffic.attack(8);
    assert!(eventually(Duration::from_secs(10), || held(&lab) == 2));
    std::thread::sleep(Duration::from_secs(3));
    {
        let ledger = lab.ledger.lock().unwrap();
        assert_eq!(ledger.doubles, Vec::<String>::new());
        assert_eq!(ledger.active.len(), 2);
    }

    cut.store(false, Ordering::Relaxed);
    assert!(eventually(Duration::from_secs(15), || !a.is_active() && b.in_step()));
    // The one that took over stays, with both mitigations and no other.
    assert!(
        eventually(Duration::from_secs(10), || b.mids().len() == 2),
        "{:?}",
        b.mids()
    );
    assert_eq!(b.pair()["role"], "active");
    assert!(b.pair()["epoch"].as_u64() >= Some(3), "{}", b.pair());
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(held(&lab), 2);
    traffic.end();
    assert!(
        eventually(Duration::from_secs(20), || held(&lab) == 0),
        "an orphan"
    );
    assert_eq!(lab.ledger.lock().unwrap().doubles, Vec::<String>::new());
    assert_eq!(first.terminate(), Some(0));
    assert_eq!(last.terminate(), Some(0));
}

#[test]
fn a_daemon_with_a_wrong_certificate_is_never_followed() {
    let lab = Lab::new();
    let (one, other) = (free_address(), free_address());
    let a = Member::new(&lab, "a", lab.collector, other, one);
    let b = Member::new(&lab, "b", lab.collector, one, other);
    // Of the right CA, but for another name.
    let text = std::fs::read_to_string(&b.config).unwrap();
    let text = text
        .replace("b.pem", "client.pem")
        .replace("b.key", "client.key");
    std::fs::write(&b.config, text).unwrap();
    let active = Daemon::start(&a.config);
    let imposter = Daemon::start(&b.config);
    let refused = || a.pair()["refused_connections"].as_u64() > Some(0);
    assert!(eventually(Duration::from_secs(5), refused));
    assert_eq!(
        (&a.pair()["connected"], &b.pair()["snapshots"]),
        (&false.into(), &0.into())
    );
    imposter.kill();
    assert!(eventually(Duration::from_secs(15), || a.is_active()));
    assert_eq!(active.terminate(), Some(0));
}

#[test]
fn kills_at_any_point_leave_one_mitigation_for_each_attack() {
    let lab = Lab::new();
    let (one, other) = (free_address(), free_address());
    let members = [
        Member::new(&lab, "a", lab.collector, other, one),
        Member::new(&lab, "b", lab.collector, one, other),
    ];
    let mut random = Random(20_261_121);
    let mut daemons = [
        Some(Daemon::start(&members[0].config)),
        Some(Daemon::start(&members[1].config)),
    ];
    let traffic = Traffic::start(&[lab.collector]);
    let rounds = 6;
    for round in 0..rounds {
        let active = usize::from(round) % 2;
        assert!(
            eventually(Duration::from_secs(15), || members[active].in_step()),
            "round {round}"
        );
        traffic.attack(10 + round);
        // Detection takes about half a second here: most kills come close to the request.
        std::thread::sleep(Duration::from_millis(250 + random.below(650)));
        daemons[active].take().unwrap().kill();
        let killed = Instant::now();
        let next = 1 - active;
        assert!(eventually(2 * TAKEOVER, || members[next].is_active()));
        assert!(
            killed.elapsed() <= TAKEOVER,
            "round {round}: {:?}",
            killed.elapsed()
        );
        daemons[active] = Some(Daemon::start(&members[active].config));
        assert_eq!(
            lab.ledger.lock().unwrap().doubles,
            Vec::<String>::new(),
            "round {round}"
        );
    }
    let all = usize::from(rounds);
    assert!(
        eventually(Duration::from_secs(15), || held(&lab) == all),
        "{}",
        held(&lab)
    );
    let began = lab.ledger.lock().unwrap().began.len();
    assert_eq!(began, all, "each attack was asked for once");
    traffic.end();
    assert!(
        eventually(Duration::from_secs(20), || held(&lab) == 0),
        "orphans"
    );
    assert_eq!(lab.ledger.lock().unwrap().doubles, Vec::<String>::new());
}

#[test]
fn an_active_that_stood_still_does_not_act_on_what_it_believed() {
    let lab = Lab::new();
    let (one, other) = (free_address(), free_address());
    let second = free_address();
    let a = Member::new(&lab, "a", lab.collector, other, one);
    let b = Member::new(&lab, "b", second, one, other);
    let first = Daemon::start(&a.config);
    let last = Daemon::start(&b.config);
    assert!(eventually(Duration::from_secs(10), || a.is_active() && a.in_step()));
    let traffic = Traffic::start(&[lab.collector, second]);
    traffic.attack(7);
    assert!(eventually(Duration::from_secs(10), || held(&lab) == 1));
    first.signal(nix::sys::signal::Signal::SIGSTOP);
    assert!(eventually(2 * TAKEOVER, || b.is_active()));
    // An attack that begins meanwhile: the one that wakes up finds its datagrams in its sockets.
    traffic.attack(8);
    assert!(eventually(Duration::from_secs(10), || held(&lab) == 2));
    let began = lab.ledger.lock().unwrap().began.len();
    first.signal(nix::sys::signal::Signal::SIGCONT);
    assert!(eventually(Duration::from_secs(10), || !a.is_active() && b.in_step()));
    std::thread::sleep(Duration::from_secs(1));
    {
        let ledger = lab.ledger.lock().unwrap();
        assert_eq!((ledger.began.len(), ledger.active.len()), (began, 2));
        assert_eq!(ledger.doubles, Vec::<String>::new());
    }
    assert!(b.is_active());
    traffic.end();
    assert!(
        eventually(Duration::from_secs(20), || held(&lab) == 0),
        "an orphan"
    );
    assert_eq!(first.terminate(), Some(0));
    assert_eq!(last.terminate(), Some(0));
}
