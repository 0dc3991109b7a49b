//! weir
mod config;
fn main() {}
