//! weir-dots-proto
