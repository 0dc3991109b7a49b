//! Drill-downs of a partition's owner: all collectors are asked, and their answers are one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_attack_event::{AttackId, Findings, PortShare, ProtocolShare, TopTalker};
use weir_flow_aggregate::cluster::MAX_COLLECTORS;

use super::control::Answer;

/// How long collectors may take, where one has answered.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long the first answer may take.
const LATEST: Duration = Duration::from_secs(5);
/// Silence of a collector after which nobody waits for its answer.
const SILENCE: Duration = Duration::from_secs(3);
/// Questions that wait for answers.
const MOST: usize = 1024;

/// Gathers answers.
#[derive(Debug, Default)]
pub(super) struct Inquiry {
    heard: BTreeMap<Arc<str>, Instant>,
    open: BTreeMap<AttackId, Open>,
}

#[derive(Debug)]
struct Open {
    asked: Instant,
    top: usize,
    answers: BTreeMap<String, Findings>,
}

impl Inquiry {
    /// Notes that a collector is there; false where there are too many, so that nobody waits for its answers.
    pub(super) fn handle_collector(&mut self, now: Instant, collector: &Arc<str>) -> bool {
        if let Some(heard) = self.heard.get_mut(collector) {
            *heard = now;
            return true;
        }
        let has_room = self.heard.len() < MAX_COLLECTORS;
        if has_room {
            self.heard.insert(Arc::clone(collector), now);
        }
        has_room
    }

    /// Notes a question; false where too many are open.
    pub(super) fn handle_question(&mut self, now: Instant, attack: &AttackId, top: usize) -> bool {
        if self.open.len() >= MOST && !self.open.contains_key(attack) {
            return false;
        }
        let open = Open {
            asked: now,
            top,
            answers: BTreeMap::new(),
        };
        self.open.insert(attack.clone(), open);
        true
    }

    /// Takes in an answer. [`poll_findings`](Self::poll_findings) before the next one: then there are never more than collectors
    /// that are heard.
    pub(super) fn handle_answer(&mut self, answer: Answer) {
        if let Some(open) = self.open.get_mut(&answer.findings.attack) {
            open.answers.insert(answer.collector, answer.findings);
        }
    }

    /// A question that all collectors have answered, or that has waited long enough.
    #[must_use]
    pub(super) fn poll_findings(&mut self, now: Instant) -> Option<Findings> {
        self.heard
            .retain(|_, heard| now.duration_since(*heard) < SILENCE);
        let collectors = self.heard.len().max(1);
        loop {
            let due = self.open.iter().find(|(_, open)| {
                let waited = now.duration_since(open.asked);
                open.answers.len() >= collectors
                    || (waited >= PATIENCE && !open.answers.is_empty())
                    || waited >= LATEST
            });
            let attack = due.map(|(attack, _)| attack.clone())?;
            let open = self.open.remove(&attack)?;
            let is_whole = open.answers.len() >= collectors;
            // Of what nobody answers, the next update asks again.
            if let Some(mut findings) = merged(open.answers.into_values(), open.top) {
                findings.complete &= is_whole;
                return Some(findings);
            }
        }
    }

    /// When [`poll_findings`](Self::poll_findings) is due.
    pub(super) fn is_waiting(&self) -> bool {
        !self.open.is_empty()
    }
}

/// Answers as one: rates add up, shares by the packets that each has seen; what packets look like is as the one tells it that
/// has seen most.
fn merged(answers: impl Iterator<Item = Findings>, top: usize) -> Option<Findings> {
    let mut answers: Vec<(f64, Findings)> = answers
        .filter(|findings| findings.rows > 0)
        .map(|findings| (packets(&findings), findings))
        .collect();
    answers.sort_by(|a, b| b.0.total_cmp(&a.0));
    let all: f64 = answers.iter().map(|(packets, _)| packets).sum();
    let mut answers = answers.into_iter();
    let (packets, mut sum) = answers.next()?;
    let scale = |share: &mut f64, part: f64| *share *= part / all;
    sum.top_talkers
        .iter_mut()
        .for_each(|talker| scale(&mut talker.share, packets));
    sum.ports
        .iter_mut()
        .for_each(|port| scale(&mut port.share, packets));
    sum.protocols
        .iter_mut()
        .for_each(|protocol| scale(&mut protocol.share, packets));
    for (packets, mut other) in answers {
        // The same sources may be seen by several.
        sum.source_count = sum.source_count.max(other.source_count);
        sum.rows = sum.rows.saturating_add(other.rows);
        sum.complete &= other.complete;
        for mut talker in other.top_talkers.drain(..) {
            scale(&mut talker.share, packets);
            add_talker(&mut sum.top_talkers, talker);
        }
        for mut port in other.ports.drain(..) {
            scale(&mut port.share, packets);
            add_port(&mut sum.ports, port);
        }
        for mut protocol in other.protocols.drain(..) {
            scale(&mut protocol.share, packets);
            add_protocol(&mut sum.protocols, protocol);
        }
    }
    sum.top_talkers.sort_by(|a, b| b.share.total_cmp(&a.share));
    sum.top_talkers.truncate(top);
    sum.ports.sort_by(|a, b| b.share.total_cmp(&a.share));
    sum.ports.truncate(top);
    sum.protocols.sort_by(|a, b| b.share.total_cmp(&a.share));
    Some(sum)
}

/// Packets a second that an answer rests on, or something in proportion.
fn packets(findings: &Findings) -> f64 {
    let talker = findings.top_talkers.iter().find(|t| t.share > 0.0);
    let rate = talker.map(|talker| talker.packets_per_second as f64 / talker.share);
    let rate = rate.filter(|rate| rate.is_finite() && *rate > 0.0);
    rate.unwrap_or(findings.rows as f64)
}

fn add_talker(talkers: &mut Vec<TopTalker>, other: TopTalker) {
    let known = talkers
        .iter_mut()
        .find(|known| known.source_prefix == other.source_prefix);
    match known {
        Some(known) => {
            known.bits_per_second = known.bits_per_second.saturating_add(other.bits_per_second);
            known.packets_per_second = known
                .packets_per_second
                .saturating_add(other.packets_per_second);
            known.share += other.share;
            known.spoofed = match (known.spoofed, other.spoofed) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (known, other) => known.or(other),
            };
        }
        None => talkers.push(other),
    }
}

fn add_port(ports: &mut Vec<PortShare>, other: PortShare) {
    let is_same = |known: &&mut PortShare| {
        (known.port, known.side, known.protocol) == (other.port, other.side, other.protocol)
    };
    match ports.iter_mut().find(is_same) {
        Some(known) => known.share += other.share,
        None => ports.push(other),
    }
}

fn add_protocol(protocols: &mut Vec<ProtocolShare>, other: ProtocolShare) {
    let known = protocols
        .iter_mut()
        .find(|known| known.protocol == other.protocol);
    match known {
        Some(known) => known.share += other.share,
        None => protocols.push(other),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "helpers of tests may")]

    use super::*;

    fn answer(collector: &str, talkers: &[(&str, u64)], rows: u64) -> Answer {
        let all: u64 = talkers.iter().map(|(_, packets)| packets).sum();
        let talkers = talkers.iter().map(|(source, packets)| TopTalker {
            source_prefix: source.parse().unwrap(),
            bits_per_second: packets * 800,
            packets_per_second: *packets,
            share: *packets as f64 / all as f64,
            spoofed: None,
            origin: Default::default(),
        });
        let findings = Findings {
            attack: AttackId("x".into()),
            top_talkers: talkers.collect(),
            ports: Vec::new(),
            protocols: vec![ProtocolShare {
                protocol: 17,
                share: 1.0,
            }],
            source_count: 2,
            rows,
            complete: true,
            evidence: Default::default(),
        };
        Answer {
            collector: collector.to_owned(),
            findings,
        }
    }

    #[test]
    fn answers_add_up_once_all_are_there() {
        let mut inquiry = Inquiry::default();
        let now = Instant::now();
        inquiry.handle_collector(now, &"a".into());
        inquiry.handle_collector(now, &"b".into());
        assert!(inquiry.handle_question(now, &AttackId("x".into()), 2));
        inquiry.handle_answer(answer(
            "a",
            &[("192.0.2.1/32", 30), ("192.0.2.2/32", 10)],
            5,
        ));
        assert_eq!(inquiry.poll_findings(now), None);
        inquiry.handle_answer(answer(
            "b",
            &[("192.0.2.2/32", 50), ("192.0.2.3/32", 10)],
            7,
        ));
        let findings = inquiry.poll_findings(now).unwrap();
        let talkers: Vec<(String, u64, u64)> = findings
            .top_talkers
            .iter()
            .map(|t| {
                (
                    t.source_prefix.to_string(),
                    t.packets_per_second,
                    (t.share * 100.0).round() as u64,
                )
            })
            .collect();
        assert_eq!(
            talkers,
            [
                ("192.0.2.2/32".to_owned(), 60, 60),
                ("192.0.2.1/32".to_owned(), 30, 30)
            ]
        );
        assert_eq!((findings.rows, findings.complete), (12, true));
        assert!((findings.protocols[0].share - 1.0).abs() < 1e-9);
        assert!(!inquiry.is_waiting());
    }

    #[test]
    fn names_without_end_do_not_fill_the_memory_nor_hold_up_answers() {
        let mut inquiry = Inquiry::default();
        let now = Instant::now();
        let names = |numbers: std::ops::Range<usize>| numbers.map(|n| n.to_string().into());
        for name in names(0..MAX_COLLECTORS) {
            assert!(inquiry.handle_collector(now, &name));
        }
        for name in names(MAX_COLLECTORS..10_000) {
            assert!(!inquiry.handle_collector(now, &name));
        }
        assert_eq!(inquiry.heard.len(), MAX_COLLECTORS);
        let last = now + SILENCE - Duration::from_millis(1);
        assert!(inquiry.handle_collector(last, &"0".into()), "known already");

        // Whoever is silent makes room.
        let later = now + SILENCE;
        assert_eq!(inquiry.poll_findings(later), None);
        assert!(inquiry.handle_collector(later, &"64".into()));
        assert!(inquiry.handle_question(later, &AttackId("x".into()), 2));
        inquiry.handle_answer(answer("0", &[("192.0.2.1/32", 30)], 5));
        assert_eq!(inquiry.poll_findings(later), None);
        inquiry.handle_answer(answer("64", &[("192.0.2.1/32", 30)], 5));
        assert!(inquiry.poll_findings(later).unwrap().complete);
    }

    #[test]
    fn a_collector_that_does_not_answer_is_waited_for_briefly() {
        let mut inquiry = Inquiry::default();
        let now = Instant::now();
        inquiry.handle_collector(now, &"a".into());
        inquiry.handle_collector(now, &"b".into());
        inquiry.handle_question(now, &AttackId("x".into()), 2);
        let later = now + PATIENCE;
        assert_eq!(inquiry.poll_findings(later), None, "nobody has answered");
        let told = answer("a", &[("192.0.2.1/32", 30)], 5);
        let text = serde_json::to_vec(&told).unwrap();
        assert_eq!(serde_json::from_slice::<Answer>(&text).unwrap(), told);
        inquiry.handle_answer(told);
        let findings = inquiry.poll_findings(later).unwrap();
        assert!(!findings.complete);
        // What comes now is too late.
        inquiry.handle_answer(answer("b", &[("192.0.2.1/32", 30)], 5));
        assert_eq!(inquiry.poll_findings(later), None);
    }
}
