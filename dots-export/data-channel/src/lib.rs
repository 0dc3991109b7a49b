//! DOTS data channel.
pub mod client;
pub mod fuzzing;
mod handle;
mod keep;
pub mod model;
mod policy;
pub mod server;
pub mod service;
pub mod store;
mod time;
mod tls;

pub use handle::DataHandle;
pub use keep::{Folder, Keep};
pub use policy::{Authority, Peer, Prefixes};
pub use time::UnixTime;
pub use tls::{TlsError, TlsFiles};
