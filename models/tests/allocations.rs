//! Describing and judging allocate nothing once warm.

mod traffic;

use traffic::{lessons, row, server, thinned};
use weir_flow_record::Address;
use weir_models::{Data, FeatureVector, LessonCounters, Limits, TrainSettings, Windows, train};

#[test]
fn judging_allocates_nothing() {
    let samples = lessons(1, 1500, true, thinned(), 0.0);
    let settings = TrainSettings {
        trees: 20,
        ..TrainSettings::default()
    };
    let model = train(
        &samples,
        &settings,
        LessonCounters::default(),
        Data::default(),
    )
    .unwrap();
    assert!(model.anomaly().is_some());
    let features: FeatureVector = samples.features(0).try_into().unwrap();
    let info = allocation_counter::measure(|| {
        for _ in 0..1000 {
            std::hint::black_box(model.judge(std::hint::black_box(&features)));
        }
    });
    assert_eq!(info.count_total, 0);
}

#[test]
fn records_of_watched_targets_allocate_nothing() {
    let mut windows = Windows::new(Limits::default());
    windows.watch(server(1));
    let mut feed = |from: i64, to: i64| {
        for second in from..to {
            for number in 0..50 {
                let source = Address::from_v4([192, 0, 2, number]);
                windows.handle_row(&row(source, server(1), 6, (5000, 443), second), true);
                windows.handle_row(&row(source, server(2), 6, (5000, 443), second), true);
            }
            windows.handle_time(second * 1_000_000_000);
            while let Some(window) = windows.poll_window() {
                std::hint::black_box(window);
            }
        }
    };
    feed(0, 100);
    let info = allocation_counter::measure(|| feed(100, 200));
    // Of 10,000 records: the tree of seconds that are due takes a node for each second.
    assert!(info.count_total <= 200, "{} allocations", info.count_total);
}
