//! weir-datasets
