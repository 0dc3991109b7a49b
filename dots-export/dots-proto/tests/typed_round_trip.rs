//! Typed bodies survive CBOR, whatever their values.

#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use weir_dots_proto::body::*;
use weir_dots_proto::{Body, Decimal, Mid, Tmid};

fn prefix() -> impl Strategy<Value = IpNet> {
    prop_oneof![
        (any::<[u8; 4]>(), 0..=32_u8).prop_map(|(address, length)| IpNet::V4(
            Ipv4Net::new(Ipv4Addr::from(address), length).unwrap()
        )),
        (any::<[u8; 16]>(), 0..=128_u8).prop_map(|(address, length)| IpNet::V6(
            Ipv6Net::new(Ipv6Addr::from(address), length).unwrap()
        )),
    ]
}

fn port_range() -> impl Strategy<Value = PortRange> {
    (any::<u16>(), of(any::<u16>())).prop_map(|(lower_port, upper_port)| PortRange {
        lower_port,
        upper_port,
    })
}

fn gauges() -> impl Strategy<Value = Gauges> {
    [
        of(any::<u64>()),
        of(any::<u64>()),
        of(any::<u64>()),
        of(any::<u64>()),
        of(any::<u64>()),
    ]
    .prop_map(
        |[
            low_percentile_g,
            mid_percentile_g,
            high_percentile_g,
            peak_g,
            current_g,
        ]| Gauges {
            low_percentile_g,
            mid_percentile_g,
            high_percentile_g,
            peak_g,
            current_g,
        },
    )
}

fn traffic() -> impl Strategy<Value = Traffic> {
    (prop::sample::select(UnitClass::ALL), gauges())
        .prop_map(|(class, gauges)| Traffic::scaled(class, &gauges))
}

fn talker() -> impl Strategy<Value = Talker> {
    (
        of(any::<bool>()),
        prefix(),
        vec(port_range(), 0..3),
        vec(traffic(), 0..3),
    )
        .prop_map(
            |(spoofed_status, source_prefix, source_port_range, total_attack_traffic)| Talker {
                spoofed_status,
                source_port_range,
                total_attack_traffic,
                ..Talker::new(source_prefix)
            },
        )
}

fn attack_detail() -> impl Strategy<Value = AttackDetail> {
    (
        any::<u32>(),
        any::<u32>(),
        of(".*"),
        of(prop::sample::select(AttackSeverity::ALL)),
        of(any::<u64>()),
        of(gauges()),
        of(vec(talker(), 0..3)),
    )
        .prop_map(
            |(
                vendor_id,
                attack_id,
                attack_description,
                attack_severity,
                start_time,
                source_count,
                talker,
            )| {
                AttackDetail {
                    vendor_id,
                    attack_id,
                    attack_description,
                    attack_severity,
                    start_time,
                    source_count,
                    top_talker: talker.map(|talker| TopTalkers { talker }),
                    ..AttackDetail::default()
                }
            },
        )
}

prop_compose! {
    fn scope()(
        mid in of(any::<u32>()),
        target_prefix in vec(prefix(), 0..4),
        target_port_range in vec(port_range(), 0..4),
        target_protocol in vec(any::<u8>(), 0..4),
        alias_name in vec(".*", 0..2),
        lifetime in of(-1..=i64::from(u32::MAX)),
        status in of(prop::sample::select(MitigationStatus::ALL)),
        mitigation_start in of(any::<u64>()),
        bytes_dropped in of(any::<u64>()),
        total_attack_traffic in vec(traffic(), 0..3),
        attack_detail in vec(attack_detail(), 0..3),
    ) -> Scope {
        Scope {
            mid: mid.map(Mid),
            target_prefix,
            target_port_range,
            target_protocol,
            alias_name,
            lifetime: lifetime.map(|number| Lifetime::try_from(number).unwrap()),
            status,
            mitigation_start,
            bytes_dropped,
            total_attack_traffic,
            attack_detail,
            ..Scope::default()
        }
    }
}

prop_compose! {
    fn item()(
        tmid in of(any::<u32>()),
        target_prefix in vec(prefix(), 0..4),
        mid_list in vec(any::<u32>(), 0..4),
        total_traffic in vec(traffic(), 0..3),
        protocols in vec((any::<u8>(), traffic()), 0..3),
        ports in vec((any::<u16>(), traffic()), 0..3),
        attack_detail in vec(attack_detail(), 0..3),
    ) -> PreOrOngoingMitigation {
        PreOrOngoingMitigation {
            tmid: tmid.map(Tmid),
            target: Some(Target {
                target_prefix,
                mid_list: mid_list.into_iter().map(Mid).collect(),
                ..Target::default()
            }),
            total_traffic,
            total_attack_traffic_protocol: protocols
                .into_iter()
                .map(|(protocol, traffic)| TrafficProtocol { protocol, traffic })
                .collect(),
            total_attack_traffic_port: ports
                .into_iter()
                .map(|(port, traffic)| TrafficPort { port, traffic })
                .collect(),
            attack_detail,
            ..PreOrOngoingMitigation::default()
        }
    }
}

fn survives<T: Body + PartialEq + std::fmt::Debug>(body: &T) {
    let octets = body.to_cbor().unwrap();
    assert_eq!(&T::from_cbor(&octets).unwrap(), body);
    assert_eq!(
        T::from_cbor(&octets).unwrap().to_cbor().unwrap(),
        octets,
        "deterministic"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn mitigations(scope in vec(scope(), 0..3)) {
        survives(&Mitigation { scope });
    }

    #[test]
    fn telemetry(pre_or_ongoing_mitigation in vec(item(), 0..2)) {
        survives(&Telemetry { pre_or_ongoing_mitigation });
    }

    #[test]
    fn configurations(interval in any::<u16>(), timeout in any::<i64>()) {
        let idle = ConfigParameters {
            heartbeat_interval: Some(Tunable::current(interval)),
            ack_timeout: Some(TunableDecimal::current(Decimal::from_hundredths(timeout))),
            ..ConfigParameters::default()
        };
        survives(&SignalConfig { mitigating_config: None, idle_config: Some(idle) });
    }
}
