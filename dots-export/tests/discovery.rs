//! Discovery in the DNS (RFC 8973), by a DNS server over loopback.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../cli/tests/support/ports.rs"]
mod ports;
mod support;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hickory_resolver::proto::rr::Record;
use ports::free_address;
use support::dns::{DnsServer, Mood, cname, host, naptr, naptr_of, ptr, srv};
use support::net::{
    RealClient, RealServer, failure, is_granted, is_up, server_config, upstream_of,
};
use weir_dots_export::{
    ClientNotice, Discovery, DiscoveryError, Journal, Mechanism, PolicyConfig, StateChange,
    UpstreamConfig, UpstreamSettings, check, discover,
};
use weir_dtls::lab::{Issue, LabNames, issue, write_keys};

const PATIENCE: Duration = Duration::from_secs(25);

fn config(resolver: &str) -> UpstreamConfig {
    UpstreamConfig {
        name: support::PROVIDER.to_owned(),
        discover: "example.net".to_owned(),
        resolver: resolver.to_owned(),
        ..UpstreamConfig::default()
    }
}

fn settings(config: UpstreamConfig) -> UpstreamSettings {
    let settings = check(&[config], &[PolicyConfig::default()], &[]).unwrap();
    settings.upstreams()[0].clone()
}

async fn discovered(server: &DnsServer) -> Result<Discovery, DiscoveryError> {
    let settings = settings(config(&server.address.to_string()));
    discover(&settings.discovery.unwrap()).await
}

async fn found(records: Vec<Record>) -> Option<Discovery> {
    let server = DnsServer::start(records).await;
    match discovered(&server).await {
        Ok(discovery) => Some(discovery),
        Err(DiscoveryError::NoServer(_)) => None,
        Err(error) => panic!("{error}"),
    }
}

fn texts(discovery: &Discovery) -> Vec<String> {
    let text = |one: &weir_dots_export::Endpoint| {
        format!("{:?} {} {}", one.channel, one.address, one.rank)
    };
    discovery.endpoints.iter().map(text).collect()
}

/// RFC 8973 figure 8.
fn figure_8() -> Vec<Record> {
    vec![
        naptr("example.net", 300, "", "DOTS:data.tcp", "data.example.net"),
        naptr(
            "example.net",
            200,
            "",
            "DOTS:signal.tcp",
            "signal.example.net",
        ),
        naptr(
            "example.net",
            100,
            "",
            "DOTS:signal.udp",
            "signal.example.net",
        ),
        naptr(
            "signal.example.net",
            100,
            "s",
            "DOTS:signal.udp",
            "_dots-signal._udp.example.net",
        ),
        naptr(
            "signal.example.net",
            200,
            "s",
            "DOTS:signal.tcp",
            "_dots-signal._tcp.example.net",
        ),
        naptr(
            "data.example.net",
            100,
            "s",
            "DOTS:data.tcp",
            "_dots-data._tcp.example.net",
        ),
        naptr(
            "data.example.net",
            200,
            "a",
            "DOTS:data.tcp",
            "b.example.net",
        ),
        srv("_dots-signal._udp.example.net", 0, 0, 5000, "a.example.net"),
        srv("_dots-signal._tcp.example.net", 0, 0, 5001, "a.example.net"),
        srv("_dots-data._tcp.example.net", 0, 0, 5002, "a.example.net"),
        host("a.example.net", "2001:db8::1"),
        host("b.example.net", "2001:db8::2"),
    ]
}

/// RFC 8973 figure 10, with the addresses.
fn figure_10() -> Vec<Record> {
    let service = "_dots-signal._udp.example.net";
    let [a, b] = ["a", "b"].map(|instance| format!("{instance}.{service}"));
    vec![
        ptr(service, &a),
        ptr(service, &b),
        srv(&a, 0, 0, 4646, "a.example.net"),
        srv(&b, 1, 0, 4647, "b.example.net"),
        host("a.example.net", "192.0.2.1"),
        host("a.example.net", "2001:db8::1"),
        host("b.example.net", "192.0.2.2"),
    ]
}

#[tokio::test]
async fn s_naptr_leads_where_the_rfc_says() {
    let discovery = found(figure_8()).await.unwrap();
    assert_eq!(discovery.mechanism, Mechanism::SNaptr);
    assert_eq!(discovery.domain, "example.net");
    // RFC 8973 table 1.
    assert_eq!(
        texts(&discovery),
        [
            "SignalUdp [2001:db8::1]:5000 0",
            "SignalTcp [2001:db8::1]:5001 0",
            "DataTcp [2001:db8::1]:5002 0",
            "DataTcp [2001:db8::2]:443 1",
        ]
    );
    // The least TTL of all.
    let held = discovery.valid_for.as_secs();
    assert!((890..=900).contains(&held), "{held}");
}

#[tokio::test]
async fn dns_sd_is_taken_where_there_is_no_s_naptr_and_not_before() {
    let discovery = found(figure_10()).await.unwrap();
    assert_eq!(discovery.mechanism, Mechanism::DnsSd);
    assert_eq!(
        texts(&discovery),
        [
            "SignalUdp [2001:db8::1]:4646 0",
            "SignalUdp 192.0.2.1:4646 0",
            "SignalUdp 192.0.2.2:4647 1",
        ]
    );
    let both = [figure_10(), figure_8()].concat();
    let discovery = found(both).await.unwrap();
    assert_eq!(discovery.mechanism, Mechanism::SNaptr);
    // NAPTR records of other services do not count.
    let mut others = figure_10();
    others.push(naptr(
        "example.net",
        1,
        "s",
        "SIP+D2U",
        "_sip._udp.example.net",
    ));
    others.push(naptr(
        "example.net",
        1,
        "s",
        "DOTS-CALL-HOME:signal.udp",
        "a.example.net",
    ));
    let discovery = found(others).await.unwrap();
    assert_eq!(discovery.mechanism, Mechanism::DnsSd);
}

#[tokio::test]
async fn orders_preferences_and_priorities_rank_and_weights_choose() {
    let mut first = [0_u32; 2];
    for _ in 0..60 {
        let discovery = found(vec![
            naptr_of(
                "example.net",
                (20, 1),
                "a",
                "DOTS:signal.udp",
                "",
                "last.example.net",
            ),
            naptr_of(
                "example.net",
                (10, 2),
                "s",
                "DOTS:signal.udp",
                "",
                "_b.example.net",
            ),
            naptr_of(
                "example.net",
                (10, 1),
                "A",
                "dots:signal.udp:signal.tcp",
                "",
                "a.example.net",
            ),
            srv("_b.example.net", 7, 0, 7, "late.example.net"),
            srv("_b.example.net", 5, 90, 5, "heavy.example.net"),
            srv("_b.example.net", 5, 10, 6, "light.example.net"),
            host("a.example.net", "192.0.2.1"),
            host("heavy.example.net", "192.0.2.2"),
            host("light.example.net", "192.0.2.3"),
            host("late.example.net", "192.0.2.4"),
            host("last.example.net", "192.0.2.5"),
        ])
        .await
        .unwrap();
        let mut texts = texts(&discovery);
        let heavy = texts[2].contains("192.0.2.2");
        first[usize::from(heavy)] += 1;
        texts[2..4].sort();
        assert_eq!(
            texts,
            [
                "SignalUdp 192.0.2.1:4646 0",
                "SignalTcp 192.0.2.1:4646 0",
                "SignalUdp 192.0.2.2:5 1",
                "SignalUdp 192.0.2.3:6 1",
                "SignalUdp 192.0.2.4:7 2",
                "SignalUdp 192.0.2.5:4646 3",
            ]
        );
    }
    // 54 of 60 are expected.
    assert!(first[1] > 40 && first[0] > 0, "{first:?}");
}

#[tokio::test]
async fn a_domain_without_servers_has_none() {
    assert_eq!(found(Vec::new()).await, None);
    assert_eq!(found(vec![host("example.net", "192.0.2.1")]).await, None);
    // A service that is decidedly not there, and a host without an address.
    let gone = vec![
        naptr("example.net", 1, "s", "DOTS:signal.udp", "_a.example.net"),
        srv("_a.example.net", 0, 0, 4646, "."),
        srv("_a.example.net", 1, 0, 4646, "nobody.example.net"),
        srv("_a.example.net", 1, 0, 0, "a.example.net"),
        host("a.example.net", "192.0.2.1"),
    ];
    assert_eq!(found(gone).await, None);
    // A data channel alone is no DOTS server.
    let data = vec![
        naptr("example.net", 1, "a", "DOTS:data.tcp", "a.example.net"),
        host("a.example.net", "192.0.2.1"),
    ];
    assert_eq!(found(data).await, None);
}

#[tokio::test]
async fn a_dns_server_that_does_not_answer_chooses_no_mechanism() {
    let mut tasks = tokio::task::JoinSet::new();
    for mood in [Mood::Silent, Mood::Failing, Mood::Raving] {
        tasks.spawn(async move {
            let server = DnsServer::start([figure_8(), figure_10()].concat()).await;
            server.set(mood);
            let begun = Instant::now();
            let error = discovered(&server).await.unwrap_err();
            let is_verdict = matches!(error, DiscoveryError::NoServer(_));
            assert!(!is_verdict, "{mood:?} {error}");
            assert!(begun.elapsed() < Duration::from_secs(21), "{mood:?}");
            let asked = server.asked();
            assert!(!asked.iter().any(|one| one.starts_with("PTR")), "{asked:?}");
            server.set(Mood::Ready);
            assert!(discovered(&server).await.is_ok());
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
}

#[tokio::test]
async fn what_udp_cuts_tcp_brings() {
    let server = DnsServer::start(figure_8()).await;
    server.set(Mood::Truncating);
    let discovery = discovered(&server).await.unwrap();
    assert_eq!(discovery.endpoints.len(), 4);
    assert!(
        server
            .asked()
            .contains(&"NAPTR example.net. tcp".to_owned())
    );
}

#[tokio::test]
async fn answers_that_lead_in_circles_or_too_far_end() {
    // A circle beside what is good.
    let mut circle = figure_8();
    circle.push(naptr(
        "example.net",
        1,
        "",
        "DOTS:signal.udp",
        "example.net",
    ));
    circle.push(naptr(
        "example.net",
        2,
        "",
        "DOTS:signal.udp",
        "c.example.net",
    ));
    circle.push(cname("c.example.net", "d.example.net"));
    circle.push(cname("d.example.net", "c.example.net"));
    let server = DnsServer::start(circle).await;
    let begun = Instant::now();
    let _ = discovered(&server).await;
    assert!(begun.elapsed() < Duration::from_secs(21));
    // Each of many records leads to many others.
    let mut many = Vec::new();
    for from in 0..40_u16 {
        let owner = match from {
            0 => "example.net".to_owned(),
            _ => format!("n{from}.example.net"),
        };
        for to in 1..40_u16 {
            many.push(naptr(
                &owner,
                to,
                "",
                "DOTS:signal.udp",
                &format!("n{to}.example.net"),
            ));
        }
    }
    let server = DnsServer::start(many).await;
    let _ = discovered(&server).await;
    // Each question comes over UDP and, since the answer is large, over TCP.
    let asked = server.asked().len();
    assert!(asked <= 2 * 64 + 6, "{asked}");
}

#[tokio::test]
async fn records_that_mean_nothing_are_left_out() {
    let mut records = figure_8();
    records.extend([
        naptr_of(
            "example.net",
            (1, 1),
            "s",
            "DOTS:signal.udp",
            "!^.*$!x!",
            "_x.example.net",
        ),
        naptr("example.net", 1, "u", "DOTS:signal.udp", "_x.example.net"),
        naptr("example.net", 1, "sa", "DOTS:signal.udp", "_x.example.net"),
        naptr("example.net", 1, "s", "DOTS:signal.udp", "."),
        naptr("example.net", 1, "a", "DOTS:signal.quic", "x.example.net"),
        naptr("example.net", 1, "a", "DOTS:signal.udp", "y.example.net"),
        srv("_x.example.net", 0, 0, 1, "x.example.net"),
        host("x.example.net", "192.0.2.66"),
        host("y.example.net", "0.0.0.0"),
        host("y.example.net", "224.0.0.1"),
        host("y.example.net", "255.255.255.255"),
        host("y.example.net", "ff02::1"),
        host("y.example.net", "::ffff:224.0.0.1"),
    ]);
    let discovery = found(records).await.unwrap();
    let addresses: Vec<String> = discovery
        .endpoints
        .iter()
        .map(|one| one.address.ip().to_string())
        .collect();
    assert_eq!(
        addresses,
        ["2001:db8::1", "2001:db8::1", "2001:db8::1", "2001:db8::2"]
    );

    // Of a thousand hosts some are kept.
    let mut crowd = vec![naptr(
        "example.net",
        1,
        "s",
        "DOTS:signal.udp",
        "_x.example.net",
    )];
    for number in 0..1000 {
        let target = format!("h{number}.example.net");
        crowd.push(srv("_x.example.net", 0, 1, 4646, &target));
        crowd.push(host(
            &target,
            &format!("10.0.{}.{}", number / 250, number % 250 + 1),
        ));
    }
    let kept = found(crowd).await.unwrap().endpoints.len();
    assert!((1..=32).contains(&kept), "{kept}");
}

#[tokio::test]
async fn garbled_answers_harm_nobody() {
    let mut tasks = tokio::task::JoinSet::new();
    for seed in 0..60 {
        tasks.spawn(async move {
            let records = if seed % 2 == 0 {
                figure_8()
            } else {
                figure_10()
            };
            let server = DnsServer::start(records).await;
            server.set(Mood::Garbling(seed));
            let begun = Instant::now();
            let found = discovered(&server).await;
            assert!(begun.elapsed() < Duration::from_secs(25), "{seed}");
            let asked = server.asked().len();
            assert!(asked <= 64 * 6, "{seed}: {asked}");
            found.is_ok_and(|found| found.endpoints.len() <= 32)
        });
    }
    let mut found = 0;
    while let Some(ended) = tasks.join_next().await {
        found += u32::from(ended.unwrap());
    }
    assert!(found > 0, "nothing gets through");
}

#[tokio::test]
async fn the_dns_is_asked_from_the_upstreams_own_address() {
    for mood in [Mood::Ready, Mood::Truncating] {
        let server = DnsServer::start(figure_8()).await;
        server.set(mood);
        let mut config = config(&server.address.to_string());
        config.source_address = Some("127.0.0.9".parse().unwrap());
        let found = discover(&settings(config).discovery.unwrap()).await;
        assert!(found.is_ok());
        let askers = server.zone.lock().unwrap().askers.clone();
        let askers: Vec<String> = askers.iter().map(ToString::to_string).collect();
        assert_eq!(askers, ["127.0.0.9"], "{mood:?}");
    }
}

#[tokio::test]
async fn over_tls_the_resolver_is_who_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path();
    write_keys(keys, &LabNames::default()).unwrap();
    let dns = Issue {
        file: "dns".to_owned(),
        names: vec!["dns.example.net".to_owned()],
        days: 30,
    };
    issue(keys, &dns).unwrap();
    let server = DnsServer::start_tls(figure_8(), keys, "dns").await;
    let with_name = |name: &str| format!("tls://{}#{name}", server.address);
    let good = over_tls(&with_name("dns.example.net"), keys).await.unwrap();
    assert_eq!(good.endpoints.len(), 4);
    assert!(
        server
            .asked()
            .contains(&"NAPTR example.net. tls".to_owned())
    );
    // Neither a certificate of another name will do, nor one for the address where it has none.
    assert!(
        over_tls(&with_name("other.example.net"), keys)
            .await
            .is_err()
    );
    assert!(
        over_tls(&format!("tls://{}", server.address), keys)
            .await
            .is_err()
    );
}

async fn over_tls(resolver: &str, keys: &Path) -> Result<Discovery, DiscoveryError> {
    let mut config = config(resolver);
    config.resolver_ca = Some(keys.join("ca.pem"));
    discover(&settings(config).discovery.unwrap()).await
}

/// Keys of the lab, with a server of the domain.
fn lab() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let names = LabNames {
        server: vec!["example.net".to_owned()],
        ..LabNames::default()
    };
    write_keys(folder.path(), &names).unwrap();
    folder
}

#[derive(Default)]
struct Rows(Mutex<BTreeMap<String, StateChange>>);

impl Journal for Rows {
    fn write(&self, change: &StateChange) -> io::Result<()> {
        let mut rows = self.0.lock().unwrap();
        // As a row is kept: without its number, and without what is not kept.
        let text = serde_json::to_string(change)?;
        rows.insert(change.key(), serde_json::from_str(&text)?);
        Ok(())
    }
}

fn is_discovered(notice: &ClientNotice) -> bool {
    matches!(notice, ClientNotice::Discovered { .. })
}

#[tokio::test]
async fn help_comes_from_where_the_dns_says_and_from_there_when_the_dns_is_gone() {
    let folder = lab();
    let server = RealServer::start(&server_config(folder.path()));
    let dns = DnsServer::start(leading_to(server.address)).await;
    let upstream = upstream_of(config(&dns.address.to_string()), folder.path());
    let rows = Arc::new(Rows::default());
    let mut client = RealClient::start_with(&upstream, support::client(), rows.clone());
    let told = client.until(PATIENCE, is_discovered).await.unwrap();
    let ClientNotice::Discovered { discovery, .. } = told else {
        unreachable!()
    };
    assert_eq!(discovery.endpoints[0].address, server.address);
    client.until(PATIENCE, is_up).await.unwrap();
    client.stop().await;

    dns.set(Mood::Silent);
    let kept = rows.0.lock().unwrap().clone();
    let mut again = support::client();
    again.restore(kept.into_values());
    let mut client = RealClient::start_with(&upstream, again, rows.clone());
    let begun = Instant::now();
    client.until(PATIENCE, is_discovered).await.unwrap();
    client.ask(7).await;
    client.until(PATIENCE, is_granted).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2));
    client.stop().await;

    // What was kept is of that domain alone.
    let mut again = support::client();
    again.restore(rows.0.lock().unwrap().clone().into_values());
    let mut other = config(&dns.address.to_string());
    other.discover = "example.com".to_owned();
    let mut client = RealClient::start_with(&upstream_of(other, folder.path()), again, rows);
    client.ask(8).await;
    let failed = |notice: &_| is_up(notice) || failure(notice.clone()).is_some();
    let notice = client.until(Duration::from_secs(30), failed).await.unwrap();
    assert!(failure(notice).is_some());
    client.stop().await;
}

#[tokio::test]
async fn a_server_that_the_dns_names_but_no_certificate_does_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    // Its certificate is for the host that the DNS says, not for the domain.
    let names = LabNames {
        server: vec!["a.example.net".to_owned()],
        ..LabNames::default()
    };
    write_keys(folder.path(), &names).unwrap();
    let server = RealServer::start(&server_config(folder.path()));
    let dns = DnsServer::start(leading_to(server.address)).await;
    let upstream = upstream_of(config(&dns.address.to_string()), folder.path());
    let mut client = RealClient::start(&upstream, 1);
    let failed = |notice: &_| is_up(notice) || failure(notice.clone()).is_some();
    let notice = client.until(PATIENCE, failed).await.unwrap();
    let reason = failure(notice).unwrap();
    assert!(reason.contains("certificate"), "{reason}");
    client.stop().await;
}

#[tokio::test]
async fn servers_that_are_gone_are_looked_for_anew() {
    let folder = lab();
    let server = RealServer::start(&server_config(folder.path()));
    let dns = DnsServer::start(leading_to(free_address())).await;
    let upstream = upstream_of(config(&dns.address.to_string()), folder.path());
    let mut client = RealClient::start(&upstream, 1);
    client.ask(7).await;
    let failed = |notice: &ClientNotice| failure(notice.clone()).is_some();
    client.until(PATIENCE, failed).await.unwrap();
    dns.set_records(leading_to(server.address));
    // Long before the TTL.
    client.until(PATIENCE, is_granted).await.unwrap();
    client.stop().await;
}

/// Records that lead to a server on loopback.
fn leading_to(address: SocketAddr) -> Vec<Record> {
    vec![
        naptr(
            "example.net",
            1,
            "s",
            "DOTS:signal.udp",
            "_dots-signal._udp.example.net",
        ),
        srv(
            "_dots-signal._udp.example.net",
            0,
            0,
            address.port(),
            "a.example.net",
        ),
        host("a.example.net", &address.ip().to_string()),
    ]
}
