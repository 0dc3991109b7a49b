//! Our client against our server over TLS on the loopback interface.
#![allow(clippy::unwrap_used, reason = "helper functions of tests")]

#[path = "../../../cli/tests/support/ports.rs"]
mod ports;
mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use ports::free_address;
use support::certificates::Ca;
use support::{server_mapping, service};
use tokio::sync::watch;
use weir_data_channel::client::{
    ClientError, ClientSettings, DataClient, Desired, Intervals, Position, Registered,
    Synchronised, UpkeepState, keep_up,
};
use weir_data_channel::model::{
    Ace, Acl, AclType, Actions, Alias, AttackMapping, Capabilities, Ipv4Match, L3, Matched,
    Matches, Vendor, VendorMapping,
};
use weir_data_channel::server::{BoundServer, ServerSettings};
use weir_data_channel::store::{Limits, Written};
use weir_data_channel::{DataChannelConfig, DataHandle, DataServer, Folder, TlsFiles};
use weir_dots_proto::Cuid;
use weir_dots_proto::body::{ActivationType, Target};

struct Running {
    address: SocketAddr,
    handle: DataHandle,
    shutdown: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

async fn start(tls: TlsFiles, rows: Option<&Path>, address: &str) -> Running {
    let folder = rows.map(|path| Folder::open(path).unwrap());
    let kept = folder.as_ref().map(|folder| folder.load().unwrap());
    let keep = folder.map(|folder| Box::new(folder) as _);
    let handle = DataHandle::new(service(Limits::default(), Capabilities::mandatory()), keep);
    if let Some((rows, unreadable)) = kept {
        assert!(unreadable.is_empty());
        assert!(handle.restore(rows).is_empty());
    }
    let settings = ServerSettings::new(vec![address.parse().unwrap()], tls);
    let server = BoundServer::bind(settings, handle.clone()).await.unwrap();
    let (shutdown, wait) = watch::channel(false);
    Running {
        address: server.addresses()[0],
        handle,
        shutdown,
        task: tokio::spawn(server.run(wait)),
    }
}

fn settings(address: SocketAddr, tls: TlsFiles) -> ClientSettings {
    let cuid = Cuid::new("dz6pHjaADkaFTbjr0JGBpw").unwrap();
    let mut settings = ClientSettings::new(&address.to_string(), tls, cuid);
    settings.timeout = Duration::from_secs(20);
    settings
}

fn alias(name: &str, prefix: &str) -> Alias {
    Alias {
        name: name.to_owned(),
        target: Target {
            target_prefix: vec![prefix.parse().unwrap()],
            ..Target::default()
        },
    }
}

fn filter(name: &str, source: &str) -> Acl {
    Acl {
        name: name.to_owned(),
        kind: Some(AclType::Ipv4),
        activation: ActivationType::ActivateWhenMitigating,
        aces: vec![Ace {
            name: "one".to_owned(),
            matches: Matches {
                l3: Some(L3::Ipv4(Ipv4Match {
                    destination: Some("198.51.100.0/24".parse().unwrap()),
                    source: Some(source.parse().unwrap()),
                    ..Ipv4Match::default()
                })),
                l4: None,
            },
            actions: Actions::ACCEPT,
        }],
    }
}

fn mapping(description: &str) -> VendorMapping {
    VendorMapping {
        vendors: vec![Vendor {
            id: 345,
            name: Some("weir".to_owned()),
            language: Some("en-US".to_owned()),
            last_updated: 1_800_000_000,
            attacks: vec![AttackMapping {
                id: 1,
                description: description.to_owned(),
            }],
        }],
    }
}

#[tokio::test]
async fn a_client_keeps_its_resources() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Ca::new(folder.path(), "ca");
    let server = start(ca.server(), None, "127.0.0.1:0").await;
    let mut client = DataClient::new(settings(server.address, ca.client("client-a"))).unwrap();
    assert_eq!(client.discover().await.unwrap(), "/restconf");
    assert_eq!(
        client.capabilities().await.unwrap(),
        Capabilities::mandatory()
    );
    // The first change registers on its own.
    let www = alias("a name/with, signs", "198.51.100.1/32");
    assert_eq!(client.put_alias(&www).await.unwrap(), Written::Created);
    assert_eq!(client.put_alias(&www).await.unwrap(), Written::Replaced);
    assert_eq!(client.register().await.unwrap(), Registered::Before);
    let there = client.aliases().await.unwrap();
    assert_eq!(there.len(), 1);
    assert_eq!(
        (&there[0].alias, there[0].pending_lifetime),
        (&www, Some(10_080))
    );
    let found = server.handle.alias("client-a", client.cuid(), &www.name);
    assert_eq!(found, Some(www.target.clone()));

    let (one, two, three) = (
        filter("one", "192.0.2.0/25"),
        filter("two", "192.0.2.128/25"),
        filter("three", "10.0.0.0/8"),
    );
    assert_eq!(client.put_acl(&one, None).await.unwrap(), Written::Created);
    client.put_acl(&two, Some(&Position::First)).await.unwrap();
    client
        .put_acl(&three, Some(&Position::After("two".to_owned())))
        .await
        .unwrap();
    let order = |acls: &[weir_data_channel::model::AclEntry]| {
        acls.iter()
            .map(|entry| entry.acl.name.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        order(&client.acls().await.unwrap()),
        ["two", "three", "one"]
    );
    client
        .put_acl(&one, Some(&Position::Before("three".to_owned())))
        .await
        .unwrap();
    let acls = client.acls().await.unwrap();
    assert_eq!(order(&acls), ["two", "one", "three"]);
    assert_eq!(acls[1].acl, one);
    let matched = Matched {
        packets: 5,
        octets: 500,
    };
    server
        .handle
        .handle_matched(client.cuid(), "one", "one", matched);
    let states = client.acl_states().await.unwrap();
    assert_eq!(states[1].matched.get("one"), Some(&matched));
    assert_eq!(states[1].pending_lifetime, Some(10_080));
    assert!(client.delete_acl("one").await.unwrap());
    assert!(!client.delete_acl("one").await.unwrap());
    assert!(client.delete_alias(&www.name).await.unwrap());
    assert!(client.deregister().await.unwrap());
    assert!(!client.deregister().await.unwrap());
}

#[tokio::test]
async fn mappings_are_exchanged() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Ca::new(folder.path(), "ca");
    let server = start(ca.server(), None, "127.0.0.1:0").await;
    let mut client = DataClient::new(settings(server.address, ca.client("client-a"))).unwrap();
    assert_eq!(
        client.peer_mapping(false).await.unwrap(),
        Some(server_mapping())
    );
    let vendors = client.peer_mapping(true).await.unwrap().unwrap();
    assert_eq!((vendors.vendors.len(), vendors.attacks()), (1, 0));
    for description in ["UDP flood", "a flood of UDP"] {
        assert!(client.share_mapping(&mapping(description)).await.unwrap());
        let there = server.handle.mapping("client-a", client.cuid()).unwrap();
        assert_eq!(there.description(345, 1), Some(description));
    }
    let before = server.handle.revision();
    assert!(
        client
            .share_mapping(&mapping("a flood of UDP"))
            .await
            .unwrap()
    );
    assert_eq!(
        server.handle.revision(),
        before,
        "what is known is not sent again"
    );
}

#[tokio::test]
async fn refusals_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Ca::new(folder.path(), "ca");
    let other = Ca::new(folder.path(), "other");
    let server = start(ca.server(), None, "127.0.0.1:0").await;
    let mut a = DataClient::new(settings(server.address, ca.client("client-a"))).unwrap();
    a.register().await.unwrap();
    let refused = a
        .put_alias(&alias("foreign", "203.0.113.1/32"))
        .await
        .unwrap_err();
    let told = refused.to_string();
    assert!(
        matches!(refused, ClientError::Refused { status: 400, .. }),
        "{told}"
    );
    assert!(
        told.contains("203.0.113.1/32 is not of the client's domain"),
        "{told}"
    );
    // Another client has chosen the same cuid.
    let mut b = DataClient::new(settings(server.address, ca.client("client-b"))).unwrap();
    assert!(matches!(b.register().await, Err(ClientError::CuidTaken(_))));
    assert!(b.aliases().await.unwrap().is_empty());
    assert!(!b.delete_alias("foreign").await.unwrap());
    // One of no known name.
    let mut nobody = DataClient::new(settings(server.address, ca.client("nobody"))).unwrap();
    let refused = nobody.register().await.unwrap_err();
    assert!(matches!(refused, ClientError::Refused { status: 403, .. }));
    // The server is certified by another CA than ours, or has another name.
    let mut tls = ca.client("client-a");
    tls.ca = other.server().ca;
    let mut wrong = DataClient::new(settings(server.address, tls)).unwrap();
    assert!(matches!(
        wrong.register().await,
        Err(ClientError::Handshake { .. })
    ));
    let mut named = settings(server.address, ca.client("client-a"));
    named.server_name = Some("dots.example".to_owned());
    let mut named = DataClient::new(named).unwrap();
    assert!(matches!(
        named.register().await,
        Err(ClientError::Handshake { .. })
    ));
    // Ours is expired: TLS 1.3 tells it with the first answer.
    let expired = ca.certify("client-a", &["client-a"], (-9, -1));
    let mut expired = DataClient::new(settings(server.address, expired)).unwrap();
    let told = expired.register().await.unwrap_err();
    assert!(
        matches!(
            told,
            ClientError::Connection(_) | ClientError::Handshake { .. }
        ),
        "{told}"
    );
    // Nobody listens.
    let mut closed = DataClient::new(settings(free_address(), ca.client("client-a"))).unwrap();
    assert!(matches!(
        closed.register().await,
        Err(ClientError::Connect { .. })
    ));
}

#[tokio::test]
async fn what_is_told_survives_a_restart_of_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Ca::new(folder.path(), "ca");
    let rows = folder.path().join("rows");
    let listen = free_address().to_string();
    let server = start(ca.server(), Some(&rows), &listen).await;
    let mut client = DataClient::new(settings(server.address, ca.client("client-a"))).unwrap();
    client
        .put_alias(&alias("www", "198.51.100.1/32"))
        .await
        .unwrap();
    client
        .put_acl(&filter("one", "192.0.2.0/24"), None)
        .await
        .unwrap();
    let switched =
        server
            .handle
            .set_activation("client-a", client.cuid(), "one", ActivationType::Immediate);
    assert_eq!(switched, Ok(()));
    for entry in std::fs::read_dir(&rows).unwrap() {
        use std::os::unix::fs::PermissionsExt;
        let mode = entry.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    server.shutdown.send(true).unwrap();
    server.task.await.unwrap();
    let again = start(ca.server(), Some(&rows), &listen).await;
    // The client's connection has ended with the first server; it opens another.
    assert_eq!(client.aliases().await.unwrap().len(), 1);
    let acls = client.acls().await.unwrap();
    assert_eq!(acls[0].acl.activation, ActivationType::Immediate);
    assert!(client.deregister().await.unwrap());
    assert_eq!(std::fs::read_dir(&rows).unwrap().count(), 0);
    assert_eq!(again.handle.clients(), 0);
}

#[tokio::test]
async fn a_server_is_brought_to_what_is_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Ca::new(folder.path(), "ca");
    let server = start(ca.server(), None, "127.0.0.1:0").await;
    let mut client = DataClient::new(settings(server.address, ca.client("client-a"))).unwrap();
    client
        .put_alias(&alias("by hand", "198.51.100.9/32"))
        .await
        .unwrap();
    let mut desired = Desired {
        aliases: vec![
            alias("weir-a", "198.51.100.1/32"),
            alias("weir-b", "198.51.100.2/32"),
        ],
        acls: vec![
            filter("weir-1", "192.0.2.0/26"),
            filter("weir-2", "192.0.2.64/26"),
        ],
        mapping: mapping("UDP flood"),
        prefix: "weir-".to_owned(),
        under_attack: false,
    };
    let nothing = Synchronised {
        mapping: true,
        ..Synchronised::default()
    };
    assert_eq!(
        client.synchronise(&desired).await.unwrap(),
        Synchronised { put: 4, ..nothing }
    );
    assert_eq!(client.synchronise(&desired).await.unwrap(), nothing);
    // What the signal channel has switched stays under attack, and is as wanted again in peace.
    let cuid = client.cuid().clone();
    server
        .handle
        .set_activation("client-a", &cuid, "weir-1", ActivationType::Immediate)
        .unwrap();
    desired.under_attack = true;
    assert_eq!(client.synchronise(&desired).await.unwrap(), nothing);
    desired.under_attack = false;
    assert_eq!(
        client.synchronise(&desired).await.unwrap(),
        Synchronised { put: 1, ..nothing }
    );
    assert!(server.handle.active_acls(&cuid, false).is_empty());
    // One more in front, one less.
    desired.acls.insert(0, filter("weir-0", "192.0.2.128/26"));
    desired.aliases.pop();
    let done = client.synchronise(&desired).await.unwrap();
    assert_eq!((done.put, done.removed), (3, 1));
    let acls = server.handle.active_acls(&cuid, true);
    let names: Vec<&str> = acls.iter().map(|acl| acl.name.as_str()).collect();
    assert_eq!(names, ["weir-0", "weir-1", "weir-2"]);
    let aliases = client.aliases().await.unwrap();
    let names: Vec<&str> = aliases
        .iter()
        .map(|entry| entry.alias.name.as_str())
        .collect();
    assert_eq!(names, ["by hand", "weir-a"]);
}

#[tokio::test]
async fn upkeep_begins_when_the_server_comes_and_follows_what_is_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Ca::new(folder.path(), "ca");
    let free = free_address();
    let client = DataClient::new(settings(free, ca.client("client-a"))).unwrap();
    let cuid = client.cuid().clone();
    let (want, wanted) = watch::channel(Desired {
        aliases: vec![alias("weir-a", "198.51.100.1/32")],
        prefix: "weir-".to_owned(),
        ..Desired::default()
    });
    let (tell, mut told) = watch::channel(UpkeepState::default());
    let intervals = Intervals {
        least_wait: Duration::from_millis(50),
        most_wait: Duration::from_millis(50),
        ..Intervals::default()
    };
    let upkeep = tokio::spawn(keep_up(client, wanted, tell, intervals));
    told.wait_for(|state| state.failures >= 2 && state.failed.is_some())
        .await
        .unwrap();
    let server = start(ca.server(), None, &free.to_string()).await;
    told.wait_for(|state| state.done.is_some_and(|done| done.put == 1))
        .await
        .unwrap();
    assert_eq!(told.borrow().peer_mapping, server_mapping());
    assert!(server.handle.alias("client-a", &cuid, "weir-a").is_some());
    want.send_modify(|desired| desired.acls = vec![filter("weir-1", "192.0.2.0/24")]);
    told.wait_for(|state| state.done.is_some_and(|done| done.put == 1) && state.failures == 0)
        .await
        .unwrap();
    while !server.handle.acl_exists("client-a", &cuid, "weir-1") {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    want.send_modify(|desired| desired.aliases.clear());
    told.wait_for(|state| state.done.is_some_and(|done| done.removed == 1))
        .await
        .unwrap();
    drop(want);
    upkeep.await.unwrap();
}

#[tokio::test]
async fn a_data_channel_is_started_from_its_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Ca::new(folder.path(), "ca");
    let config = DataChannelConfig {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        root: "/dots/restconf".to_owned(),
        ..DataChannelConfig::default()
    };
    let clients = [("client-a".into(), vec!["198.51.100.0/24".parse().unwrap()])];
    let checked = config.check(ca.server(), &clients).unwrap();
    let channel = DataServer::bind(checked, server_mapping(), Vec::new(), None)
        .await
        .unwrap();
    let url = format!("https://{}", channel.addresses()[0]);
    let (handle, control) = (channel.handle(), channel.control());
    let (stop, shutdown) = watch::channel(false);
    let (_mitigate, mitigating) = watch::channel(std::collections::BTreeSet::new());
    let task = tokio::spawn(channel.run(mitigating, shutdown));
    let cuid = Cuid::new("c").unwrap();
    let settings = ClientSettings::at(&url, ca.client("client-a"), cuid.clone()).unwrap();
    let mut client = DataClient::new(settings).unwrap();
    assert_eq!(client.discover().await.unwrap(), "/dots/restconf");
    client
        .put_alias(&alias("www", "198.51.100.1/32"))
        .await
        .unwrap();
    assert!(handle.alias("client-a", &cuid, "www").is_some());
    assert_eq!(handle.owner(&cuid).as_deref(), Some("client-a"));
    assert_eq!(
        client.peer_mapping(false).await.unwrap(),
        Some(server_mapping())
    );
    // The path is known: it is not asked for.
    let url = format!("{url}/dots/restconf");
    let settings = ClientSettings::at(&url, ca.client("client-a"), cuid).unwrap();
    let before = control.counts().requests;
    assert_eq!(
        DataClient::new(settings)
            .unwrap()
            .aliases()
            .await
            .unwrap()
            .len(),
        1
    );
    assert_eq!(control.counts().requests, before + 1);
    stop.send_replace(true);
    task.await.unwrap();
}
