//! A template compiled once: which column takes which octets of a record.

use weir_flow_record::ColumnSet;

use crate::change::FieldSpecifier;
use crate::element as ie;
use crate::firewall::FirewallPlan;
use crate::section::{SLOT, SectionPlan, is_section};
use crate::variable::Normalizer;

/// RFC 7011 §7: a field length that stands for "see the record".
pub(crate) const VARIABLE: u16 = 65_535;

/// Where a field lies in a record: octets from its start, and how many.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Field {
    pub(crate) at: u32,
    pub(crate) width: u16,
}

/// A field, and another that counts where the first is zero.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Choice {
    pub(crate) first: Option<Field>,
    pub(crate) second: Option<Field>,
}

/// An address as IPv4, IPv6 or (some exporters) both, one of them zero.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct AddressField {
    pub(crate) v4: Option<Field>,
    pub(crate) v6: Option<Field>,
}

/// How a template states a time.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) enum TimeField {
    #[default]
    Absent,
    /// Milliseconds of sysUpTime, modulo 2³²: v1–v9 by the header, IPFIX by IE 160.
    Uptime(Field),
    Seconds(Field),
    Milliseconds(Field),
    /// Seconds since 1900 and a fraction in 2⁻³² s (RFC 7011 §6.1.9, §6.1.10).
    Ntp(Field),
    /// Microseconds before the export time.
    DeltaMicroseconds(Field),
}

/// How a record states its own sampling rate.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) enum RateField {
    #[default]
    Absent,
    Interval(Field),
    /// So many packets in a row, then so many not (RFC 5476 §6.5.2.1).
    IntervalSpace(Field, Field),
    /// So many out of so many (RFC 5476 §6.5.2.3).
    SizePopulation(Field, Field),
    Probability(Field),
}

/// Octets of a record → columns of a row.
#[derive(Debug, Default)]
pub(crate) struct RowPlan {
    /// Octets of a record in the form that the fields below refer to; 0 = no record can be decoded.
    pub(crate) stride: usize,
    /// Brings records of variable length into that form.
    pub(crate) normalizer: Option<Normalizer>,
    pub(crate) source: AddressField,
    pub(crate) destination: AddressField,
    pub(crate) source_port: Choice,
    pub(crate) destination_port: Choice,
    pub(crate) protocol: Option<Field>,
    pub(crate) tcp_flags: Option<Field>,
    /// More flags to be added (YAF has those of the first packet apart).
    pub(crate) more_tcp_flags: Option<Field>,
    pub(crate) fragment_offset: Option<Field>,
    pub(crate) fragment_flags: Option<Field>,
    pub(crate) octets: Option<Field>,
    pub(crate) packets: Option<Field>,
    /// Whether `octets` is IE 1 and `packets` IE 2.
    pub(crate) octets_are_deltas: bool,
    pub(crate) packets_are_deltas: bool,
    pub(crate) start: TimeField,
    pub(crate) end: TimeField,
    pub(crate) duration_milliseconds: Option<Field>,
    pub(crate) duration_microseconds: Option<Field>,
    pub(crate) system_init: Option<Field>,
    /// Milliseconds from the stated start to the real one (YAF, the other direction).
    pub(crate) start_offset: Option<Field>,
    pub(crate) rate: RateField,
    pub(crate) sampler: Option<Field>,
    pub(crate) input_interface: Choice,
    pub(crate) output_interface: Choice,
    pub(crate) direction: Option<Field>,
    pub(crate) forwarding_status: Option<Field>,
    pub(crate) extra: ExtraPlan,
    /// Optional columns that the template carries.
    pub(crate) present: ColumnSet,
    /// How to read the other direction of the same records (RFC 5103).
    pub(crate) reverse: Option<Box<Self>>,
    /// Records are events of a firewall.
    pub(crate) firewall: Option<FirewallPlan>,
    /// The first octets of a packet, for what has no element of its own.
    pub(crate) section: Option<SectionPlan>,
}

/// The columns filled only where projected.
#[derive(Debug, Default)]
pub(crate) struct ExtraPlan {
    pub(crate) tos: Option<Field>,
    pub(crate) ttl: Choice,
    pub(crate) icmp_type_code: Choice,
    pub(crate) icmp_type: Choice,
    pub(crate) icmp_code: Choice,
    pub(crate) vlan_id: Choice,
    pub(crate) source_as: Option<Field>,
    pub(crate) destination_as: Option<Field>,
    pub(crate) next_hop: AddressField,
    pub(crate) source_prefix_length: Choice,
    pub(crate) destination_prefix_length: Choice,
    pub(crate) source_mac: Option<Field>,
    pub(crate) destination_mac: Option<Field>,
    pub(crate) flow_label: Option<Field>,
}

impl RowPlan {
    /// Compiles the fields of a template; optional columns outside `columns` are left out.
    pub(crate) fn compile(fields: &[FieldSpecifier], netflow_v9: bool, columns: ColumnSet) -> Self {
        let places = Places::of(fields, netflow_v9);
        let mut plan = Self::of(&places, netflow_v9, columns);
        if let Some(other) = places.other_direction(is_nprobe(fields, netflow_v9)) {
            plan.reverse = Some(Box::new(Self {
                start_offset: other.integer_of(ie::CERT, ie::CERT_REVERSE_FLOW_DELTA_MILLISECONDS),
                ..Self::of(&other, netflow_v9, columns)
            }));
        }
        plan.firewall = places
            .first_of(&[ie::FIREWALL_EVENT, ie::CISCO_FIREWALL_EVENT])
            .map(|event| FirewallPlan::of(event, &places, &plan));
        plan.section = SectionPlan::of(fields, |element| places.find(element));
        if let Some(section) = &plan.section {
            plan.present = plan.present.with(section.present());
        }
        plan.normalizer = places.normalizer;
        plan
    }

    fn of(places: &Places, netflow_v9: bool, columns: ColumnSet) -> Self {
        Self {
            stride: places.stride,
            source: places.address(ie::SOURCE_IPV4_ADDRESS, ie::SOURCE_IPV6_ADDRESS),
            destination: places.address(ie::DESTINATION_IPV4_ADDRESS, ie::DESTINATION_IPV6_ADDRESS),
            source_port: places.choice(&[
                ie::SOURCE_TRANSPORT_PORT,
                ie::UDP_SOURCE_PORT,
                ie::TCP_SOURCE_PORT,
            ]),
            destination_port: places.choice(&[
                ie::DESTINATION_TRANSPORT_PORT,
                ie::UDP_DESTINATION_PORT,
                ie::TCP_DESTINATION_PORT,
            ]),
            protocol: places.integer(ie::PROTOCOL_IDENTIFIER),
            tcp_flags: places
                .integer(ie::TCP_CONTROL_BITS)
                .or(places.integer_of(ie::CERT, ie::CERT_INITIAL_TCP_FLAGS)),
            more_tcp_flags: places.integer_of(ie::CERT, ie::CERT_UNION_TCP_FLAGS),
            fragment_offset: places.integer(ie::FRAGMENT_OFFSET),
            fragment_flags: places.integer(ie::FRAGMENT_FLAGS),
            octets: places.first_of(&[
                ie::OCTET_DELTA_COUNT,
                ie::OCTET_TOTAL_COUNT,
                ie::INITIATOR_OCTETS,
                ie::POST_OCTET_DELTA_COUNT,
            ]),
            packets: places.first_of(&[
                ie::PACKET_DELTA_COUNT,
                ie::PACKET_TOTAL_COUNT,
                ie::INITIATOR_PACKETS,
                ie::POST_PACKET_DELTA_COUNT,
            ]),
            octets_are_deltas: places.integer(ie::OCTET_DELTA_COUNT).is_some(),
            packets_are_deltas: places.integer(ie::PACKET_DELTA_COUNT).is_some(),
            start: places.start(netflow_v9),
            end: places.end(netflow_v9),
            duration_milliseconds: places.integer(ie::FLOW_DURATION_MILLISECONDS),
            duration_microseconds: places.integer(ie::FLOW_DURATION_MICROSECONDS),
            system_init: places.integer(ie::SYSTEM_INIT_TIME_MILLISECONDS),
            start_offset: None,
            rate: places.rate(),
            sampler: places.first_of(&[ie::SELECTOR_ID, ie::SAMPLER_ID]),
            input_interface: places
                .choice(&[ie::INGRESS_INTERFACE, ie::INGRESS_PHYSICAL_INTERFACE]),
            output_interface: places.choice(&[ie::EGRESS_INTERFACE, ie::EGRESS_PHYSICAL_INTERFACE]),
            direction: places.integer(ie::FLOW_DIRECTION),
            forwarding_status: places.integer(ie::FORWARDING_STATUS),
            extra: places.extra(columns),
            present: places.present(netflow_v9),
            section: None,
            normalizer: None,
            reverse: None,
            firewall: None,
        }
    }

    /// Octets that the plan occupies, about.
    pub(crate) fn memory(&self) -> usize {
        let own = size_of::<Self>() + self.normalizer.as_ref().map_or(0, Normalizer::memory);
        own + self.reverse.as_ref().map_or(0, |plan| plan.memory())
    }
}

/// Which element lies where; the first of several alike counts.
pub(crate) struct Places {
    /// IANA's.
    pub(crate) found: Vec<(u16, Field)>,
    /// Of the other direction, and of enterprises: number of the enterprise first.
    pub(crate) others: Vec<(u32, u16, Field)>,
    pub(crate) stride: usize,
    normalizer: Option<Normalizer>,
}

impl Places {
    fn of(fields: &[FieldSpecifier], netflow_v9: bool) -> Self {
        let variable = !netflow_v9 && fields.iter().any(|field| field.length == VARIABLE);
        let mut places = Self {
            found: Vec::with_capacity(fields.len().min(64)),
            ..Self::empty(0)
        };
        if variable {
            places.place_variable(fields);
        } else {
            places.place_fixed(fields);
        }
        places
    }

    /// No element, in records of so many octets.
    pub(crate) fn empty(stride: usize) -> Self {
        Self {
            found: Vec::new(),
            others: Vec::new(),
            stride,
            normalizer: None,
        }
    }

    fn place_fixed(&mut self, fields: &[FieldSpecifier]) {
        let mut at = 0u32;
        for field in fields {
            if is_useful(field) && !self.has(field) {
                let width = field.length;
                self.push(field, Field { at, width });
            }
            at = at.saturating_add(u32::from(field.length));
        }
        self.stride = at as usize;
    }

    fn place_variable(&mut self, fields: &[FieldSpecifier]) {
        let mut normalizer = Normalizer::default();
        for field in fields {
            let slot = if field.length == VARIABLE {
                slot_width(field.element)
            } else {
                field.length
            };
            let useful = is_useful(field) && !self.has(field);
            match useful.then(|| normalizer.copy(field.length, slot)) {
                Some(at) => self.push(field, Field { at, width: slot }),
                None => normalizer.skip(field.length),
            }
        }
        self.stride = normalizer.finish();
        self.normalizer = Some(normalizer);
    }

    fn has(&self, field: &FieldSpecifier) -> bool {
        let FieldSpecifier {
            element,
            enterprise,
            ..
        } = *field;
        match enterprise {
            0 => self.find(element).is_some(),
            _ => self.find_of(enterprise, element).is_some(),
        }
    }

    fn push(&mut self, field: &FieldSpecifier, place: Field) {
        match field.enterprise {
            0 => self.found.push((field.element, place)),
            enterprise => self.others.push((enterprise, field.element, place)),
        }
    }

    fn find_of(&self, enterprise: u32, element: u16) -> Option<Field> {
        let mut others = self.others.iter();
        let found = others.find(|other| (other.0, other.1) == (enterprise, element));
        found.map(|&(_, _, field)| field)
    }

    pub(crate) fn integer_of(&self, enterprise: u32, element: u16) -> Option<Field> {
        self.find_of(enterprise, element)
            .filter(|field| (1..=8).contains(&field.width))
    }

    pub(crate) fn find(&self, element: u16) -> Option<Field> {
        let found = self.found.iter().find(|&&(found, _)| found == element);
        found.map(|&(_, field)| field)
    }

    /// An integer of up to eight octets (RFC 7011 §6.2: exporters may leave out leading zeros).
    pub(crate) fn integer(&self, element: u16) -> Option<Field> {
        self.find(element)
            .filter(|field| (1..=8).contains(&field.width))
    }

    fn exactly(&self, element: u16, width: u16) -> Option<Field> {
        self.find(element).filter(|field| field.width == width)
    }

    pub(crate) fn first_of(&self, elements: &[u16]) -> Option<Field> {
        elements.iter().find_map(|&element| self.integer(element))
    }

    fn choice(&self, elements: &[u16]) -> Choice {
        let mut found = elements.iter().filter_map(|&element| self.integer(element));
        Choice {
            first: found.next(),
            second: found.next(),
        }
    }

    fn address(&self, v4: u16, v6: u16) -> AddressField {
        AddressField {
            v4: self.exactly(v4, 4),
            v6: self.exactly(v6, 16),
        }
    }

    fn start(&self, netflow_v9: bool) -> TimeField {
        self.time(
            netflow_v9,
            &[
                ie::FLOW_START_MILLISECONDS,
                ie::FLOW_START_NANOSECONDS,
                ie::FLOW_START_MICROSECONDS,
                ie::FLOW_START_DELTA_MICROSECONDS,
                ie::FLOW_START_SYS_UP_TIME,
                ie::FLOW_START_SECONDS,
            ],
        )
    }

    fn end(&self, netflow_v9: bool) -> TimeField {
        self.time(
            netflow_v9,
            &[
                ie::FLOW_END_MILLISECONDS,
                ie::FLOW_END_NANOSECONDS,
                ie::FLOW_END_MICROSECONDS,
                ie::FLOW_END_DELTA_MICROSECONDS,
                ie::FLOW_END_SYS_UP_TIME,
                ie::FLOW_END_SECONDS,
            ],
        )
    }

    /// The most exact time, else when the packet was observed, else when an intermediate collector got the record. IPFIX
    /// headers have no sysUpTime, so there whole seconds are better than a time relative to an unknown start.
    fn time(&self, netflow_v9: bool, elements: &[u16; 6]) -> TimeField {
        const OBSERVED: [u16; 5] = [
            ie::OBSERVATION_TIME_NANOSECONDS,
            ie::OBSERVATION_TIME_MICROSECONDS,
            ie::OBSERVATION_TIME_MILLISECONDS,
            ie::OBSERVATION_TIME_SECONDS,
            ie::COLLECTION_TIME_MILLISECONDS,
        ];
        let [milli, nano, micro, delta, uptime, seconds] = *elements;
        let (fifth, sixth) = if netflow_v9 {
            (uptime, seconds)
        } else {
            (seconds, uptime)
        };
        [milli, nano, micro, delta, fifth, sixth]
            .iter()
            .chain(&OBSERVED)
            .find_map(|&element| time_field(element, self.integer(element)?))
            .unwrap_or_default()
    }

    fn rate(&self) -> RateField {
        if let Some(field) = self.first_of(&[ie::SAMPLING_INTERVAL, ie::SAMPLER_RANDOM_INTERVAL]) {
            return RateField::Interval(field);
        }
        let pair = |a, b| Some((self.integer(a)?, self.integer(b)?));
        if let Some((interval, space)) =
            pair(ie::SAMPLING_PACKET_INTERVAL, ie::SAMPLING_PACKET_SPACE)
        {
            return RateField::IntervalSpace(interval, space);
        }
        if let Some((size, population)) = pair(ie::SAMPLING_SIZE, ie::SAMPLING_POPULATION) {
            return RateField::SizePopulation(size, population);
        }
        self.exactly(ie::SAMPLING_PROBABILITY, 8)
            .or(self.exactly(ie::SAMPLING_PROBABILITY, 4))
            .map_or(RateField::Absent, RateField::Probability)
    }

    fn extra(&self, columns: ColumnSet) -> ExtraPlan {
        let mut plan = ExtraPlan::default();
        if columns.has(ColumnSet::TOS) {
            plan.tos = self.integer(ie::IP_CLASS_OF_SERVICE);
        }
        if columns.has(ColumnSet::TTL) {
            plan.ttl = self.choice(&[ie::IP_TTL, ie::MINIMUM_TTL, ie::MAXIMUM_TTL]);
        }
        if columns.has(ColumnSet::ICMP) {
            plan.icmp_type_code = self.choice(&[ie::ICMP_TYPE_CODE_IPV4, ie::ICMP_TYPE_CODE_IPV6]);
            plan.icmp_type = self.choice(&[ie::ICMP_TYPE_IPV4, ie::ICMP_TYPE_IPV6]);
            plan.icmp_code = self.choice(&[ie::ICMP_CODE_IPV4, ie::ICMP_CODE_IPV6]);
        }
        if columns.has(ColumnSet::VLAN) {
            plan.vlan_id = self.choice(&[ie::VLAN_ID, ie::DOT1Q_VLAN_ID]);
        }
        if columns.has(ColumnSet::AS) {
            plan.source_as = self.integer(ie::BGP_SOURCE_AS_NUMBER);
            plan.destination_as = self.integer(ie::BGP_DESTINATION_AS_NUMBER);
        }
        if columns.has(ColumnSet::NEXT_HOP) {
            let bgp = self.address(ie::BGP_NEXT_HOP_IPV4_ADDRESS, ie::BGP_NEXT_HOP_IPV6_ADDRESS);
            let ip = self.address(ie::IP_NEXT_HOP_IPV4_ADDRESS, ie::IP_NEXT_HOP_IPV6_ADDRESS);
            plan.next_hop = AddressField {
                v4: ip.v4.or(bgp.v4),
                v6: ip.v6.or(bgp.v6),
            };
        }
        if columns.has(ColumnSet::PREFIX_LENGTHS) {
            plan.source_prefix_length =
                self.choice(&[ie::SOURCE_IPV4_PREFIX_LENGTH, ie::SOURCE_IPV6_PREFIX_LENGTH]);
            plan.destination_prefix_length = self.choice(&[
                ie::DESTINATION_IPV4_PREFIX_LENGTH,
                ie::DESTINATION_IPV6_PREFIX_LENGTH,
            ]);
        }
        if columns.has(ColumnSet::MAC) {
            let mac = |a, b| self.exactly(a, 6).or(self.exactly(b, 6));
            plan.source_mac = mac(ie::SOURCE_MAC_ADDRESS, ie::POST_SOURCE_MAC_ADDRESS);
            plan.destination_mac = mac(
                ie::DESTINATION_MAC_ADDRESS,
                ie::POST_DESTINATION_MAC_ADDRESS,
            );
        }
        if columns.has(ColumnSet::FLOW_LABEL) {
            plan.flow_label = self.integer(ie::FLOW_LABEL_IPV6);
        }
        plan
    }

    fn present(&self, netflow_v9: bool) -> ColumnSet {
        let extra = self.extra(ColumnSet::ALL);
        let address = |field: AddressField| field.v4.or(field.v6).is_some();
        let any = |choice: Choice| choice.first.is_some();
        let timed = !matches!(self.end(true), TimeField::Absent)
            || !matches!(self.start(true), TimeField::Absent);
        [
            (ColumnSet::TOS, extra.tos.is_some()),
            (ColumnSet::TTL, any(extra.ttl)),
            (
                ColumnSet::ICMP,
                any(extra.icmp_type_code)
                    || any(extra.icmp_type)
                    // Up to v9 the destination port holds them.
                    || netflow_v9
                        && self.integer(ie::DESTINATION_TRANSPORT_PORT).is_some()
                        && self.integer(ie::PROTOCOL_IDENTIFIER).is_some(),
            ),
            (ColumnSet::VLAN, any(extra.vlan_id)),
            (
                ColumnSet::AS,
                extra.source_as.or(extra.destination_as).is_some(),
            ),
            (ColumnSet::NEXT_HOP, address(extra.next_hop)),
            (
                ColumnSet::PREFIX_LENGTHS,
                any(extra.source_prefix_length) || any(extra.destination_prefix_length),
            ),
            (
                ColumnSet::MAC,
                extra.source_mac.or(extra.destination_mac).is_some(),
            ),
            (ColumnSet::FLOW_LABEL, extra.flow_label.is_some()),
            (ColumnSet::FLOW_TIMES, timed),
            (
                ColumnSet::TCP_FLAGS,
                self.integer(ie::TCP_CONTROL_BITS).is_some(),
            ),
        ]
        .into_iter()
        .filter(|&(_, carried)| carried)
        .fold(ColumnSet::NONE, |set, (column, _)| set.with(column))
    }
}

fn time_field(element: u16, field: Field) -> Option<TimeField> {
    Some(match element {
        ie::FLOW_START_SYS_UP_TIME | ie::FLOW_END_SYS_UP_TIME => TimeField::Uptime(field),
        ie::FLOW_START_SECONDS | ie::FLOW_END_SECONDS | ie::OBSERVATION_TIME_SECONDS => {
            TimeField::Seconds(field)
        }
        ie::FLOW_START_MILLISECONDS
        | ie::FLOW_END_MILLISECONDS
        | ie::OBSERVATION_TIME_MILLISECONDS
        | ie::COLLECTION_TIME_MILLISECONDS => TimeField::Milliseconds(field),
        ie::FLOW_START_DELTA_MICROSECONDS | ie::FLOW_END_DELTA_MICROSECONDS => {
            TimeField::DeltaMicroseconds(field)
        }
        // The rest are NTP time stamps, which cannot be shortened.
        _ if field.width == 8 => TimeField::Ntp(field),
        _ => return None,
    })
}

/// Whether the row, its other direction or the sampling could use the field at all.
fn is_useful(field: &FieldSpecifier) -> bool {
    field.length > 0
        && match field.enterprise {
            0 | ie::REVERSE => ie::is_known(field.element),
            ie::CERT => ie::is_known_of_cert(field.element),
            _ => false,
        }
}

fn is_nprobe(fields: &[FieldSpecifier], netflow_v9: bool) -> bool {
    fields.iter().any(|field| {
        field.enterprise == ie::NTOP || netflow_v9 && ie::NTOP_NETFLOW_V9.contains(&field.element)
    })
}

/// Octets kept of a field that came with variable length.
fn slot_width(element: u16) -> u16 {
    match element {
        ie::SOURCE_IPV6_ADDRESS
        | ie::DESTINATION_IPV6_ADDRESS
        | ie::IP_NEXT_HOP_IPV6_ADDRESS
        | ie::BGP_NEXT_HOP_IPV6_ADDRESS => 16,
        ie::SOURCE_IPV4_ADDRESS
        | ie::DESTINATION_IPV4_ADDRESS
        | ie::IP_NEXT_HOP_IPV4_ADDRESS
        | ie::BGP_NEXT_HOP_IPV4_ADDRESS => 4,
        ie::SOURCE_MAC_ADDRESS
        | ie::DESTINATION_MAC_ADDRESS
        | ie::POST_SOURCE_MAC_ADDRESS
        | ie::POST_DESTINATION_MAC_ADDRESS => 6,
        section if is_section(section) => SLOT,
        _ => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(list: &[(u16, u16)]) -> Vec<FieldSpecifier> {
        list.iter()
            .map(|&(element, length)| FieldSpecifier {
                element,
                length,
                enterprise: 0,
            })
            .collect()
    }

    #[test]
    fn delta_counts_win_over_totals() {
        let plan = RowPlan::compile(&fields(&[(85, 8), (1, 4), (86, 8)]), false, ColumnSet::NONE);
        assert_eq!(plan.octets, Some(Field { at: 8, width: 4 }));
        assert_eq!(plan.packets, Some(Field { at: 12, width: 8 }));
        assert!(plan.octets_are_deltas && !plan.packets_are_deltas);
        assert_eq!(plan.stride, 20);
    }

    #[test]
    fn enterprise_elements_only_take_room() {
        let mut list = fields(&[(1, 8), (1, 8)]);
        list[0].enterprise = 25_461;
        let plan = RowPlan::compile(&list, false, ColumnSet::NONE);
        assert_eq!(plan.octets, Some(Field { at: 8, width: 8 }));
    }

    #[test]
    fn impossible_widths_are_not_used() {
        let plan = RowPlan::compile(&fields(&[(8, 16), (1, 9), (4, 0)]), false, ColumnSet::ALL);
        assert!(plan.source.v4.is_none() && plan.octets.is_none() && plan.protocol.is_none());
        assert_eq!(plan.stride, 25);
    }
}
