//! What a model learns from labelled flows, and what it must not.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod traffic;

use traffic::{lessons, row, server, thinned};
use weir_flow_record::{
    Address, ColumnSet, DatagramInfo, ExportProtocol, ExportTime, ExporterId, FlowBatch,
    ObservationDomainId, ReceivedAt,
};
use weir_models::{
    Data, FEATURES, FeatureVector, LessonCounters, LessonSettings, Lessons, Model, Phase, Samples,
    Sentry, Source, TrainSettings, agreements, evaluate, schema, train,
};

fn model(samples: &Samples) -> Model {
    let settings = TrainSettings {
        trees: 20,
        ..TrainSettings::default()
    };
    train(
        samples,
        &settings,
        LessonCounters::default(),
        Data::default(),
    )
    .unwrap()
}

#[test]
fn kinds_of_attack_are_told_on_days_never_seen() {
    let model = model(&lessons(1, 1600, true, thinned(), 0.0));
    let evaluation = evaluate(
        &model,
        &lessons(2, 1600, true, LessonSettings::plain(), 0.0),
    );
    assert!(evaluation.macro_f1 > 0.97, "{evaluation:#?}");
    assert!(evaluation.attack.false_alarms < 0.005, "{evaluation:#?}");
    assert!(evaluation.calibration_error < 0.03, "{evaluation:#?}");
}

#[test]
fn sampling_takes_little_away() {
    let model = model(&lessons(1, 1600, true, thinned(), 0.0));
    let sampled = LessonSettings {
        thinning: vec![4],
        ..LessonSettings::plain()
    };
    let evaluation = evaluate(&model, &lessons(2, 1600, true, sampled, 0.0));
    assert!(evaluation.attack.recall > 0.95, "{evaluation:#?}");
    assert!(evaluation.attack.false_alarms < 0.01, "{evaluation:#?}");
}

#[test]
fn the_same_data_and_seed_give_the_same_octets() {
    let artefact = |seed| {
        let samples = lessons(seed, 1500, true, thinned(), 0.0);
        model(&samples).write().unwrap()
    };
    let first = artefact(1);
    assert!(first == artefact(1), "not reproducible");
    assert!(first != artefact(3), "the data change nothing");
}

#[test]
fn an_artefact_comes_back_as_it_was() {
    let samples = lessons(1, 1500, true, thinned(), 0.0);
    let model = model(&samples);
    let (read, id) = Model::read(&model.write().unwrap()).unwrap();
    assert_eq!(id.0.len(), 12);
    for row in (0..samples.len()).step_by(7) {
        let features: &FeatureVector = samples.features(row).try_into().unwrap();
        assert_eq!(model.judge(features), read.judge(features));
    }
    assert_eq!(
        (&read.card().classes, &read.card().settings),
        (&model.card().classes, &model.card().settings)
    );
    assert_eq!(read.card().data, model.card().data);
}

#[test]
fn damaged_artefacts_are_refused() {
    let artefact = model(&lessons(1, 1500, true, thinned(), 0.0))
        .write()
        .unwrap();
    for cut in (0..artefact.len()).step_by(artefact.len() / 200) {
        assert!(Model::read(&artefact[..cut]).is_err(), "cut at {cut}");
        let mut bent = artefact.clone();
        bent[cut] ^= 0x10;
        assert!(Model::read(&bent).is_err(), "bent at {cut}");
    }
}

#[test]
fn verdicts_are_explained_in_words() {
    let samples = lessons(1, 1600, true, thinned(), 0.0);
    let model = model(&samples);
    let row = (0..samples.len())
        .find(|row| samples.class(*row) == "dns-amplification")
        .unwrap();
    let features: &FeatureVector = samples.features(row).try_into().unwrap();
    let verdict = model.judge(features);
    assert_eq!(model.class(verdict.class), "dns-amplification");
    let reasons = model.explain(features, 3);
    assert!(
        !reasons.is_empty() && reasons[0].weight > 0.005,
        "{reasons:?}"
    );
    assert!(reasons.iter().all(|reason| {
        schema()
            .iter()
            .any(|one| one.high == reason.words || one.low == reason.words)
    }));
}

#[test]
fn peace_alone_teaches_what_is_unusual() {
    let peace = lessons(1, 1600, false, thinned(), 0.0);
    let model = model(&peace);
    assert!(
        model.card().checks.anomaly.is_none(),
        "{:?}",
        model.card().checks.anomaly
    );
    let evaluation = evaluate(
        &model,
        &lessons(2, 1600, true, LessonSettings::plain(), 0.0),
    );
    let anomaly = evaluation.anomaly.unwrap();
    assert!(anomaly.auc.unwrap() > 0.95, "{anomaly:?}");
    assert!(anomaly.recall_at_1_percent > 0.8, "{anomaly:?}");
    assert!(anomaly.false_alarms_at_1_percent < 0.05, "{anomaly:?}");
}

#[test]
fn one_wrong_label_in_ten_costs_little() {
    let clean = lessons(9, 1600, true, LessonSettings::plain(), 0.0);
    let honest = evaluate(&model(&lessons(1, 1600, true, thinned(), 0.0)), &clean);
    let poisoned = evaluate(&model(&lessons(1, 1600, true, thinned(), 0.1)), &clean);
    for told in [&honest, &poisoned] {
        assert!(told.attack.f1 > 0.97, "{told:#?}");
    }
}

/// Peace to four servers, and floods of two kinds, of each of which four sources tell; `liar` calls peace a flood.
fn told_by(liar: Option<&str>) -> Samples {
    let mut lessons = Lessons::new(LessonSettings::plain());
    for second in 0..1200_i64 {
        for number in 1..=4_u8 {
            for client in 0..3_u8 {
                let port = 20_000 + (second * 7 + i64::from(client)) as u16;
                let client = Address::from_v4([192, 0, 2, (second % 200) as u8 + client]);
                let mut question = row(client, server(number), 6, (port, 443), second);
                (question.tcp_flags, question.packets) = (0x1b, 5 + second as u64 * 13 % 30);
                question.octets = question.packets * (80 + second as u64 * 29 % 300);
                let lie = second / 100 % 4 == 1 && number == 4;
                let by = liar.filter(|_| lie).unwrap_or("");
                let attack = (!by.is_empty()).then_some("udp-flood");
                let source = Source {
                    by,
                    answer: Some(false),
                    ..Source::new("test", attack)
                };
                lessons.handle_row(&question, &source);
            }
        }
        let minute = second / 50;
        if minute % 4 == 3 && second % 50 < 30 {
            let by = ["a", "b", "c", "d"][(minute / 4 % 4) as usize];
            let (protocol, kind) =
                [(17, "udp-flood"), (6, "tcp-syn-flood")][(minute / 16 % 2) as usize];
            for number in 0..30_u8 {
                let source = Address::from_v4([198, 51, number, (second % 250) as u8]);
                let port = 1024 + (second * 31 % 60_000) as u16;
                let mut flood = row(source, server(1), protocol, (port, 443), second);
                (flood.tcp_flags, flood.packets, flood.octets) = (2, 1, 60);
                if protocol == 17 {
                    (flood.tcp_flags, flood.packets, flood.octets) = (0, 40, 40_000);
                }
                let source = Source {
                    by,
                    answer: Some(false),
                    ..Source::new("test", Some(kind))
                };
                lessons.handle_row(&flood, &source);
            }
        }
    }
    lessons.finish().0
}

#[test]
fn a_source_that_all_others_contradict_is_named() {
    let settings = TrainSettings {
        trees: 10,
        ..TrainSettings::default()
    };
    let honest = agreements(&told_by(None), &settings);
    assert_eq!(honest.len(), 4, "{honest:?}");
    assert!(
        honest.iter().all(|one| !one.is_contradicted()),
        "{honest:?}"
    );
    let found = agreements(&told_by(Some("liar")), &settings);
    let contradicted: Vec<&str> = found
        .iter()
        .filter(|one| one.is_contradicted())
        .map(|one| one.source.as_str())
        .collect();
    assert_eq!(contradicted, ["liar"], "{found:?}");
}

#[test]
fn a_few_records_make_no_attack_and_what_nobody_declares_is_no_peace() {
    let with = |wrong: usize, undeclared: bool| {
        let mut lessons = Lessons::new(LessonSettings::plain());
        for second in 0..30_i64 {
            for number in 0..10_usize {
                let client = Address::from_v4([192, 0, 2, number as u8]);
                let record = row(client, server(1), 6, (30_000 + number as u16, 443), second);
                let attack = (number < wrong).then_some("udp-flood");
                let source = Source {
                    undeclared,
                    ..Source::new("test", attack)
                };
                lessons.handle_row(&record, &source);
            }
        }
        let (samples, counters) = lessons.finish();
        let attacks = (0..samples.len()).filter(|row| samples.class(*row) == "udp-flood");
        (samples.len(), attacks.count(), counters)
    };
    let (windows, attacks, counters) = with(1, false);
    assert_eq!((attacks, counters.outweighed), (0, windows as u64));
    let (windows, attacks, _) = with(2, false);
    assert_eq!(attacks, windows, "a fifth is enough");
    let (windows, attacks, counters) = with(2, true);
    assert!(windows > 0 && attacks == windows && counters.undeclared == 0);
    let (windows, _, counters) = with(0, true);
    assert!(windows == 0 && counters.undeclared > 20, "{counters:?}");
}

#[test]
fn drift_is_seen_in_another_world_only() {
    let model = model(&lessons(1, 1600, true, thinned(), 0.0));
    let most = |samples: &Samples| {
        let mut drift = model.drift();
        for row in 0..samples.len() {
            drift.handle_window(samples.features(row).try_into().unwrap());
        }
        drift.indexes().first().map_or(0.0, |one| one.1)
    };
    let alike = most(&lessons(2, 1600, false, thinned(), 0.0));
    let other = {
        let samples = lessons(2, 1600, false, LessonSettings::plain(), 0.0);
        // The same network behind a sampler that nobody told of.
        let mut drift = model.drift();
        for row in 0..samples.len() {
            let mut features: FeatureVector = samples.features(row).try_into().unwrap();
            features
                .iter_mut()
                .take(FEATURES / 4)
                .for_each(|value| *value += 3.0);
            drift.handle_window(&features);
        }
        drift.indexes().first().map_or(0.0, |one| one.1)
    };
    assert!(alike < 0.25, "{alike}");
    assert!(other > 1.0, "{other}");
}

#[test]
fn a_sentry_tells_an_attack_once_and_its_end() {
    let samples = lessons(1, 1600, true, thinned(), 0.0);
    let mut sentry = Sentry::new(model(&samples), 16, 0.9);
    sentry.watch(server(1));
    let mut batch = FlowBatch::default();
    let mut told = Vec::new();
    for second in 0..400_i64 {
        batch.clear();
        let from = if (200..230).contains(&second) { 30 } else { 0 };
        for number in 0..from {
            let source = Address::from_v4([198, 51, number, (second % 250) as u8]);
            let mut attack = row(
                source,
                server(1),
                17,
                (53, (second * 31 % 60_000) as u16 + u16::from(number)),
                second,
            );
            (attack.packets, attack.octets) = (3, 4200);
            batch.push(&attack);
        }
        let mut peace = row(
            Address::from_v4([192, 0, 2, 9]),
            server(1),
            6,
            (30_000 + second as u16, 443),
            second,
        );
        (peace.packets, peace.octets, peace.tcp_flags) = (12, 2400, 0x1b);
        batch.push(&peace);
        let now = second * 1_000_000_000;
        batch.datagrams.push(DatagramInfo {
            rows: 0..batch.len() as u32,
            exporter: ExporterId(0),
            exporter_address: Address::from_v4([192, 0, 2, 250]),
            domain: ObservationDomainId(0),
            protocol: ExportProtocol::Ipfix,
            sequence: 0,
            received_at: ReceivedAt::from_nanos(now),
            export_time: ExportTime::from_nanos(now),
            present: ColumnSet::TCP_FLAGS,
        });
        sentry.handle_batch(&batch);
        sentry.handle_time(now);
        told.extend(std::iter::from_fn(|| sentry.poll_alarm()));
    }
    let phases: Vec<Phase> = told.iter().map(|alarm| alarm.phase).collect();
    let [Phase::Begins, between @ .., Phase::Over] = phases.as_slice() else {
        panic!("{told:#?}");
    };
    // Ten seconds apart at most, and told at least once more.
    assert!((1..=3).contains(&between.len()), "{told:#?}");
    assert!(between.iter().all(|phase| *phase == Phase::GoesOn));
    assert!(told.iter().all(|one| one.class == "dns-amplification"));
    assert!(told.iter().all(|one| one.attack >= 0.9));
    assert!((200..206).contains(&told[0].detected), "{told:#?}");
    assert!(!told[0].reasons.is_empty());
}
