//! What is kept stays kept: over a restart, a kill, and what happens to the file.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use weir_state::{Batch, FILE_NAME, Stage, State, StateError};

/// Set in the process that the kill test starts: the directory it writes to.
const CHILD: &str = "WEIR_STATE_TEST_CHILD";

#[test]
fn rows_survive_a_restart_stage_by_stage() {
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("a/b");
    {
        let state = State::open(&inner).unwrap();
        state.put(Stage::Mitigations, b"p\0\x02", b"two").unwrap();
        state.put(Stage::Mitigations, b"p\0\x01", b"one").unwrap();
        state.put(Stage::Mitigations, b"p\0\x01", b"uno").unwrap();
        state.put(Stage::Attacks, b"p\0\x01", b"other").unwrap();
        state.put(Stage::Attacks, b"gone", b"").unwrap();
        state.delete(Stage::Attacks, b"gone").unwrap();
        state.delete(Stage::Attacks, b"never there").unwrap();
        state.put_json(Stage::Sequences, b"mid", &41_u32).unwrap();
    }
    let state = State::open(&inner).unwrap();
    let mitigations = state.entries(Stage::Mitigations).unwrap();
    assert_eq!(
        mitigations,
        [
            (b"p\0\x01".to_vec(), b"uno".to_vec()),
            (b"p\0\x02".to_vec(), b"two".to_vec())
        ]
    );
    assert_eq!(state.entries(Stage::Attacks).unwrap().len(), 1);
    assert!(state.entries(Stage::Templates).unwrap().is_empty());
    assert_eq!(state.get_json(Stage::Sequences, b"mid").unwrap(), Some(41));
    assert_eq!(
        state.get_json::<u32>(Stage::Sequences, b"tmid").unwrap(),
        None
    );
    assert!(matches!(
        state.get_json::<String>(Stage::Sequences, b"mid"),
        Err(StateError::Json { .. })
    ));
}

#[test]
fn a_batch_is_one_transaction() {
    let dir = tempfile::tempdir().unwrap();
    let state = State::open(dir.path()).unwrap();
    let rows: Vec<[u8; 4]> = (0..5000_u32).map(u32::to_be_bytes).collect();
    state
        .put_many(
            Stage::Templates,
            rows.iter().map(|row| (row.as_slice(), row.as_slice())),
        )
        .unwrap();
    assert_eq!(state.entries(Stage::Templates).unwrap().len(), 5000);
    let mut batch = Batch::new();
    batch.put(Stage::Sequences, b"mid", b"7");
    batch.put(Stage::Mitigations, b"7", b"scope");
    batch.delete(Stage::Templates, &rows[0]);
    state.write(&batch).unwrap();
    assert_eq!(state.entries(Stage::Templates).unwrap().len(), 4999);
    assert_eq!(
        state.get(Stage::Mitigations, b"7").unwrap().as_deref(),
        Some(b"scope".as_slice())
    );
}

#[test]
fn only_the_owner_may_read() {
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("state");
    let state = State::open(&inner).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&inner), mode(state.path())), (0o700, 0o600));
}

#[test]
fn a_second_opener_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let state = State::open(dir.path()).unwrap();
    let refusal = State::open(dir.path()).unwrap_err();
    assert!(matches!(refusal, StateError::InUse { .. }), "{refusal}");
    assert!(
        refusal
            .to_string()
            .ends_with("is in use by another process")
    );
    drop(state);
    State::open(dir.path()).unwrap();
}

#[test]
fn damage_is_told_and_the_file_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);
    let state = State::open(dir.path()).unwrap();
    for key in 0..2000_u32 {
        if key.is_multiple_of(500) {
            let value = vec![b'x'; 4000];
            state
                .put(Stage::Attacks, &key.to_be_bytes(), &value)
                .unwrap();
        }
    }
    drop(state);
    let whole = fs::read(&path).unwrap();
    let mut wrong_magic = whole.clone();
    wrong_magic[..9].fill(0);
    let mut overwritten = whole.clone();
    for octet in overwritten.iter_mut().filter(|octet| **octet == b'x') {
        *octet = b'y';
    }
    let broken: [(&str, Vec<u8>); 4] = [
        ("text", b"this is no database".repeat(500)),
        ("magic", wrong_magic),
        ("cut", whole[..whole.len() / 3].to_vec()),
        ("values", overwritten),
    ];
    for (name, octets) in broken {
        fs::write(&path, &octets).unwrap();
        let refusal = State::open(dir.path()).unwrap_err();
        assert!(
            matches!(refusal, StateError::Damaged { .. }),
            "{name}: {refusal}"
        );
        let after = fs::read(&path).unwrap();
        assert_eq!(after.len(), octets.len(), "{name}");
        let changed = octets.iter().zip(&after).filter(|(a, b)| a != b).count();
        assert!(
            changed <= 1,
            "{name}: more than the flag that asks for repair"
        );
    }
    fs::write(&path, whole).unwrap();
    let state = State::open(dir.path()).unwrap();
    assert_eq!(state.entries(Stage::Attacks).unwrap().len(), 4);
}

#[test]
fn what_was_reported_as_kept_survives_a_kill() {
    if let Some(dir) = std::env::var_os(CHILD) {
        write_until_killed(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let acknowledged = dir.path().join("acknowledged");
    let mut least = 0;
    for round in 0..3 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "what_was_reported_as_kept_survives_a_kill"])
            .env(CHILD, dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Killed while it writes: some rows after it began.
        while read_number(&acknowledged) < least + 20 + round * 7 {
            assert!(child.try_wait().unwrap().is_none(), "the writer ended");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let state = State::open(dir.path()).unwrap();
        let kept = state.entries(Stage::Mitigations).unwrap();
        let reported = read_number(&acknowledged);
        assert!(kept.len() as u64 >= reported, "{} < {reported}", kept.len());
        let last: u64 = state.get_json(Stage::Sequences, b"mid").unwrap().unwrap();
        assert_eq!(last, kept.len() as u64, "a batch was kept by halves");
        least = last;
    }
}

fn write_until_killed(dir: &Path) -> ! {
    let state = State::open(dir).unwrap();
    let mut mid: u64 = state
        .get_json(Stage::Sequences, b"mid")
        .unwrap()
        .unwrap_or(0);
    loop {
        mid += 1;
        let mut batch = Batch::new();
        batch.put(Stage::Mitigations, &mid.to_be_bytes(), b"scope");
        batch.put_json(Stage::Sequences, b"mid", &mid).unwrap();
        state.write(&batch).unwrap();
        // Replaced, not rewritten: the parent must never read half a number.
        fs::write(dir.join("number"), mid.to_string()).unwrap();
        fs::rename(dir.join("number"), dir.join("acknowledged")).unwrap();
    }
}

fn read_number(path: &Path) -> u64 {
    fs::read_to_string(path)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}
