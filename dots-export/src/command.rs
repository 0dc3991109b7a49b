//! What passes between the policy and a client.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use weir_attack_event::{AttackId, MitigationReport};
use weir_flow_record::Vector;

use crate::client::{Efficacy, PreparedFilter, SetupPlan};
use crate::discovery::Discovery;
use ipnet::IpNet;
use weir_dots_proto::body::{Lifetime, PreOrOngoingMitigation, Scope, Telemetry};
use weir_dtls::Validity;

/// Attacks whose names begin with this were named by an operator (`weir dots request`), not by the detector: no event
/// ends them, and a restart keeps their mitigations.
pub const OPERATOR_PREFIX: &str = "operator-";

/// Whether an operator asked for this mitigation.
#[must_use]
pub fn is_operators(attack: &AttackId) -> bool {
    attack.0.starts_with(OPERATOR_PREFIX)
}

/// Those of an operator's that are refreshed until they are withdrawn (`weir dots request --keep`). Others end with the
/// lifetime that the operator gave: nothing here could tell when help is not needed any more, and RFC 9132 §4.4.3 has a
/// client refresh only while it needs it.
pub const OPERATOR_KEPT_PREFIX: &str = "operator-kept-";

/// Whether a mitigation ends with its lifetime: nobody refreshes it.
pub(crate) fn ends_with_lifetime(attack: &AttackId) -> bool {
    is_operators(attack) && !attack.0.starts_with(OPERATOR_KEPT_PREFIX)
}

/// An order to the client of one upstream.
#[derive(Clone, PartialEq, Debug)]
pub enum ClientCommand {
    /// Ask for mitigation. If the client holds a mitigation of this attack already, a scope within it changes nothing, and
    /// a wider one replaces it.
    Request {
        /// The attack.
        attack: AttackId,
        /// What is to be protected, without `mid` and lifetime.
        scope: Box<Scope>,
        /// How long the mitigation is to last. It is refreshed until it is withdrawn; an operator's is not, and ends with
        /// its lifetime, unless its name begins with [`OPERATOR_KEPT_PREFIX`].
        lifetime: Lifetime,
    },
    /// End the mitigation of this attack.
    Withdraw {
        /// The attack.
        attack: AttackId,
    },
    /// Tell how the attack stands. The client adds the `mid-list` and the `tmid`.
    Telemetry {
        /// The attack.
        attack: AttackId,
        /// One item, with its target and without `tmid` and `mid-list`.
        body: Box<Telemetry>,
        /// Whether this is the last word on the attack.
        ended: bool,
    },
    /// Tell how well the mitigations of an attack work (RFC 9132 §4.4.3).
    Efficacy {
        /// The attack.
        attack: AttackId,
        /// What arrives.
        efficacy: Efficacy,
    },
    /// The server has our vendor mapping now: descriptions of attacks go no more (RFC 9244 §8.1.5).
    MappingShared,
    /// Ask the server to tell of attacks on these targets (RFC 9244 §8.3), in place of those that were named before.
    Watch {
        /// The targets.
        targets: Vec<IpNet>,
    },
    /// The data channel has installed these filters: the signal channel may switch them on (RFC 9133). In place of those that
    /// were named before.
    Prepared {
        /// The filters.
        filters: Vec<PreparedFilter>,
    },
    /// What an attack is made of, by which filters are chosen.
    Vectors {
        /// The attack.
        attack: AttackId,
        /// Its larger vectors.
        vectors: BTreeSet<Vector>,
    },
    /// Set up telemetry (RFC 9244 §7), in place of what was set up before.
    Setup {
        /// The whole plan.
        plan: SetupPlan,
    },
}

impl ClientCommand {
    /// The attack that the order is about, if it is about one.
    #[must_use]
    pub fn attack(&self) -> Option<&AttackId> {
        match self {
            Self::Request { attack, .. }
            | Self::Withdraw { attack }
            | Self::Efficacy { attack, .. }
            | Self::Vectors { attack, .. }
            | Self::Telemetry { attack, .. } => Some(attack),
            Self::Setup { .. }
            | Self::Prepared { .. }
            | Self::Watch { .. }
            | Self::MappingShared => None,
        }
    }
}

/// How a session stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SessionState {
    /// Requests are exchanged.
    Up,
    /// The transport is gone or the peer is silent; it is being looked for again.
    Lost,
    /// A try to connect failed, for this reason.
    Failed(String),
}

/// What the client of one upstream reports.
#[derive(Clone, PartialEq, Debug)]
pub enum ClientNotice {
    /// The session changed.
    Session {
        /// The upstream.
        upstream: Arc<str>,
        /// Its new state.
        state: SessionState,
    },
    /// Certificate and revocation lists were read, at the start or because their files changed.
    Credentials {
        /// The upstream that they are for.
        upstream: Arc<str>,
        /// Until when they are good.
        validity: Validity,
    },
    /// The DNS says where the upstream's servers are (RFC 8973); told when that has changed, and at a restart.
    Discovered {
        /// The upstream.
        upstream: Arc<str>,
        /// All ways to it.
        discovery: Discovery,
    },
    /// The server says that another one is to be used (RFC 9132 §4.6).
    Redirected {
        /// The upstream.
        upstream: Arc<str>,
        /// The other server.
        server: String,
        /// For how many seconds; 0: for this request, 2^32-1: for good.
        max_age: u32,
        /// Whether that is done; not to a server that was used within the last five minutes: that is a loop, and somebody
        /// has to look at it.
        followed: bool,
    },
    /// A mitigation was found in the journal at a restart.
    Held {
        /// The upstream.
        upstream: Arc<str>,
        /// The attack it was asked for.
        attack: AttackId,
        /// Its identifier.
        mid: u32,
        /// What was asked for.
        scope: Box<Scope>,
    },
    /// The server took a request (2.01).
    Granted(MitigationReport),
    /// The server did not take a request, or it could not be made.
    Refused {
        /// The attack.
        attack: AttackId,
        /// The upstream.
        upstream: Arc<str>,
        /// The request's identifier, or the one it would have had.
        mid: u32,
        /// Its code, as `4.09`; 4.13 or 5.03 of our own where it was not made.
        code: String,
        /// Its words.
        diagnostic: String,
        /// When the client asks again by itself; `None`: it does not, and has forgotten the request.
        retry_in: Option<Duration>,
    },
    /// The server does not answer a request. The client goes on trying.
    Unreachable {
        /// The attack.
        attack: AttackId,
        /// The upstream.
        upstream: Arc<str>,
    },
    /// The server's word on a mitigation.
    Status(MitigationReport),
    /// The server confirmed a withdrawal (2.02).
    Withdrawn {
        /// The attack.
        attack: AttackId,
        /// The upstream.
        upstream: Arc<str>,
        /// The mitigation's identifier.
        mid: u32,
    },
    /// The server knew a mitigation of ours that we do not hold; it is being withdrawn.
    Orphan {
        /// The upstream.
        upstream: Arc<str>,
        /// Its identifier.
        mid: u32,
    },
    /// Accept-lists of ours let attack traffic through, the server says (RFC 9132 §4.4.1.3, conflict-cause 2): somebody has to look
    /// at them.
    Accepting {
        /// The attack.
        attack: AttackId,
        /// The upstream.
        upstream: Arc<str>,
        /// Names of the filters on the data channel.
        filters: Vec<String>,
    },
    /// The server has switched filters on (RFC 9133), or has not.
    Switched {
        /// The attack.
        attack: AttackId,
        /// The upstream.
        upstream: Arc<str>,
        /// Their names on the data channel.
        filters: Vec<String>,
        /// Why it has not: its code and words.
        refused: Option<String>,
    },
    /// What the server tells of our targets (RFC 9244 §8.3), in place of what it told before; nothing where it sees no attack any
    /// more.
    Observed {
        /// The upstream.
        upstream: Arc<str>,
        /// Its telemetry.
        items: Vec<PreOrOngoingMitigation>,
    },
    /// The server took telemetry.
    Told {
        /// The attack.
        attack: AttackId,
        /// The upstream.
        upstream: Arc<str>,
        /// The item's identifier.
        tmid: u32,
    },
}
