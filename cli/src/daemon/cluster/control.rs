//! What detectors and collectors tell each other beside summaries, as JSON: watch lists, questions and answers. Zones go by
//! their names.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use weir_attack_event::{AttackId, DrillDown, Findings};
use weir_flow_aggregate::WatchList;
use weir_flow_aggregate::cluster::Partitions;
use weir_flow_record::{Direction, EventTime, TargetKey, Timestamp};

/// Targets of one message, some 200 kB.
const MOST: usize = 2000;

/// What a detector wants of collectors.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "kebab-case")]
pub(super) enum Control {
    /// Of one: targets to be told whatever their rate.
    Watch(Watch),
    /// Of all.
    Ask(Question),
}

/// A watch list.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Watch {
    pub(super) collector: String,
    #[serde(default)]
    watch: Vec<Named>,
    #[serde(default)]
    release: Vec<Named>,
    #[serde(default)]
    look: Vec<Named>,
}

/// A target with its zone's name.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Named {
    zone: String,
    prefix: IpNet,
    direction: Direction,
}

/// A drill-down.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Question {
    /// Where the answer goes.
    pub(super) partition: u32,
    attack: AttackId,
    target: Named,
    #[serde(default)]
    other_prefixes: Vec<IpNet>,
    from: Timestamp,
    to: Timestamp,
    top: usize,
}

/// What a collector has found.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) collector: String,
    pub(super) findings: Findings,
}

impl Named {
    fn of(target: &TargetKey, partitions: &Partitions) -> Option<Self> {
        Some(Self {
            zone: partitions.name(target.zone)?.to_owned(),
            prefix: target.prefix,
            direction: target.direction,
        })
    }

    fn target(&self, partitions: &Partitions) -> Option<TargetKey> {
        Some(TargetKey {
            prefix: self.prefix,
            direction: self.direction,
            zone: partitions.zone(&self.zone)?,
        })
    }
}

impl Watch {
    /// A list as messages of bounded size.
    pub(super) fn of(
        collector: &str,
        list: &WatchList,
        partitions: &Partitions,
    ) -> impl Iterator<Item = Control> {
        let empty = Self {
            collector: collector.to_owned(),
            watch: Vec::new(),
            release: Vec::new(),
            look: Vec::new(),
        };
        let named = |targets: &[TargetKey]| -> Vec<Named> {
            let named = targets.iter().map(|target| Named::of(target, partitions));
            named.flatten().collect()
        };
        let lists = [&list.release, &list.watch, &list.look].map(|list| named(list));
        let [release, watch, look] = lists.map(|list| {
            let chunks = list.chunks(MOST).map(<[Named]>::to_vec);
            chunks.collect::<Vec<_>>()
        });
        let base = empty.clone();
        let release = release.into_iter().map(move |release| Self {
            release,
            ..base.clone()
        });
        let base = empty.clone();
        let watch = watch.into_iter().map(move |watch| Self {
            watch,
            ..base.clone()
        });
        let look = look.into_iter().map(move |look| Self {
            look,
            ..empty.clone()
        });
        release.chain(watch).chain(look).map(Control::Watch)
    }

    /// The list, without targets of zones that are not configured here.
    pub(super) fn list(&self, partitions: &Partitions) -> WatchList {
        let targets = |named: &[Named]| -> Vec<TargetKey> {
            let targets = named.iter().map(|named| named.target(partitions));
            targets.flatten().collect()
        };
        WatchList {
            watch: targets(&self.watch),
            release: targets(&self.release),
            look: targets(&self.look),
        }
    }
}

impl Question {
    /// A question of a partition's owner; `None` for a zone that is not configured.
    pub(super) fn of(partition: u32, asked: &DrillDown, partitions: &Partitions) -> Option<Self> {
        Some(Self {
            partition,
            attack: asked.attack.clone(),
            target: Named::of(&asked.target, partitions)?,
            other_prefixes: asked.other_prefixes.clone(),
            from: asked.from.0,
            to: asked.to.0,
            top: asked.top,
        })
    }

    /// The question to our own recent window.
    pub(super) fn drill_down(&self, partitions: &Partitions) -> Option<DrillDown> {
        Some(DrillDown {
            attack: self.attack.clone(),
            target: self.target.target(partitions)?,
            other_prefixes: self.other_prefixes.clone(),
            from: EventTime(self.from),
            to: EventTime(self.to),
            top: self.top.min(1000),
        })
    }
}

#[cfg(test)]
mod tests {
    use weir_flow_record::ZoneId;

    use super::*;

    #[test]
    fn lists_and_questions_go_by_the_names_of_zones() {
        let here = Partitions::new(4, [(ZoneId(0), "a".into()), (ZoneId(1), "b".into())]);
        let there = Partitions::new(4, [(ZoneId(7), "b".into())]);
        let target = |zone| TargetKey {
            prefix: "192.0.2.1/32".parse().unwrap(),
            direction: Direction::In,
            zone: ZoneId(zone),
        };
        let list = WatchList {
            watch: vec![target(0), target(1)],
            release: vec![target(1); 2001],
            look: Vec::new(),
        };
        let orders: Vec<Control> = Watch::of("c", &list, &here).collect();
        assert_eq!(orders.len(), 3);
        let text = serde_json::to_string(&orders[2]).unwrap();
        let Control::Watch(watch) = serde_json::from_str(&text).unwrap() else {
            panic!("{text}");
        };
        assert_eq!(watch.list(&there).watch, [target(7)]);
        let asked = DrillDown {
            attack: AttackId("x".into()),
            target: target(1),
            other_prefixes: Vec::new(),
            from: EventTime(Timestamp::from_seconds(5)),
            to: EventTime(Timestamp::from_seconds(9)),
            top: 10,
        };
        let question = Question::of(3, &asked, &here).unwrap();
        let text = serde_json::to_string(&Control::Ask(question.clone())).unwrap();
        assert_eq!(
            serde_json::from_str::<Control>(&text).unwrap(),
            Control::Ask(question.clone())
        );
        let got = question.drill_down(&there).unwrap();
        assert_eq!((got.target, got.to), (target(7), asked.to));
    }
}
