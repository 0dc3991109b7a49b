//! Topics at a real broker: made, found again, and refused where they are not as they must be.

mod support;

use std::time::{Duration, Instant};

use support::Brokers;
use weir_kafka::{KafkaConfig, KafkaSettings, Topic, TopicError, ensure_topics};

const PATIENCE: Duration = Duration::from_secs(60);

fn settings(config: KafkaConfig, brokers: &str) -> KafkaSettings {
    let config = KafkaConfig {
        brokers: vec![brokers.to_owned()],
        ..config
    };
    config.check().expect("good").expect("has brokers")
}

#[test]
fn topics_are_made_where_they_are_missing_and_checked_where_not() {
    let Some(brokers) = Brokers::start(1) else {
        return;
    };
    let topic = |name: &str, partitions| Topic {
        name: name.to_owned(),
        partitions,
        is_fixed: true,
        is_compacted: name == "state",
    };
    let careful = KafkaConfig {
        create_topics: false,
        ..KafkaConfig::default()
    };
    let careful = settings(careful, &brokers.bootstrap);
    let settings = settings(KafkaConfig::default(), &brokers.bootstrap);
    let refused = ensure_topics(&careful, &[topic("summaries", 4)], PATIENCE);
    assert!(matches!(refused, Err(TopicError::Missing(name)) if name == "summaries"));
    let both = [topic("summaries", 4), topic("state", 4)];
    for settings in [&settings, &careful] {
        ensure_topics(settings, &both, PATIENCE).unwrap();
    }
    let refused = ensure_topics(&settings, &[topic("summaries", 5)], PATIENCE);
    let message = refused.unwrap_err().to_string();
    assert_eq!(
        message,
        "topic summaries has 4 partitions where 5 are configured"
    );
}

#[test]
fn dead_brokers_are_told_within_the_patience() {
    let began = Instant::now();
    let settings = settings(KafkaConfig::default(), "127.0.0.1:9");
    let topic = Topic {
        name: "flows".to_owned(),
        partitions: 1,
        is_fixed: false,
        is_compacted: false,
    };
    let refused = ensure_topics(&settings, &[topic], Duration::from_secs(1));
    assert!(matches!(refused, Err(TopicError::Kafka(_))));
    assert!(began.elapsed() < Duration::from_secs(5));
}
