//! What clients say of attacks and of peace (RFC 9387 §3.3): labels for flows, with who said it and when.
//!
//! Telemetry of `/tm` gives way to newer telemetry; what it said of an attack stays here, bounded, and outlives a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use weir_dots_proto::body::{AttackDetail, AttackSeverity, Traffic};
use weir_state::{Stage, State, StateError};

use crate::saved::{Changed, RowKey, SavedRow};

/// Reports of one client.
const MOST_OF_CLIENT: usize = 1_000;
/// Reports of all clients together.
const MOST: usize = 10_000;
/// Prefixes of targets, and of sources, that one report holds.
const MOST_PREFIXES: usize = 64;
/// Characters of a name or a description.
const LONGEST_TEXT: usize = 256;
/// Seconds for which a report without times of its own is gone on with.
const PAUSE: u64 = 600;
/// Seconds of silence after which a client's word that all is normal holds no more.
const SILENCE: u64 = 300;
/// Seconds between two notes that a client is heard: its word on peace holds to about a minute.
const HEARD: u64 = 60;
/// Seconds by which a client's clock may be ahead.
const AHEAD: u64 = 60;

/// What a client said, once: of an attack, or that its targets are at peace but for the attacks that it reports.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Numbers grow with time.
    pub number: u64,
    /// Who says so, by the name in the configuration.
    pub client: Arc<str>,
    /// What is attacked, or at peace.
    pub targets: Vec<IpNet>,
    /// From, in seconds since 1970: as the client says, or when it first said so.
    pub start: u64,
    /// Until, as the client says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<u64>,
    /// When it was first said.
    pub said_at: u64,
    /// When it was last said, or for peace when its client was last heard.
    pub heard_at: u64,
    /// The attack; `None` declares peace, by a baseline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attack: Option<ReportedAttack>,
}

/// An attack in a client's words (RFC 9244 §8.1.5).
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ReportedAttack {
    /// Private enterprise number of who named it.
    pub vendor_id: u32,
    /// That vendor's number of it.
    pub attack_id: u32,
    /// What the number means, by the mapping that the client has shared (RFC 9244 §8.1.6).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its description in the report itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// How bad it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<AttackSeverity>,
    /// Prefixes of the top talkers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<IpNet>,
    /// The attack traffic in all, by unit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traffic: Vec<Traffic>,
    /// Whether the client has told when it began.
    #[serde(default)]
    pub dated: bool,
}

impl Report {
    /// Until when it holds: its end, or when it was last heard of.
    #[must_use]
    pub fn until(&self) -> u64 {
        self.end.unwrap_or(self.heard_at).max(self.start)
    }
}

/// Reports that an earlier or the running server has kept in a state file, by number.
pub fn kept_reports(state: &State) -> Result<Vec<Report>, StateError> {
    let rows: Vec<(Vec<u8>, SavedRow)> = state.entries_json(Stage::DotsServer)?;
    let mut reports: Vec<Report> = rows
        .into_iter()
        .filter_map(|(_, row)| match row {
            SavedRow::Report { report } => Some(*report),
            _ => None,
        })
        .collect();
    reports.sort_by_key(|report| report.number);
    Ok(reports)
}

/// An attack as one message tells of it.
pub(crate) struct Told<'a> {
    pub(crate) targets: &'a [IpNet],
    pub(crate) detail: &'a AttackDetail,
    pub(crate) traffic: &'a [Traffic],
    /// By the client's mapping.
    pub(crate) name: Option<String>,
}

/// All reports, by number.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    items: BTreeMap<u64, Report>,
    of_client: BTreeMap<Arc<str>, BTreeSet<u64>>,
    /// When a client was last noted to be heard.
    noted: BTreeMap<Arc<str>, u64>,
    changed: Changed,
    forgotten: u64,
}

impl Reports {
    /// Takes in what a client tells of an attack now.
    pub(crate) fn handle_attack(&mut self, now: u64, client: &Arc<str>, told: Told<'_>) {
        let detail = told.detail;
        if told.targets.is_empty() {
            return;
        }
        let start = detail.start_time.map(|start| start.min(now + AHEAD));
        let number = self.number_of(now, client, &told, start);
        let known = number.and_then(|number| self.items.remove(&number));
        let began = start
            .or(known.as_ref().map(|known| known.start))
            .unwrap_or(now);
        let before = known.as_ref().and_then(|known| known.attack.clone());
        let sources = detail.top_talker.iter().flat_map(|top| &top.talker);
        let mut sources: Vec<IpNet> = sources.map(|talker| talker.source_prefix.trunc()).collect();
        // Who was a top talker once took part, also when others are louder later.
        sources.extend(
            before
                .iter()
                .flat_map(|before| before.sources.iter().copied()),
        );
        let report = Report {
            number: known
                .as_ref()
                .map_or_else(|| self.next(), |known| known.number),
            client: Arc::clone(client),
            targets: distinct(told.targets.to_vec()),
            start: began,
            end: detail
                .end_time
                .map(|end| end.clamp(began, (now + AHEAD).max(began))),
            said_at: known.as_ref().map_or(now, |known| known.said_at),
            heard_at: now,
            attack: Some(ReportedAttack {
                vendor_id: detail.vendor_id,
                attack_id: detail.attack_id,
                name: told
                    .name
                    .map(short)
                    .or(before.as_ref().and_then(|one| one.name.clone())),
                description: detail
                    .attack_description
                    .clone()
                    .map(short)
                    .or(before.and_then(|one| one.description)),
                severity: detail.attack_severity,
                sources: distinct(sources),
                traffic: told.traffic.to_vec(),
                dated: start.is_some(),
            }),
        };
        self.insert(report);
    }

    /// Takes in that a client says what is normal for these targets: they are at peace but for the attacks that it reports.
    pub(crate) fn handle_normal(&mut self, now: u64, client: &Arc<str>, targets: Vec<IpNet>) {
        let targets = distinct(targets);
        let same = |report: &&Report| {
            report.attack.is_none() && report.end.is_none() && report.targets == targets
        };
        let known = self.of(client).rev().find(same).map(|report| report.number);
        match known.and_then(|number| self.items.get_mut(&number)) {
            Some(report) if now.saturating_sub(report.heard_at) <= SILENCE => {
                report.heard_at = now;
                self.changed.insert(RowKey::Report(report.number));
            }
            _ => {
                let number = self.next();
                self.insert(Report {
                    number,
                    client: Arc::clone(client),
                    targets,
                    start: now,
                    end: None,
                    said_at: now,
                    heard_at: now,
                    attack: None,
                });
            }
        }
    }

    /// A client is heard: what it says of peace holds until now. After a silence it holds anew from now on; of the time between
    /// nobody says anything.
    pub(crate) fn handle_heard(&mut self, now: u64, client: &Arc<str>) {
        let noted = self.noted.get(client).copied();
        if noted.is_some_and(|at| now < at.saturating_add(HEARD)) {
            return;
        }
        self.noted.insert(Arc::clone(client), now);
        let open: Vec<u64> = self
            .of(client)
            .filter(|report| report.attack.is_none() && report.end.is_none())
            .map(|report| report.number)
            .collect();
        for number in open {
            let Some(report) = self.items.get_mut(&number) else {
                continue;
            };
            let silent = now.saturating_sub(report.heard_at) > SILENCE;
            if silent {
                report.end = Some(report.heard_at);
            } else {
                report.heard_at = now;
            }
            let targets = report.targets.clone();
            self.changed.insert(RowKey::Report(number));
            if silent {
                self.handle_normal(now, client, targets);
            }
        }
    }

    /// A client takes back what it has set up: it says no more what is normal.
    pub(crate) fn handle_taken_back(&mut self, now: u64, client: &Arc<str>) {
        let numbers = self.of_client.get(client).into_iter().flatten();
        for number in numbers {
            let report = self.items.get_mut(number);
            let open = report.filter(|report| report.attack.is_none() && report.end.is_none());
            if let Some(report) = open {
                report.end = Some(report.heard_at.min(now));
                self.changed.insert(RowKey::Report(*number));
            }
        }
    }

    /// Takes a report back after a restart.
    pub(crate) fn restore(&mut self, report: Report) {
        let numbers = self
            .of_client
            .entry(Arc::clone(&report.client))
            .or_default();
        numbers.insert(report.number);
        self.items.insert(report.number, report);
    }

    pub(crate) fn get(&self, number: u64) -> Option<&Report> {
        self.items.get(&number)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Report> {
        self.items.values()
    }

    /// Reports that gave way to newer ones.
    pub(crate) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    pub(crate) fn poll_changed(&mut self) -> Option<RowKey> {
        self.changed.pop_first()
    }

    fn of(&self, client: &str) -> impl DoubleEndedIterator<Item = &Report> {
        let numbers = self.of_client.get(client).into_iter().flatten();
        numbers.filter_map(|number| self.items.get(number))
    }

    /// The report that a message goes on with: the same attack on a common target, from the same time; without one, lately.
    fn number_of(
        &self,
        now: u64,
        client: &str,
        told: &Told<'_>,
        start: Option<u64>,
    ) -> Option<u64> {
        let numbers = (told.detail.vendor_id, told.detail.attack_id);
        let same = |report: &&Report| {
            let Some(attack) = &report.attack else {
                return false;
            };
            let lately = report.end.is_none() && now.saturating_sub(report.heard_at) <= PAUSE;
            let time = match start {
                Some(start) if attack.dated => report.start == start,
                _ => lately,
            };
            (attack.vendor_id, attack.attack_id) == numbers
                && time
                && crate::held::overlap(&report.targets, told.targets)
        };
        self.of(client).rev().find(same).map(|report| report.number)
    }

    fn next(&self) -> u64 {
        self.items.last_key_value().map_or(1, |(last, _)| last + 1)
    }

    fn insert(&mut self, report: Report) {
        let (client, number) = (Arc::clone(&report.client), report.number);
        self.restore(report);
        self.changed.insert(RowKey::Report(number));
        let count = |numbers: &BTreeSet<u64>| numbers.len();
        if self.of_client.get(&client).map_or(0, count) > MOST_OF_CLIENT {
            self.forget_oldest(&client);
        }
        if self.items.len() > MOST {
            // Whoever says most gives way, so that one client cannot displace the words of others.
            let most = self
                .of_client
                .iter()
                .max_by_key(|(_, numbers)| numbers.len());
            if let Some(client) = most.map(|(client, _)| Arc::clone(client)) {
                self.forget_oldest(&client);
            }
        }
    }

    fn forget_oldest(&mut self, client: &Arc<str>) {
        let Some(numbers) = self.of_client.get_mut(client) else {
            return;
        };
        if let Some(oldest) = numbers.pop_first() {
            self.items.remove(&oldest);
            self.changed.insert(RowKey::Report(oldest));
            self.forgotten += 1;
        }
    }
}

fn distinct(mut prefixes: Vec<IpNet>) -> Vec<IpNet> {
    prefixes.sort_unstable();
    prefixes.dedup();
    prefixes.truncate(MOST_PREFIXES);
    prefixes
}

/// A text of bounded length on one line.
fn short(text: String) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(LONGEST_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detail(attack_id: u32, start: Option<u64>, end: Option<u64>) -> AttackDetail {
        AttackDetail {
            vendor_id: 32473,
            attack_id,
            description_lang: None,
            attack_description: None,
            attack_severity: None,
            start_time: start,
            end_time: end,
            source_count: None,
            top_talker: None,
        }
    }

    fn tell(reports: &mut Reports, now: u64, client: &str, detail: &AttackDetail) {
        let told = Told {
            targets: &["203.0.113.7/32".parse().unwrap_or_default()],
            detail,
            traffic: &[],
            name: None,
        };
        reports.handle_attack(now, &client.into(), told);
    }

    #[test]
    fn one_client_displaces_its_own_reports_only_and_is_bounded() {
        let mut reports = Reports::default();
        tell(&mut reports, 10, "honest", &detail(1, Some(5), None));
        for number in 0..1500 {
            tell(&mut reports, 100, "loud", &detail(number, Some(50), None));
        }
        assert_eq!(reports.iter().count(), 1 + MOST_OF_CLIENT);
        assert_eq!(reports.forgotten(), 500);
        assert!(reports.iter().any(|report| &*report.client == "honest"));
    }

    #[test]
    fn times_are_bounded_by_what_can_be() {
        let mut reports = Reports::default();
        let far = u64::MAX;
        tell(&mut reports, 1_000, "a", &detail(1, Some(far), Some(far)));
        tell(&mut reports, 1_000, "a", &detail(2, Some(900), Some(3)));
        let times: Vec<(u64, Option<u64>)> =
            reports.iter().map(|one| (one.start, one.end)).collect();
        assert_eq!(times, [(1_060, Some(1_060)), (900, Some(900))]);
    }
}
