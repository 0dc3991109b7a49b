//! weir-collector
