/// Declares an enumeration of reasons with a name each for metrics and logs.
macro_rules! reasons {
    ($(#[$doc:meta])* $type:ident { $($(#[$note:meta])* $variant:ident => $name:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[non_exhaustive]
        pub enum $type {
            $($(#[$note])* $variant,)+
        }

        impl $type {
            /// All of them, in the order of their counters.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The reason in metrics and logs.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

reasons! {
    /// Why a session ended.
    CloseReason {
        /// The exporter closed it, between two messages.
        Peer => "peer",
        /// The exporter closed it within a message, which is lost.
        Truncated => "truncated",
        /// The connection broke, or TLS ended without a closure alert.
        Lost => "lost",
        /// A message of another version than 10: nobody knows where the next one begins.
        Version => "version",
        /// A message shorter than its header.
        Length => "length",
        /// The decoder found a message malformed.
        Malformed => "malformed",
        /// Nothing came for the idle time.
        Idle => "idle",
        /// A message took too long to become whole.
        Slow => "slow",
    }
}

reasons! {
    /// Why a connection did not become a session.
    Refusal {
        /// The peer is outside the allow list.
        Stranger => "stranger",
        /// There are as many connections as there may be.
        Full => "full",
        /// There are as many from that address as there may be.
        Address => "address",
        /// There is a session of that address and port at another socket of ours.
        Port => "port",
        /// The TLS handshake took too long.
        HandshakeTime => "handshake_time",
        /// The oldest unfinished TLS handshake gave way to a new one.
        HandshakeEvicted => "handshake_evicted",
        /// The client showed no certificate.
        NoCertificate => "no_certificate",
        /// The client's certificate is not of the configured CA, out of date, or for another purpose.
        BadCertificate => "bad_certificate",
        /// The TLS handshake failed otherwise.
        Handshake => "handshake",
        /// The system could not accept: out of descriptors or memory.
        System => "system",
    }
}

/// Sums over the life of the sockets.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct StreamCounters {
    /// Sessions that began.
    pub opened: u64,
    /// Messages handed over.
    pub messages: u64,
    /// Octets of those.
    pub octets: u64,
    /// How often a session waited because its shard took nothing.
    pub stalls: u64,
    closed: [u64; CloseReason::ALL.len()],
    refused: [u64; Refusal::ALL.len()],
}

impl StreamCounters {
    /// Sessions that ended for `reason`.
    pub fn closed(&self, reason: CloseReason) -> u64 {
        self.closed.get(reason as usize).copied().unwrap_or(0)
    }

    /// Connections that did not become a session because of `refusal`.
    pub fn refused(&self, refusal: Refusal) -> u64 {
        self.refused.get(refusal as usize).copied().unwrap_or(0)
    }

    pub(super) fn count_closed(&mut self, reason: CloseReason) {
        if let Some(count) = self.closed.get_mut(reason as usize) {
            *count += 1;
        }
    }

    pub(super) fn count_refused(&mut self, refusal: Refusal) {
        if let Some(count) = self.refused.get_mut(refusal as usize) {
            *count += 1;
        }
    }
}
