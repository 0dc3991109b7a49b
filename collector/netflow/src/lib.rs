//! weir-netflow
