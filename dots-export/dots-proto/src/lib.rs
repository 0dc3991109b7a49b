//! DOTS signal channel and telemetry for both peers: RFC 9132, 9244, and of RFC 9066, 9133 and 9362 the parameters.
//!
//! Bodies exist in three forms: `application/dots+cbor` on the wire, the JSON form of RFC 7951 that the RFCs print, and
//! typed structs ([`body`]). [`decode`] and [`encode`] lead between the first two, [`Body`] to the third; one table
//! ([`keys::PARAMETERS`]) drives both directions. [`check_request`] holds a client's body against the rules of the RFCs.
//!
//! The crate owns no socket, thread or clock.

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
pub mod server;

pub use body::{Body, BodyError};
pub use cbor::{decode, encode};
pub use check::{
    BodyKind, RequestFault, ResponseFault, check_config_range, check_request, check_response,
};
pub use decimal::{Decimal, DecimalError};
pub use ids::{Cuid, IdError, MAX_CUID_LENGTH, Mid, Sid, Tmid, Tsid};
pub use json::read_json;
pub use parameters::SessionParameters;
pub use resource::{Method, Resource, ResourceError};
