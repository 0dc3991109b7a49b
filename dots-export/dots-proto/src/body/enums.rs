//! Enumerations of the DOTS modules. Each is numbered from 1 without gaps, so that the list of names is the table.

use serde::{Deserialize, Serialize};

macro_rules! enumeration {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $label:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $label)] $variant,)+
        }

        impl $name {
            /// All values in the order of their numbers, which start at 1.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
            /// The names of [`Self::ALL`].
            pub const NAMES: &'static [&'static str] = &[$($label,)+];

            /// Returns the number that CBOR carries.
            #[must_use]
            pub fn number(self) -> u8 {
                self as u8 + 1
            }

            /// Returns the value of a number, or none if it is not assigned.
            #[must_use]
            pub fn from_number(number: u8) -> Option<Self> {
                Self::ALL.get(usize::from(number).checked_sub(1)?).copied()
            }

            /// Returns the name that JSON carries.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

enumeration! {
    /// State of a mitigation (RFC 9132 §4.4.2, Table 3).
    MitigationStatus {
        /// 1: mitigation is being set up.
        AttackMitigationInProgress = "attack-mitigation-in-progress",
        /// 2: the attack is mitigated.
        AttackSuccessfullyMitigated = "attack-successfully-mitigated",
        /// 3: the attack has stopped; the client can withdraw.
        AttackStopped = "attack-stopped",
        /// 4: the attack exceeds what the server can mitigate.
        AttackExceededCapability = "attack-exceeded-capability",
        /// 5: withdrawn by the client, active but terminating.
        DotsClientWithdrawnMitigation = "dots-client-withdrawn-mitigation",
        /// 6: terminated.
        AttackMitigationTerminated = "attack-mitigation-terminated",
        /// 7: withdrawn by the server.
        AttackMitigationWithdrawn = "attack-mitigation-withdrawn",
        /// 8: waits for the loss of the session.
        AttackMitigationSignalLoss = "attack-mitigation-signal-loss",
    }
}

enumeration! {
    /// What became of requests in conflict (RFC 9132 §4.4.1.3).
    ConflictStatus {
        /// 1: this request is inactive, another is active.
        RequestInactiveOtherActive = "request-inactive-other-active",
        /// 2: this request is active, the other is not.
        RequestActive = "request-active",
        /// 3: none of them is active.
        AllRequestsInactive = "all-requests-inactive",
    }
}

enumeration! {
    /// Why requests are in conflict (RFC 9132 §4.4.1.3, RFC 9066, RFC 9244).
    ConflictCause {
        /// 1: targets overlap.
        OverlappingTargets = "overlapping-targets",
        /// 2: an accept-list covers the target.
        ConflictWithAcceptlist = "conflict-with-acceptlist",
        /// 3: another client uses the same `cuid`.
        CuidCollision = "cuid-collision",
        /// 4: the traffic is legitimate (RFC 9066).
        RequestRejectedLegitimateTraffic = "request-rejected-legitimate-traffic",
        /// 5: pipes overlap (RFC 9244).
        OverlappingPipes = "overlapping-pipes",
    }
}

enumeration! {
    /// The attack as the client sees it, in an efficacy update (RFC 9132 §4.4.3).
    AttackStatus {
        /// 1: still under attack.
        UnderAttack = "under-attack",
        /// 2: mitigated.
        AttackSuccessfullyMitigated = "attack-successfully-mitigated",
    }
}

enumeration! {
    /// When a filter of the data channel applies (RFC 9133 §3).
    ActivationType {
        /// 1: while a mitigation is active.
        ActivateWhenMitigating = "activate-when-mitigating",
        /// 2: at once.
        Immediate = "immediate",
        /// 3: not at all.
        Deactivate = "deactivate",
    }
}

enumeration! {
    /// Severity of an attack (RFC 9244 §8.1.5).
    AttackSeverity {
        /// 1: no effect on the client's domain.
        None = "none",
        /// 2: minimal effect.
        Low = "low",
        /// 3: a part of the resources is out of service.
        Medium = "medium",
        /// 4: the domain is under extremely severe conditions.
        High = "high",
        /// 5: not known.
        Unknown = "unknown",
    }
}

enumeration! {
    /// Class of a [`Unit`] (RFC 9244 §7.1.1).
    UnitClass {
        /// 1: packets per second.
        PacketPs = "packet-ps",
        /// 2: bits per second.
        BitPs = "bit-ps",
        /// 3: bytes per second.
        BytePs = "byte-ps",
    }
}

enumeration! {
    /// Unit of a traffic rate (RFC 9244 §7.2): a class with a decimal prefix.
    Unit {
        /// Packets per second.
        PacketPs = "packet-ps",
        /// Bits per second.
        BitPs = "bit-ps",
        /// Bytes per second.
        BytePs = "byte-ps",
        /// 10^3 packets per second.
        KilopacketPs = "kilopacket-ps",
        /// 10^3 bits per second.
        KilobitPs = "kilobit-ps",
        /// 10^3 bytes per second.
        KilobytePs = "kilobyte-ps",
        /// 10^6 packets per second.
        MegapacketPs = "megapacket-ps",
        /// 10^6 bits per second.
        MegabitPs = "megabit-ps",
        /// 10^6 bytes per second.
        MegabytePs = "megabyte-ps",
        /// 10^9 packets per second.
        GigapacketPs = "gigapacket-ps",
        /// 10^9 bits per second.
        GigabitPs = "gigabit-ps",
        /// 10^9 bytes per second.
        GigabytePs = "gigabyte-ps",
        /// 10^12 packets per second.
        TerapacketPs = "terapacket-ps",
        /// 10^12 bits per second.
        TerabitPs = "terabit-ps",
        /// 10^12 bytes per second.
        TerabytePs = "terabyte-ps",
        /// 10^15 packets per second.
        PetapacketPs = "petapacket-ps",
        /// 10^15 bits per second.
        PetabitPs = "petabit-ps",
        /// 10^15 bytes per second.
        PetabytePs = "petabyte-ps",
        /// 10^18 packets per second.
        ExapacketPs = "exapacket-ps",
        /// 10^18 bits per second.
        ExabitPs = "exabit-ps",
        /// 10^18 bytes per second.
        ExabytePs = "exabyte-ps",
        /// 10^21 packets per second.
        ZettapacketPs = "zettapacket-ps",
        /// 10^21 bits per second.
        ZettabitPs = "zettabit-ps",
        /// 10^21 bytes per second.
        ZettabytePs = "zettabyte-ps",
    }
}

impl Unit {
    /// Returns the unit of a class with the prefix 1000^`thousands`, from 0 (none) to 7 (zetta).
    #[must_use]
    pub fn of(class: UnitClass, thousands: u8) -> Option<Self> {
        Self::from_number(class.number().checked_add(thousands.checked_mul(3)?)?)
    }

    /// Returns the class.
    #[must_use]
    pub fn class(self) -> UnitClass {
        match (self.number() - 1) % 3 {
            0 => UnitClass::PacketPs,
            1 => UnitClass::BitPs,
            _ => UnitClass::BytePs,
        }
    }

    /// Returns how many of the class's base units one of this unit is: 1 to 10^21.
    #[must_use]
    pub fn factor(self) -> u128 {
        1000_u128.pow(u32::from((self.number() - 1) / 3))
    }
}

enumeration! {
    /// Period over which percentiles are taken (RFC 9244 §7.1).
    MeasurementInterval {
        /// 5 minutes.
        FiveMinutes = "5-minutes",
        /// 10 minutes.
        TenMinutes = "10-minutes",
        /// 30 minutes.
        ThirtyMinutes = "30-minutes",
        /// One hour.
        Hour = "hour",
        /// One day.
        Day = "day",
        /// One week.
        Week = "week",
        /// One month, counted as 30 days.
        Month = "month",
    }
}

impl MeasurementInterval {
    /// Returns the length in seconds.
    #[must_use]
    pub fn seconds(self) -> u32 {
        match self {
            Self::FiveMinutes => 300,
            Self::TenMinutes => 600,
            Self::ThirtyMinutes => 1800,
            Self::Hour => 3600,
            Self::Day => 86_400,
            Self::Week => 604_800,
            Self::Month => 2_592_000,
        }
    }
}

enumeration! {
    /// Length of one measurement; shorter than the [`MeasurementInterval`] (RFC 9244 §7.1).
    MeasurementSample {
        /// One second.
        Second = "second",
        /// 5 seconds.
        FiveSeconds = "5-seconds",
        /// 30 seconds.
        ThirtySeconds = "30-seconds",
        /// One minute.
        Minute = "minute",
        /// 5 minutes.
        FiveMinutes = "5-minutes",
        /// 10 minutes.
        TenMinutes = "10-minutes",
        /// 30 minutes.
        ThirtyMinutes = "30-minutes",
        /// One hour.
        Hour = "hour",
    }
}

impl MeasurementSample {
    /// Returns the length in seconds.
    #[must_use]
    pub fn seconds(self) -> u32 {
        match self {
            Self::Second => 1,
            Self::FiveSeconds => 5,
            Self::ThirtySeconds => 30,
            Self::Minute => 60,
            Self::FiveMinutes => 300,
            Self::TenMinutes => 600,
            Self::ThirtyMinutes => 1800,
            Self::Hour => 3600,
        }
    }
}

enumeration! {
    /// A `Uri-Query` that the server supports (RFC 9244 §7.1.1).
    QueryType {
        /// By target prefix.
        TargetPrefix = "target-prefix",
        /// By target port.
        TargetPort = "target-port",
        /// By target protocol.
        TargetProtocol = "target-protocol",
        /// By target FQDN.
        TargetFqdn = "target-fqdn",
        /// By target URI.
        TargetUri = "target-uri",
        /// By target alias.
        TargetAlias = "target-alias",
        /// By mitigation request.
        Mid = "mid",
        /// By source prefix.
        SourcePrefix = "source-prefix",
        /// By source port.
        SourcePort = "source-port",
        /// By ICMP type of the source.
        SourceIcmpType = "source-icmp-type",
        /// By content, `c=`.
        Content = "content",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_agree_with_serde() {
        for (index, status) in MitigationStatus::ALL.iter().enumerate() {
            assert_eq!(usize::from(status.number()), index + 1);
            assert_eq!(
                MitigationStatus::from_number(status.number()),
                Some(*status)
            );
            assert_eq!(serde_json::to_value(status).unwrap(), status.name());
            assert_eq!(MitigationStatus::NAMES[index], status.name());
        }
        assert_eq!(MitigationStatus::from_number(0), None);
        assert_eq!(MitigationStatus::from_number(9), None);
    }

    #[test]
    fn units_are_class_and_prefix() {
        assert_eq!(Unit::of(UnitClass::BitPs, 2), Some(Unit::MegabitPs));
        assert_eq!(Unit::of(UnitClass::BytePs, 7), Some(Unit::ZettabytePs));
        assert_eq!(Unit::of(UnitClass::PacketPs, 8), None);
        assert_eq!(Unit::KilopacketPs.factor(), 1000);
        for unit in Unit::ALL {
            assert!(unit.name().ends_with(unit.class().name()));
        }
    }
}
