#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests, which end with a panic"
)]

use std::net::UdpSocket;
use std::process::Command;
use std::time::Duration;

use super::*;

fn receiver(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    socket
}

fn settings(to: &[SocketAddr], from: &[&str], spoof_source: bool) -> MirrorSettings {
    let from: Vec<_> = from.iter().map(|prefix| prefix.parse().unwrap()).collect();
    MirrorSettings {
        to: to.to_vec(),
        from: AllowList::new(&from),
        spoof_source,
    }
}

#[test]
fn every_target_gets_what_its_mirror_is_for_unchanged() {
    let sockets = [receiver("127.0.0.1:0"), receiver("127.0.0.1:0")];
    let [all, some] = sockets
        .each_ref()
        .map(|socket| socket.local_addr().unwrap());
    let mirrors = [
        settings(&[all], &[], false),
        settings(&[some], &["192.0.2.0/24"], false),
    ];
    let mut mirrors = Mirrors::open(&mirrors, &[]).unwrap();
    for number in 0..100_u8 {
        let from = SocketAddr::from(([192, 0, 2 + number % 2, 1], 2055));
        // Also empty ones.
        mirrors.handle_datagram(from, &vec![number; usize::from(number) * 14]);
    }
    mirrors.flush();
    let mut buffer = [0; 2_000];
    for number in 0..100_u8 {
        let length = sockets[0].recv(&mut buffer).unwrap();
        assert_eq!(buffer[..length], vec![number; usize::from(number) * 14]);
    }
    for number in (0..100_u8).step_by(2) {
        let length = sockets[1].recv(&mut buffer).unwrap();
        assert_eq!(buffer[..length], vec![number; usize::from(number) * 14]);
    }
    let counters: Vec<_> = mirrors.counters().collect();
    assert_eq!((counters[0].0, counters[1].0), (all, some));
    assert_eq!((counters[0].1.sent, counters[1].1.sent), (100, 50));
    assert_eq!(counters[0].1.octets, (0..100).map(|n| n * 14).sum::<u64>());
}

#[test]
fn a_target_that_refuses_costs_nothing_but_its_own_datagrams() {
    let gone = receiver("127.0.0.1:0").local_addr().unwrap();
    let there = receiver("127.0.0.1:0");
    let targets = [gone, there.local_addr().unwrap()];
    let mut mirrors = Mirrors::open(&[settings(&targets, &[], false)], &[]).unwrap();
    let from = SocketAddr::from(([192, 0, 2, 1], 2055));
    for _ in 0..10 {
        for _ in 0..10 {
            mirrors.handle_datagram(from, &[1; 100]);
        }
        // Too long for any datagram.
        mirrors.handle_datagram(from, &[1; 65_535]);
        mirrors.flush();
    }
    let mut buffer = [0; 200];
    for _ in 0..100 {
        assert_eq!(there.recv(&mut buffer).unwrap(), 100);
    }
    for (target, counters) in mirrors.counters() {
        let all = counters.sent + counters.full + counters.failed + counters.other_family;
        assert_eq!((all, counters.failed), (110, 10), "{target}: {counters:?}");
    }
    // The refusing one is back: nothing needs to be opened anew.
    let back = receiver(&gone.to_string());
    for _ in 0..3 {
        mirrors.handle_datagram(from, &[2; 50]);
        mirrors.flush();
    }
    assert_eq!(back.recv(&mut buffer).unwrap(), 50);
}

#[test]
fn a_mirror_to_ourselves_is_refused() {
    let ours = receiver("0.0.0.0:0");
    let port = ours.local_addr().unwrap().port();
    let to = SocketAddr::from(([127, 0, 0, 5], port));
    let opened = Mirrors::open(
        &[settings(&[to], &[], false)],
        &[ours.local_addr().unwrap()],
    );
    assert!(matches!(opened, Err(MirrorError::Loop { .. })));
}

/// Set in the process that runs in a network namespace of its own.
const INSIDE: &str = "WEIR_TEST_NETWORK_NAMESPACE";

#[test]
fn spoofed_datagrams_come_from_the_exporter() {
    if std::env::var_os(INSIDE).is_some() {
        spoof();
        return;
    }
    let name = "mirror::tests::spoofed_datagrams_come_from_the_exporter";
    let script = format!("ip link set lo up && exec \"$0\" --exact {name} --nocapture || exit 77");
    let child = Command::new("unshare")
        .args(["--net", "sh", "-c", &script])
        .arg(std::env::current_exe().unwrap())
        .env(INSIDE, "1")
        .output();
    match child {
        Ok(output) if output.status.success() => {}
        // 1 and 77: unshare or ip may not, or is not there; a failed test ends with 101.
        Ok(output) if output.status.code() != Some(101) => {
            println!("skipped: no network namespace here (needs root, unshare and ip)");
        }
        Ok(output) => panic!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(_) => println!("skipped: no network namespace here (needs unshare)"),
    }
}

fn spoof() {
    let mut buffer = [0; 2_000];
    for (listen, exporter, stranger) in [
        ("127.0.0.1:0", "192.0.2.77:40123", "[2001:db8::77]:40123"),
        ("[::1]:0", "[2001:db8::77]:40123", "192.0.2.77:40123"),
    ] {
        let socket = receiver(listen);
        let to = socket.local_addr().unwrap();
        let mut mirrors = Mirrors::open(&[settings(&[to], &[], true)], &[]).unwrap();
        let exporter: SocketAddr = exporter.parse().unwrap();
        for number in 0..50_u8 {
            mirrors.handle_datagram(exporter, &vec![number; 20 + usize::from(number) * 25]);
            mirrors.handle_datagram(stranger.parse().unwrap(), &[1]);
        }
        mirrors.flush();
        for number in 0..50_u8 {
            let (length, from) = socket.recv_from(&mut buffer).unwrap();
            assert_eq!(from, exporter);
            assert_eq!(
                buffer[..length],
                vec![number; 20 + usize::from(number) * 25]
            );
        }
        let (_, counters) = mirrors.counters().next().unwrap();
        assert_eq!((counters.sent, counters.other_family), (50, 50));
        assert_eq!(counters.octets, (0..50).map(|n| 20 + n * 25).sum::<u64>());
    }
}

#[test]
fn spoofing_without_the_capability_is_an_honest_error() {
    let to = SocketAddr::from(([127, 0, 0, 1], 9));
    match Mirrors::open(&[settings(&[to], &[], true)], &[]) {
        Ok(_) => println!("skipped: this process may open raw sockets"),
        Err(error) => assert_eq!(
            error.to_string(),
            "spoof_source for 127.0.0.1:9 needs the capability CAP_NET_RAW"
        ),
    }
}
