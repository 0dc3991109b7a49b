//! DOTS signal channel and telemetry for both peers: RFC 9132, 9244, and of RFC 9066, 9133 and 9362 the parameters.
//!
//! Bodies exist in three forms: `application/dots+cbor` on the wire, the JSON form of RFC 7951 that the RFCs print, and
//! typed structs ([`body`]). [`decode`] and [`encode`] lead between the first two, [`Body`] to the third; one table
//! ([`keys::PARAMETERS`]) drives both directions. [`check_request`] holds a client's body against the rules of the RFCs.
//!
//! [`client::Session`] and [`server::Session`] are the two ends of a session over datagrams: CoAP ([`coap`], RFC 7252), its
//! message layer, Observe (RFC 7641), bodies in blocks (RFC 7959, RFC 9177), and heartbeats. They know nothing of mitigations: what a
//! server grants and what a client asks for is their caller's.
//!
//! The crate owns no socket, thread or clock, and no (D)TLS. Whoever does drives a session like this:
//!
//! ```
//! use std::time::Instant;
//!
//! use weir_dots_proto::client::{Notice, Request, Session};
//! use weir_dots_proto::coap::Code;
//! use weir_dots_proto::server::{self, Event, Response};
//! use weir_dots_proto::{Method, Resource, SessionParameters};
//!
//! let now = Instant::now();
//! let mut client = Session::new(SessionParameters::default(), 1);
//! let mut server = server::Session::new(SessionParameters::default(), 2);
//! client.handle_connected(now);
//! server.handle_connected(now);
//! let request = Request::new(Method::Delete, Resource::Config { sid: None });
//! let id = client.handle_request(now, request);
//!
//! // Here a link without loss; `poll_timeout` says when `handle_timeout` is due.
//! while let Some(datagram) = client.poll_transmit() {
//!     server.handle_datagram(now, &datagram);
//! }
//! while let Some(event) = server.poll_event() {
//!     if let Event::Request { exchange, .. } = event {
//!         server.handle_response(now, exchange, Response::new(Code::DELETED));
//!     }
//! }
//! while let Some(datagram) = server.poll_transmit() {
//!     client.handle_datagram(now, &datagram);
//! }
//! assert!(matches!(
//!     client.poll_notice(),
//!     Some(Notice::Response { id: answered, code: Code::DELETED, .. }) if answered == id
//! ));
//! ```

pub mod body;
pub mod cbor;
mod check;
pub mod client;
pub mod coap;
mod decimal;
pub mod fuzzing;
mod heartbeat;
mod ids;
mod json;
pub mod keys;
mod parameters;
mod request;
mod resource;
mod robust;
pub mod server;

pub use body::{Body, BodyError};
pub use cbor::{decode, encode};
pub use check::{
    BodyKind, RequestFault, ResponseFault, check_config_range, check_request, check_response,
    is_domain_name, is_unicast, is_uri,
};
pub use decimal::{Decimal, DecimalError};
pub use ids::{Cuid, IdError, MAX_CUID_LENGTH, Mid, Sid, Tmid, Tsid};
pub use json::read_json;
pub use parameters::SessionParameters;
pub use resource::{Method, Resource, ResourceError};
pub use robust::RobustParameters;
