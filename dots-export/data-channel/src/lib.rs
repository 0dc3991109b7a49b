//! DOTS data channel.
pub mod model;
mod policy;
pub mod store;
mod time;

pub use policy::{Authority, Peer, Prefixes};
pub use time::UnixTime;
