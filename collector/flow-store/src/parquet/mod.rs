//! Flow records in Parquet: one schema for what is written and read.

mod columns;
mod dictionary;
mod encode;
mod files;
mod read;
mod rows;
mod store;

pub(crate) use files::flows_folder;

pub use encode::{EncodeError, ParquetEncoder};
pub use read::{FlowReader, ReadError, is_parquet};
pub use store::{DropReason, ParquetSettings, ParquetStore, StoreCounters};
