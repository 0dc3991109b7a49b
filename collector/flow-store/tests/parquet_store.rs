//! Files come by the hour, whole or not at all; old ones go; a full disk costs rows that are counted, and nothing else.
#![allow(clippy::unwrap_used, reason = "a test may stop")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use weir_flow_record::{
    Address, ColumnSet, DatagramInfo, ExportProtocol, ExportTime, ExporterId, FlowBatch,
    ObservationDomainId, ReceivedAt, Row, Timestamp,
};
use weir_flow_store::{DropReason, FlowReader, ParquetSettings, ParquetStore};

const ROWS: u64 = 500;

fn settings(folder: &Path) -> ParquetSettings {
    ParquetSettings {
        folder: folder.to_owned(),
        rows_per_group: 1024,
        retain: Duration::ZERO,
        max_size: 0,
        interval: Duration::from_secs(60),
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Rows whose values do not repeat, so that they do not compress.
fn batch(received: Timestamp) -> FlowBatch {
    let mut batch = FlowBatch::default();
    let mut state = received.nanos() as u64 | 1;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..ROWS {
        batch.push(&Row {
            source_address: Address::from_v4((random() as u32).to_be_bytes()),
            octets: random(),
            packets: random(),
            ..Row::default()
        });
    }
    batch.datagrams.push(DatagramInfo {
        rows: 0..ROWS as u32,
        exporter: ExporterId(0),
        exporter_address: Address::from_v4([198, 51, 100, 1]),
        domain: ObservationDomainId(7),
        protocol: ExportProtocol::NetflowV9,
        sequence: 1,
        received_at: ReceivedAt(received),
        export_time: ExportTime(received),
        present: ColumnSet::NONE,
    });
    batch
}

/// All files below a folder, with paths relative to it.
fn files(folder: &Path) -> Vec<String> {
    fn walk(root: &Path, folder: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, found);
            } else {
                found.push(
                    path.strip_prefix(root)
                        .unwrap()
                        .to_string_lossy()
                        .into_owned(),
                );
            }
        }
    }
    let mut found = Vec::new();
    walk(folder, folder, &mut found);
    found.sort();
    found
}

fn rows_in(folder: &Path) -> u64 {
    FlowReader::open(&[folder.to_owned()])
        .unwrap()
        .map(|batch| batch.unwrap().len() as u64)
        .sum()
}

#[test]
fn a_file_is_seen_when_it_is_whole_and_lies_in_its_hour() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = ParquetStore::open(settings(folder.path()), 2).unwrap();
    let start = at("2026-11-21T04:59:30Z");
    store.handle_batch(start, &batch(start));
    assert!(
        files(folder.path())[0].ends_with(".parquet.part"),
        "nobody reads it yet"
    );
    assert_eq!(rows_in(folder.path()), 0);

    // The next hour begins; a straggler of the old one does not make a new file.
    let next = at("2026-11-21T05:00:00.5Z");
    store.handle_batch(next, &batch(next));
    store.handle_batch(next, &batch(at("2026-11-21T04:59:59.999Z")));
    assert_eq!(store.poll_timeout(), Some(at("2026-11-21T05:00:02Z")));
    store.handle_timeout(at("2026-11-21T05:00:02Z"));
    assert_eq!(rows_in(folder.path()), 2 * ROWS);
    assert_eq!(store.poll_timeout(), Some(at("2026-11-21T05:01:00.5Z")));
    store.handle_timeout(at("2026-11-21T05:01:00.5Z"));
    assert_eq!(
        files(folder.path()),
        [
            "flows/date=2026-11-21/hour=04/weir-20261121T045930.000000000Z-2-000000.parquet",
            "flows/date=2026-11-21/hour=05/weir-20261121T050000.500000000Z-2-000001.parquet",
        ]
    );
    let counters = store.counters();
    assert_eq!((counters.files, counters.rows), (2, 3 * ROWS));
    assert_eq!(counters.stored_octets, counters.octets);
    assert_eq!(store.poll_timeout(), None);
}

#[test]
fn left_over_files_are_removed_and_others_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let hour = folder.path().join("flows/date=2026-11-21/hour=04");
    std::fs::create_dir_all(&hour).unwrap();
    std::fs::write(
        hour.join("weir-20261121T040000.000000000Z-0-000000.parquet.part"),
        "x",
    )
    .unwrap();
    std::fs::write(hour.join("mine.parquet.part"), "x").unwrap();
    let store = ParquetStore::open(settings(folder.path()), 0).unwrap();
    assert_eq!(store.counters().leftover_files, 1);
    assert_eq!(
        files(folder.path()),
        ["flows/date=2026-11-21/hour=04/mine.parquet.part"]
    );
}

#[test]
fn rows_go_once_they_are_too_old() {
    let folder = tempfile::tempdir().unwrap();
    let retain = |retain| ParquetSettings {
        retain,
        ..settings(folder.path())
    };
    let mut store = ParquetStore::open(retain(Duration::from_secs(3_600)), 0).unwrap();
    let start = at("2026-11-21T04:10:00Z");
    store.handle_batch(start, &batch(start));
    store.finish_all(start);
    let due = start.plus(Duration::from_secs(3_660));
    assert_eq!(
        store.poll_timeout(),
        Some(due),
        "an hour after the file's last row may have come"
    );
    // Another run knows the files, too; the file in work stays though its rows are older.
    let mut store = ParquetStore::open(retain(Duration::from_secs(3_600)), 0).unwrap();
    store.handle_batch(due, &batch(at("2026-11-21T03:00:00Z")));
    store.handle_timeout(due);
    let left = files(folder.path());
    assert!(left.len() == 1 && left[0].ends_with(".part"), "{left:?}");
    assert_eq!(store.counters().expired_files, 1);
    assert!(
        !folder.path().join("flows/date=2026-11-21/hour=04").exists(),
        "no empty folders"
    );
}

#[test]
fn the_oldest_files_give_way_to_a_bound_of_size() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = ParquetStore::open(settings(folder.path()), 0).unwrap();
    let start = at("2026-11-21T04:00:00Z");
    let write = |store: &mut ParquetStore, minute: u64| {
        let now = start.plus(Duration::from_secs(60 * minute));
        store.handle_batch(now, &batch(now));
        store.finish_all(now);
    };
    (0..4).for_each(|minute| write(&mut store, minute));
    let size = store.counters().stored_octets;
    let bound = ParquetSettings {
        max_size: size,
        ..settings(folder.path())
    };
    let mut store = ParquetStore::open(bound.clone(), 0).unwrap();
    (4..10).for_each(|minute| write(&mut store, minute));
    let counters = store.counters();
    assert!(
        counters.stored_octets <= size && counters.stored_files >= 3,
        "{counters:?}"
    );
    assert_eq!(counters.expired_files + counters.stored_files, 10);
    let oldest = files(folder.path());
    assert!(!oldest[0].contains("T040000"), "{oldest:?}");
    // The newest stays even where it alone is too large.
    let tiny = ParquetSettings {
        max_size: 1,
        ..bound
    };
    let mut store = ParquetStore::open(tiny, 0).unwrap();
    write(&mut store, 10);
    assert_eq!(rows_in(folder.path()), ROWS);
}

const FULL: &str = "WEIR_TEST_TINY_DISK";

#[test]
fn a_full_disk_costs_rows_that_are_counted_and_nothing_else() {
    if let Some(folder) = std::env::var_os(FULL) {
        return on_a_tiny_disk(&PathBuf::from(folder));
    }
    let folder = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=1m tmpfs \"$WEIR_TEST_TINY_DISK\" || exit 77; exec \"$0\" --exact \
                  a_full_disk_costs_rows_that_are_counted_and_nothing_else --nocapture";
    let child = Command::new("unshare")
        .args(["-m", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .env(FULL, folder.path())
        .status();
    match child.map(|status| (status.success(), status.code())) {
        Ok((true, _)) => {}
        // unshare itself ends with 1 where it may not; so does a failed test with 101.
        Ok((_, Some(77 | 1 | 127))) | Err(_) => {
            println!("skipped: no mount namespace with a tiny tmpfs here (needs root and unshare)");
        }
        Ok((_, code)) => panic!("the test on the tiny disk ended with {code:?}"),
    }
}

fn on_a_tiny_disk(folder: &Path) {
    let mut now = at("2026-11-21T04:00:00Z");
    let second = Duration::from_secs(1);
    let mut store = ParquetStore::open(settings(folder), 0).unwrap();
    let mut pushed = 0;
    let mut push = |store: &mut ParquetStore, now: Timestamp| {
        store.handle_batch(now, &batch(now));
        store.handle_timeout(now);
        pushed += ROWS;
        pushed
    };
    push(&mut store, now);
    store.finish_all(now);
    let before = files(folder);
    assert_eq!(before.len(), 1);

    // The disk fills up, by this store and by others.
    let ballast = folder.join("ballast");
    std::fs::write(&ballast, vec![1; 600 << 10]).unwrap();
    while store.counters().dropped_rows(DropReason::DiskFull) == 0 {
        now = now.plus(Duration::from_millis(10));
        push(&mut store, now);
    }
    assert_eq!(store.counters().abandoned_files, 1);
    assert_eq!(
        files(folder),
        [&["ballast".to_owned()], &before[..]].concat(),
        "the unfinished file is gone, the old one stays"
    );

    // For 10 s nothing is tried.
    let dropped = store.counters().dropped_rows(DropReason::DiskFull);
    push(&mut store, now.plus(9 * second));
    assert_eq!(
        store.counters().dropped_rows(DropReason::DiskFull),
        dropped + ROWS
    );
    assert_eq!(files(folder).len(), 2);

    // Then it is, and fails again while the disk is full: by the first octets, or by the folder.
    std::fs::remove_file(&ballast).unwrap();
    let room = Command::new("sh")
        .arg("-c")
        .arg(format!("head -c 2m /dev/zero > {}", ballast.display()))
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(!room.success(), "the disk is full to the last octet");
    now = now.plus(10 * second);
    push(&mut store, now);
    store.finish_all(now);
    assert_eq!(
        store.counters().dropped_rows(DropReason::DiskFull),
        dropped + 2 * ROWS
    );

    // With room again rows are stored again.
    std::fs::remove_file(&ballast).unwrap();
    now = now.plus(10 * second);
    let pushed = push(&mut store, now);
    store.finish_all(now);
    let counters = store.counters();
    assert_eq!(counters.rows, 2 * ROWS);
    assert_eq!(
        counters.rows + counters.dropped_rows(DropReason::DiskFull),
        pushed
    );
    assert_eq!(
        counters.expired_files, 0,
        "a full disk does not shorten retention"
    );
    assert_eq!(rows_in(folder), 2 * ROWS);
    println!("tiny disk: {counters:?}");
}

const KILLED: &str = "WEIR_TEST_KILLED_STORE";

#[test]
fn kill_9_leaves_whole_files_only() {
    if let Some(folder) = std::env::var_os(KILLED) {
        return write_for_ever(&PathBuf::from(folder));
    }
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill_9_leaves_whole_files_only", "--nocapture"])
            .env(KILLED, folder.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let finished = files(folder.path()).len();
        let patience = std::time::Instant::now();
        while files_or_none(folder.path()) < finished + 4 && patience.elapsed().as_secs() < 30 {
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let whole = files(folder.path())
            .into_iter()
            .filter(|name| name.ends_with(".parquet"))
            .count() as u64;
        assert!(whole >= 2);
        // Each file that is seen can be read to its end.
        assert_eq!(rows_in(folder.path()), whole * 4 * ROWS);
        let store = ParquetStore::open(settings(folder.path()), 0).unwrap();
        assert!(store.counters().leftover_files <= 2);
        assert!(
            files(folder.path())
                .iter()
                .all(|name| name.ends_with(".parquet"))
        );
        println!(
            "killed: {whole} whole files, {} unfinished removed",
            store.counters().leftover_files
        );
    }
}

/// Files come and go while one looks.
fn files_or_none(folder: &Path) -> usize {
    let found = Command::new("find")
        .arg(folder)
        .args(["-name", "weir-*"])
        .output()
        .unwrap();
    String::from_utf8_lossy(&found.stdout).lines().count()
}

/// A file for each four batches, until killed.
fn write_for_ever(folder: &Path) {
    let mut store = ParquetStore::open(settings(folder), 0).unwrap();
    let mut now = at("2026-11-21T04:00:00Z");
    loop {
        for _ in 0..4 {
            store.handle_batch(now, &batch(now));
            now = now.plus(Duration::from_millis(1));
        }
        store.finish_all(now);
    }
}
