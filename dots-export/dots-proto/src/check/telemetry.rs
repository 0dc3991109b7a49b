//! Telemetry of attacks (RFC 9244 §8).

use std::collections::BTreeMap;

use super::target::{Attributes, check_icmp_type_ranges, check_port_ranges};
use super::{RequestFault, ResponseFault, bad_request, ensure, ensure_unique};
use crate::body::{AttackDetail, PreOrOngoingMitigation, Talker, Telemetry, Traffic, UnitClass};

/// Checks a PUT: one item, which may have a target only and then asks for telemetry about it (RFC 9244 §8.3).
pub(super) fn check(telemetry: &Telemetry) -> Result<(), RequestFault> {
    match telemetry.pre_or_ongoing_mitigation.as_slice() {
        [item] => check_item(item),
        items => Err(bad_request(format_args!(
            "{} items instead of one",
            items.len()
        ))),
    }
}

/// Checks what a server reports.
pub(super) fn check_response(telemetry: &Telemetry) -> Result<(), ResponseFault> {
    for item in &telemetry.pre_or_ongoing_mitigation {
        check_item(item)?;
    }
    Ok(())
}

fn check_item(item: &PreOrOngoingMitigation) -> Result<(), RequestFault> {
    let Some(target) = &item.target else {
        return Err(bad_request("target is missing"));
    };
    let attributes = Attributes::from(target);
    ensure(
        attributes.name_a_target() || !target.mid_list.is_empty(),
        "target names nothing",
    )?;
    attributes.check()?;
    check_rates(item)?;
    check_connections(item)?;
    check_attack_details(&item.attack_detail)
}

fn check_rates(item: &PreOrOngoingMitigation) -> Result<(), RequestFault> {
    check_traffic("total-traffic", &item.total_traffic)?;
    check_traffic("total-attack-traffic", &item.total_attack_traffic)?;
    for (list, entries) in [
        ("total-traffic-protocol", &item.total_traffic_protocol),
        (
            "total-attack-traffic-protocol",
            &item.total_attack_traffic_protocol,
        ),
    ] {
        check_traffic_by(
            list,
            entries
                .iter()
                .map(|entry| (entry.protocol.into(), entry.traffic)),
        )?;
    }
    for (list, entries) in [
        ("total-traffic-port", &item.total_traffic_port),
        ("total-attack-traffic-port", &item.total_attack_traffic_port),
    ] {
        check_traffic_by(
            list,
            entries.iter().map(|entry| (entry.port, entry.traffic)),
        )?;
    }
    Ok(())
}

fn check_connections(item: &PreOrOngoingMitigation) -> Result<(), RequestFault> {
    let protocols = item
        .total_attack_connection_protocol
        .iter()
        .map(|entry| entry.protocol);
    ensure_unique("total-attack-connection-protocol", protocols)?;
    let ports = item
        .total_attack_connection_port
        .iter()
        .map(|entry| (entry.protocol, entry.port));
    ensure_unique("total-attack-connection-port", ports)
}

/// Checks rates of several protocols or ports: units are unique for each.
pub(super) fn check_traffic_by(
    list: &str,
    entries: impl Iterator<Item = (u16, Traffic)> + Clone,
) -> Result<(), RequestFault> {
    ensure_unique(
        list,
        entries.clone().map(|(of, traffic)| (of, traffic.unit)),
    )?;
    let mut groups: BTreeMap<u16, Vec<Traffic>> = BTreeMap::new();
    for (of, traffic) in entries {
        groups.entry(of).or_default().push(traffic);
    }
    groups
        .values()
        .try_for_each(|group| check_conflicts(list, group))
}

/// Checks rates: units are unique, and bits agree with bytes (RFC 9244 §7.1.2).
pub(super) fn check_traffic(list: &str, rates: &[Traffic]) -> Result<(), RequestFault> {
    check_traffic_by(list, rates.iter().map(|traffic| (0, *traffic)))
}

fn check_conflicts(list: &str, group: &[Traffic]) -> Result<(), RequestFault> {
    let of_class = |class| {
        group
            .iter()
            .filter(move |traffic| traffic.unit.class() == class)
    };
    let mut pairs = of_class(UnitClass::BitPs)
        .flat_map(|bits| of_class(UnitClass::BytePs).map(move |bytes| (bits, bytes)));
    if pairs.any(|(bits, bytes)| conflict(bits, bytes)) {
        return Err(bad_request(format_args!(
            "bits and bytes conflict in {list}"
        )));
    }
    Ok(())
}

/// Returns whether a rate in bits cannot be the same as in bytes, each being rounded by up to one of its unit.
fn conflict(bits: &Traffic, bytes: &Traffic) -> bool {
    let (bit, byte) = (bits.unit.factor(), 8 * bytes.unit.factor());
    let (bits, bytes) = (bits.gauges(), bytes.gauges());
    [
        (bits.low_percentile_g, bytes.low_percentile_g),
        (bits.mid_percentile_g, bytes.mid_percentile_g),
        (bits.high_percentile_g, bytes.high_percentile_g),
        (bits.peak_g, bytes.peak_g),
        (bits.current_g, bytes.current_g),
    ]
    .into_iter()
    .any(|pair| match pair {
        // 2^64 × 8 × 10^21 has 137 bits.
        (Some(bits), Some(bytes)) => {
            let bits = u128::from(bits).saturating_mul(bit);
            let bytes = u128::from(bytes).saturating_mul(byte);
            bits.abs_diff(bytes) > bit + byte
        }
        _ => false,
    })
}

/// Checks a list of attacks.
pub(super) fn check_attack_details(details: &[AttackDetail]) -> Result<(), RequestFault> {
    ensure_unique(
        "attack-detail",
        details
            .iter()
            .map(|detail| (detail.vendor_id, detail.attack_id)),
    )?;
    details
        .iter()
        .filter_map(|detail| detail.top_talker.as_ref())
        .try_for_each(|top| check_talkers(&top.talker))
}

fn check_talkers(talkers: &[Talker]) -> Result<(), RequestFault> {
    ensure_unique("talker", talkers.iter().map(|talker| talker.source_prefix))?;
    talkers.iter().try_for_each(|talker| {
        check_port_ranges("source-port-range", &talker.source_port_range)?;
        check_icmp_type_ranges("source-icmp-type-range", &talker.source_icmp_type_range)?;
        check_traffic("total-attack-traffic", &talker.total_attack_traffic)?;
        let protocols = talker
            .total_attack_connection_protocol
            .iter()
            .map(|entry| entry.protocol);
        ensure_unique("total-attack-connection-protocol", protocols)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Mid;
    use crate::body::{Gauges, Target};

    fn item(change: impl FnOnce(&mut PreOrOngoingMitigation)) -> Result<(), RequestFault> {
        let target = Target {
            mid_list: vec![Mid(12)],
            ..Target::default()
        };
        let mut item = PreOrOngoingMitigation {
            target: Some(target),
            ..PreOrOngoingMitigation::default()
        };
        change(&mut item);
        check(&Telemetry {
            pre_or_ongoing_mitigation: vec![item],
        })
    }

    fn peak(class: UnitClass, value: u64) -> Traffic {
        Traffic::scaled(
            class,
            &Gauges {
                peak_g: Some(value),
                ..Gauges::default()
            },
        )
    }

    #[test]
    fn a_target_is_enough_and_needed() {
        assert_eq!(item(|_| ()), Ok(()));
        assert!(item(|item| item.target = None).is_err());
        assert!(
            item(|item| item.target = Some(Target {
                target_protocol: vec![6],
                ..Target::default()
            }))
            .is_err()
        );
        assert!(check(&Telemetry::default()).is_err());
    }

    #[test]
    fn list_keys_are_unique() {
        let detail = AttackDetail {
            vendor_id: 32473,
            attack_id: 1,
            ..AttackDetail::default()
        };
        assert_eq!(
            item(|item| item.attack_detail = vec![detail.clone()]),
            Ok(())
        );
        assert!(item(|item| item.attack_detail = vec![detail.clone(), detail.clone()]).is_err());
        let rate = peak(UnitClass::BitPs, 5_000_000);
        assert!(item(|item| item.total_attack_traffic = vec![rate, rate]).is_err());
    }

    #[test]
    fn bits_and_bytes_agree() {
        let rates = |bits, bytes| {
            let rates = vec![
                peak(UnitClass::BitPs, bits),
                peak(UnitClass::BytePs, bytes),
                peak(UnitClass::PacketPs, 7),
            ];
            item(|item| item.total_traffic = rates)
        };
        assert_eq!(rates(80_000_000, 10_000_000), Ok(()));
        assert_eq!(rates(81_000_000, 10_125_900), Ok(()));
        assert!(rates(80_000_000, 80_000_000).is_err());
    }
}
