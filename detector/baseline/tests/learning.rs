//! What is learned, and what is not.

mod support;

use support::*;
use weir_baseline::{Aspect, BaselineConfig, Baselines};
use weir_flow_aggregate::{MinuteProfile, MinuteSums, TrafficPart, ZoneMinute};
use weir_flow_record::{Direction, TargetKey, Timestamp, Vector, ZoneId};

#[test]
fn after_two_weeks_each_hour_of_the_week_is_known_within_a_few_per_cent() {
    let mut baselines = baselines();
    teach(&mut baselines, MONDAY, MONDAY + 2 * WEEK, diurnal);
    for hour in 0..168 {
        let middle = MONDAY + 2 * WEEK + hour * HOUR + HOUR / 2;
        let normal = normal(&baselines, middle);
        let true_level = diurnal(middle);
        for (found, share) in [(normal.bits.mid, 1.0), (normal.bits.average, 1.0)] {
            let ratio = found / true_level / share;
            assert!((0.94..1.06).contains(&ratio), "hour {hour}: {ratio}");
        }
        let packets = normal.packets.mid * 8000.0 / true_level;
        assert!((0.94..1.06).contains(&packets), "hour {hour}: {packets}");
        assert!(normal.bits.low < normal.bits.mid && normal.bits.mid < normal.bits.high);
        assert!(normal.bits.high < normal.bits.peak);
    }
    let now = normal(&baselines, MONDAY + 2 * WEEK);
    assert!(now.confidence > 0.6, "{}", now.confidence);
    assert_eq!(now.since, Timestamp::from_seconds(MONDAY));
    // Over all hours: the histogram of all seconds.
    let overall = baselines
        .overall(&zone(Direction::In), Aspect::Total)
        .unwrap();
    let mut all: Vec<f64> = (0..WEEK / 60).map(|at| diurnal(MONDAY + at * 60)).collect();
    all.sort_by(f64::total_cmp);
    let true_mid = all[all.len() / 2];
    assert!(
        (overall.bits.mid / true_mid - 1.0).abs() < 0.05,
        "{}",
        overall.bits.mid
    );
}

#[test]
fn one_day_answers_for_the_days_that_were_not_seen_and_is_less_sure() {
    let mut baselines = baselines();
    teach(&mut baselines, MONDAY, MONDAY + DAY + 5 * 60, diurnal);
    let at = |hour: i64| MONDAY + 3 * DAY + hour * HOUR + HOUR / 2;
    for hour in 0..24 {
        let ratio = normal(&baselines, at(hour)).bits.mid / diurnal(at(hour));
        assert!((0.85..1.2).contains(&ratio), "hour {hour}: {ratio}");
    }
    let confidence = normal(&baselines, at(3)).confidence;
    assert!((0.03..0.3).contains(&confidence), "{confidence}");
}

#[test]
fn nothing_is_called_normal_before_the_minimum() {
    let mut baselines = baselines();
    teach(&mut baselines, MONDAY, MONDAY + 20 * 60, |_| 1e9);
    let ask = |baselines: &Baselines| {
        let at = Timestamp::from_seconds(MONDAY + HOUR);
        baselines.normal(&zone(Direction::In), Aspect::Total, at)
    };
    assert_eq!(ask(&baselines), None);
    teach(&mut baselines, MONDAY + 20 * 60, MONDAY + 35 * 60, |_| 1e9);
    let normal = ask(&baselines).unwrap();
    assert!((normal.bits.mid / 1e9 - 1.0).abs() < 0.05, "{normal:?}");
}

#[test]
fn a_few_minutes_of_the_hour_before_do_not_outweigh_the_hour_that_is_being_learned() {
    let mut baselines = baselines();
    teach(&mut baselines, MONDAY - 60, MONDAY, |_| 1e6);
    teach(&mut baselines, MONDAY, MONDAY + 45 * 60, |_| 1e9);
    let target = zone(Direction::In);
    let overall = baselines.overall(&target, Aspect::Total).unwrap();
    for found in [normal(&baselines, MONDAY + 45 * 60), overall] {
        assert!((found.bits.mid / 1e9 - 1.0).abs() < 0.06, "{found:?}");
    }
}

#[test]
fn an_attack_is_left_out_from_its_first_second_on() {
    let mut peaceful = baselines();
    teach(&mut peaceful, MONDAY, MONDAY + 3 * HOUR, |_| 1e9);
    let mut attacked = baselines();
    let target = zone(Direction::In);
    teach(&mut attacked, MONDAY, MONDAY + HOUR, |_| 1e9);
    // It begins, is seen 40 s later, and lasts for ten minutes.
    let start = MONDAY + HOUR;
    teach(&mut attacked, start, start + 40, |_| 80e9);
    attacked.forget_since(&target, start);
    for second in start + 40..start + 640 {
        attacked.handle_second(&target, second, &bucket(80e9), [], false);
    }
    teach(&mut attacked, start + 640, MONDAY + 3 * HOUR, |_| 1e9);
    let (a, b) = (
        normal(&peaceful, start + 2 * HOUR).bits,
        normal(&attacked, start + 2 * HOUR).bits,
    );
    assert!((a.mid / b.mid - 1.0).abs() < 0.01, "{a:?} {b:?}");
    assert!(b.peak < 1.2e9, "{b:?}");
    assert!(attacked.counters().left_out_seconds >= 640);
}

#[test]
fn traffic_that_rises_by_five_per_cent_a_day_teaches_no_more_than_the_bound() {
    let mut baselines = baselines();
    // Teaching every second of six weeks takes long: a minute of each hour is told as a second each.
    let target = zone(Direction::In);
    let mut teach_hours = |from: i64, to: i64, level: &dyn Fn(i64) -> f64| {
        for hour in (from..to).step_by(3600) {
            for at in (0..3600).step_by(4) {
                let bits = level(hour) * (1.0 + noise(hour + at));
                baselines.handle_second(&target, hour + at, &bucket(bits), [], true);
            }
        }
        normal(&baselines, to).bits
    };
    let begin = MONDAY + 3 * WEEK;
    let before = teach_hours(MONDAY, begin, &|_| 1e9);
    let poisoned = |second: i64| 1e9 * 1.05_f64.powf((second - begin) as f64 / DAY as f64);
    let after = teach_hours(begin, begin + 4 * WEEK, &poisoned);
    let bound = before.high * 1.2_f64.powi(4) * 1.1;
    assert!(poisoned(begin + 4 * WEEK) > 3.8e9);
    assert!(after.high < bound, "{} of {bound}", after.high);
    assert!(after.high > before.high, "honest growth is followed");
}

#[test]
fn vectors_protocols_and_ports_have_levels_of_their_own() {
    let mut baselines = baselines();
    let target = zone(Direction::In);
    let key = TargetKey {
        prefix: "203.0.113.0/24".parse().unwrap(),
        direction: Direction::In,
        zone: ZoneId(0),
    };
    for second in MONDAY..MONDAY + 3 * HOUR {
        let udp = bucket(200e6);
        let vectors = [(Vector::UdpFlood, &udp)];
        baselines.handle_second(&target, second, &bucket(1e9), vectors, true);
        if second % 60 == 0 && second > MONDAY {
            let sums = |octets: u64, connections| MinuteSums {
                octets,
                packets: octets / 1000,
                flows: 600,
                connections,
            };
            let profile = MinuteProfile {
                first_second: second - 60,
                zones: vec![ZoneMinute {
                    target: key,
                    parts: vec![
                        (TrafficPart::Protocol(6), sums(6_000_000_000, 6000)),
                        (
                            TrafficPart::Port {
                                protocol: 6,
                                port: 443,
                            },
                            sums(5_000_000_000, 5400),
                        ),
                    ],
                }],
                ..MinuteProfile::default()
            };
            baselines.handle_minute(&profile, &|_| true);
        }
        baselines.handle_timeout(Timestamp::from_seconds(second + 5));
    }
    let of = |aspect| {
        let at = Timestamp::from_seconds(MONDAY + 3 * HOUR);
        baselines.normal(&target, aspect, at)
    };
    let near = |found: f64, wanted: f64| assert!((found / wanted - 1.0).abs() < 0.03, "{found}");
    near(
        of(Aspect::Vector(Vector::UdpFlood)).unwrap().bits.mid,
        200e6,
    );
    near(of(Aspect::Protocol(6)).unwrap().bits.mid, 800e6);
    let https = of(Aspect::Port {
        protocol: 6,
        port: 443,
    })
    .unwrap();
    near(https.connections.unwrap().mid, 90.0);
    near(of(Aspect::Total).unwrap().connections.unwrap().mid, 100.0);
    assert_eq!(of(Aspect::Protocol(17)), None);
    let report = baselines.report(&target).unwrap();
    assert_eq!(
        (
            report.protocols.len(),
            report.ports.len(),
            report.vectors.len()
        ),
        (1, 1, 1)
    );
}

#[test]
fn hosts_are_learned_by_the_minute_and_silence_counts() {
    let mut baselines = baselines();
    let busy = "203.0.113.7/32".to_owned();
    for at in 0..24 * 60 {
        // The other host speaks each second minute only.
        let other = (at % 2 == 0).then(|| ("203.0.113.8/32".to_owned(), 40e6));
        let hosts = [(busy.clone(), 10e6)].into_iter().chain(other);
        baselines.handle_minute(&minute(MONDAY + at * 60, hosts), &|_| true);
        baselines.handle_timeout(Timestamp::from_seconds(MONDAY + at * 60 + 70));
    }
    let of = |address: &str| {
        let at = Timestamp::from_seconds(MONDAY + DAY);
        baselines
            .normal(&host(address), Aspect::Total, at)
            .unwrap()
            .bits
    };
    let steady = of("203.0.113.7/32");
    assert!((steady.mid / 10e6 - 1.0).abs() < 0.03, "{steady:?}");
    assert!((steady.peak / 20e6 - 1.0).abs() < 0.03, "{steady:?}");
    let other = of("203.0.113.8/32");
    assert!((other.average / 20e6 - 1.0).abs() < 0.05, "{other:?}");
    assert!(other.low < 1e3 && other.high > 35e6, "{other:?}");
}

#[test]
fn there_is_a_bound_and_what_is_beyond_is_counted_until_room_is_made() {
    let mut baselines = Baselines::new(settings(BaselineConfig {
        max_targets: 3,
        ..BaselineConfig::default()
    }));
    let five = |at| {
        minute(
            at,
            (1..=5).map(|host| (format!("203.0.113.{host}/32"), 1e6)),
        )
    };
    baselines.handle_minute(&five(MONDAY), &|_| true);
    assert_eq!(
        (baselines.len(), baselines.counters().refused_targets),
        (3, 2)
    );
    // Nothing comes for two months: they are forgotten, and others find room.
    let later = MONDAY + 9 * WEEK;
    for _ in 0..3 {
        // Few at a time.
        baselines.handle_timeout(Timestamp::from_seconds(later));
    }
    assert_eq!(
        (baselines.len(), baselines.counters().forgotten_targets),
        (0, 3)
    );
    let gone = std::iter::from_fn(|| baselines.poll_persist());
    assert_eq!(gone.filter(|row| row.value.is_none()).count(), 3);
}

#[test]
fn the_busiest_hosts_have_the_full_profile() {
    let mut baselines = Baselines::new(settings(BaselineConfig {
        busiest_hosts: 2,
        ..BaselineConfig::default()
    }));
    let mut octets = 0;
    for at in 0..180 {
        // The later ones are the busier ones.
        let hosts = (1..=4).map(|host| (format!("203.0.113.{host}/32"), f64::from(host) * 1e8));
        baselines.handle_minute(&minute(MONDAY + at * 60, hosts), &|_| true);
        baselines.handle_timeout(Timestamp::from_seconds(MONDAY + at * 60 + 70));
        octets = octets.max(baselines.octets());
    }
    let rows = baselines.save_all();
    let sizes: Vec<usize> = rows
        .iter()
        .map(|row| row.value.as_ref().unwrap().len())
        .collect();
    // Rows with histograms are the longer ones: hosts 3 and 4.
    assert!(
        sizes[2] > sizes[0] && sizes[3] > sizes[1] && sizes[2] > sizes[1],
        "{sizes:?}"
    );
}
