//! Records of both directions (RFC 5103): the other direction becomes a row of its own, with source and destination
//! exchanged.

use crate::columns::Records;
use crate::element as ie;
use crate::plan::{Field, Places, RowPlan};

/// Elements that change places when the direction is turned round.
const EXCHANGED: [(u16, u16); 11] = [
    (ie::SOURCE_IPV4_ADDRESS, ie::DESTINATION_IPV4_ADDRESS),
    (ie::SOURCE_IPV6_ADDRESS, ie::DESTINATION_IPV6_ADDRESS),
    (ie::SOURCE_TRANSPORT_PORT, ie::DESTINATION_TRANSPORT_PORT),
    (ie::UDP_SOURCE_PORT, ie::UDP_DESTINATION_PORT),
    (ie::TCP_SOURCE_PORT, ie::TCP_DESTINATION_PORT),
    (
        ie::SOURCE_IPV4_PREFIX_LENGTH,
        ie::DESTINATION_IPV4_PREFIX_LENGTH,
    ),
    (
        ie::SOURCE_IPV6_PREFIX_LENGTH,
        ie::DESTINATION_IPV6_PREFIX_LENGTH,
    ),
    (ie::BGP_SOURCE_AS_NUMBER, ie::BGP_DESTINATION_AS_NUMBER),
    (ie::INGRESS_INTERFACE, ie::EGRESS_INTERFACE),
    (
        ie::INGRESS_PHYSICAL_INTERFACE,
        ie::EGRESS_PHYSICAL_INTERFACE,
    ),
    (ie::SOURCE_MAC_ADDRESS, ie::DESTINATION_MAC_ADDRESS),
];

/// Counts of the other direction, and as what they count there; pairs of octets and packets, best first.
const RESPONDER: [(u16, u16); 2] = [
    (ie::RESPONDER_OCTETS, ie::INITIATOR_OCTETS),
    (ie::RESPONDER_PACKETS, ie::INITIATOR_PACKETS),
];
const NPROBE: [(u16, u16); 2] = [
    (ie::POST_OCTET_DELTA_COUNT, ie::INITIATOR_OCTETS),
    (ie::POST_PACKET_DELTA_COUNT, ie::INITIATOR_PACKETS),
];
const COUNTS: [u16; 4] = [
    ie::OCTET_DELTA_COUNT,
    ie::PACKET_DELTA_COUNT,
    ie::OCTET_TOTAL_COUNT,
    ie::PACKET_TOTAL_COUNT,
];

impl Places {
    /// The same records seen from the other end; `None` if they count nothing there.
    pub(crate) fn other_direction(&self, nprobe: bool) -> Option<Self> {
        let mut other = Self::empty(self.stride);
        let reverse = self.others.iter().filter(|field| field.0 == ie::REVERSE);
        other
            .found
            .extend(reverse.map(|&(_, element, field)| (element, field)));
        if !COUNTS.iter().any(|&count| other.find(count).is_some()) {
            // Counts of initiator and responder beside IE 1 are of something else.
            let events = self
                .first_of(&[ie::FIREWALL_EVENT, ie::CISCO_FIREWALL_EVENT])
                .is_some();
            let responder = events || !COUNTS.iter().any(|&count| self.find(count).is_some());
            let pairs = match (responder, nprobe) {
                (true, _) => RESPONDER,
                (false, true) => NPROBE,
                (false, false) => return None,
            };
            for (from, to) in pairs {
                other.found.extend(self.find(from).map(|field| (to, field)));
            }
            other
                .first_of(&[ie::INITIATOR_OCTETS, ie::INITIATOR_PACKETS])
                .is_some()
                .then_some(())?;
        }
        self.turn_round(&mut other);
        Some(other)
    }

    /// Adds what both directions share, and what they share the other way round.
    fn turn_round(&self, other: &mut Self) {
        let has = |kind: fn(u16) -> bool| other.found.iter().any(|&(element, _)| kind(element));
        let (has_start, has_end) = (has(is_start), has(is_end));
        let has_duration = has_start || has_end || has(is_duration);
        for &(element, field) in &self.found {
            let Some(element) = turned(element) else {
                continue;
            };
            let replaced = has_start && is_start(element)
                || has_end && is_end(element)
                || has_duration && is_duration(element);
            if !replaced && other.find(element).is_none() {
                other.found.push((element, field));
            }
        }
        for &(enterprise, element, field) in &self.others {
            let delta = element == ie::CERT_REVERSE_FLOW_DELTA_MILLISECONDS;
            if enterprise == ie::CERT
                && (delta && !has_start || element & ie::CERT_REVERSE_BIT != 0)
            {
                let element = element & !ie::CERT_REVERSE_BIT;
                other.others.push((enterprise, element, field));
            }
        }
    }
}

/// What an element of one direction says of the other; `None`: nothing.
fn turned(element: u16) -> Option<u16> {
    for (one, another) in EXCHANGED {
        if element == one {
            return Some(another);
        }
        if element == another {
            return Some(one);
        }
    }
    let shared = is_start(element)
        || is_end(element)
        || is_duration(element)
        || matches!(
            element,
            ie::PROTOCOL_IDENTIFIER
                | ie::VLAN_ID
                | ie::DOT1Q_VLAN_ID
                | ie::SYSTEM_INIT_TIME_MILLISECONDS
                | ie::COLLECTION_TIME_MILLISECONDS
                | ie::OBSERVATION_TIME_SECONDS
                | ie::OBSERVATION_TIME_MILLISECONDS
                | ie::OBSERVATION_TIME_MICROSECONDS
                | ie::OBSERVATION_TIME_NANOSECONDS
                | ie::SAMPLER_ID
                | ie::SELECTOR_ID
                | ie::SAMPLING_INTERVAL
                | ie::SAMPLER_RANDOM_INTERVAL
                | ie::SAMPLING_PACKET_INTERVAL
                | ie::SAMPLING_PACKET_SPACE
                | ie::SAMPLING_SIZE
                | ie::SAMPLING_POPULATION
                | ie::SAMPLING_PROBABILITY
        );
    shared.then_some(element)
}

fn is_start(element: u16) -> bool {
    matches!(
        element,
        ie::FLOW_START_SYS_UP_TIME
            | ie::FLOW_START_SECONDS
            | ie::FLOW_START_MILLISECONDS
            | ie::FLOW_START_MICROSECONDS
            | ie::FLOW_START_NANOSECONDS
            | ie::FLOW_START_DELTA_MICROSECONDS
    )
}

fn is_end(element: u16) -> bool {
    matches!(
        element,
        ie::FLOW_END_SYS_UP_TIME
            | ie::FLOW_END_SECONDS
            | ie::FLOW_END_MILLISECONDS
            | ie::FLOW_END_MICROSECONDS
            | ie::FLOW_END_NANOSECONDS
            | ie::FLOW_END_DELTA_MICROSECONDS
    )
}

fn is_duration(element: u16) -> bool {
    matches!(
        element,
        ie::FLOW_DURATION_MILLISECONDS | ie::FLOW_DURATION_MICROSECONDS
    )
}

/// Those of the records that count something in the other direction: most attacks are never answered. `room` takes a copy
/// where it is not all of them.
pub(crate) fn answered<'a>(
    records: Records<'a>,
    reverse: &RowPlan,
    room: &'a mut Vec<u8>,
) -> Records<'a> {
    let counts = [reverse.octets, reverse.packets];
    let counts = |record: &[u8]| {
        counts
            .iter()
            .flatten()
            .any(|field| !is_zero(record, *field))
    };
    if records.iter().all(&counts) {
        return records;
    }
    room.clear();
    for record in records.iter().filter(|record| counts(record)) {
        room.extend_from_slice(record);
    }
    Records::new(room, reverse.stride)
}

fn is_zero(record: &[u8], field: Field) -> bool {
    let (at, width) = (field.at as usize, usize::from(field.width));
    let octets = record.get(at..at + width).unwrap_or(&[]);
    octets.iter().all(|&octet| octet == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::FieldSpecifier;
    use weir_flow_record::ColumnSet;

    fn fields(list: &[(u32, u16, u16)]) -> Vec<FieldSpecifier> {
        let fields = list.iter();
        fields
            .map(|&(enterprise, element, length)| FieldSpecifier {
                element,
                length,
                enterprise,
            })
            .collect()
    }

    #[test]
    fn the_other_direction_exchanges_ends_and_keeps_what_is_shared() {
        let list = fields(&[
            (0, 8, 4),
            (0, 12, 4),
            (0, 4, 1),
            (0, 6, 1),
            (0, 1, 8),
            (29_305, 1, 8),
            (29_305, 6, 1),
            (0, 152, 8),
            (0, 153, 8),
        ]);
        let plan = RowPlan::compile(&list, false, ColumnSet::NONE);
        let reverse = plan.reverse.unwrap();
        assert_eq!(reverse.source.v4, plan.destination.v4);
        assert_eq!(reverse.octets, Some(Field { at: 18, width: 8 }));
        assert_eq!(reverse.tcp_flags, Some(Field { at: 26, width: 1 }));
        assert_eq!(reverse.protocol, plan.protocol);
        assert_eq!(reverse.stride, plan.stride);
    }

    #[test]
    fn what_counts_one_way_has_no_other_direction() {
        let one_way = |list: &[(u32, u16, u16)]| {
            RowPlan::compile(&fields(list), false, ColumnSet::NONE)
                .reverse
                .is_none()
        };
        assert!(one_way(&[(0, 1, 8), (0, 2, 8)]));
        // Egress counters of Cisco; those of a responder beside IE 1.
        assert!(one_way(&[(0, 1, 8), (0, 23, 8)]));
        assert!(one_way(&[(0, 1, 8), (0, 231, 4), (0, 232, 4)]));
        assert!(!one_way(&[(0, 231, 4), (0, 232, 4)]));
        assert!(!one_way(&[(0, 1, 8), (0, 23, 8), (35_632, 80, 2)]));
    }
}
