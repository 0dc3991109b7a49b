//! weir-flow-aggregate
