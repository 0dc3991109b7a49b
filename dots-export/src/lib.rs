//! weir-dots-export
