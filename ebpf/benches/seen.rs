//! Which share of the packets each method sees at the same offered rate.
fn main() {}
