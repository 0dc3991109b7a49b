//! nftables as the back end: two network namespaces, a veth pair between them, and UDP that arrives or does not.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod backend;
mod support;

use std::fs::File;
use std::net::UdpSocket;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use backend::{report, scope, start, until};
use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};
use support::{Bench, CUID, EPOCH, Peer, request, scopes};
use weir_dots_proto::body::MitigationStatus;
use weir_dots_server::{MitigationId, Server};

/// Octets of an IPv4 and a UDP header.
const HEADERS: u64 = 28;

/// Two namespaces: attackers at 203.0.113.1, victims at 203.0.113.7 and .8; 2001:db8:a::1, ::7 and ::8.
struct Lab {
    attackers: String,
    victims: String,
}

impl Lab {
    /// `None` where this machine does not allow it.
    fn new() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        let lab = Self {
            attackers: format!("weir-a{number}-{pid}"),
            victims: format!("weir-v{number}-{pid}"),
        };
        match lab.build() {
            Ok(()) => Some(lab),
            Err(why) => {
                assert!(
                    std::env::var_os("WEIR_CI").is_none(),
                    "CI has to run this: {why}"
                );
                eprintln!("skipped: needs root, nft (Debian: nftables) and ip (iproute2): {why}");
                None
            }
        }
    }

    fn build(&self) -> Result<(), String> {
        let (a, v) = (self.attackers.as_str(), self.victims.as_str());
        for line in [
            "nft --version".to_owned(),
            format!("ip netns add {a}"),
            format!("ip netns add {v}"),
            format!("ip netns exec {v} nft list ruleset"),
            format!("ip -n {a} link add v0 type veth peer name v0 netns {v}"),
            format!("ip -n {a} address add 203.0.113.1/24 dev v0"),
            format!("ip -n {a} address add 2001:db8:a::1/64 dev v0 nodad"),
            format!("ip -n {v} address add 203.0.113.7/24 dev v0"),
            format!("ip -n {v} address add 203.0.113.8/24 dev v0"),
            format!("ip -n {v} address add 2001:db8:a::7/64 dev v0 nodad"),
            format!("ip -n {v} address add 2001:db8:a::8/64 dev v0 nodad"),
            format!("ip -n {a} link set v0 up"),
            format!("ip -n {v} link set v0 up"),
        ] {
            let output = run(&line).map_err(|error| format!("`{line}`: {error}"))?;
            if !output.status.success() {
                let text = String::from_utf8_lossy(&output.stderr);
                return Err(format!("`{line}`: {}", text.trim()));
            }
        }
        Ok(())
    }

    fn config(&self, more: &str) -> String {
        let namespace = &self.victims;
        format!("[[mitigator]]\nkind = 'nftables'\nnamespace = '{namespace}'\n{more}")
    }

    /// Runs `nft` beside the victims.
    fn nft(&self, arguments: &str) -> Output {
        run(&format!("ip netns exec {} nft {arguments}", self.victims)).unwrap()
    }

    fn table(&self) -> String {
        let output = self.nft("list table inet weir_dots");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Waits until the table has this text.
    fn wait_for(&self, text: &str) {
        until(text, || self.table().contains(text).then_some(()));
    }

    fn wait_without(&self, text: &str) {
        until(text, || (!self.table().contains(text)).then_some(()));
    }

    /// How many of `count` datagrams of 100 octets arrive.
    fn arrive(&self, to: &str, count: usize) -> usize {
        let to = to.to_owned();
        let address = to.clone();
        let receiver = inside(&self.victims, move || UdpSocket::bind(address).unwrap());
        receiver
            .set_read_timeout(Some(Duration::from_millis(400)))
            .unwrap();
        let counting = std::thread::spawn(move || {
            let mut buffer = [0; 200];
            let mut arrived = 0;
            while receiver.recv(&mut buffer).is_ok() {
                arrived += 1;
            }
            arrived
        });
        let any = if to.starts_with('[') {
            "[::]:0"
        } else {
            "0.0.0.0:0"
        };
        let sender = inside(&self.attackers, move || UdpSocket::bind(any).unwrap());
        for number in 0..count {
            sender.send_to(&[0; 100], &to).unwrap();
            // No more than the receiver can take.
            if number % 50 == 49 {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        counting.join().unwrap()
    }

    fn pings(&self, to: &str) -> bool {
        let line = format!("ip netns exec {} ping -c 1 -W 2 {to}", self.attackers);
        run(&line).unwrap().status.success()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for namespace in [&self.attackers, &self.victims] {
            let _ = run(&format!("ip netns del {namespace}"));
        }
    }
}

fn run(line: &str) -> std::io::Result<Output> {
    let mut words = line.split(' ');
    Command::new(words.next().unwrap()).args(words).output()
}

/// Runs a closure on a thread in a network namespace; what sockets it makes stay there.
fn inside<T: Send + 'static>(namespace: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let path = format!("/run/netns/{namespace}");
    std::thread::spawn(move || {
        setns(File::open(path).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
        work()
    })
    .join()
    .unwrap()
}

/// Asks for the mitigation until it is as wanted.
fn shown(bench: &mut Bench, client: Peer, path: &[&str], status: &str, packets: &str) -> Value {
    until(status, || {
        bench.advance(Duration::from_millis(200));
        let body = bench.get(client, path).body?;
        let scope = scopes(&body)[0].clone();
        (scope["status"] == status && scope["pkts-dropped"] == packets).then_some(scope)
    })
}

#[test]
fn a_request_of_a_client_really_drops_and_says_how_much() {
    const MID_1: [&str; 3] = ["mitigate", CUID, "mid=1"];
    let Some(lab) = Lab::new() else { return };
    let mut bench = Bench::new();
    let mitigator = start(&lab.config("quiet_after = '2s'"));
    bench.server = Server::new(bench.policy.clone(), mitigator, (bench.now, EPOCH), 7);
    let client = bench.connect("weir-lab");
    lab.wait_for("chain mitigations");
    assert_eq!(lab.arrive("203.0.113.7:9000", 50), 50);

    let asked = bench.put(client, &MID_1, &request("203.0.113.7/32", 3600));
    assert!(asked.code.is_success());
    lab.wait_for("jump m1");
    assert_eq!(lab.arrive("203.0.113.7:9000", 1000), 0);
    let scope = shown(
        &mut bench,
        client,
        &MID_1,
        "attack-successfully-mitigated",
        "1000",
    );
    let bytes = (100 + HEADERS) * 1000;
    assert_eq!(scope["bytes-dropped"], bytes.to_string());
    // The scope is UDP to one address.
    assert_eq!(lab.arrive("203.0.113.8:9000", 50), 50);
    assert!(lab.pings("203.0.113.7"));
    shown(&mut bench, client, &MID_1, "attack-stopped", "1000");

    // Someone reloads the firewall: the filter is back before long, and counts on.
    assert!(lab.nft("flush ruleset").status.success());
    lab.wait_for("jump m1");
    assert_eq!(lab.arrive("203.0.113.7:9000", 10), 0);
    shown(
        &mut bench,
        client,
        &MID_1,
        "attack-successfully-mitigated",
        "1010",
    );

    assert!(bench.delete(client, &MID_1).code.is_success());
    bench.advance(bench.policy.terminating + Duration::from_secs(1));
    lab.wait_without("m1");
    assert_eq!(lab.arrive("203.0.113.7:9000", 50), 50);
    drop(bench);
    assert_eq!(lab.table(), "");
}

#[test]
fn ports_and_families_sources_and_overlap() {
    let Some(lab) = Lab::new() else { return };
    let mut mitigator = start(&lab.config("spare = ['203.0.113.99/32', '2001:db8:ffff::/48']"));
    let ports = json!({
        "target-prefix": ["2001:db8:a::7/128", "203.0.113.0/25"],
        "target-port-range": [{"lower-port": 53}, {"lower-port": 1000, "upper-port": 2000}],
    });
    mitigator.apply(MitigationId(1), &scope(&ports));
    // Overlaps the first, and concerns another source.
    let sources = json!({
        "target-prefix": ["203.0.113.8/32"],
        "ietf-dots-call-home:source-prefix": ["203.0.113.2/32"],
    });
    mitigator.apply(MitigationId(2), &scope(&sources));
    lab.wait_for("jump m2");
    for (to, arrive) in [
        ("[2001:db8:a::7]:53", 0),
        ("[2001:db8:a::7]:1500", 0),
        ("[2001:db8:a::7]:54", 20),
        ("[2001:db8:a::8]:53", 20),
        ("203.0.113.7:2000", 0),
        ("203.0.113.7:2001", 20),
        ("203.0.113.8:9000", 20),
    ] {
        assert_eq!(lab.arrive(to, 20), arrive, "{to}");
    }
    let dropped = report(mitigator.as_mut(), "three were dropped", |report| {
        report.id == MitigationId(1) && report.packets_dropped == 60
    });
    // An IPv6 header is 20 octets longer.
    assert_eq!(dropped.bytes_dropped, (100 + HEADERS) * 60 + 20 * 40);

    let here = json!({
        "target-prefix": ["203.0.113.8/32"],
        "ietf-dots-call-home:source-prefix": ["203.0.113.0/30"],
    });
    mitigator.apply(MitigationId(2), &scope(&here));
    lab.wait_for("203.0.113.0/30");
    assert_eq!(lab.arrive("203.0.113.8:9000", 20), 0);
    // What else changes, counters stay.
    let second = report(mitigator.as_mut(), "the second drops", |report| {
        report.id == MitigationId(2) && report.packets_dropped == 20
    });
    assert_eq!(second.status, MitigationStatus::AttackSuccessfullyMitigated);
    // A table that is gone when something is to be changed in it comes back with all that was in it.
    assert!(lab.nft("delete table inet weir_dots").status.success());
    let third = json!({"target-prefix": ["203.0.113.9/32"]});
    mitigator.apply(MitigationId(3), &scope(&third));
    lab.wait_for("jump m3");
    assert!(lab.table().contains("jump m2"));
    mitigator.withdraw(MitigationId(2));
    lab.wait_without("m2");
    assert_eq!(lab.arrive("203.0.113.8:9000", 20), 20);
    assert_eq!(lab.arrive("203.0.113.7:2000", 20), 0);
}

#[test]
fn a_limit_lets_some_pass() {
    let Some(lab) = Lab::new() else { return };
    let mut mitigator = start(&lab.config("pass_packets_per_second = 100"));
    let target = json!({"target-prefix": ["203.0.113.7/32"]});
    mitigator.apply(MitigationId(1), &scope(&target));
    lab.wait_for("jump m1");
    let began = Instant::now();
    let arrived = lab.arrive("203.0.113.7:9000", 1000);
    let most = 25 + 100 * (began.elapsed().as_secs() as usize + 1);
    assert!(
        (25..=most).contains(&arrived),
        "{arrived} of at most {most}"
    );
    report(mitigator.as_mut(), "the rest was dropped", |report| {
        report.packets_dropped == 1000 - arrived as u64
    });
}

#[test]
fn a_table_that_stays_filters_until_the_next_run_replaces_it() {
    let Some(lab) = Lab::new() else { return };
    let config = lab.config("keep_on_exit = true");
    let mut mitigator = start(&config);
    let first = json!({"target-prefix": ["203.0.113.7/32"]});
    let second = json!({"target-prefix": ["203.0.113.8/32"]});
    mitigator.apply(MitigationId(1), &scope(&first));
    mitigator.apply(MitigationId(2), &scope(&first));
    mitigator.apply(MitigationId(3), &scope(&second));
    lab.wait_for("jump m3");
    drop(mitigator);
    // Nobody is there, as after a crash.
    assert_eq!(lab.arrive("203.0.113.7:9000", 20), 0);
    assert!(lab.table().contains("jump m2"));

    let mut mitigator = start(&config);
    mitigator.apply(MitigationId(1), &scope(&second));
    lab.wait_without("jump m2");
    assert_eq!(lab.arrive("203.0.113.7:9000", 20), 20);
    assert_eq!(lab.arrive("203.0.113.8:9000", 20), 0);
    let counted = report(mitigator.as_mut(), "counted anew", |report| {
        report.packets_dropped > 0
    });
    assert_eq!(counted.packets_dropped, 20);
}

#[test]
fn a_namespace_that_is_not_there_is_said_and_not_waited_for() {
    let mut mitigator = start("[[mitigator]]\nkind = 'nftables'\nnamespace = 'weir-nowhere'");
    let began = Instant::now();
    let target = json!({"target-prefix": ["203.0.113.7/32"]});
    mitigator.apply(MitigationId(1), &scope(&target));
    assert!(began.elapsed() < Duration::from_millis(200));
    let unable = report(mitigator.as_mut(), "it cannot be done", |_| true);
    assert_eq!(unable.status, MitigationStatus::AttackExceededCapability);
}

/// Numbers that look random.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % bound
    }

    fn list(&mut self, most: u64, one: impl Fn(&mut Self) -> Value) -> Vec<Value> {
        (0..self.below(most + 1)).map(|_| one(self)).collect()
    }

    fn prefix(&mut self) -> Value {
        if self.below(2) == 0 {
            let length = [0, 1, 8, 24, 25, 31, 32][self.below(7) as usize];
            return json!(format!(
                "{}.0.{}.{}/{length}",
                self.below(256),
                self.below(3),
                self.below(256)
            ));
        }
        let length = [0, 3, 32, 48, 64, 127, 128][self.below(7) as usize];
        json!(format!(
            "2001:db8:{:x}::{:x}/{length}",
            self.below(4),
            self.below(3)
        ))
    }

    fn ports(&mut self) -> Value {
        let lower = [0, 1, 53, 1000, 65_535][self.below(5) as usize];
        match self.below(3) {
            0 => json!({"lower-port": lower}),
            1 => json!({"lower-port": lower, "upper-port": 65_535}),
            _ => json!({"lower-port": lower, "upper-port": lower + self.below(65_536 - lower)}),
        }
    }

    fn types(&mut self) -> Value {
        let lower = self.below(256);
        json!({"lower-type": lower, "upper-type": lower + self.below(256 - lower)})
    }

    fn scope(&mut self) -> Value {
        let mut target = self.list(3, Self::prefix);
        target.push(self.prefix());
        json!({
            "target-prefix": target,
            "target-protocol": self.list(4, |numbers| json!(numbers.below(256))),
            "target-port-range": self.list(4, Self::ports),
            "ietf-dots-call-home:source-prefix": self.list(3, Self::prefix),
            "ietf-dots-call-home:source-port-range": self.list(2, Self::ports),
            "ietf-dots-call-home:source-icmp-type-range": self.list(2, Self::types),
        })
    }
}

#[test]
fn no_scope_is_too_odd_for_nft() {
    let Some(lab) = Lab::new() else { return };
    // One that nft refused would keep it from taking all the others.
    let mut mitigator = start(&lab.config("pass_bytes_per_second = 1"));
    let mut numbers = Numbers(20_261_121);
    for id in 1..=150 {
        mitigator.apply(MitigationId(id), &scope(&numbers.scope()));
    }
    lab.wait_for("jump drop150");
    for id in 1..=150 {
        mitigator.apply(MitigationId(id), &scope(&numbers.scope()));
        if id % 2 == 0 {
            mitigator.withdraw(MitigationId(id - 1));
        }
    }
    lab.wait_without("chain m149 ");
    let unable = std::iter::from_fn(|| mitigator.poll_report())
        .find(|report| report.status == MitigationStatus::AttackExceededCapability);
    assert_eq!(unable, None);
}

#[test]
fn thousands_of_mitigations_are_changed_one_by_one() {
    let Some(lab) = Lab::new() else { return };
    let mut mitigator = start(&lab.config("time_limit = '30s'"));
    let target = |id: u64| {
        let prefix = format!("10.{}.{}.7/32", id / 256, id % 256);
        scope(&json!({"target-prefix": [prefix], "target-protocol": [17]}))
    };
    for id in 1..=3000 {
        mitigator.apply(MitigationId(id), &target(id));
    }
    let here = json!({"target-prefix": ["203.0.113.7/32"]});
    mitigator.apply(MitigationId(3001), &scope(&here));
    lab.wait_for("jump m3001");
    let began = Instant::now();
    mitigator.withdraw(MitigationId(3001));
    mitigator.apply(MitigationId(3002), &target(3002));
    lab.wait_for("chain m3002");
    eprintln!(
        "one change among 3000 mitigations: {} ms",
        began.elapsed().as_millis()
    );
    assert_eq!(lab.arrive("203.0.113.7:9000", 20), 20);
    assert!(lab.table().contains("jump m1,"));
}
