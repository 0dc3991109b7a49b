//! NetFlow v1, v5 and v7 as templates: their records have fixed fields with the meaning of information elements.

use std::sync::Arc;

use weir_flow_record::{ColumnSet, ExportProtocol};

use crate::change::FieldSpecifier;
use crate::element as ie;
use crate::plan::RowPlan;

/// Octets without meaning for us.
const PADDING: u16 = 0;

/// Cisco, "NetFlow Export Datagram Format", version 1: 48 octets.
const V1: [(u16, u16); 16] = [
    (ie::SOURCE_IPV4_ADDRESS, 4),
    (ie::DESTINATION_IPV4_ADDRESS, 4),
    (ie::IP_NEXT_HOP_IPV4_ADDRESS, 4),
    (ie::INGRESS_INTERFACE, 2),
    (ie::EGRESS_INTERFACE, 2),
    (ie::PACKET_DELTA_COUNT, 4),
    (ie::OCTET_DELTA_COUNT, 4),
    (ie::FLOW_START_SYS_UP_TIME, 4),
    (ie::FLOW_END_SYS_UP_TIME, 4),
    (ie::SOURCE_TRANSPORT_PORT, 2),
    (ie::DESTINATION_TRANSPORT_PORT, 2),
    (PADDING, 2),
    (ie::PROTOCOL_IDENTIFIER, 1),
    (ie::IP_CLASS_OF_SERVICE, 1),
    (ie::TCP_CONTROL_BITS, 1),
    (PADDING, 7),
];

/// Version 5: 48 octets.
const V5: [(u16, u16); 20] = [
    (ie::SOURCE_IPV4_ADDRESS, 4),
    (ie::DESTINATION_IPV4_ADDRESS, 4),
    (ie::IP_NEXT_HOP_IPV4_ADDRESS, 4),
    (ie::INGRESS_INTERFACE, 2),
    (ie::EGRESS_INTERFACE, 2),
    (ie::PACKET_DELTA_COUNT, 4),
    (ie::OCTET_DELTA_COUNT, 4),
    (ie::FLOW_START_SYS_UP_TIME, 4),
    (ie::FLOW_END_SYS_UP_TIME, 4),
    (ie::SOURCE_TRANSPORT_PORT, 2),
    (ie::DESTINATION_TRANSPORT_PORT, 2),
    (PADDING, 1),
    (ie::TCP_CONTROL_BITS, 1),
    (ie::PROTOCOL_IDENTIFIER, 1),
    (ie::IP_CLASS_OF_SERVICE, 1),
    (ie::BGP_SOURCE_AS_NUMBER, 2),
    (ie::BGP_DESTINATION_AS_NUMBER, 2),
    (ie::SOURCE_IPV4_PREFIX_LENGTH, 1),
    (ie::DESTINATION_IPV4_PREFIX_LENGTH, 1),
    (PADDING, 2),
];

/// Version 7 (Catalyst 5000): v5 and the address of the router that was switched around.
const V7_MORE: (u16, u16) = (PADDING, 4);

/// The three plans.
pub(crate) struct LegacyPlans {
    v1: Arc<RowPlan>,
    v5: Arc<RowPlan>,
    v7: Arc<RowPlan>,
}

impl LegacyPlans {
    pub(crate) fn new(columns: ColumnSet) -> Self {
        let compile = |fields: &mut dyn Iterator<Item = (u16, u16)>| {
            let fields: Vec<FieldSpecifier> = fields
                .map(|(element, length)| FieldSpecifier {
                    element,
                    length,
                    enterprise: 0,
                })
                .collect();
            Arc::new(RowPlan::compile(&fields, true, columns))
        };
        Self {
            v1: compile(&mut V1.into_iter()),
            v5: compile(&mut V5.into_iter()),
            v7: compile(&mut V5.into_iter().chain([V7_MORE])),
        }
    }

    /// The plan of a protocol without templates.
    pub(crate) fn plan(&self, protocol: ExportProtocol) -> Option<Arc<RowPlan>> {
        match protocol {
            ExportProtocol::NetflowV1 => Some(Arc::clone(&self.v1)),
            ExportProtocol::NetflowV5 => Some(Arc::clone(&self.v5)),
            ExportProtocol::NetflowV7 => Some(Arc::clone(&self.v7)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_have_their_sizes() {
        let plans = LegacyPlans::new(ColumnSet::ALL);
        assert_eq!(
            [plans.v1.stride, plans.v5.stride, plans.v7.stride],
            [48, 48, 52]
        );
    }
}
