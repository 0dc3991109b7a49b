//! Typed bodies as Weir's client and server emit them, and where the published examples lie.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test binary uses a part"
)]

use std::path::PathBuf;

use weir_dots_proto::body::*;
use weir_dots_proto::{Decimal, Mid, Tmid, Tsid};

/// Folder `specs/dots` of the shared data, if this machine has it.
pub fn dots_specs() -> Option<PathBuf> {
    let shared = match std::env::var_os("WEIR_SHARED") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
    };
    let specs = shared.join("specs/dots");
    if specs.join("examples").is_dir() {
        return Some(specs);
    }
    println!("skipped: no shared data in {}", shared.display());
    None
}

pub fn bits(low: u64, mid: u64, high: u64, peak: u64, current: u64) -> Traffic {
    Traffic::in_bits(&gauges(low, mid, high, peak, current))
}

pub fn packets(low: u64, mid: u64, high: u64, peak: u64, current: u64) -> Traffic {
    Traffic::in_packets(&gauges(low, mid, high, peak, current))
}

fn gauges(low: u64, mid: u64, high: u64, peak: u64, current: u64) -> Gauges {
    Gauges {
        low_percentile_g: Some(low),
        mid_percentile_g: Some(mid),
        high_percentile_g: Some(high),
        peak_g: Some(peak),
        current_g: Some(current),
    }
}

/// What a client asks for.
pub fn requested_scope() -> Scope {
    Scope {
        target_prefix: vec![
            "192.0.2.7/32".parse().unwrap(),
            "2001:db8:6401::7/128".parse().unwrap(),
        ],
        target_port_range: vec![
            PortRange::single(443),
            PortRange {
                lower_port: 8000,
                upper_port: Some(8100),
            },
        ],
        target_protocol: vec![6, 17],
        lifetime: Some(Lifetime::Seconds(3600)),
        ..Scope::default()
    }
}

pub fn mitigation_request() -> Mitigation {
    Mitigation::single(requested_scope())
}

/// A request with hints about the attack (RFC 9244 §3.1).
pub fn mitigation_request_with_telemetry() -> Mitigation {
    Mitigation::single(Scope {
        lifetime: Some(Lifetime::Indefinite),
        trigger_mitigation: Some(true),
        total_attack_traffic: vec![
            bits(
                600_000_000,
                800_000_000,
                1_000_000_000,
                1_100_000_000,
                700_000_000,
            ),
            packets(90_000, 100_000, 110_000, 120_000, 95_000),
        ],
        attack_detail: vec![AttackDetail {
            top_talker: Some(TopTalkers {
                talker: vec![Talker {
                    total_attack_connection: Some(AttackConnection {
                        connection_c: Some(gauges(1, 2, 3, 4, 5)),
                        ..AttackConnection::default()
                    }),
                    ..talker("198.51.100.0/24")
                }],
            }),
            ..attack_detail()
        }],
        source_prefix: vec!["198.51.100.0/24".parse().unwrap()],
        source_port_range: vec![PortRange::single(53)],
        ..requested_scope()
    })
}

pub fn efficacy_update() -> Mitigation {
    Mitigation::single(Scope {
        attack_status: Some(AttackStatus::UnderAttack),
        total_attack_traffic: vec![bits(
            0,
            800_000_000,
            1_000_000_000,
            1_100_000_000,
            700_000_000,
        )],
        ..requested_scope()
    })
}

fn talker(prefix: &str) -> Talker {
    Talker {
        spoofed_status: Some(false),
        source_port_range: vec![PortRange::single(53)],
        source_icmp_type_range: vec![IcmpTypeRange {
            lower_type: 0,
            upper_type: Some(8),
        }],
        total_attack_traffic: vec![bits(1, 90_000_000, 95_000_000, 99_000_000, 91_000_000)],
        ..Talker::new(prefix.parse().unwrap())
    }
}

fn attack_detail() -> AttackDetail {
    AttackDetail {
        vendor_id: 32473,
        attack_id: 77,
        description_lang: Some("en".to_owned()),
        attack_description: Some("UDP flood from DNS ports".to_owned()),
        attack_severity: Some(AttackSeverity::High),
        start_time: Some(1_700_000_000),
        end_time: Some(1_700_000_060),
        source_count: Some(gauges(10, 20, 30, 40, 35)),
        top_talker: None,
    }
}

/// Telemetry of a client about an attack for which it asked mitigation.
pub fn telemetry() -> Telemetry {
    let connection = AttackConnection {
        connection_c: Some(gauges(10, 20, 30, 40, 35)),
        embryonic_c: Some(gauges(10, 20, 30, 40, 35)),
        connection_ps_c: Some(gauges(10, 20, 30, 40, 35)),
        request_ps_c: Some(gauges(10, 20, 30, 40, 35)),
        partial_request_c: Some(gauges(10, 20, 30, 40, 35)),
    };
    let traffic = bits(
        600_000_000,
        800_000_000,
        1_000_000_000,
        1_100_000_000,
        700_000_000,
    );
    let rate = packets(90_000, 100_000, 110_000, 120_000, 95_000);
    Telemetry {
        pre_or_ongoing_mitigation: vec![PreOrOngoingMitigation {
            tmid: None,
            target: Some(Target {
                target_prefix: vec!["192.0.2.7/32".parse().unwrap()],
                target_protocol: vec![17],
                mid_list: vec![Mid(12), Mid(13)],
                ..Target::default()
            }),
            total_traffic: vec![traffic, rate],
            total_traffic_protocol: vec![TrafficProtocol {
                protocol: 17,
                traffic,
            }],
            total_traffic_port: vec![TrafficPort { port: 443, traffic }],
            total_attack_traffic: vec![traffic, rate],
            total_attack_traffic_protocol: vec![
                TrafficProtocol {
                    protocol: 17,
                    traffic,
                },
                TrafficProtocol {
                    protocol: 17,
                    traffic: rate,
                },
            ],
            total_attack_traffic_port: vec![TrafficPort {
                port: 443,
                traffic: rate,
            }],
            total_attack_connection_protocol: vec![AttackConnectionProtocol {
                protocol: 6,
                connection,
            }],
            total_attack_connection_port: vec![AttackConnectionPort {
                protocol: 6,
                port: 443,
                connection,
            }],
            attack_detail: vec![AttackDetail {
                top_talker: Some(TopTalkers {
                    talker: vec![
                        talker("198.51.100.0/24"),
                        Talker {
                            total_attack_connection_protocol: vec![AttackConnectionProtocol {
                                protocol: 6,
                                connection,
                            }],
                            ..Talker::new("2001:db8:1::/48".parse().unwrap())
                        },
                    ],
                }),
                ..attack_detail()
            }],
        }],
    }
}

/// A subscription: a target alone.
pub fn telemetry_filter() -> Telemetry {
    let target = Target {
        target_prefix: vec!["192.0.2.0/24".parse().unwrap()],
        ..Target::default()
    };
    Telemetry {
        pre_or_ongoing_mitigation: vec![PreOrOngoingMitigation {
            target: Some(target),
            ..Default::default()
        }],
    }
}

pub fn telemetry_notification() -> Telemetry {
    let mut telemetry = telemetry();
    telemetry.pre_or_ongoing_mitigation[0].tmid = Some(Tmid(567));
    telemetry
}

pub fn telemetry_config() -> TelemetrySetup {
    TelemetrySetup {
        telemetry: vec![TelemetrySettings {
            current_config: Some(TelemetryParameters {
                measurement_interval: Some(MeasurementInterval::FiveMinutes),
                measurement_sample: Some(MeasurementSample::Second),
                low_percentile: Some(Decimal::from_hundredths(1000)),
                mid_percentile: Some(Decimal::from_hundredths(5000)),
                high_percentile: Some(Decimal::from_hundredths(9000)),
                unit_config: vec![UnitConfig {
                    unit: UnitClass::BitPs,
                    unit_status: true,
                }],
                server_originated_telemetry: Some(true),
                telemetry_notify_interval: Some(10),
            }),
            ..TelemetrySettings::default()
        }],
        ..TelemetrySetup::default()
    }
}

pub fn pipe() -> TelemetrySetup {
    let pipe = PipeCapacity {
        link_id: "link1".to_owned(),
        capacity: Some(500),
        unit: Unit::MegabitPs,
    };
    TelemetrySetup {
        telemetry: vec![TelemetrySettings {
            total_pipe_capacity: vec![pipe],
            ..TelemetrySettings::default()
        }],
        ..TelemetrySetup::default()
    }
}

pub fn baseline() -> TelemetrySetup {
    let normal = Traffic::in_bits(&Gauges {
        peak_g: Some(60_000_000),
        ..Gauges::default()
    });
    let capacity = ConnectionCapacity {
        protocol: 6,
        connection: Some(10_000),
        embryonic: Some(100),
        ..Default::default()
    };
    let baseline = Baseline {
        id: 1,
        target_fqdn: vec!["www.example.com".to_owned()],
        total_traffic_normal: vec![normal],
        total_traffic_normal_per_protocol: vec![TrafficProtocol {
            protocol: 6,
            traffic: normal,
        }],
        total_traffic_normal_per_port: vec![TrafficPort {
            port: 443,
            traffic: normal,
        }],
        total_connection_capacity: vec![capacity],
        total_connection_capacity_per_port: vec![ConnectionCapacity {
            port: Some(443),
            ..capacity
        }],
        ..Baseline::default()
    };
    TelemetrySetup {
        telemetry: vec![TelemetrySettings {
            baseline: vec![baseline],
            ..TelemetrySettings::default()
        }],
        ..TelemetrySetup::default()
    }
}

pub fn announced_setup() -> TelemetrySetup {
    let mut setup = telemetry_config();
    setup.telemetry[0].tsid = Some(Tsid(457));
    TelemetrySetup {
        max_config_values: Some(TelemetryParameters {
            measurement_interval: Some(MeasurementInterval::Day),
            high_percentile: Some(Decimal::from_hundredths(9990)),
            server_originated_telemetry: Some(true),
            telemetry_notify_interval: Some(3600),
            ..TelemetryParameters::default()
        }),
        min_config_values: Some(TelemetryParameters {
            measurement_interval: Some(MeasurementInterval::FiveMinutes),
            telemetry_notify_interval: Some(1),
            ..TelemetryParameters::default()
        }),
        supported_unit_classes: Some(UnitClasses {
            unit_config: vec![UnitConfig {
                unit: UnitClass::BitPs,
                unit_status: true,
            }],
        }),
        supported_query_type: vec![QueryType::TargetPrefix, QueryType::Content],
        ..setup
    }
}

/// The body of a 2.01.
pub fn accepted() -> Mitigation {
    let scope = Scope {
        mid: Some(Mid(123)),
        lifetime: Some(Lifetime::Seconds(1800)),
        ..Scope::default()
    };
    Mitigation::single(scope)
}

/// The answer to a GET of all mitigations, and a notification.
pub fn mitigation_status() -> Mitigation {
    let active = Scope {
        mid: Some(Mid(12332)),
        mitigation_start: Some(1_700_000_005),
        status: Some(MitigationStatus::AttackSuccessfullyMitigated),
        bytes_dropped: Some(134_334_555),
        bps_dropped: Some(43_344),
        pkts_dropped: Some(333_334_444),
        pps_dropped: Some(432_432),
        total_traffic: vec![bits(
            600_000_000,
            800_000_000,
            1_000_000_000,
            1_100_000_000,
            700_000_000,
        )],
        total_attack_traffic: vec![bits(
            600_000_000,
            800_000_000,
            1_000_000_000,
            1_100_000_000,
            700_000_000,
        )],
        total_attack_connection: Some(AttackConnection {
            embryonic_c: Some(gauges(1, 2, 3, 4, 5)),
            ..AttackConnection::default()
        }),
        attack_detail: vec![attack_detail()],
        ..requested_scope()
    };
    let waiting = Scope {
        mid: Some(Mid(12333)),
        trigger_mitigation: Some(false),
        lifetime: Some(Lifetime::Indefinite),
        status: Some(MitigationStatus::AttackMitigationSignalLoss),
        target_prefix: vec!["192.0.2.9/32".parse().unwrap()],
        ..Scope::default()
    };
    Mitigation {
        scope: vec![active, waiting],
    }
}

/// The body of a 4.09.
pub fn conflict() -> Mitigation {
    Mitigation::single(Scope {
        mid: Some(Mid(7)),
        conflict_information: Some(ConflictInformation {
            conflict_status: Some(ConflictStatus::RequestInactiveOtherActive),
            conflict_cause: Some(ConflictCause::OverlappingTargets),
            retry_timer: Some(120),
            conflict_scope: Some(ConflictScope {
                target_prefix: vec!["192.0.2.7/32".parse().unwrap()],
                mid: Some(Mid(6)),
                ..ConflictScope::default()
            }),
        }),
        ..Scope::default()
    })
}

pub fn requested_config() -> SignalConfig {
    let idle = ConfigParameters {
        heartbeat_interval: Some(Tunable::current(30)),
        missing_hb_allowed: Some(Tunable::current(15)),
        probing_rate: Some(Tunable::current(5)),
        max_retransmit: Some(Tunable::current(3)),
        ack_timeout: Some(TunableDecimal::current(Decimal::from_hundredths(200))),
        ack_random_factor: Some(TunableDecimal::current(Decimal::from_hundredths(150))),
        max_payloads: Some(Tunable::current(10)),
        ..ConfigParameters::default()
    };
    SignalConfig {
        mitigating_config: Some(idle),
        idle_config: Some(idle),
    }
}

pub fn announced_config() -> SignalConfig {
    let mut config = requested_config();
    for set in [&mut config.mitigating_config, &mut config.idle_config]
        .into_iter()
        .flatten()
    {
        set.heartbeat_interval = Some(Tunable {
            max_value: Some(240),
            min_value: Some(15),
            current_value: Some(30),
        });
        set.ack_timeout = Some(TunableDecimal {
            max_value_decimal: Some(Decimal::from_hundredths(3000)),
            min_value_decimal: Some(Decimal::from_hundredths(100)),
            current_value_decimal: Some(Decimal::from_hundredths(200)),
        });
    }
    config
}

pub fn heartbeat() -> Heartbeat {
    Heartbeat {
        peer_hb_status: true,
    }
}

pub fn redirect() -> Redirect {
    Redirect {
        alt_server: Some("alt-server.example".to_owned()),
        alt_server_record: vec![
            "2001:db8:6401::1".parse().unwrap(),
            "192.0.2.1".parse().unwrap(),
        ],
        ..Redirect::default()
    }
}
