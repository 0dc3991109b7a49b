//! The client's transports against the real server: TCP beside UDP, keys beside certificates, several addresses, sources,
//! refusals, files that change.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../cli/tests/support/ports.rs"]
mod ports;
mod support;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ports::free_address;
use support::net::{
    Lossy, RealClient, RealServer, before, failure, is_granted, is_up, server_config,
    upstream_config, upstream_of,
};
use tokio::net::{TcpListener, UdpSocket};
use weir_dots_export::{Transport, UpstreamConfig};
use weir_dots_server::{ClientConfig, DotsServerConfig};
use weir_dtls::lab::{Issue, LabNames, issue, revoke, write_keys};

const PATIENCE: Duration = Duration::from_secs(20);
const KEY: &str = "000102030405060708090a0b0c0d0e0f";

fn lab() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_keys(folder.path(), &LabNames::default()).unwrap();
    folder
}

fn over(transport: Transport, address: SocketAddr) -> UpstreamConfig {
    UpstreamConfig {
        transport,
        ..upstream_config(address)
    }
}

/// Asks for help and waits for the answer.
async fn is_helped(config: UpstreamConfig, keys: &Path, number: u64) -> bool {
    let mut client = RealClient::start(&upstream_of(config, keys), number);
    client.ask(number).await;
    let granted = client.until(PATIENCE, is_granted).await;
    client.stop().await;
    granted.is_some()
}

/// Why the first try to connect fails.
async fn refusal(config: UpstreamConfig, keys: &Path) -> String {
    let mut client = RealClient::start(&upstream_of(config, keys), 1);
    let wanted = |notice: &_| is_up(notice) || failure(notice.clone()).is_some();
    let notice = client.until(Duration::from_secs(60), wanted).await;
    client.stop().await;
    failure(notice.unwrap()).expect("a session stands")
}

#[tokio::test]
async fn help_comes_over_both_transports_by_certificate_and_by_key() {
    let folder = lab();
    let keys = folder.path();
    fs::write(keys.join("cpe.psk"), KEY).unwrap();
    let mut config = server_config(keys);
    config.clients.push(ClientConfig {
        name: "cpe".to_owned(),
        psk_identity: Some("cpe-17".to_owned()),
        psk_file: Some(keys.join("cpe.psk")),
        ..config.clients[0].clone()
    });
    let server = RealServer::start(&config);
    let mut number = 1;
    for transport in [Transport::Udp, Transport::Tcp, Transport::Auto] {
        for by_key in [false, true] {
            let mut config = over(transport, server.address);
            if by_key {
                config.psk_identity = Some("cpe-17".to_owned());
                config.psk_file = Some("cpe.psk".into());
            }
            number += 1;
            assert!(
                is_helped(config, keys, number).await,
                "{transport:?} {by_key}"
            );
        }
    }
    let figures = server.view.figures();
    assert_eq!(figures.connected, 6);
    assert_eq!(figures.failed + figures.refused, 0);
}

/// A port that carries TCP to the server, and of UDP nothing.
async fn without_datagrams(server: SocketAddr) -> (SocketAddr, UdpSocket) {
    let (hole, address) = before(server).await;
    (address, hole)
}

#[tokio::test]
async fn where_datagrams_do_not_pass_tcp_is_found_soon_and_remembered() {
    let folder = lab();
    let keys = folder.path();
    let server = RealServer::start(&server_config(keys));
    let (address, hole) = without_datagrams(server.address).await;
    let settings = upstream_of(over(Transport::Auto, address), keys);
    let mut client = RealClient::start(&settings, 1);
    client.ask(1).await;
    let began = Instant::now();
    assert!(client.until(PATIENCE, is_granted).await.is_some());
    // The delay between two ways is 100 ms under attack, or 250 ms in the peace of the first moment.
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    let mut buffer = [0; 2048];
    assert!(hole.try_recv(&mut buffer).is_ok(), "UDP comes first");

    // The server goes away and comes back at the same port: what worked is tried alone at first.
    while hole.try_recv(&mut buffer).is_ok() {}
    let mut again = server_config(keys);
    again.listen = vec![server.address];
    drop(server);
    let _server = RealServer::start(&again);
    let began = Instant::now();
    assert!(client.until(PATIENCE, is_up).await.is_some());
    eprintln!("back after {:?}", began.elapsed());
    assert!(hole.try_recv(&mut buffer).is_err(), "UDP was tried again");
    client.stop().await;
}

#[tokio::test]
async fn one_address_of_several_is_enough() {
    let folder = lab();
    let keys = folder.path();
    let server = RealServer::start(&server_config(keys));
    let hole = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut config = over(Transport::Udp, hole.local_addr().unwrap());
    config.addresses.push(server.address.to_string());
    assert!(is_helped(config, keys, 1).await);
}

#[tokio::test]
async fn where_nobody_listens_the_next_address_is_tried_at_once() {
    let folder = lab();
    let keys = folder.path();
    let server = RealServer::start(&server_config(keys));
    let mut config = over(Transport::Udp, server.address);
    // Each would have 250 ms for itself.
    let nobody = std::iter::repeat_with(|| free_address().to_string());
    config.addresses = nobody.take(5).collect();
    config.addresses.push(server.address.to_string());
    let began = Instant::now();
    let mut client = RealClient::start(&upstream_of(config, keys), 1);
    assert!(client.until(PATIENCE, is_up).await.is_some());
    let took = began.elapsed();
    assert!(took < Duration::from_millis(700), "{took:?}");
    client.stop().await;
}

#[tokio::test]
async fn a_source_address_is_what_the_server_sees() {
    let folder = lab();
    let address = free_address();
    let datagrams = UdpSocket::bind(address).await.unwrap();
    let streams = TcpListener::bind(address).await.unwrap();
    let mut config = over(Transport::Auto, address);
    config.source_address = Some("127.0.0.2".parse().unwrap());
    config.interface = Some("lo".to_owned());
    let client = RealClient::start(&upstream_of(config, folder.path()), 1);
    let (_, from) = datagrams.recv_from(&mut [0; 2048]).await.unwrap();
    assert_eq!(from.ip().to_string(), "127.0.0.2");
    let (_, from) = streams.accept().await.unwrap();
    assert_eq!(from.ip().to_string(), "127.0.0.2");
    client.stop().await;
}

#[tokio::test]
async fn servers_and_clients_that_prove_nothing_are_refused_with_a_reason() {
    let (folder, theirs) = (lab(), lab());
    let keys = folder.path();
    let file = |name: &str, days: u32| {
        let names = vec!["localhost".to_owned(), "weir-lab".to_owned()];
        let file = name.to_owned();
        issue(keys, &Issue { file, names, days }).unwrap();
    };
    file("late", 0);
    file("revoked", 30);
    revoke(keys, &["revoked"], 30).unwrap();
    let serving = |name: &str| DotsServerConfig {
        certificate: keys.join(format!("{name}.pem")),
        key: keys.join(format!("{name}.key")),
        crl: Some(keys.join("crl.pem")),
        ..server_config(keys)
    };
    let presenting = |name: &str, transport, address| UpstreamConfig {
        certificate: PathBuf::from(format!("{name}.pem")),
        key: PathBuf::from(format!("{name}.key")),
        crl: Some("crl.pem".into()),
        ..over(transport, address)
    };
    let good = RealServer::start(&serving("server"));
    let late = RealServer::start(&serving("late"));
    let revoked = RealServer::start(&serving("revoked"));
    let foreign = RealServer::start(&server_config(theirs.path()));
    for transport in [Transport::Udp, Transport::Tcp] {
        for (server, expected) in [
            (&late, "expired"),
            (&revoked, "revoked"),
            (&foreign, "certificate"),
        ] {
            let why = refusal(presenting("client", transport, server.address), keys).await;
            assert!(why.contains(expected), "{transport:?}: {why}");
        }
        let mut config = presenting("client", transport, good.address);
        config.server = "dots.example.net".to_owned();
        let why = refusal(config, keys).await;
        assert!(why.contains("hostname mismatch"), "{transport:?}: {why}");
        for (certificate, expected) in [("late", "expired"), ("revoked", "revoked")] {
            let why = refusal(presenting(certificate, transport, good.address), keys).await;
            assert!(why.contains(expected), "{transport:?}: {why}");
        }
    }
    assert!(is_helped(presenting("client", Transport::Tcp, good.address), keys, 1).await);
    assert_eq!(good.view.figures().connected, 1);
}

#[tokio::test]
async fn a_new_revocation_list_holds_for_new_sessions_and_ends_none() {
    let folder = lab();
    let keys = folder.path();
    revoke(keys, &[], 30).unwrap();
    let mut config = server_config(keys);
    config.crl = Some(keys.join("crl.pem"));
    let server = RealServer::start(&config);
    let mut stands = Vec::new();
    for (number, transport) in (1..).zip([Transport::Udp, Transport::Tcp]) {
        let settings = upstream_of(over(transport, server.address), keys);
        let mut client = RealClient::start(&settings, number);
        assert!(client.until(PATIENCE, is_up).await.is_some());
        stands.push((number, client));
    }
    let before = server.view.figures();
    assert!(before.validity.certificate.is_some());

    revoke(keys, &["client"], 60).unwrap();
    let began = Instant::now();
    while server.view.figures().reloads == 0 {
        assert!(began.elapsed() < PATIENCE, "the list is not read");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let after = server.view.figures();
    assert!(after.validity.revocations > before.validity.revocations);
    for transport in [Transport::Udp, Transport::Tcp] {
        let why = refusal(over(transport, server.address), keys).await;
        assert!(why.contains("revoked"), "{transport:?}: {why}");
    }
    for (number, mut client) in stands {
        client.ask(number).await;
        assert!(client.until(PATIENCE, is_granted).await.is_some());
        client.stop().await;
    }
}

#[tokio::test]
async fn a_request_arrives_where_no_answer_comes_back() {
    let folder = lab();
    let keys = folder.path();
    let server = RealServer::start(&server_config(keys));
    let network = Lossy::start(server.address, [0, 0], 7).await;
    let settings = upstream_of(over(Transport::Udp, network.address), keys);
    let mut client = RealClient::start(&settings, 1);
    assert!(client.until(PATIENCE, is_up).await.is_some());
    network.set_loss([0, 100]);
    client.ask(1).await;
    let began = Instant::now();
    while server.applied() == 0 {
        assert!(began.elapsed() < PATIENCE, "no request arrives");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Answers come again: the client learns that it is helped, by the session it had or a new one.
    network.set_loss([0, 0]);
    assert!(client.until(PATIENCE, is_granted).await.is_some());
    assert_eq!(server.applied(), 1);
    client.stop().await;
}
