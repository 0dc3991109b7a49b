use std::ops::Bound;

use redb::{ReadTransaction, TableError};

use crate::{Batch, Stage, StateError};

/// Octets of keys and values after which a batch is full; one row more than that may be in it.
const BATCH_OCTETS: usize = 1 << 20;
/// Rows after which a batch is full.
const BATCH_ROWS: usize = 8192;

/// All rows at one moment, as batches of bounded size; commits that follow do not change it.
pub struct Snapshot {
    transaction: ReadTransaction,
    commits: u64,
    /// Where it goes on: in which of [`Stage::ALL`], after which key.
    stage: usize,
    after: Option<Vec<u8>>,
}

impl Snapshot {
    pub(crate) fn new(transaction: ReadTransaction, commits: u64) -> Self {
        Self {
            transaction,
            commits,
            stage: 0,
            after: None,
        }
    }

    /// The last commit that it holds: a mirror goes on with the one after it.
    pub fn commits(&self) -> u64 {
        self.commits
    }

    fn fill(&mut self) -> Result<Batch, StateError> {
        let mut batch = Batch::new();
        let mut octets = 0;
        while let Some(stage) = Stage::ALL.get(self.stage).copied() {
            let table = match self.transaction.open_table(stage.rows()) {
                Ok(table) => table,
                Err(TableError::TableDoesNotExist(_)) => {
                    self.next_stage();
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let start = match &self.after {
                Some(key) => Bound::Excluded(key.as_slice()),
                None => Bound::Unbounded,
            };
            for row in table.range::<&[u8]>((start, Bound::Unbounded))? {
                let (key, value) = row?;
                let (key, value) = (key.value(), value.value());
                batch.put(stage, key, value);
                octets += key.len() + value.len();
                if octets >= BATCH_OCTETS || batch.changes().len() >= BATCH_ROWS {
                    self.after = Some(key.to_vec());
                    return Ok(batch);
                }
            }
            self.next_stage();
        }
        Ok(batch)
    }

    fn next_stage(&mut self) {
        self.stage += 1;
        self.after = None;
    }
}

impl Iterator for Snapshot {
    type Item = Result<Batch, StateError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.fill();
        if batch.is_err() {
            self.stage = Stage::ALL.len();
        }
        batch
            .map(|batch| (!batch.is_empty()).then_some(batch))
            .transpose()
    }
}
