use super::*;

const EDGE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

fn at(millis: i64) -> ReceivedAt {
    ReceivedAt::from_nanos(1_700_000_000_000_000_000 + millis * 1_000_000)
}

fn caps(records_per_second: u64, datagrams_per_second: u64) -> RateCaps {
    RateCaps {
        records_per_second,
        datagrams_per_second,
    }
}

fn trust(default: RateCaps) -> Trust {
    Trust::new(TrustSettings {
        default,
        max_exporters: 4,
        ..TrustSettings::default()
    })
}

/// Datagrams admitted of `count`, one a millisecond from `from`, each with `records`.
fn admitted(trust: &mut Trust, from: i64, count: i64, records: u64) -> i64 {
    let admitted = (from..from + count).filter(|milli| {
        let good = trust.handle_datagram(at(*milli), EDGE) == Admission::Admitted;
        if good {
            trust.handle_records(at(*milli), EDGE, records);
        }
        good
    });
    admitted.count() as i64
}

#[test]
fn strangers_are_counted_and_leave_nothing_behind() {
    let mut trust = Trust::new(TrustSettings {
        allow: AllowList::new(&["192.0.2.0/24".parse().unwrap()]),
        default: caps(1, 1),
        max_exporters: 4,
        ..TrustSettings::default()
    });
    for host in 0..100_u8 {
        let stranger = IpAddr::from([198, 51, 100, host]);
        assert_eq!(trust.handle_datagram(at(0), stranger), Admission::Stranger);
    }
    assert_eq!(trust.counters().strangers, 100);
    assert_eq!(trust.exporters.iter().count(), 0);
    assert_eq!(trust.handle_datagram(at(0), EDGE), Admission::Admitted);
}

#[test]
fn without_caps_nobody_is_remembered() {
    let mut trust = trust(RateCaps::default());
    assert_eq!(admitted(&mut trust, 0, 5_000, 1_000_000), 5_000);
    assert_eq!(trust.exporters.iter().count(), 0);
}

#[test]
fn datagrams_above_the_cap_are_refused_by_exporter() {
    let mut trust = trust(caps(0, 100));
    // A second at once, then the rate, for ten seconds.
    assert_eq!(admitted(&mut trust, 0, 10_000, 24), 100 + 1_000);
    assert_eq!(trust.counters().too_many_datagrams, 8_900);
    let view = trust.exporters().next().unwrap();
    assert_eq!(
        (view.exporter, view.too_many_datagrams),
        (EDGE.into(), 8_900)
    );
    let other = IpAddr::from([192, 0, 2, 2]);
    assert_eq!(
        trust.handle_datagram(at(10_000), other),
        Admission::Admitted
    );
    assert_eq!(trust.exporters().count(), 1);
}

#[test]
fn records_above_the_cap_are_refused_before_they_are_decoded() {
    let mut trust = trust(caps(2_400, 0));
    // 24,000 records a second come, 2,400 are let in.
    let admitted = admitted(&mut trust, 0, 10_000, 24);
    assert!((1_100..=1_102).contains(&admitted), "{admitted}");
    assert_eq!(trust.counters().too_many_records as i64, 10_000 - admitted);
}

#[test]
fn the_longest_prefix_decides_and_zero_lifts_the_cap() {
    let mut trust = Trust::new(TrustSettings {
        default: caps(0, 10),
        rules: vec![
            ("192.0.2.1/32".parse().unwrap(), caps(0, 0)),
            ("192.0.2.0/24".parse().unwrap(), caps(0, 1)),
        ],
        max_exporters: 8,
        ..TrustSettings::default()
    });
    for (from, expected) in [
        ([192, 0, 2, 1], 50),
        ([192, 0, 2, 2], 1),
        ([198, 51, 100, 1], 10),
    ] {
        let admitted =
            (0..50).filter(|_| trust.handle_datagram(at(0), from.into()) == Admission::Admitted);
        assert_eq!(admitted.count(), expected, "{from:?}");
    }
}

#[test]
fn borrowed_addresses_fill_no_memory() {
    let mut trust = trust(caps(0, 10));
    for number in 0..10_000_u32 {
        let from = IpAddr::from(number.to_be_bytes());
        let _ = trust.handle_datagram(at(0), from);
    }
    assert_eq!(trust.exporters.iter().count(), 4);
    assert_eq!(trust.counters().evicted_exporters, 9_996);
}

#[test]
fn a_clock_that_is_set_back_silences_nobody_and_frees_nobody() {
    let mut trust = trust(caps(0, 100));
    let day = 86_400_000;
    assert_eq!(admitted(&mut trust, day, 1_000, 0), 200);
    // The bucket is as empty as before.
    let after = admitted(&mut trust, 0, 1_000, 0);
    assert!((99..=101).contains(&after), "{after}");
    // Two sockets whose time stamps lie apart give nothing away.
    let alternating = (0..1_000).filter(|step| {
        let milli = 1_000 + step - (step % 2) * 50;
        trust.handle_datagram(at(milli), EDGE) == Admission::Admitted
    });
    let admitted = alternating.count();
    assert!((99..=101).contains(&admitted), "{admitted}");
}
