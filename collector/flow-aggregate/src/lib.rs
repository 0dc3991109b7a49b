//! Sums flow records per target and second.

mod summary;

pub use summary::{
    AggregateCounters, Bucket, ExporterCoverage, Interesting, Series, TargetScope, WatchList,
    WindowSummary, ZonePrefixes,
};
