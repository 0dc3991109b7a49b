//! The recent window: flow records of the last minutes in columns, within a bound of memory, and the drill-down into it
//! that tells who and what makes up an attack.
//!
//! Rows of a target are picked in plain Rust; only these go to polars, which groups them. [`ParquetStore`] keeps records on
//! disk for as long as one likes, [`FlowReader`] reads them back, and [`Query`] answers SQL on them. Nothing here owns a thread: who drives it keeps it off
//! the packet path.
//!
//! ```
//! use weir_attack_event::{AttackId, DrillDown};
//! use weir_flow_record::{ByteSize, Direction, EventTime, FlowBatch, TargetKey, ZoneId};
//! use weir_flow_store::RecentWindow;
//!
//! let mut window = RecentWindow::new(ByteSize(16 << 20));
//! window.handle_batch(&FlowBatch::default());
//! let target = TargetKey {
//!     prefix: "2001:db8::1/128".parse().unwrap(),
//!     direction: Direction::In,
//!     zone: ZoneId(0),
//! };
//! let findings = window.drill_down(&DrillDown {
//!     attack: AttackId("example".into()),
//!     target,
//!     other_prefixes: Vec::new(),
//!     from: EventTime::from_nanos(0),
//!     to: EventTime::from_nanos(1_000_000_000),
//!     top: 10,
//! });
//! assert_eq!((findings.rows, findings.complete), (0, true));
//! ```

mod config;
mod drill;
mod evidence;
mod forged;
mod frame;
mod labelled;
mod mix;
mod parquet;
mod query;
mod segment;
mod window;

pub use config::{StoreConfig, StoreConfigError, StoreSettings};
pub use evidence::{
    Bundle, BundleInfo, EvidenceConfig, EvidenceConfigError, EvidenceCounters, EvidenceSelector,
    EvidenceSettings, EvidenceStore, Selected, bundle, bundles,
};
pub use labelled::{LabelledError, LabelledReader, LabelledWriter, labelled_header};
pub use parquet::{
    DropReason, EncodeError, FlowReader, ParquetEncoder, ParquetSettings, ParquetStore, ReadError,
    StoreCounters, is_parquet,
};
pub use query::{Answer, Query, QueryError};
pub use window::RecentWindow;
