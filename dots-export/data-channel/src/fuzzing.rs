//! Bodies of fuzz targets: plain functions that take any octets and must return.

use ipnet::IpNet;
use serde_json::Value;

use crate::model::{
    AclEntry, AclState, Acls, AliasEntry, Aliases, Capabilities, Registration, Source,
    VendorMapping,
};
use crate::service::{Headers, Method, Request, Service, ServiceSettings};
use crate::store::{DataStore, Limits};
use crate::{Authority, Peer, UnixTime};

const CLIENT: &str = "/restconf/data/ietf-dots-data-channel:dots-data/dots-client=c";

/// Takes `data` as requests, a line each as `METHOD path?query body`, to a server with narrow bounds; a line may also be a
/// body alone, for the client. Panics only if the service is wrong: if a bound does not hold, an answer is no JSON, or what
/// was stored cannot be read back.
pub fn fuzz_restconf(data: &[u8]) {
    let mut service = service();
    let peer = ["client".to_owned()];
    let mut now = UnixTime(1_800_000_000);
    register(&mut service, &peer, now);
    for line in data.split(|octet| *octet == b'\n').take(64) {
        let mut parts = line.splitn(3, |octet| *octet == b' ');
        let method = parts.next().unwrap_or_default();
        let target = String::from_utf8_lossy(parts.next().unwrap_or_default()).replace('~', CLIENT);
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target.as_str(), None),
        };
        let request = Request {
            method: Method::of(&String::from_utf8_lossy(method)),
            path,
            query,
            headers: Headers::default(),
            body: parts.next().unwrap_or_default(),
        };
        let response = service.handle_request(&request, &peer, now);
        assert!((200..=508).contains(&response.status));
        if !response.body.is_empty() && !path.starts_with("/.well-known") {
            assert!(serde_json::from_slice::<Value>(&response.body).is_ok());
        }
        now = now.plus_minutes(7);
    }
    check(&mut service);
    read_as_client(data);
}

/// The service, with bounds that are soon reached.
fn service() -> Service {
    let prefixes: Vec<IpNet> = ["0.0.0.0/0", "::/0"]
        .iter()
        .filter_map(|p| p.parse().ok())
        .collect();
    let peer = Peer {
        names: vec!["example".to_owned()],
        ..Peer::client("client", prefixes)
    };
    let limits = Limits {
        max_clients: 4,
        max_clients_per_peer: 3,
        max_aliases: 4,
        max_acls: 4,
        max_aces: 6,
        max_attacks: 6,
        max_octets: 4_000,
        any_destination: true,
        ..Limits::default()
    };
    let settings = ServiceSettings {
        own_names: vec!["dots.example".to_owned()],
        ..ServiceSettings::default()
    };
    let store = DataStore::new(limits, Capabilities::all());
    Service::new(settings, Authority::new([peer]), store)
}

fn register(service: &mut Service, peer: &[String], now: UnixTime) {
    let request = Request {
        method: Method::Post,
        path: "/restconf/data/ietf-dots-data-channel:dots-data",
        query: None,
        headers: Headers::default(),
        body: br#"{"ietf-dots-data-channel:dots-client":[{"cuid":"c"}]}"#,
    };
    assert_eq!(service.handle_request(&request, peer, now).status, 201);
}

/// Bounds hold, and each row is read back as it was.
fn check(service: &mut Service) {
    let store = service.store_mut();
    assert!(store.clients().count() <= 3);
    for (cuid, client) in store.clients() {
        assert!(
            client.aliases.len() <= 4 && client.acls.len() <= 4 && client.mapping.attacks() <= 6
        );
        let told = client.registration(cuid);
        let json = told.json();
        assert!(json.to_string().len() <= 4_000);
        let read = Registration::read(&Value::Array(vec![json]), Source::Request);
        assert_eq!(read, Ok(told));
    }
    let mut again = DataStore::new(Limits::default(), Capabilities::all());
    while let Some(change) = store.poll_change() {
        if let Some(row) = change.row {
            assert!(again.restore(row).is_ok());
        }
    }
}

/// A server's answers are as hostile as a client's requests.
fn read_as_client(data: &[u8]) {
    let _ = crate::client::restconf_root(data);
    let Ok(value) = serde_json::from_slice::<Value>(data) else {
        return;
    };
    for source in [Source::Request, Source::Answer] {
        let _ = Capabilities::read(&value, source);
        if let Ok(aliases) = Aliases::read(&value, source) {
            assert_eq!(Aliases::read(&aliases.json(), source), Ok(aliases));
        }
        if let Ok(acls) = Acls::read(&value, source) {
            assert_eq!(Acls::read(&acls.json(), source), Ok(acls));
        }
        if let Ok(mapping) = VendorMapping::read(&value, source) {
            assert_eq!(VendorMapping::read(&mapping.json(), source), Ok(mapping));
        }
    }
    let _ = AliasEntry::read_all(&value);
    let _ = AclEntry::read_all(&value);
    let _ = AclState::read_all(&value);
}
