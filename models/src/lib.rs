//! Learning from labelled flows: the feature vector, models on linfa, artefacts with model cards.
//!
//! - [`Windows`] turns flow records into a [`FeatureVector`] for each target and second: one code for training, replay
//!   and live use.
//! - [`Lessons`] joins records with labels to [`Samples`].
//! - [`train()`] fits a [`Model`]: a [`Forest`] of our own behind linfa's traits for kinds of attack, with calibrated
//!   probabilities; the residual of linfa's PCA and linfa's Gaussian mixture for anomalies without labels, calibrated on peace; linfa's
//!   multinomial logistic regression as a check.
//! - [`Model::judge`] gives a [`Verdict`] in microseconds and without allocation; [`Model::explain`] says in words what it
//!   rests on.
//! - [`Sentry`] watches targets with a model and raises alarms: shadow mode, live and in a replay.
//! - [`Model::write`] makes one file with schema hash, parameters, fingerprint of the data, metrics, weaknesses: the model card
//!   that `weir models show` prints. The same data and seed give the same octets.
//! - [`evaluate()`] measures per class and for attack against peace, split by time, by family, by capture: never by random rows,
//!   since neighbouring seconds of one attack are nearly the same row.
//!
//! What is judged is traffic towards a target; floods that leave a network are not learned. No I/O, no clock, no thread that
//! outlives a call.
//!
//! ```
//! use weir_flow_record::{Address, FragmentKind, Row};
//! use weir_models::{Limits, Windows};
//!
//! let target = Address::from_v4([203, 0, 113, 9]);
//! let mut windows = Windows::new(Limits::default());
//! windows.watch(target);
//! let row = Row {
//!     source_address: Address::from_v4([192, 0, 2, 1]), destination_address: target,
//!     source_port: 53, destination_port: 4444, protocol: 17, tcp_flags: 0, fragment: FragmentKind::None,
//!     octets: 30_000, packets: 20, flow_start: 0, flow_end: 900_000_000, sampling_rate: 100,
//!     input_interface: 0, output_interface: 0, direction: 255, forwarding_status: 0,
//! };
//! windows.handle_row(&row, true);
//! windows.handle_time(5_000_000_000);
//! assert_eq!(windows.poll_window().map(|window| window.second), Some(0));
//! ```
//!
//! ## Why our own forest
//!
//! See `benches/models/README.md` for the comparison with linfa's trees and scikit-learn on the same windows and splits.

mod anomaly;
mod artefact;
mod calibration;
mod drift;
mod evaluate;
mod explain;
mod features;
mod forest;
mod lessons;
mod logistic;
mod model;
mod samples;
mod sentry;
mod split;
mod strangers;
mod train;
mod trust;

pub use anomaly::{Anomaly, AnomalyError};
pub use artefact::{ArtefactError, Card, Checks, Data, ModelId};
pub use drift::Drift;
pub use evaluate::{AnomalyScore, BinaryScore, ClassScore, Evaluation, evaluate};
pub use explain::Reason;
pub use features::{
    CONTEXT, Counters, FEATURES, Feature, FeatureVector, Limits, SCHEMA_VERSION, Thinner, Window,
    Windows, event_rows, schema, schema_hash,
};
pub use forest::{Forest, ForestError, ForestParams, MAX_CLASSES, Probabilities};
pub use lessons::{LessonCounters, LessonSettings, Lessons, Source};
pub use model::{Model, Verdict};
pub use samples::{NORMAL, Sample, Samples};
pub use sentry::{Alarm, Phase, Sentry};
pub use split::{Fold, SplitBy, split};
pub use train::{TrainError, TrainSettings, train};
pub use trust::{Agreement, agreements};

/// The place of the greatest number; the first of equals.
pub(crate) fn argmax(values: &[f32]) -> usize {
    let mut best = 0;
    for (at, value) in values.iter().enumerate() {
        if values.get(best).is_none_or(|held| value > held) {
            best = at;
        }
    }
    best
}

pub(crate) fn hex(octets: &[u8]) -> String {
    use std::fmt::Write as _;
    octets.iter().fold(String::new(), |mut text, octet| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{octet:02x}");
        text
    })
}
