//! DOTS data channel (RFC 8783) for both peers: RESTCONF over HTTPS with client certificates, in peace.
//!
//! Clients register, name resources by aliases, install filters that apply at once or when a mitigation begins, and
//! exchange with the server what their attack numbers mean (RFC 9244 §8.1.6).
//!
//! - [`model`]: bodies as types, read strictly.
//! - [`store`]: what clients have told, with lifetimes and bounds. No I/O, `now` is an argument.
//! - [`service`]: a function from a request of an authenticated peer to a response. No I/O either.
//! - [`server`]: sockets, TLS and limits around it. [`DataHandle`] shares it with the signal channel's server, which looks up
//!   aliases and switches filters (RFC 9133); [`Folder`] keeps it over a restart.
//! - [`DataServer`]: all of it, from a table of the configuration.
//! - [`client`]: the other peer; [`filters`]: what it asks for.
//!
//! - [`enforce`]: filters in the kernel of this machine. Something else that enforces asks for [`DataHandle::in_force`] and
//!   tells what was matched by [`DataHandle::handle_matched`].
//!
//! Not here: the resolution of names (an operator says which names are a client's), and a gateway that relays; relayed
//! requests are served, with their `cdid` and `Via`.
//!
//! ```
//! use weir_data_channel::model::Capabilities;
//! use weir_data_channel::service::{Headers, Method, Request, Service, ServiceSettings};
//! use weir_data_channel::store::{DataStore, Limits};
//! use weir_data_channel::{Authority, Peer, UnixTime};
//!
//! let peer = Peer::client("client.example", vec!["192.0.2.0/24".parse()?]);
//! let store = DataStore::new(Limits::default(), Capabilities::mandatory());
//! let mut service = Service::new(ServiceSettings::default(), Authority::new([peer]), store);
//!
//! // The name is of the certificate that TLS has verified; see `server` for the sockets.
//! let register = Request {
//!     method: Method::Post,
//!     path: "/restconf/data/ietf-dots-data-channel:dots-data",
//!     query: None,
//!     headers: Headers::default(),
//!     body: br#"{"ietf-dots-data-channel:dots-client": [{"cuid": "dz6pHjaADkaFTbjr0JGBpw"}]}"#,
//! };
//! let response = service.handle_request(&register, &["client.example".to_owned()], UnixTime(1_800_000_000));
//! assert_eq!(response.status, 201);
//!
//! // What is to be written to disk before the response leaves.
//! assert!(service.store_mut().poll_change().is_some());
//! # Ok::<(), ipnet::AddrParseError>(())
//! ```

pub mod client;
mod config;
pub mod enforce;
pub mod filters;
pub mod fuzzing;
mod handle;
mod keep;
pub mod model;
mod policy;
pub mod server;
pub mod service;
mod start;
pub mod store;
mod time;
mod tls;

pub use config::{ConfigFault, DataChannelConfig, DataChannelSettings, DataClientConfig};
pub use handle::{DataHandle, InForce};
pub use keep::{Folder, Keep};
pub use policy::{Authority, Peer, Prefixes};
pub use start::DataServer;
pub use time::UnixTime;
pub use tls::TlsFiles;
