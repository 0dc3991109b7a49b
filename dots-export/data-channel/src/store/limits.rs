/// Bounds of a store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Clients of all peers.
    pub max_clients: usize,
    /// Clients of one peer; a gateway may have [`Self::max_clients`].
    pub max_clients_per_peer: usize,
    /// Aliases of one client.
    pub max_aliases: usize,
    /// Filters of one client.
    pub max_acls: usize,
    /// Entries in all filters of one client.
    pub max_aces: usize,
    /// Attacks in all vendor mappings of one client.
    pub max_attacks: usize,
    /// Octets of one client's configuration as JSON.
    pub max_octets: usize,
    /// Minutes for which an alias or a filter is kept without a refresh; at least [`Self::LEAST_LIFETIME`].
    pub lifetime: u32,
    /// Minutes after which a client that holds nothing is forgotten.
    pub inactivity_minutes: u32,
    /// Whether a filter that applies at once may leave its destination open, and so stand for all of the client's
    /// domain. RFC 8783 §7.2 demands a destination; its Figure 36 has none.
    pub any_destination: bool,
    /// What becomes of a filter that contradicts one of another client of the domain.
    pub conflicts: ConflictRule,
}

/// What becomes of a filter that contradicts one of another client of the domain (RFC 8783 §3.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConflictRule {
    /// The new one is refused: the default (RFC 8783 §7.2).
    RefuseNew,
    /// Both are kept.
    Keep,
}

impl Limits {
    /// A week, in minutes: the least time for which entries are kept (RFC 8783 §6.1, §7.2).
    pub const LEAST_LIFETIME: u32 = 10_080;

    pub(super) fn lifetime_minutes(&self) -> u32 {
        self.lifetime.max(Self::LEAST_LIFETIME)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_clients: 10_000,
            max_clients_per_peer: 16,
            max_aliases: 1_024,
            max_acls: 256,
            max_aces: 4_096,
            max_attacks: 16_384,
            max_octets: 4 << 20,
            lifetime: Self::LEAST_LIFETIME,
            inactivity_minutes: 4 * Self::LEAST_LIFETIME,
            any_destination: false,
            conflicts: ConflictRule::RefuseNew,
        }
    }
}

/// Requests that a store has refused, by reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Refused {
    /// Wrong content, or targets of others.
    pub bodies: u64,
    /// Clients that exist, or are not registered.
    pub clients: u64,
    /// Bounds.
    pub quotas: u64,
    /// Contradicting filters.
    pub conflicts: u64,
}
