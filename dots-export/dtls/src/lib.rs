//! weir-dtls
