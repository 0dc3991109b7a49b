//! The feature vector of a target and second: defined once, computed by one streaming accumulator.
//!
//! [`Windows`] is fed with flow records in the order of their ends, whether they come from a collector's batch, from a
//! replayed capture or from a published data set, and yields a [`Window`] for every second in which a record to a target ended.
//! Its [`FeatureVector`] describes the last second and the last ten; [`schema`] names the features, and
//! [`schema_hash`] stands in every artefact, so that a model never reads numbers that mean something else.
//!
//! Rates are scaled by the sampling rate and logarithmic; all else is a share, an entropy between 0 and 1, or a logarithm of a
//! ratio. What cannot be told is NaN: the entropy of a single record, the ratio to traffic never seen, the deviation from a
//! level not yet learned.

mod accumulator;
mod burden;
mod describe;
mod lateness;
mod members;
mod schema;
mod slot;
mod thinning;
mod windows;

pub(crate) use accumulator::LONGEST_SETTLE;
pub use schema::{CONTEXT, FEATURES, Feature, SCHEMA_VERSION, schema, schema_hash};
pub use thinning::Thinner;
pub(crate) use windows::sane;
pub use windows::{Counters, Limits, Window, Windows, event_rows};

/// The features of one target and second, in the order of [`schema`]; NaN where one is not known.
pub type FeatureVector = [f32; FEATURES];
