//! SQL over what is stored: flows in Parquet files, attacks, labels.

mod attacks;
mod functions;
mod labels;
mod write;

use std::io::{self, BufRead};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use polars::error::PolarsError;
use polars::prelude::{HiveOptions, LazyFrame, PlRefPath, ScanArgsParquet};
use polars::sql::SQLContext;

use self::functions::Functions;
pub use self::write::Answer;
use crate::parquet::flows_folder;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// There is no store, or an empty one.
    #[error("{} holds no flows", .0.display())]
    NoFlows(PathBuf),
    /// A file of attacks or labels cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// What polars says of the statement or the data.
    #[error(transparent)]
    Polars(#[from] PolarsError),
    /// The answer cannot be written.
    #[error("cannot write the answer: {0}")]
    Write(io::Error),
}

/// Tables, and statements about them in polars' dialect of SQL.
///
/// `flows` has the columns of the Parquet files, and `date` and `hour` of receipt (UTC), by which whole folders are skipped.
/// Besides polars' own functions there are `in_prefix(address, '203.0.113.0/24')`, which is false where the address is no
/// address, and `prefix(address, 24, 48)`, the address's network of these lengths (IPv4, IPv6).
///
/// What a statement selects is held in memory: an aggregate over a day takes what its columns of that day take.
pub struct Query {
    context: SQLContext,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            context: SQLContext::new().with_function_registry(Arc::new(Functions::new())),
        }
    }
}

impl Query {
    /// The table `flows`: the finished files of a store. What it holds is looked at now.
    pub fn with_flows(self, store: &Path) -> Result<Self, QueryError> {
        let folder = flows_folder(store);
        let first = folder
            .read_dir()
            .ok()
            .and_then(|mut entries| entries.next());
        if first.is_none() {
            return Err(QueryError::NoFlows(store.to_owned()));
        }
        let files = folder.join("date=*").join("hour=*").join("*.parquet");
        let arguments = ScanArgsParquet {
            // Days are compared as text, as well as any literal of SQL.
            hive_options: HiveOptions {
                try_parse_dates: false,
                ..HiveOptions::new_enabled()
            },
            ..ScanArgsParquet::default()
        };
        let flows = LazyFrame::scan_parquet(PlRefPath::try_from_path(&files)?, arguments)?;
        self.context.register("flows", flows);
        Ok(self)
    }

    /// The table `attacks`: a row for each attack of a file of events, as the newest of its events tells it. Also gives the
    /// number of lines that are no events.
    pub fn with_attacks(self, events: impl BufRead) -> Result<(Self, u64), QueryError> {
        let (frame, skipped) = attacks::frame(events)?;
        self.context.register("attacks", frame);
        Ok((self, skipped))
    }

    /// The table `labels`: `start,end,target,attack` lines with a header, as `score` takes them.
    pub fn with_labels(self, lines: impl BufRead) -> Result<(Self, u64), QueryError> {
        let (frame, skipped) = labels::frame(lines)?;
        self.context.register("labels", frame);
        Ok((self, skipped))
    }

    /// Answers a statement.
    pub fn run(mut self, statement: &str) -> Result<Answer, QueryError> {
        let frame = self.context.execute(statement)?.collect()?;
        Ok(Answer::new(frame))
    }
}
