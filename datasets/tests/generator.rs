//! What the generator makes is read by the decoders, tells what was simulated, and is the same for the same seed.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;

use weir_datasets::generator::{Datagram, Generator, Made, ScenarioFile};
use weir_datasets::score::Truth;
use weir_flow_record::{ColumnSet, ExporterId, FlowBatch, ReceivedAt};

/// All that is made of a scenario.
fn make(text: &str) -> (Vec<Datagram>, Vec<Truth>, Made) {
    let mut generator = Generator::new(ScenarioFile::parse(text).unwrap()).unwrap();
    let datagrams: Vec<Datagram> = std::iter::from_fn(|| generator.poll_datagram()).collect();
    assert!(datagrams.windows(2).all(|pair| pair[0].at <= pair[1].at));
    (datagrams, generator.labels(), generator.made())
}

/// All rows of the datagrams; nothing of them may be undecodable.
fn decode(datagrams: &[Datagram]) -> FlowBatch {
    let mut batch = FlowBatch::default();
    let limits = weir_netflow::Limits::default().check().unwrap();
    let mut netflow = weir_netflow::Decoder::new(limits, ColumnSet::NONE);
    let limits = weir_sflow::Limits::default().check().unwrap();
    let mut sflow = weir_sflow::Decoder::new(limits, ColumnSet::NONE, ExporterId(1 << 16));
    for datagram in datagrams {
        let (at, from) = (ReceivedAt(datagram.at), datagram.from);
        assert!(datagram.payload.len() <= 1400);
        if from.port() == 6343 {
            let outcome = sflow.handle_datagram(at, from, &datagram.payload, &mut batch);
            assert_eq!(outcome.malformed, None);
            assert_eq!((outcome.malformed_samples, outcome.skipped_samples), (0, 0));
        } else {
            let outcome = netflow.handle_datagram(at, from, &datagram.payload, &mut batch);
            assert_eq!(outcome.malformed, None);
            assert_eq!((outcome.undecodable_sets, outcome.held_back_sets), (0, 0));
        }
    }
    batch
}

const ATTACK: &str = r#"
duration = "6m"
[normal]
records_per_second = 20
[[attack]]
kind = "dns-amplification"
at = "2m"
lasts = "2m"
target = "203.0.113.9"
over = 2.0
"#;

#[test]
fn a_seed_gives_the_same_octets() {
    let (first, labels, _) = make(ATTACK);
    let (second, again, _) = make(ATTACK);
    assert!(first == second && labels == again);
    let (other, ..) = make(&format!("seed = 2\n{ATTACK}"));
    assert!(first != other);
}

/// Exporters of every make, and the sampling rates that a decoder must know of them.
const MAKES: [(&str, &[u32]); 10] = [
    ("", &[1000]),
    ("style = \"seconds\"\nshuffled = true", &[1000]),
    ("style = \"delta\"", &[1000]),
    ("style = \"timeless\"", &[1000]),
    (
        "protocol = \"netflow-v9\"\nstyle = \"classic\"\nshuffled = true",
        &[1000],
    ),
    (
        "protocol = \"netflow-v9\"\nsampling = [100, 700]",
        &[100, 700],
    ),
    ("sampling = [100, 700]", &[100, 700]),
    ("statement = \"record\"\nprotocol = \"netflow-v9\"", &[1000]),
    ("protocol = \"netflow-v5\"\nstatement = \"none\"", &[0]),
    ("protocol = \"sflow\"\nsampling = [400]", &[400]),
];

#[test]
fn every_make_is_decoded_and_tells_its_rate_and_the_attack() {
    for (make_of, rates) in MAKES {
        let (datagrams, labels, made) = make(&format!("{ATTACK}\n[[exporter]]\n{make_of}"));
        let batch = decode(&datagrams);
        assert_eq!(batch.octets.len() as u64, made.records, "{make_of}");
        let seen: BTreeSet<u32> = batch.sampling_rate.iter().copied().collect();
        assert_eq!(seen, rates.iter().copied().collect(), "{make_of}");
        // 1 Gbit/s × 2 for 120 s; the host's own traffic is small beside it.
        let target = labels[0].target;
        let to_target =
            (0..batch.octets.len()).filter(|row| batch.destination_address[*row].is_in(&target));
        let scaled: u64 = to_target
            .map(|row| {
                batch.octets[row]
                    * u64::from(batch.sampling_rate[row].max(if rates == [0] { 1000 } else { 0 }))
            })
            .sum();
        let expected = 2e9 / 8.0 * 120.0;
        let ratio = scaled as f64 / expected;
        assert!((0.93..1.12).contains(&ratio), "{make_of}: {ratio}");
        let exported = labels[0].exported.unwrap();
        assert!(
            exported > labels[0].start && exported < labels[0].end,
            "{make_of}"
        );
    }
}

#[test]
fn flows_lie_in_the_past_of_their_export_whatever_the_clock() {
    for exporter in [
        "",
        "clock_skew = 10800.0",
        "protocol = \"netflow-v9\"\nuptime = 4294967.0\nclock_skew = -10800.0",
    ] {
        let (datagrams, ..) = make(&format!("{ATTACK}\n[[exporter]]\n{exporter}"));
        let batch = decode(&datagrams);
        for info in &batch.datagrams {
            for row in info.rows.clone() {
                let (start, end) = (batch.flow_start[row as usize], batch.flow_end[row as usize]);
                let age = info.export_time.nanos() - end;
                // Whole seconds in the header.
                assert!(
                    (-1_000_000_000..80_000_000_000).contains(&age),
                    "{exporter}: {age}"
                );
                assert!((0..=60_000_000_000).contains(&(end - start)), "{exporter}");
            }
        }
    }
}

#[test]
fn a_week_has_days_and_nights_and_the_rate_that_was_asked_for() {
    let (datagrams, _, made) = make(
        "duration = \"7d\"\n[normal]\nrecords_per_second = 0.5\n[[exporter]]\ntemplate_interval = \"6h\"",
    );
    let rate = made.records as f64 / (7.0 * 86_400.0);
    assert!((0.25..1.0).contains(&rate), "{rate}");
    let per_hour = |hour: i64| {
        let of_hour = |datagram: &&Datagram| datagram.at.second() / 3600 % 24 == hour;
        let payload = datagrams
            .iter()
            .filter(of_hour)
            .map(|datagram| datagram.payload.len());
        payload.sum::<usize>()
    };
    assert!(
        per_hour(14) > 2 * per_hour(3),
        "{} {}",
        per_hour(14),
        per_hour(3)
    );
}

#[test]
fn losses_are_as_many_as_asked_for() {
    let (_, _, made) = make(&format!(
        "{ATTACK}\n[[exporter]]\nloss = 0.2\nflush = \"50ms\"\n"
    ));
    let share = made.lost as f64 / (made.lost + made.datagrams) as f64;
    assert!((0.12..0.28).contains(&share), "{share}");
}

#[test]
fn a_restart_is_silent_for_a_while_and_begins_anew() {
    let (datagrams, ..) = make(&format!(
        "{ATTACK}\n[[exporter]]\nreboots = [\"3m\"]\nreboot_time = \"30s\"\n"
    ));
    let start = ScenarioFile::default().start.second();
    let of = |from: i64, to: i64| {
        let inside =
            move |datagram: &&Datagram| (from..to).contains(&(datagram.at.second() - start));
        datagrams.iter().filter(inside)
    };
    assert_eq!(of(181, 210).count(), 0);
    let sequence =
        |datagram: &Datagram| u32::from_be_bytes(datagram.payload[8..12].try_into().unwrap());
    assert!(of(170, 180).map(sequence).max().unwrap() > 100);
    let first = of(210, 360).next().unwrap();
    assert_eq!(
        (sequence(first), first.payload[17]),
        (0, 2),
        "templates first"
    );
}

#[test]
fn carpets_hit_the_whole_prefix_and_outbound_attacks_leave_it() {
    let (datagrams, labels, _) = make(
        r#"
        duration = "4m"
        [[attack]]
        kind = "ntp-amplification"
        at = "10s"
        lasts = "3m"
        target = "203.0.112.0/22"
        over = 4.0
        [[attack]]
        kind = "udp-flood"
        at = "10s"
        lasts = "3m"
        target = "203.0.115.0/24"
        outbound = true
        over = 4.0
        "#,
    );
    let batch = decode(&datagrams);
    let rows = || 0..batch.octets.len();
    let hit: BTreeSet<_> = rows()
        .filter(|row| batch.source_port[*row] == 123 && batch.octets[*row] > 400)
        .map(|row| batch.destination_address[row])
        .collect();
    assert!(hit.len() > 500 && hit.iter().all(|address| address.is_in(&labels[0].target)));
    let out = rows().filter(|row| {
        batch.source_address[*row].is_in(&labels[1].target) && batch.protocol[*row] == 17
    });
    assert!(out.count() > 500);
}

#[test]
fn what_cannot_be_is_refused_with_its_place() {
    for (text, part) in [
        (
            "[[attack]]\nkind = \"x\"\nlasts = \"1m\"",
            "attack[0]: there is no kind `x`",
        ),
        (
            "[[attack]]\nkind = \"udp-flood\"\nlasts = \"1m\"",
            "needs one of over",
        ),
        (
            "[[attack]]\nkind = \"udp-flood\"\nover = 1.0",
            "lasts no time",
        ),
        (
            "[[attack]]\nkind = \"udp-flood\"\nover = 1.0\nlasts = \"1m\"\ntarget = \"192.0.2.1\"",
            "no zone",
        ),
        (
            "[[benign]]\nkind = \"flash-crowd\"\nlasts = \"1m\"\ntarget = \"203.0.112.0/24\"",
            "visits a host",
        ),
    ] {
        let error = Generator::new(ScenarioFile::parse(text).unwrap())
            .err()
            .unwrap();
        assert!(error.to_string().contains(part), "{error}");
    }
}
