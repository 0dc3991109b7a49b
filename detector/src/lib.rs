//! weir-detector
