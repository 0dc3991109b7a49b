//! weir-netflow
mod element;
pub mod encode;
