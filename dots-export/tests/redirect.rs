//! Redirected signalling (RFC 9132 §4.6) between two real servers on loopback.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use support::net::{
    RealClient, RealServer, is_granted, is_up, server_config, upstream_config, upstream_of,
};
use weir_dots_export::{ClientCommand, ClientNotice, SessionState, UpstreamSettings};
use weir_dots_proto::body::Redirect;
use weir_dtls::lab::{Issue, LabNames, issue, write_keys};

const PATIENCE: Duration = Duration::from_secs(20);
const OTHER: &str = "alt.example";

fn lab() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_keys(folder.path(), &LabNames::default()).unwrap();
    let alternate = Issue {
        file: "alt".to_owned(),
        names: vec![OTHER.to_owned()],
        days: 30,
    };
    issue(folder.path(), &alternate).unwrap();
    folder
}

/// The configured server on 127.0.0.1, and the other one on 127.0.0.2 with the same port.
struct Servers {
    first: RealServer,
    other: RealServer,
}

impl Servers {
    /// The first redirects to the other one with this Max-Age.
    fn start(keys: &Path, max_age: u32) -> Self {
        Self::start_with(keys, max_age, "alt", false)
    }

    fn start_with(keys: &Path, max_age: u32, certificate: &str, back: bool) -> Self {
        let mut settings = server_config(keys).check().unwrap();
        settings.policy.redirect = Some((redirect(OTHER, "127.0.0.2"), max_age));
        let first = RealServer::start_with(settings);
        let mut config = server_config(keys);
        config.listen = vec![SocketAddr::new(
            "127.0.0.2".parse().unwrap(),
            first.address.port(),
        )];
        config.certificate = keys.join(format!("{certificate}.pem"));
        config.key = keys.join(format!("{certificate}.key"));
        let mut settings = config.check().unwrap();
        if back {
            settings.policy.redirect = Some((redirect("LocalHost", "127.0.0.1"), max_age));
        }
        let other = RealServer::start_with(settings);
        Self { first, other }
    }

    fn client(&self, keys: &Path) -> RealClient {
        RealClient::start(&self.upstream(keys), 1)
    }

    fn upstream(&self, keys: &Path) -> UpstreamSettings {
        let mut config = upstream_config(self.first.address);
        config.server = format!("localhost:{}", self.first.address.port());
        upstream_of(config, keys)
    }
}

fn redirect(server: &str, address: &str) -> Redirect {
    Redirect {
        alt_server: Some(server.to_owned()),
        alt_server_record: vec![address.parse().unwrap()],
        ..Redirect::default()
    }
}

fn is_followed(notice: &ClientNotice) -> bool {
    matches!(notice, ClientNotice::Redirected { server, followed: true, .. } if server == OTHER)
}

fn is_ignored(notice: &ClientNotice) -> bool {
    matches!(
        notice,
        ClientNotice::Redirected {
            followed: false,
            ..
        }
    )
}

fn is_refused(notice: &ClientNotice) -> bool {
    matches!(notice, ClientNotice::Refused { .. })
}

fn is_lost(notice: &ClientNotice) -> bool {
    matches!(
        notice,
        ClientNotice::Session {
            state: SessionState::Lost,
            ..
        }
    )
}

async fn withdraw(client: &RealClient) {
    let attack = support::attack("a");
    client
        .commands
        .send(ClientCommand::Withdraw { attack })
        .await
        .unwrap();
}

#[tokio::test]
async fn a_request_is_made_at_the_other_server() {
    let folder = lab();
    let servers = Servers::start(folder.path(), 3600);
    let mut client = servers.client(folder.path());
    client.ask(7).await;
    let mut followed = 0;
    let granted = loop {
        let notice = client.until(PATIENCE, |_| true).await.unwrap();
        assert!(!is_refused(&notice), "{notice:?}");
        followed += u32::from(is_followed(&notice));
        if is_granted(&notice) {
            break notice;
        }
    };
    assert_eq!(followed, 1, "{granted:?}");
    assert_eq!((servers.first.applied(), servers.other.applied()), (0, 1));
    withdraw(&client).await;
    let is_withdrawn = |notice: &ClientNotice| matches!(notice, ClientNotice::Withdrawn { .. });
    client.until(PATIENCE, is_withdrawn).await.unwrap();
    client.stop().await;
}

#[tokio::test]
async fn another_server_has_to_prove_its_name() {
    let folder = lab();
    // A certificate of the same authority, but of another server.
    let servers = Servers::start_with(folder.path(), 3600, "server", false);
    let mut client = servers.client(folder.path());
    client.ask(7).await;
    client.until(PATIENCE, is_followed).await.unwrap();
    // The first one is used again, and says the same again.
    client.until(PATIENCE, is_ignored).await.unwrap();
    let refused = client.until(PATIENCE, is_refused).await.unwrap();
    let ClientNotice::Refused { code, retry_in, .. } = refused else {
        unreachable!()
    };
    // So policy may ask another upstream.
    assert_eq!(code, "5.03");
    assert_eq!(retry_in, Some(Duration::from_secs(60)));
    assert_eq!(servers.other.applied(), 0);
    client.stop().await;
}

#[tokio::test]
async fn a_loop_is_told_and_not_followed() {
    let folder = lab();
    let servers = Servers::start_with(folder.path(), 3600, "alt", true);
    let mut client = servers.client(folder.path());
    client.ask(7).await;
    client.until(PATIENCE, is_followed).await.unwrap();
    let ignored = client.until(PATIENCE, is_ignored).await.unwrap();
    assert!(matches!(ignored, ClientNotice::Redirected { server, .. } if server == "localhost"));
    client.until(PATIENCE, is_refused).await.unwrap();
    // And there it stays.
    assert_eq!(client.until(Duration::from_secs(3), is_up).await, None);
    client.stop().await;
}

#[tokio::test]
async fn when_its_time_is_over_the_configured_server_is_used_but_not_during_an_attack() {
    let folder = lab();
    let servers = Servers::start(folder.path(), 2);
    let mut client = servers.client(folder.path());
    // In peace: there, and back.
    client.until(PATIENCE, is_followed).await.unwrap();
    client.until(PATIENCE, is_up).await.unwrap();
    let there = Instant::now();
    client.until(PATIENCE, is_lost).await.unwrap();
    client.until(PATIENCE, is_up).await.unwrap();
    assert!(
        (1..5).contains(&there.elapsed().as_secs()),
        "{:?}",
        there.elapsed()
    );
    // There again within five minutes would be a loop.
    client.until(PATIENCE, is_ignored).await.unwrap();
    client.stop().await;

    let mut client = RealClient::start(&servers.upstream(folder.path()), 2);
    client.ask(7).await;
    client.until(PATIENCE, is_granted).await.unwrap();
    assert_eq!(client.until(Duration::from_secs(5), is_lost).await, None);
    withdraw(&client).await;
    client.until(PATIENCE, is_lost).await.unwrap();
    client.stop().await;
}

#[tokio::test]
async fn the_greatest_max_age_is_for_good() {
    let folder = lab();
    let servers = Servers::start(folder.path(), u32::MAX);
    let mut client = servers.client(folder.path());
    client.until(PATIENCE, is_followed).await.unwrap();
    client.until(PATIENCE, is_up).await.unwrap();
    client.ask(7).await;
    client.until(PATIENCE, is_granted).await.unwrap();
    withdraw(&client).await;
    assert_eq!(client.until(Duration::from_secs(3), is_lost).await, None);
    assert_eq!((servers.first.applied(), servers.other.applied()), (0, 1));
    // A server that is gone is not waited for: the configured one is asked again, and its word is a circle.
    drop(servers.other);
    client.ask(8).await;
    client
        .until(Duration::from_secs(60), is_ignored)
        .await
        .unwrap();
    client.stop().await;
}

#[tokio::test]
async fn a_max_age_of_0_is_for_the_mitigation_that_is_asked_for() {
    let folder = lab();
    let servers = Servers::start(folder.path(), 0);
    let mut client = servers.client(folder.path());
    // In peace there is nothing to go there for.
    client.until(PATIENCE, is_up).await.unwrap();
    let went = |notice: &ClientNotice| is_followed(notice) || is_lost(notice);
    assert_eq!(client.until(Duration::from_secs(2), went).await, None);
    client.ask(7).await;
    client.until(PATIENCE, is_followed).await.unwrap();
    client.until(PATIENCE, is_granted).await.unwrap();
    assert_eq!((servers.first.applied(), servers.other.applied()), (0, 1));
    withdraw(&client).await;
    let mut withdrawn = false;
    loop {
        let notice = client.until(PATIENCE, |_| true).await.unwrap();
        withdrawn |= matches!(notice, ClientNotice::Withdrawn { .. });
        if is_lost(&notice) {
            break;
        }
    }
    assert!(withdrawn, "it is withdrawn where it was asked for");
    client.until(PATIENCE, is_up).await.unwrap();
    client.stop().await;
}
