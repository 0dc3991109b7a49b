//! What a model learns from labelled flows, and what it must not.

mod traffic;

use traffic::{lessons, thinned};
use weir_models::{
    Data, FEATURES, FeatureVector, LessonCounters, LessonSettings, Model, Samples, TrainSettings,
    evaluate, schema, train,
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
fn wrong_labels_cost_little_and_never_help() {
    let clean = lessons(9, 1600, true, LessonSettings::plain(), 0.0);
    let honest = evaluate(&model(&lessons(1, 1600, true, thinned(), 0.0)), &clean);
    let poisoned = evaluate(&model(&lessons(1, 1600, true, thinned(), 0.1)), &clean);
    assert!(
        poisoned.attack.f1 <= honest.attack.f1,
        "{} > {}",
        poisoned.attack.f1,
        honest.attack.f1
    );
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
