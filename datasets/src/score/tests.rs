use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_seconds(1_700_000_000 + second)
}

fn told(id: &str, detected: i64, (start, end): (i64, i64), target: &str) -> Told {
    Told {
        id: id.to_owned(),
        detected_at: at(detected),
        start: at(start),
        end: Some(at(end)),
        targets: vec![target.parse().unwrap()],
        vectors: vec!["udp-flood".to_owned()],
    }
}

fn truth((start, end): (i64, i64), target: &str, attack: &str) -> Truth {
    Truth {
        start: at(start),
        end: at(end),
        target: target.parse().unwrap(),
        attack: attack.to_owned(),
        exported: None,
    }
}

fn window(zones: &[&str]) -> Window {
    Window {
        zones: zones.iter().map(|zone| zone.parse().unwrap()).collect(),
        ..Window::default()
    }
}

#[test]
fn time_and_prefix_decide_what_matches() {
    let label = truth((100, 200), "192.0.2.0/24", "udp-flood");
    for (target, times, expected) in [
        ("192.0.2.7/32", (101, 210), true),
        ("192.0.0.0/16", (101, 210), true),
        ("192.0.2.0/24", (50, 100), true),
        ("192.0.2.0/24", (199, 300), true),
        ("192.0.2.0/24", (50, 99), false),
        ("192.0.2.0/24", (200, 300), false),
        ("192.0.3.0/24", (101, 210), false),
        ("2001:db8::/32", (101, 210), false),
    ] {
        let (score, _) = score(
            &[told("a", 102, times, target)],
            std::slice::from_ref(&label),
            &Window::default(),
        );
        let (recall, false_alarms) = if expected { (1.0, 0) } else { (0.0, 1) };
        assert_eq!(
            (score.recall, score.false_alarms),
            (recall, false_alarms),
            "{target} {times:?}"
        );
    }
}

#[test]
fn an_attack_that_has_not_ended_matches_what_comes_later() {
    let mut open = told("a", 10, (10, 0), "192.0.2.1/32");
    open.end = None;
    let (score, _) = score(
        &[open],
        &[truth((100, 200), "192.0.2.1/32", "udp-flood")],
        &Window::default(),
    );
    assert_eq!((score.recall, score.detect_p50_s), (1.0, Some(0.0)));
}

#[test]
fn the_first_told_counts_and_further_ones_are_duplicates() {
    let labels = [truth((100, 200), "192.0.2.1/32", "udp-flood")];
    let events = [
        told("b", 150, (150, 160), "192.0.2.1/32"),
        told("a", 103, (101, 140), "192.0.2.0/24"),
    ];
    let (score, details) = score(&events, &labels, &Window::default());
    assert_eq!(score.detect_p50_s, Some(3.0));
    assert_eq!((score.duplicates, score.false_alarms), (1, 0));
    assert_eq!((score.precision, score.recall), (1.0, 1.0));
    assert_eq!(details.duplicates[0].id, "b");
    assert_eq!(details.detections[0].id, "a");
}

#[test]
fn one_event_may_tell_of_two_labels_and_is_one_hit() {
    let labels = [
        truth((100, 200), "192.0.2.1/32", "udp-flood"),
        truth((110, 200), "192.0.2.2/32", "icmp-flood"),
        truth((110, 200), "198.51.100.1/32", "icmp-flood"),
    ];
    let events = [
        told("a", 112, (101, 190), "192.0.2.0/24"),
        told("x", 300, (300, 310), "192.0.2.9/32"),
    ];
    let (score, details) = score(&events, &labels, &Window::default());
    assert_eq!((score.attacks, score.detected, score.duplicates), (3, 2, 0));
    assert_eq!((score.precision, score.recall), (0.5, 0.666_667));
    assert_eq!(details.misses[0].target.to_string(), "198.51.100.1/32");
    let icmp = &score.kinds["icmp-flood"];
    assert_eq!(
        (icmp.attacks, icmp.recall, icmp.detect_p50_s),
        (2, 0.5, Some(2.0))
    );
}

#[test]
fn alarms_in_peace_are_false() {
    let labels = [truth((0, 86_400), "192.0.2.0/24", "")];
    let events = [told("a", 100, (99, 200), "192.0.2.1/32")];
    let (score, _) = score(&events, &labels, &window(&["192.0.2.0/24"]));
    assert_eq!(
        (score.attacks, score.false_alarms, score.precision),
        (0, 1, 0.0)
    );
    assert_eq!(score.recall, 1.0, "nothing was missed");
    assert_eq!(score.false_alarms_per_day_per_1000, 1000.0);
    assert_eq!((score.detect_p50_s, score.days), (None, 1.0));
}

#[test]
fn false_alarms_are_scaled_to_days_and_prefixes() {
    let labels = [truth((0, 2 * 86_400), "10.0.0.0/8", "")];
    let events = [told("a", 100, (99, 200), "192.0.2.1/32")];
    let (score, _) = score(&events, &labels, &window(&["10.0.0.0/22", "2001:db8::/47"]));
    assert_eq!(score.prefixes, 6);
    assert_eq!(score.false_alarms_per_day_per_1000, 83.333_333);
}

#[test]
fn prefixes_are_counted_once_and_never_below_one() {
    let count = |zones: &[&str]| prefixes(&window(zones).zones);
    assert_eq!(count(&[]), 1);
    assert_eq!(count(&["192.0.2.1/32", "192.0.2.2/32"]), 1);
    assert_eq!(count(&["192.0.2.0/23", "192.0.2.0/24"]), 2);
    assert_eq!(count(&["2001:db8::/44"]), 16);
    assert_eq!(count(&["::/0", "0.0.0.0/0"]), (1 << 48) + (1 << 24));
}

#[test]
fn from_and_to_leave_out_what_lies_beyond() {
    let labels = [
        truth((0, 50), "192.0.2.1/32", "udp-flood"),
        truth((1000, 1100), "192.0.2.1/32", "udp-flood"),
    ];
    let events = [
        told("a", 5, (1, 60), "192.0.2.9/32"),
        told("b", 1002, (1001, 1090), "192.0.2.1/32"),
    ];
    let late = Window {
        from: Some(at(500)),
        to: Some(at(2228)),
        ..window(&["192.0.2.0/24"])
    };
    let (score, _) = score(&events, &labels, &late);
    assert_eq!(
        (score.attacks, score.false_alarms, score.recall),
        (1, 0, 1.0)
    );
    assert_eq!(score.days, 0.02);
}

#[test]
fn percentiles_are_of_the_nearest_rank() {
    let values: Vec<f64> = (1..=20).map(f64::from).collect();
    assert_eq!(percentile(&values, 0.5), Some(10.0));
    assert_eq!(percentile(&values, 0.95), Some(19.0));
    assert_eq!(percentile(&values[..1], 0.95), Some(1.0));
    assert_eq!(percentile(&[], 0.5), None);
}

#[test]
fn delay_after_receipt_stands_beside_delay_after_the_first_packet() {
    let mut label = truth((100, 200), "192.0.2.1/32", "udp-flood");
    label.exported = Some(at(115));
    let events = [told("a", 116, (101, 190), "192.0.2.1/32")];
    let (score, _) = score(&events, &[label], &Window::default());
    assert_eq!(
        (score.detect_p50_s, score.receipt_p50_s),
        (Some(16.0), Some(1.0))
    );
}
