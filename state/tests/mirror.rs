//! Another place follows commit by commit.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::sync::{Arc, Mutex};

use weir_state::{Batch, Mirror, MirrorError, Stage, State, StateError};

/// Takes commits, and fails those of one stage.
#[derive(Default, Debug)]
struct Taker {
    taken: Mutex<Vec<(u64, Vec<u8>)>>,
    waited: Mutex<Vec<u64>>,
    fails: Option<Stage>,
}

impl Mirror for Taker {
    fn handle_wish(&self, batch: &Batch) -> Result<(), MirrorError> {
        if batch
            .changes()
            .any(|change| change.stage == Stage::Policy && change.key == b"fenced")
        {
            return Err("not active".into());
        }
        Ok(())
    }

    fn handle_commit(&self, number: u64, batch: &Batch) {
        self.taken.lock().unwrap().push((number, batch.encode()));
    }

    fn wait(&self, number: u64, batch: &Batch) -> Result<(), MirrorError> {
        self.waited.lock().unwrap().push(number);
        let fails = |stage| batch.changes().any(|change| change.stage == stage);
        if self.fails.is_some_and(fails) {
            return Err("fenced".into());
        }
        Ok(())
    }
}

#[test]
fn a_mirror_gets_every_commit_in_order() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let state = Arc::new(State::open(dir.path()).unwrap());
    state.put(Stage::Policy, b"before", b"1").unwrap();
    let mirror = Arc::new(Taker::default());
    state.set_mirror(Some(mirror.clone()));
    let writers: Vec<_> = (0..4_u8)
        .map(|writer| {
            let state = Arc::clone(&state);
            std::thread::spawn(move || {
                for count in 0..20_u8 {
                    state
                        .put(Stage::Attacks, b"last", &[writer, count])
                        .unwrap();
                    state.put(Stage::Templates, &[writer, count], b"t").unwrap();
                    state
                        .delete(Stage::Templates, &[writer, count / 2])
                        .unwrap();
                }
            })
        })
        .collect();
    let snapshot = state.snapshot().unwrap();
    for writer in writers {
        writer.join().unwrap();
    }
    let taken = mirror.taken.lock().unwrap();
    let numbers: Vec<u64> = taken.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (2..=241).collect::<Vec<u64>>());
    let mut waited = mirror.waited.lock().unwrap().clone();
    waited.sort_unstable();
    assert_eq!(waited, numbers);
    // Snapshot and what follows it are the whole.
    let follower = State::open(other.path()).unwrap();
    follower.put(Stage::Labels, b"stale", b"x").unwrap();
    let since = snapshot.commits();
    follower.replace_all(snapshot).unwrap();
    for (_, octets) in taken.iter().filter(|(number, _)| *number > since) {
        follower.apply(&Batch::decode(octets).unwrap()).unwrap();
    }
    for stage in Stage::ALL {
        assert_eq!(
            follower.entries(stage).unwrap(),
            state.entries(stage).unwrap(),
            "{stage:?}"
        );
    }
    assert!(!state.entries(Stage::Templates).unwrap().is_empty());
}

#[test]
fn a_write_that_the_mirror_refuses_fails_but_stays_here() {
    let dir = tempfile::tempdir().unwrap();
    let state = State::open(dir.path()).unwrap();
    let mirror = Arc::new(Taker {
        fails: Some(Stage::Mitigations),
        ..Taker::default()
    });
    state.set_mirror(Some(mirror));
    state.put(Stage::Templates, b"t", b"1").unwrap();
    let refusal = state.put(Stage::Mitigations, b"m", b"1").unwrap_err();
    assert!(matches!(refusal, StateError::Mirror(_)));
    assert_eq!(refusal.to_string(), "kept here only: fenced");
    assert!(state.get(Stage::Mitigations, b"m").unwrap().is_some());
    let refusal = state.put(Stage::Policy, b"fenced", b"1").unwrap_err();
    assert_eq!(refusal.to_string(), "not kept: not active");
    assert!(state.get(Stage::Policy, b"fenced").unwrap().is_none());
    state.set_mirror(None);
    state.put(Stage::Mitigations, b"m", b"2").unwrap();
}

#[test]
fn a_snapshot_is_in_bounded_parts_and_nothing_changes_it() {
    let dir = tempfile::tempdir().unwrap();
    let state = State::open(dir.path()).unwrap();
    let mut batch = Batch::new();
    for key in 0..20_000_u32 {
        batch.put(Stage::Templates, &key.to_be_bytes(), b"row");
    }
    for key in 0..5_u8 {
        batch.put(Stage::Baselines, &[key], &vec![key; 700_000]);
    }
    batch.put(Stage::DotsServer, b"last", b"");
    state.write(&batch).unwrap();
    let snapshot = state.snapshot().unwrap();
    state.replace_all::<StateError>([]).unwrap();
    assert!(state.entries(Stage::Templates).unwrap().is_empty());
    let parts: Vec<Batch> = snapshot.map(Result::unwrap).collect();
    let rows: usize = parts.iter().map(|part| part.changes().len()).sum();
    assert_eq!(rows, 20_006);
    assert!(parts.len() >= 5, "{}", parts.len());
    for part in &parts {
        assert!(part.changes().len() <= 8192);
        assert!(part.encode().len() < 2 << 20);
    }
    let cut = parts[..2].iter().cloned().map(Ok);
    let cut = cut.chain([Err(StateError::Refused("cut".into()))]);
    assert!(state.replace_all(cut).is_err());
    assert!(state.entries(Stage::Templates).unwrap().is_empty());
    state
        .replace_all::<StateError>(parts.into_iter().map(Ok))
        .unwrap();
    assert_eq!(state.entries(Stage::Templates).unwrap().len(), 20_000);
    assert_eq!(state.entries(Stage::Baselines).unwrap()[4].1, [4; 700_000]);
}
