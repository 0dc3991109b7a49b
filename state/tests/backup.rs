//! Backups, the way back, and files of older programs.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use redb::{Database, TableDefinition};
use weir_state::{FILE_NAME, Stage, State, StateError, restore};

const VERSIONS: TableDefinition<&str, u32> = TableDefinition::new("versions");

fn put(dir: &Path, value: &[u8]) {
    let state = State::open(dir).unwrap();
    state.put(Stage::Attacks, b"a", value).unwrap();
}

fn read(dir: &Path) -> Vec<u8> {
    let state = State::open_existing(dir).unwrap();
    state.get(Stage::Attacks, b"a").unwrap().unwrap()
}

#[test]
fn a_backup_of_open_state_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let (inner, backup) = (dir.path().join("state"), dir.path().join("backup"));
    {
        let state = State::open(&inner).unwrap();
        state.put(Stage::Attacks, b"a", b"first").unwrap();
        state.put(Stage::Labels, b"l", b"x").unwrap();
        state.back_up(&backup).unwrap();
        assert_eq!(
            fs::metadata(&backup).unwrap().permissions().mode() & 0o777,
            0o600
        );
        // Neither another backup nor anything else is overwritten.
        assert!(matches!(
            state.back_up(&backup),
            Err(StateError::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists
        ));
        // While somebody has the state, nothing is put in its place.
        assert!(matches!(
            restore(&inner, &backup),
            Err(StateError::InUse { .. })
        ));
        let attacks = &state.stages().unwrap()[3];
        assert_eq!(
            (attacks.stage, attacks.rows, attacks.octets),
            ("attacks", 1, 6)
        );
    }
    put(&inner, b"second");
    let aside = restore(&inner, &backup).unwrap().unwrap();
    assert_eq!(read(&inner), b"first");
    // What was there is still there.
    let old = dir.path().join("old");
    fs::create_dir(&old).unwrap();
    fs::rename(aside, old.join(FILE_NAME)).unwrap();
    assert_eq!(read(&old), b"second");
    // On a new machine, too.
    let new = dir.path().join("new/state");
    assert_eq!(restore(&new, &backup).unwrap(), None);
    assert_eq!(read(&new), b"first");
    assert_eq!(fs::read_dir(&new).unwrap().count(), 1);
}

#[test]
fn what_is_no_backup_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (inner, backup) = (dir.path().join("state"), dir.path().join("backup"));
    put(&inner, b"kept");
    assert!(matches!(
        restore(&inner, &backup),
        Err(StateError::Io { .. })
    ));
    fs::write(&backup, b"no database at all").unwrap();
    assert!(matches!(
        restore(&inner, &backup),
        Err(StateError::Damaged { .. })
    ));
    let other = dir.path().join("other");
    put(&other, b"x");
    set_version(&other, Stage::Attacks, 99);
    let newer = restore(&inner, &other.join(FILE_NAME));
    assert!(matches!(
        newer,
        Err(StateError::NewerVersion { found: 99, .. })
    ));
    assert_eq!(read(&inner), b"kept");
    assert_eq!(fs::read_dir(&inner).unwrap().count(), 1);
    // A damaged state is what a backup is for.
    State::open(&other).unwrap_err();
    fs::write(inner.join(FILE_NAME), b"broken").unwrap();
    let good = dir.path().join("good");
    put(&good, b"good");
    assert!(restore(&inner, &good.join(FILE_NAME)).unwrap().is_some());
    assert_eq!(read(&inner), b"good");
}

fn set_version(dir: &Path, stage: Stage, version: u32) {
    let database = Database::open(dir.join(FILE_NAME)).unwrap();
    let transaction = database.begin_write().unwrap();
    let mut versions = transaction.open_table(VERSIONS).unwrap();
    versions.insert(stage.table(), version).unwrap();
    drop(versions);
    transaction.commit().unwrap();
}

/// A file as the program wrote it whose names had version 1.
fn version_1(dir: &Path, rows: &[(&str, &str)]) {
    {
        let state = State::open(dir).unwrap();
        for (key, value) in rows {
            state
                .put(Stage::Names, key.as_bytes(), value.as_bytes())
                .unwrap();
        }
        state.put(Stage::Attacks, b"a", b"untouched").unwrap();
    }
    set_version(dir, Stage::Names, 1);
}

#[test]
fn rows_of_an_older_version_become_todays() {
    let dir = tempfile::tempdir().unwrap();
    let rows = [
        (
            "192.0.2.1/Interface(3)",
            r#"{"exporter":"192.0.2.1","interface":3,"name":"ge-0/0/1"}"#,
        ),
        (
            "192.0.2.1/Domain(7)",
            r#"{"exporter":"192.0.2.1","domain":7,"name":"east"}"#,
        ),
        (
            "2001:db8::1/Application(218103888)",
            r#"{"exporter":"2001:db8::1","application":218103888,"name":"dns"}"#,
        ),
    ];
    version_1(dir.path(), &rows);
    for _ in 0..2 {
        // The second time there is nothing to do.
        let state = State::open(dir.path()).unwrap();
        let names = state.entries(Stage::Names).unwrap();
        let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).unwrap();
        let names: Vec<_> = names
            .iter()
            .map(|(key, value)| (text(key), text(value)))
            .collect();
        let expected = [
            ("192.0.2.1/domain/7", rows[1].1),
            ("192.0.2.1/interface/3", rows[0].1),
            ("2001:db8::1/application/218103888", rows[2].1),
        ];
        assert_eq!(
            names,
            expected.map(|(key, value)| (key.to_owned(), value.to_owned()))
        );
        assert_eq!(
            state.get(Stage::Attacks, b"a").unwrap().unwrap(),
            b"untouched"
        );
        assert_eq!(state.stages().unwrap()[2].version, 2);
    }
    // The file is kept as the older program can read it.
    let older = dir.path().join("weir.redb.older");
    assert_eq!(
        fs::metadata(&older).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let database = Database::open(&older).unwrap();
    let transaction = redb::ReadableDatabase::begin_read(&database).unwrap();
    let names: TableDefinition<&[u8], &[u8]> = TableDefinition::new("names");
    let names = transaction.open_table(names).unwrap();
    assert!(names.get(rows[0].0.as_bytes()).unwrap().is_some());
}

#[test]
fn a_row_that_is_none_of_its_version_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    version_1(
        dir.path(),
        &[("x", r#"{"exporter":"192.0.2.1","name":"of nothing"}"#)],
    );
    let refusal = State::open(dir.path()).unwrap_err();
    assert!(matches!(refusal, StateError::Damaged { .. }), "{refusal}");
    assert!(
        refusal.to_string().contains("`names`, version 1"),
        "{refusal}"
    );
}
