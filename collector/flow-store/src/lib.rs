//! weir-flow-store
