//! Bodies of the data channel as types: `ietf-dots-data-channel` (RFC 8783 §4.3) and `ietf-dots-mapping` (RFC 9244 §11.2)
//! in the JSON encoding of RFC 7951.
//!
//! Reading is strict for requests: a member that the modules do not have, a value outside its type, a missing mandatory
//! node is a [`BodyFault`] that says where. Answers of a peer are read with unknown members skipped. Identities are
//! accepted with and without the name of their module, as RFC 8783 prints them without; they are written with it.

mod accepting;
mod acl;
mod alias;
mod bits;
mod capabilities;
mod client;
mod element;
mod entry;
mod ip_match;
mod mapping;
mod matches;
mod names;
mod port_match;
mod rate;

pub(crate) use accepting::accepting;
pub use acl::{Ace, Acl, AclType, Acls, Actions, Forwarding};
pub use alias::{Alias, Aliases};
pub use bits::{FragmentType, Ipv4Flags, Operator, TcpFlags};
pub use capabilities::{AddressFamily, Capabilities, Supported};
pub use client::Registration;
pub use element::{BodyFault, FaultKind, Source};
pub use entry::{AclEntry, AclState, AliasEntry, Matched};
pub use ip_match::{Family, FragmentMatch, IpMatch, Ipv4Match, Ipv4Only, Ipv6Match, Ipv6Only};
pub use mapping::{AttackMapping, Vendor, VendorMapping};
pub use matches::{FlagsBitmask, IcmpMatch, L3, L4, Matches, TcpMatch, UdpMatch};
pub use names::uri_host;
pub use port_match::{PortMatch, PortOperator};
pub use rate::RateLimit;
pub use weir_dots_proto::body::{ActivationType, PortRange, Target};

/// Name of the module of clients, aliases, filters and capabilities.
pub const DATA_CHANNEL: &str = "ietf-dots-data-channel";
/// Name of the module of vendor mappings.
pub const MAPPING: &str = "ietf-dots-mapping";
/// Name of the module that types of filters and forwarding actions are of.
pub const ACCESS_CONTROL: &str = "ietf-access-control-list";
/// The member that holds vendor mappings within a client or the server's data.
pub const VENDOR_MAPPING: &str = "ietf-dots-mapping:vendor-mapping";

/// Longest name of a filter or an entry of one (RFC 8783 §4.3), in characters.
pub const MAX_ACL_NAME: usize = 64;
/// Longest name of an alias that is taken, in octets; the module sets no bound.
pub const MAX_ALIAS_NAME: usize = 255;

/// The part of an identity or a member name behind its module, where that is the expected one.
fn without_module<'a>(text: &'a str, module: &str) -> &'a str {
    text.strip_prefix(module)
        .and_then(|rest| rest.strip_prefix(':'))
        .unwrap_or(text)
}
