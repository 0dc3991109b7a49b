//! Filters in the kernel: two network namespaces, a veth pair between them, and packets that arrive or do not.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::BTreeSet;
use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};
use tokio::sync::watch;
use weir_data_channel::enforce::{EnforceSettings, Enforcer, enforce};
use weir_data_channel::model::{Capabilities, Matched};
use weir_data_channel::service::{Headers, Method, Request, Service, ServiceSettings};
use weir_data_channel::store::{DataStore, Limits};
use weir_data_channel::{Authority, DataHandle, Peer};
use weir_dots_proto::Cuid;
use weir_dots_proto::body::ActivationType;

/// Two namespaces: senders at 203.0.113.1 and .2, a client's domain at 203.0.113.7 and .8; 2001:db8:a::1 and ::7.
struct Lab {
    senders: String,
    domain: String,
}

impl Lab {
    /// `None` where this machine does not allow it.
    fn new() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        let lab = Self {
            senders: format!("weir-fs{number}-{pid}"),
            domain: format!("weir-fd{number}-{pid}"),
        };
        if let Err(why) = lab.build() {
            assert!(
                std::env::var_os("WEIR_CI").is_none(),
                "CI has to run this: {why}"
            );
            println!("skipped: needs root, nft (Debian: nftables) and ip (iproute2): {why}");
            return None;
        }
        Some(lab)
    }

    fn build(&self) -> Result<(), String> {
        let (s, d) = (&self.senders, &self.domain);
        for line in [
            "nft --version".to_owned(),
            format!("ip netns add {s}"),
            format!("ip netns add {d}"),
            format!("ip netns exec {d} nft list ruleset"),
            format!("ip -n {s} link add v0 type veth peer name v0 netns {d}"),
            format!("ip -n {s} address add 203.0.113.1/24 dev v0"),
            format!("ip -n {s} address add 203.0.113.2/24 dev v0"),
            format!("ip -n {s} address add 2001:db8:a::1/64 dev v0 nodad"),
            format!("ip -n {d} address add 203.0.113.7/24 dev v0"),
            format!("ip -n {d} address add 203.0.113.8/24 dev v0"),
            format!("ip -n {d} address add 2001:db8:a::7/64 dev v0 nodad"),
            format!("ip -n {s} link set v0 up"),
            format!("ip -n {d} link set v0 up"),
        ] {
            let mut words = line.split(' ');
            let mut command = Command::new(words.next().unwrap());
            let output = command.args(words).output();
            let output = output.map_err(|error| format!("`{line}`: {error}"))?;
            if !output.status.success() {
                let text = String::from_utf8_lossy(&output.stderr);
                return Err(format!("`{line}`: {}", text.trim()));
            }
        }
        Ok(())
    }

    fn settings(&self) -> EnforceSettings {
        EnforceSettings {
            namespace: Some(self.domain.clone()),
            time_limit: Duration::from_secs(20),
            ..EnforceSettings::default()
        }
    }

    fn enforcer(&self) -> Enforcer {
        Enforcer::new(self.settings())
    }

    fn nft(&self, input: &str) {
        use std::io::Write;
        let mut child = Command::new("ip")
            .args(["netns", "exec", &self.domain, "nft", "-f", "-"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        assert!(child.wait().unwrap().success());
    }

    /// How many of `count` datagrams of `size` octets arrive.
    fn arrive(&self, from: &str, to: &str, count: usize, size: usize) -> usize {
        let to: SocketAddr = to.parse().unwrap();
        let receiver = within(&self.domain, move || bound(to));
        receiver
            .set_read_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        let from: SocketAddr = from.parse().unwrap();
        let sender = within(&self.senders, move || bound(from));
        let mut arrived = 0;
        let mut buffer = [0; 9_000];
        for _ in 0..count {
            sender.send_to(&vec![0; size], to).unwrap();
            if count > 20 {
                continue;
            }
            arrived += usize::from(receiver.recv(&mut buffer).is_ok());
        }
        while count > 20 && receiver.recv(&mut buffer).is_ok() {
            arrived += 1;
        }
        arrived
    }

    /// Whether a TCP connection is opened.
    fn connects(&self) -> bool {
        let to: SocketAddr = "203.0.113.8:8080".parse().unwrap();
        let _listener = within(&self.domain, move || TcpListener::bind(to).unwrap());
        let wait = Duration::from_millis(700);
        within(&self.senders, move || {
            TcpStream::connect_timeout(&to, wait).is_ok()
        })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in [&self.senders, &self.domain] {
            let _ = Command::new("ip").args(["netns", "delete", name]).status();
        }
    }
}

/// A socket; a program that is being started may hold the last one until it runs.
fn bound(address: SocketAddr) -> UdpSocket {
    loop {
        match UdpSocket::bind(address) {
            Ok(socket) => return socket,
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => panic!("{address}: {error}"),
        }
    }
}

/// Works in a thread that is in a namespace.
fn within<T: Send + 'static>(namespace: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let file = File::open(format!("/run/netns/{namespace}")).unwrap();
    let thread = std::thread::spawn(move || {
        setns(file, CloneFlags::CLONE_NEWNET).unwrap();
        work()
    });
    thread.join().unwrap()
}

/// A data channel with one client, and its server's capabilities.
fn channel(capabilities: Capabilities) -> DataHandle {
    let networks = ["203.0.113.7/32", "203.0.113.8/32", "2001:db8:a::7/128"];
    let networks = networks.map(|text| text.parse().unwrap());
    let authority = Authority::new([Peer::client("client", networks.into())]);
    let limits = Limits {
        any_destination: true,
        ..Limits::default()
    };
    let store = DataStore::new(limits, capabilities);
    let handle = DataHandle::new(
        Service::new(ServiceSettings::default(), authority, store),
        None,
    );
    let client = json!({"ietf-dots-data-channel:dots-client": [{"cuid": "c"}]});
    assert_eq!(send(&handle, "POST", "", &client), 201);
    handle
}

fn send(handle: &DataHandle, method: &str, below: &str, body: &Value) -> u16 {
    let path = format!("/restconf/data/ietf-dots-data-channel:dots-data{below}");
    let body = body.to_string();
    let request = Request {
        method: Method::of(method),
        path: &path,
        query: None,
        headers: Headers::default(),
        body: body.as_bytes(),
    };
    handle
        .handle_request(&request, &["client".to_owned()])
        .status
}

/// Puts a filter of one entry, `one`.
fn put(
    handle: &DataHandle,
    name: &str,
    kind: &str,
    activation: &str,
    matches: Value,
    actions: Value,
) {
    let acl = json!({"ietf-dots-data-channel:acl": [{
        "name": name, "type": kind, "activation-type": activation,
        "aces": {"ace": [{"name": "one", "matches": matches, "actions": actions}]}
    }]});
    let status = send(
        handle,
        "PUT",
        &format!("/dots-client=c/acls/acl={name}"),
        &acl,
    );
    assert!([201, 204].contains(&status), "{status} for {acl}");
}

fn remove(handle: &DataHandle, name: &str) {
    assert_eq!(
        send(
            handle,
            "DELETE",
            &format!("/dots-client=c/acls/acl={name}"),
            &Value::Null
        ),
        204
    );
}

fn matched(handle: &DataHandle, acl: &str) -> Option<Matched> {
    handle.with(|service| {
        let client = service.store().client("client", &cuid())?;
        client.matched(acl, "one")
    })
}

fn cuid() -> Cuid {
    Cuid::new("c").unwrap()
}

const V4: &str = "ipv4-acl-type";
const V6: &str = "ipv6-acl-type";

#[test]
fn filters_drop_what_they_match_and_count_it() {
    let Some(lab) = Lab::new() else { return };
    let handle = channel(Capabilities::mandatory());
    let mut enforcer = lab.enforcer();
    let (peace, attack) = (BTreeSet::new(), BTreeSet::from([cuid()]));
    let drop = json!({"forwarding": "drop"});
    let dns = json!({"udp": {"destination-port-range-or-operator": {"port": 53}}});
    put(&handle, "dns", V4, "activate-when-mitigating", dns, drop);
    let one = |port: u16| lab.arrive("203.0.113.1:4000", &format!("203.0.113.7:{port}"), 5, 100);

    enforcer.work(&handle, &peace).unwrap();
    assert_eq!(one(53), 5, "no mitigation is active");
    enforcer.work(&handle, &attack).unwrap();
    assert_eq!((one(53), one(54)), (0, 5));
    enforcer.work(&handle, &attack).unwrap();
    let five = Matched {
        packets: 5,
        octets: 5 * 128,
    };
    assert_eq!(matched(&handle, "dns"), Some(five));

    // Another filter: the table is put anew, the counts go on.
    let ping = json!({"icmp": {"type": 8}});
    put(
        &handle,
        "ping",
        V4,
        "immediate",
        ping,
        json!({"forwarding": "drop"}),
    );
    enforcer.work(&handle, &attack).unwrap();
    assert_eq!(one(53), 0);
    enforcer.work(&handle, &attack).unwrap();
    assert_eq!(
        matched(&handle, "dns").map(|counts| counts.packets),
        Some(10)
    );
    assert_eq!(matched(&handle, "ping"), Some(Matched::default()));

    // Somebody removes the table: it is put again.
    lab.nft("delete table inet weir_filters");
    assert_eq!(one(53), 5);
    enforcer.work(&handle, &attack).unwrap();
    assert_eq!(one(53), 0);

    // The signal channel switches it off.
    handle
        .set_activation("client", &cuid(), "dns", ActivationType::Deactivate)
        .unwrap();
    enforcer.work(&handle, &attack).unwrap();
    assert_eq!(one(53), 5);
    handle
        .set_activation("client", &cuid(), "dns", ActivationType::Immediate)
        .unwrap();
    enforcer.work(&handle, &peace).unwrap();
    assert_eq!(one(53), 0);
    enforcer.remove().unwrap();
    assert_eq!(one(53), 5);
}

#[test]
fn accepted_traffic_passes_a_mitigation() {
    let Some(lab) = Lab::new() else { return };
    let handle = channel(Capabilities::mandatory());
    let mut enforcer = lab.enforcer();
    // A mitigation that scrubs everything to the domain.
    lab.nft(
        "table inet mitigation { chain c { type filter hook prerouting priority -300; \
         meta mark & 0x40000000 == 0x40000000 accept; ip daddr 203.0.113.7 drop\n}\n}\n",
    );
    let good = json!({"ipv4": {"source-ipv4-network": "203.0.113.2/32"}});
    put(
        &handle,
        "good",
        V4,
        "activate-when-mitigating",
        good,
        json!({"forwarding": "accept"}),
    );
    // What comes later in the order is not tried.
    put(
        &handle,
        "all",
        V4,
        "immediate",
        json!({}),
        json!({"forwarding": "drop"}),
    );
    let attack = BTreeSet::from([cuid()]);
    enforcer.work(&handle, &attack).unwrap();
    assert_eq!(lab.arrive("203.0.113.2:4000", "203.0.113.7:80", 5, 10), 5);
    assert_eq!(lab.arrive("203.0.113.1:4000", "203.0.113.7:80", 5, 10), 0);
    enforcer.work(&handle, &attack).unwrap();
    assert_eq!(
        matched(&handle, "good").map(|counts| counts.packets),
        Some(5)
    );
    assert_eq!(
        matched(&handle, "all").map(|counts| counts.packets),
        Some(5)
    );
}

#[test]
fn accepted_traffic_is_limited() {
    let Some(lab) = Lab::new() else { return };
    let handle = channel(Capabilities::mandatory());
    let mut enforcer = lab.enforcer();
    let udp = json!({"udp": {}});
    let limit = json!({"forwarding": "accept", "rate-limit": "1000.00"});
    put(&handle, "limit", V4, "immediate", udp, limit);
    enforcer.work(&handle, &BTreeSet::new()).unwrap();
    // 200 of about 1 kB at once: 64 KiB may pass, then 1 kB each second.
    let arrived = lab.arrive("203.0.113.1:4000", "203.0.113.7:80", 200, 1_000);
    assert!((50..=75).contains(&arrived), "{arrived}");
    enforcer.work(&handle, &BTreeSet::new()).unwrap();
    assert_eq!(
        matched(&handle, "limit").map(|counts| counts.packets),
        Some(200)
    );
}

#[test]
fn fragments_and_flags_are_matched() {
    let Some(lab) = Lab::new() else { return };
    let handle = channel(Capabilities::mandatory());
    let mut enforcer = lab.enforcer();
    let peace = BTreeSet::new();
    let drop = || json!({"forwarding": "drop"});
    let v4 = |size: usize| lab.arrive("203.0.113.1:4000", "203.0.113.7:80", 2, size);
    let v6 = |size: usize| lab.arrive("[2001:db8:a::1]:4000", "[2001:db8:a::7]:80", 2, size);
    // IPv6 is there a moment after its interface.
    let begun = std::time::Instant::now();
    while v6(100) < 2 && begun.elapsed() < Duration::from_secs(20) {}
    assert_eq!((v4(3_000), v6(3_000)), (2, 2), "without filters");
    for (kind, family, other) in [(V4, "ipv4", V6), (V6, "ipv6", V4)] {
        let arrive = |size: usize, kind: &str| if kind == V4 { v4(size) } else { v6(size) };
        // Of three fragments: all, the first, the last, or those that are neither.
        for (operator, which, packets) in [
            ("match", "isf", 6),
            ("match", "ff", 2),
            ("match", "lf", 2),
            ("any", "ff lf", 4),
            ("match", "ff lf", 0),
        ] {
            let matches = json!({family: {"fragment": {"operator": operator, "type": which}}});
            put(&handle, "fragments", kind, "immediate", matches, drop());
            enforcer.work(&handle, &peace).unwrap();
            let all = if packets == 0 { 2 } else { 0 };
            assert_eq!(arrive(3_500, kind), all, "{family} {operator} {which}");
            assert_eq!(
                (arrive(100, kind), arrive(3_500, other)),
                (2, 2),
                "{family} {which}"
            );
            enforcer.work(&handle, &peace).unwrap();
            let counted = matched(&handle, "fragments").unwrap().packets;
            assert_eq!(counted, packets, "{family} {operator} {which}");
            remove(&handle, "fragments");
            enforcer.work(&handle, &peace).unwrap();
        }
        // What is no fragment.
        let matches =
            json!({family: {"fragment": {"operator": "not match", "type": "isf"}, "protocol": 17}});
        put(&handle, "fragments", kind, "immediate", matches, drop());
        enforcer.work(&handle, &peace).unwrap();
        assert_eq!(
            (arrive(100, kind), arrive(3_500, kind)),
            (0, 2),
            "{family} whole packets"
        );
        remove(&handle, "fragments");
        enforcer.work(&handle, &peace).unwrap();
    }
    enforcer.work(&handle, &peace).unwrap();
    assert!(lab.connects());
    let flags = |operator: &str, bitmask: u16| json!({"tcp": {"flags-bitmask": {"operator": operator, "bitmask": bitmask}}});
    // SYN, but neither ACK alone nor none of all flags (RFC 8783 Appendix B).
    for (operator, bitmask, connects) in [
        ("match", 2, false),
        ("not any", 4_095, true),
        ("match", 18, false),
        ("match", 1_024, true),
        ("not match", 2, true),
    ] {
        put(
            &handle,
            "flags",
            V4,
            "immediate",
            flags(operator, bitmask),
            drop(),
        );
        enforcer.work(&handle, &peace).unwrap();
        // The answer with SYN and ACK goes out of the domain and meets no filter.
        let expected = connects || bitmask == 18;
        assert_eq!(lab.connects(), expected, "{operator} {bitmask}");
    }
}

/// Every match that the capabilities promise is taken by the kernel, and nothing else is put there.
#[test]
fn the_kernel_takes_every_match() {
    let Some(lab) = Lab::new() else { return };
    let handle = channel(Capabilities::all());
    let mut enforcer = lab.enforcer();
    let drop = || json!({"forwarding": "drop"});
    let mut number = 0;
    let mut next = |kind: &str, matches: Value| {
        number += 1;
        put(
            &handle,
            &format!("f{number}"),
            kind,
            "immediate",
            matches,
            drop(),
        );
    };
    for (kind, family, source, destination) in [
        (V4, "ipv4", "198.51.100.0/24", "203.0.113.7/32"),
        (V6, "ipv6", "2001:db8:1::/48", "2001:db8:a::7/128"),
    ] {
        let (from, to) = (
            format!("source-{family}-network"),
            format!("destination-{family}-network"),
        );
        next(
            kind,
            json!({family: {"length": 100, "protocol": 17, from.as_str(): source, to.as_str(): destination}}),
        );
        next(
            kind,
            json!({family: {from.as_str(): if kind == V4 { "0.0.0.0/0" } else { "::/0" }}}),
        );
        let types: &[&str] = if kind == V4 {
            &["df", "isf", "ff", "lf", "df isf ff lf"]
        } else {
            &["isf", "ff", "lf", "isf ff lf"]
        };
        for operator in ["match", "any", "not", "not match", "not any", ""] {
            for which in types {
                next(
                    kind,
                    json!({family: {"fragment": {"operator": operator, "type": which}}}),
                );
            }
            next(
                kind,
                json!({"tcp": {"flags-bitmask": {"operator": operator, "bitmask": 4_095}}}),
            );
        }
        for ports in [
            json!({"lower-port": 1, "upper-port": 9}),
            json!({"lower-port": 5, "upper-port": 5}),
            json!({"operator": "lte", "port": 0}),
            json!({"operator": "gte", "port": 65_535}),
            json!({"operator": "neq", "port": 7}),
        ] {
            for protocol in ["tcp", "udp"] {
                let both = json!({"source-port-range-or-operator": ports, "destination-port-range-or-operator": ports});
                next(kind, json!({protocol: both}));
            }
        }
        next(kind, json!({"udp": {"length": 8}}));
        next(kind, json!({"icmp": {"type": 3, "code": 4}}));
        next(kind, json!({family: {"dscp": 1}}));
    }
    enforcer.work(&handle, &BTreeSet::new()).unwrap();
    enforcer.work(&handle, &BTreeSet::new()).unwrap();
    let has_counts = |name: String| matched(&handle, &name).is_some();
    let counted = (1..=number)
        .filter(|index| has_counts(format!("f{index}")))
        .count();
    assert_eq!(counted, number - 2, "all but those on the DSCP");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_follows_mitigations_and_goes_at_the_end() {
    let Some(lab) = Lab::new() else { return };
    let handle = channel(Capabilities::mandatory());
    put(
        &handle,
        "all",
        V4,
        "activate-when-mitigating",
        json!({"udp": {}}),
        json!({"forwarding": "drop"}),
    );
    let (mitigate, mitigating) = watch::channel(BTreeSet::new());
    let (stop, shutdown) = watch::channel(false);
    let task = tokio::spawn(enforce(
        handle.clone(),
        lab.settings(),
        mitigating,
        shutdown,
    ));
    let until = async |arriving: usize| {
        let begun = std::time::Instant::now();
        while tokio::task::block_in_place(|| lab.arrive("203.0.113.1:4000", "203.0.113.7:80", 1, 9))
            != arriving
        {
            assert!(begun.elapsed() < Duration::from_secs(20), "{arriving}");
        }
    };
    until(1).await;
    mitigate.send_replace(BTreeSet::from([cuid()]));
    until(0).await;
    mitigate.send_replace(BTreeSet::new());
    until(1).await;
    mitigate.send_replace(BTreeSet::from([cuid()]));
    until(0).await;
    drop(mitigate);
    stop.send_replace(true);
    task.await.unwrap();
    until(1).await;
    assert!(matched(&handle, "all").unwrap().packets > 0);
}
