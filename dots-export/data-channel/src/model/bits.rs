//! YANG `bits`: names separated by blanks, written in the order of their positions (RFC 7950 §9.7).

use serde_json::Value;

macro_rules! bits {
    ($(#[$doc:meta])* $name:ident { $($(#[$bit_doc:meta])* $constant:ident = $position:literal $label:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
        pub struct $name(u16);

        impl $name {
            $($(#[$bit_doc])* pub const $constant: Self = Self(1 << $position);)+
            const NAMES: &'static [(Self, &'static str)] = &[$((Self::$constant, $label),)+];

            /// All bits of both.
            #[must_use]
            pub const fn with(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// Whether all bits of `other` are set.
            #[must_use]
            pub const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            pub(crate) fn read(value: &Value) -> Option<Self> {
                let mut found = Self(0);
                for word in value.as_str()?.split_ascii_whitespace() {
                    let (bit, _) = Self::NAMES.iter().find(|(_, name)| *name == word)?;
                    // A bit is named once (RFC 7950 §9.7.2).
                    if found.contains(*bit) {
                        return None;
                    }
                    found = found.with(*bit);
                }
                Some(found)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let set = Self::NAMES.iter().filter(|(bit, _)| self.contains(*bit));
                for (index, (_, name)) in set.enumerate() {
                    let blank = if index == 0 { "" } else { " " };
                    write!(f, "{blank}{name}")?;
                }
                Ok(())
            }
        }

        impl From<$name> for Value {
            fn from(bits: $name) -> Self {
                Self::String(bits.to_string())
            }
        }
    };
}

bits! {
    /// How a bit mask is applied (RFC 8783 §4.3 `operator`). [`Self::MATCH`] and [`Self::ANY`] exclude each other.
    Operator {
        /// The result is negated.
        NOT = 0 "not",
        /// `(data & value) == value`.
        MATCH = 1 "match",
        /// `(data & value) != 0`.
        ANY = 3 "any",
    }
}

bits! {
    /// Kinds of fragment (RFC 8783 §4.3 `fragment-type`).
    FragmentType {
        /// Don't fragment; not in IPv6.
        DF = 0 "df",
        /// Is a fragment.
        ISF = 1 "isf",
        /// First fragment.
        FF = 2 "ff",
        /// Last fragment.
        LF = 3 "lf",
    }
}

bits! {
    /// Flags of the IPv4 header (RFC 8519 `flags`).
    Ipv4Flags {
        /// Reserved, zero.
        RESERVED = 0 "reserved",
        /// Don't fragment.
        FRAGMENT = 1 "fragment",
        /// More fragments follow.
        MORE = 2 "more",
    }
}

bits! {
    /// Flags of the TCP header (RFC 8519 `flags`).
    TcpFlags {
        /// Congestion Window Reduced.
        CWR = 1 "cwr",
        /// ECN-Echo.
        ECE = 2 "ece",
        /// The urgent pointer is significant.
        URG = 3 "urg",
        /// The acknowledgement is significant.
        ACK = 4 "ack",
        /// Push.
        PSH = 5 "psh",
        /// Reset.
        RST = 6 "rst",
        /// Synchronize.
        SYN = 7 "syn",
        /// Last of the sender.
        FIN = 8 "fin",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_written_in_the_order_of_positions() {
        let read = |text: &str| Operator::read(&Value::from(text));
        assert_eq!(
            read("any not").map(|bits| bits.to_string()),
            Some("not any".to_owned())
        );
        assert_eq!(read("not not"), None);
        assert_eq!(read("all"), None);
        assert_eq!(read("").map(|bits| bits.to_string()), Some(String::new()));
    }
}
