//! The vocabulary of Weir: addresses, clocks, quantities with units, traffic vectors, targets, and [`FlowBatch`],
//! the columns in which flow records travel from the decoders to everything else.
//!
//! It decodes nothing and sums nothing, and it depends on no other crate of Weir.

mod address;
mod batch;
mod exporter;
mod quantity;
mod setting;
mod target;
mod time;
mod vector;

pub use address::Address;
pub use batch::{
    ColumnSet, DatagramInfo, ExportProtocol, ExporterId, ExtraColumns, ExtraRow, FlowBatch,
    FragmentKind, ObservationDomainId, Row,
};
pub use exporter::{ExporterView, SamplingView};
pub use quantity::{
    BitsPerSecond, FlowsPerSecond, Octets, Packets, PacketsPerSecond, Sampled, SamplingRate,
};
pub use setting::{ByteSize, Period, Quantity, SettingError};
pub use target::{Direction, TargetKey, ZoneId};
pub use time::{EventTime, ExportTime, ReceivedAt, Timestamp};
pub use vector::{TCP_ACK, TCP_FIN, TCP_PSH, TCP_RST, TCP_SYN, TCP_URG, Vector};
