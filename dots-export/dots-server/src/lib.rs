//! weir-dots-server
