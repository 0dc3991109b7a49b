//! Whose addresses leave, who may read files, and how state is backed up and restored.

#![allow(clippy::unwrap_used, reason = "test code")]

#[path = "support/command.rs"]
mod command;
mod support;

use std::fs::{self, Permissions, set_permissions};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use command::{done, weir};
use support::{Daemon, Exporter, Lab, eventually};
use weir_flow_record::Address;
use weir_flow_store::FlowReader;

/// A key of Crypto-PAn, readable by its owner alone.
fn write_key(path: &Path) {
    fs::write(path, [42; 32]).unwrap();
    set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

fn append(lab: &Lab, tables: &str) {
    let mut config = fs::read_to_string(&lab.config).unwrap();
    config.push_str(tables);
    fs::write(&lab.config, config).unwrap();
}

/// Files and folders below, with their modes; not the lab's own.
fn modes(folder: &Path) -> Vec<(PathBuf, u32)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::metadata(&path).unwrap();
        found.push((path.clone(), metadata.permissions().mode() & 0o777));
        if metadata.is_dir() {
            found.extend(modes(&path));
        }
    }
    found
}

#[test]
fn stored_addresses_are_anonymous_and_attacks_are_not() {
    let lab = Lab::new();
    write_key(&lab.folder.path().join("anonymise.key"));
    append(
        &lab,
        "[store]\nparquet_dir = \"store\"\nparquet_interval = \"1s\"\n\
         [anonymise]\nmethod = \"crypto-pan\"\nkey_file = \"anonymise.key\"\n\
         [events]\nfile = \"events.ndjson\"\n",
    );
    let daemon = Daemon::start(&lab.config);
    let mut exporter = Exporter::new(lab.collector);
    exporter.send_templates();
    let targets = [7, 8].map(|host| Address::from_v4([203, 0, 113, host]));
    let attacked = || !lab.ledger.lock().unwrap().active.is_empty();
    assert!(eventually(Duration::from_secs(10), || {
        exporter.send_packets(&targets, 30_000);
        std::thread::sleep(Duration::from_millis(100));
        attacked()
    }));
    // Bundles of attacks are files, too.
    std::thread::sleep(Duration::from_millis(1500));
    exporter.send_packets(&targets, 30_000);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(daemon.terminate(), Some(0));

    let mut stored = Vec::new();
    for batch in FlowReader::open(&[lab.folder.path().join("store")]).unwrap() {
        let batch = batch.unwrap();
        stored.extend(
            batch
                .source_address
                .iter()
                .copied()
                .zip(batch.destination_address.iter().copied()),
        );
    }
    stored.sort();
    stored.dedup();
    assert_eq!(stored.len(), 2, "{stored:?}");
    let [(one_source, one), (other_source, other)] = stored[..] else {
        unreachable!()
    };
    assert_eq!(one_source, other_source);
    assert_ne!(one_source, Address::from_v4([198, 51, 100, 7]));
    assert!(!targets.contains(&one) && !targets.contains(&other));
    // .7 and .8 have 28 bits in common, and so have what they became.
    assert_eq!(one.prefix(28, 128), other.prefix(28, 128));
    assert_ne!(one.prefix(29, 128), other.prefix(29, 128));
    // Who is attacked is told as it is, or nobody could be helped.
    let events = fs::read_to_string(lab.folder.path().join("events.ndjson")).unwrap();
    assert!(events.contains("203.0.113.7/32") && events.contains("198.51.100."));

    // Nobody else reads any of it.
    let state = modes(&lab.folder.path().join("state"));
    let store = modes(&lab.folder.path().join("store"));
    let named = |name: &str| state.iter().any(|(path, _)| path.ends_with(name));
    assert!(named("weir.redb") && named("dots-audit.ndjson") && named("evidence"));
    assert!(store.len() >= 4, "{store:?}");
    let events = lab.folder.path().join("events.ndjson");
    let events = (
        events.clone(),
        fs::metadata(&events).unwrap().permissions().mode() & 0o777,
    );
    for (path, mode) in state.iter().chain(&store).chain([&events]) {
        let expected = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(*mode, expected, "{}", path.display());
    }
    for folder in ["state", "store"] {
        let mode = fs::metadata(lab.folder.path().join(folder))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700, "{folder}");
    }
}

/// Distinct source addresses of JSON lines, and all lines without addresses.
fn told(lines: &str) -> (Vec<String>, Vec<serde_json::Value>) {
    let (mut sources, mut rest) = (Vec::new(), Vec::new());
    for line in lines.lines() {
        let mut record: serde_json::Value = serde_json::from_str(line).unwrap();
        let fields = record.as_object_mut().unwrap();
        sources.push(fields["src_addr"].as_str().unwrap().to_owned());
        for name in [
            "src_addr", "dst_addr", "next_hop", "src_net", "dst_net", "src_mac", "dst_mac",
        ] {
            fields.remove(name);
        }
        rest.push(record);
    }
    sources.sort();
    sources.dedup();
    (sources, rest)
}

#[test]
fn decode_makes_addresses_anonymous() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    done(at, &["generate", "clock-skew", "-o", "x.pcap"]);
    write_key(&at.join("key"));
    let (plain, rest) = told(&done(at, &["decode", "x.pcap"]));
    let (secret, secret_rest) = told(&done(at, &["decode", "x.pcap", "--anonymise", "key"]));
    // One to one, and nothing but addresses changes.
    assert_eq!((plain.len(), &rest), (secret.len(), &secret_rest));
    assert!(
        plain
            .iter()
            .all(|address| secret.binary_search(address).is_err())
            && plain.len() > 1000
    );
    let (cut, _) = told(&done(at, &["decode", "x.pcap", "--truncate", "24,48"]));
    assert!(cut.len() < plain.len());
    assert!(
        cut.iter()
            .all(|address| address.ends_with(".0") || address.ends_with("::")),
        "{cut:?}"
    );
    // With one's own left as they are.
    let own = "203.0.112.0/20";
    let (kept, _) = told(&done(
        at,
        &["decode", "x.pcap", "--anonymise", "key", "--keep", own],
    ));
    let own: Vec<&String> = plain
        .iter()
        .filter(|address| address.starts_with("203.0.11"))
        .collect();
    assert!(
        !own.is_empty()
            && own
                .iter()
                .all(|address| kept.binary_search(address).is_ok())
    );
    // A key that others can read is none.
    set_permissions(at.join("key"), Permissions::from_mode(0o644)).unwrap();
    let refused = weir(at, &["decode", "x.pcap", "--anonymise", "key"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("chmod 600"));
}

fn config(lab: &Lab) -> String {
    lab.config.to_str().unwrap().to_owned()
}

/// Rows of a stage, as `weir state show` tells.
fn rows(lab: &Lab, stage: &str) -> u64 {
    let shown = done(
        lab.folder.path(),
        &["state", "show", "--json", "--config", &config(lab)],
    );
    let shown: Vec<serde_json::Value> = serde_json::from_str(&shown).unwrap();
    let stage = shown.iter().find(|row| row["stage"] == stage).unwrap();
    stage["rows"].as_u64().unwrap()
}

#[test]
fn state_is_backed_up_while_the_daemon_runs_and_restored_while_it_does_not() {
    let lab = Lab::new();
    let folder = lab.folder.path();
    let daemon = Daemon::start(&lab.config);
    let mut exporter = Exporter::new(lab.collector);
    exporter.send_templates();
    assert!(eventually(Duration::from_secs(5), || rows(
        &lab,
        "templates"
    ) > 0));
    let templates = rows(&lab, "templates");
    done(
        folder,
        &["state", "backup", "backup.redb", "--config", &config(&lab)],
    );
    let mode = fs::metadata(folder.join("backup.redb"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    // Nothing is left in the state directory.
    let left = modes(&folder.join("state"));
    assert!(
        !left
            .iter()
            .any(|(path, _)| path.to_string_lossy().contains("backup")),
        "{left:?}"
    );
    let again = weir(
        folder,
        &["state", "backup", "backup.redb", "--config", &config(&lab)],
    );
    assert_eq!(again.status.code(), Some(1));

    let restore = ["state", "restore", "backup.redb", "--config", &config(&lab)];
    let refused = weir(folder, &restore);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("stop the daemon first"));
    assert_eq!(daemon.terminate(), Some(0));

    // A disk was replaced.
    fs::remove_file(folder.join("state/weir.redb")).unwrap();
    let empty = weir(folder, &["state", "show", "--config", &config(&lab)]);
    assert_eq!(empty.status.code(), Some(1));
    done(folder, &restore);
    assert_eq!(rows(&lab, "templates"), templates);
    // What is there when one is restored is kept beside it.
    let told = weir(folder, &restore);
    assert!(String::from_utf8_lossy(&told.stderr).contains("weir.redb.before-"));
    let shown = done(folder, &["state", "show", "--config", &config(&lab)]);
    assert!(
        shown.starts_with("STAGE") && shown.contains("names"),
        "{shown}"
    );

    // And the daemon goes on with it: the exporter sends no template any more.
    let daemon = Daemon::start(&lab.config);
    let target = [Address::from_v4([203, 0, 113, 9])];
    assert!(eventually(Duration::from_secs(10), || {
        exporter.send_packets(&target, 30_000);
        std::thread::sleep(Duration::from_millis(100));
        lab.ledger.lock().unwrap().active.len() == 1
    }));
    let socket = fs::metadata(folder.join("state/weir.sock")).unwrap();
    assert!(socket.file_type().is_socket() && socket.permissions().mode() & 0o777 == 0o600);
    assert_eq!(daemon.terminate(), Some(0));
}
