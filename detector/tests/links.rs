//! Links and exporters are targets too: what passes the interfaces of a pipe, whatever zone it is for.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod support;

use support::{Pipeline, at, flow, host, packets, threshold, zone};
use weir_attack_event::Severity;
use weir_detector::{DetectorConfig, DetectorSettings, LinkConfig, Scope, ThresholdConfig, check};
use weir_flow_record::{Address, Direction, Quantity};

fn link(name: &str, interfaces: &[u32]) -> LinkConfig {
    LinkConfig {
        name: name.to_owned(),
        exporter: Some("192.0.2.1".parse().unwrap()),
        interfaces: interfaces.to_vec(),
        capacity: Some(Quantity(1_000_000_000)),
    }
}

fn share(scope: Scope, direction: Direction) -> ThresholdConfig {
    ThresholdConfig {
        scope,
        direction,
        capacity_share: Some(0.8),
        ..threshold()
    }
}

fn settings(thresholds: &[ThresholdConfig], links: &[LinkConfig]) -> DetectorSettings {
    let zones = [zone(&["203.0.113.0/24"])];
    check(&DetectorConfig::default(), thresholds, &zones)
        .unwrap()
        .with_links(links)
        .unwrap()
}

/// Mbit/s over an interface, to an address, for some seconds.
fn send(
    pipeline: &mut Pipeline,
    seconds: std::ops::Range<u32>,
    to: Address,
    flows: &[(u32, u32, u64)],
) {
    for second in seconds {
        let begin = f64::from(second);
        let rows: Vec<_> = flows
            .iter()
            .map(|(input, output, megabits)| {
                let octets = megabits * 125_000;
                let mut row = flow(to, at(begin), at(begin + 0.9), octets, octets / 1000);
                (row.input_interface, row.output_interface) = (*input, *output);
                row
            })
            .collect();
        pipeline.receive(at(begin + 1.0), &rows);
    }
}

#[test]
fn a_link_that_fills_is_told_whatever_it_carries() {
    let limits = [share(Scope::Link, Direction::In)];
    let mut pipeline = Pipeline::with(settings(
        &limits,
        &[link("transit", &[7]), link("peer", &[8])],
    ));
    let stranger = Address::from_v4([198, 51, 100, 9]);
    let levels = |pipeline: &Pipeline| -> Vec<(String, u64)> {
        let levels = pipeline.detector.link_levels();
        levels
            .map(|level| (level.name.to_string(), level.bits_per_second))
            .collect()
    };
    assert_eq!(levels(&pipeline), []);
    send(
        &mut pipeline,
        0..5,
        stranger,
        &[(7, 1, 500), (8, 1, 500), (9, 1, 900)],
    );
    assert_eq!(pipeline.starts().len(), 0);
    send(&mut pipeline, 5..8, stranger, &[(7, 1, 900), (8, 1, 500)]);
    pipeline.run(at(11.1));
    send(&mut pipeline, 11..12, stranger, &[(9, 1, 1)]);
    send(&mut pipeline, 11..12, stranger, &[(7, 1, 1)]);
    pipeline.run(at(12.2));
    // Settled is what is 5 s old: second 6.
    let of = |name: &str, megabits: u64| (name.to_owned(), megabits * 1_000_000);
    assert_eq!(levels(&pipeline), [of("transit", 900), of("peer", 500)]);
    pipeline.finish();
    let starts = pipeline.starts();
    assert_eq!(starts.len(), 1);
    assert_eq!(&*starts[0].target.zone, "transit");
    assert_eq!(starts[0].target.prefix, "192.0.2.1/32".parse().unwrap());
    assert_eq!(
        starts[0].severity,
        Severity::High,
        "more than half of the pipe"
    );
    assert!(
        starts[0].why[0].0.contains("link transit"),
        "{:?}",
        starts[0].why
    );
}

#[test]
fn what_leaves_and_what_an_exporter_tells_have_limits_of_their_own() {
    let limits = [
        share(Scope::Link, Direction::Out),
        share(Scope::Exporter, Direction::In),
    ];
    let links = [link("transit", &[7]), link("edge-1", &[])];
    let mut pipeline = Pipeline::with(settings(&limits, &links));
    let stranger = Address::from_v4([198, 51, 100, 9]);
    // Each record counts once for its exporter.
    send(&mut pipeline, 0..3, stranger, &[(7, 1, 700)]);
    assert_eq!(pipeline.starts().len(), 0);
    send(&mut pipeline, 3..6, stranger, &[(1, 7, 850)]);
    pipeline.finish();
    let mut told: Vec<(&str, Direction)> = pipeline
        .starts()
        .iter()
        .map(|start| (&*start.target.zone, start.target.direction))
        .collect();
    told.sort_unstable();
    assert_eq!(
        told,
        [("edge-1", Direction::In), ("transit", Direction::Out)]
    );
}

#[test]
fn an_attack_on_a_host_explains_its_link() {
    let limits = [packets(100_000), share(Scope::Link, Direction::In)];
    let mut pipeline = Pipeline::with(settings(&limits, &[link("transit", &[7])]));
    send(&mut pipeline, 0..5, host(1), &[(7, 1, 1_200)]);
    pipeline.finish();
    assert_eq!(pipeline.starts().len(), 1);
    assert_eq!(pipeline.events[0].target.prefix, host(1).host());
}

#[test]
fn mistakes_in_links_are_told() {
    let settings = settings(&[], &[]);
    let nameless = LinkConfig {
        exporter: None,
        ..link("", &[])
    };
    let faults = settings
        .with_links(&[nameless, link("zone", &[1])])
        .unwrap_err();
    let paths: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
    assert_eq!(paths, ["link[0]", "link[0]", "link[1].name"]);
    let misplaced = ThresholdConfig {
        capacity_share: Some(0.5),
        ..packets(5)
    };
    assert!(check(&DetectorConfig::default(), &[misplaced], &[]).is_err());
}
