//! All that is said of attacks: labels of operators, and what clients of our DOTS server report.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use weir_attack_event::AttackName;
use weir_datasets::family;
use weir_dots_server::{Report, ReportedAttack};
use weir_flow_record::Timestamp;

use super::label::{FALSE_ALARM, Label};

/// Nanoseconds of a second.
const SECOND: i64 = 1_000_000_000;

/// What somebody says of an attack, or of peace.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Said {
    /// An operator, of an attack that was detected.
    Operator(Label),
    /// A client of our DOTS server (RFC 9387 §3.3).
    Client(Report),
}

/// What somebody says, in the words that all use.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Told<'a> {
    /// The attack's name, or the client's name and the number of its report.
    pub(crate) id: String,
    start: Timestamp,
    /// `None` while it goes on.
    end: Option<Timestamp>,
    targets: &'a [IpNet],
    /// What it is called; empty: it is none, or peace.
    attack: String,
    /// Prefixes that it comes from, where that is said.
    sources: &'a [IpNet],
    /// `operator:NAME` or `dots:CLIENT`.
    by: String,
    /// When it was last said.
    said_at: Timestamp,
    #[serde(skip_serializing_if = "str::is_empty")]
    note: &'a str,
}

impl Said {
    /// The same in the words that all use.
    pub(crate) fn told(&self, vendor_id: u32) -> Told<'_> {
        match self {
            Self::Operator(label) => Told {
                id: label.attack.to_string(),
                start: label.start,
                end: label.end,
                targets: std::slice::from_ref(&label.target),
                attack: match label.name.as_str() {
                    FALSE_ALARM => String::new(),
                    name => name.to_owned(),
                },
                sources: &[],
                by: format!("operator:{}", plain(&label.by)),
                said_at: label.at,
                note: &label.note,
            },
            Self::Client(report) => {
                let attack = report.attack.as_ref();
                Told {
                    id: format!("{}/{}", plain(&report.client), report.number),
                    start: at(report.start),
                    end: report.end.map(|end| at(end.max(report.start))),
                    targets: &report.targets,
                    attack: attack.map_or_else(String::new, |attack| name(attack, vendor_id)),
                    sources: attack.map_or(&[], |attack| &attack.sources),
                    by: format!("dots:{}", plain(&report.client)),
                    said_at: at(report.heard_at),
                    note: "",
                }
            }
        }
    }

    /// Its lines: one for each target.
    fn lines(&self, vendor_id: u32, now: Timestamp) -> Vec<Line<'_>> {
        let told = self.told(vendor_id);
        let end = match self {
            Self::Operator(_) => told.end.unwrap_or(now).max(told.start),
            Self::Client(report) => at(report.until()),
        };
        let line = |target: &IpNet| Line {
            start: told.start,
            end,
            target: *target,
            attack: told.attack.clone(),
            sources: told.sources,
            by: told.by.clone(),
        };
        told.targets.iter().map(line).collect()
    }
}

/// A time in seconds since 1970; what lies beyond all clocks is the latest time.
fn at(seconds: u64) -> Timestamp {
    let latest = i64::MAX / SECOND;
    Timestamp::from_seconds(i64::try_from(seconds).map_or(latest, |at| at.min(latest)))
}

struct Line<'a> {
    start: Timestamp,
    end: Timestamp,
    target: IpNet,
    attack: String,
    sources: &'a [IpNet],
    by: String,
}

/// In the layout of `weir score --labels`, with sources and who says so: `start,end,target,attack,sources,by`. A false alarm and
/// declared peace have no attack; an open attack lasts until `now`, for operators, or until it was last heard of.
pub(crate) fn csv(said: &[Said], vendor_id: u32, now: Timestamp) -> String {
    let mut lines: Vec<Line<'_>> = said
        .iter()
        .flat_map(|one| one.lines(vendor_id, now))
        .collect();
    lines.sort_by(|a, b| {
        (a.start, a.target, &a.attack, &a.by).cmp(&(b.start, b.target, &b.attack, &b.by))
    });
    let mut text = String::from("start,end,target,attack,sources,by\n");
    for line in &lines {
        let sources: Vec<String> = line.sources.iter().map(IpNet::to_string).collect();
        text.push_str(&format!(
            "{},{},{},{},{},{}\n",
            line.start,
            line.end,
            line.target,
            line.attack,
            sources.join(";"),
            line.by
        ));
    }
    text
}

/// What an attack is called: by the number if it is of our catalogue, by the mapping that the client has shared, by its description, or
/// by its numbers alone.
fn name(attack: &ReportedAttack, vendor_id: u32) -> String {
    if attack.vendor_id == vendor_id {
        let known = AttackName::catalogue().find(|one| one.attack_id() == attack.attack_id);
        if let Some(known) = known {
            return known.name().to_owned();
        }
    }
    let words = attack.name.as_deref().or(attack.description.as_deref());
    let family = words.map(family).filter(|family| !family.is_empty());
    family.unwrap_or_else(|| format!("vendor-{}-attack-{}", attack.vendor_id, attack.attack_id))
}

/// A name that a line of CSV can hold.
fn plain(name: &str) -> String {
    let odd = |c: char| c.is_control() || c.is_whitespace() || matches!(c, ',' | ';' | '"');
    name.chars().map(|c| if odd(c) { '_' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "helpers of tests may")]

    use weir_attack_event::AttackId;

    use super::*;

    fn operator(name: &str, second: i64, end: Option<i64>) -> Said {
        Said::Operator(Label {
            attack: AttackId(format!("{second}").into()),
            target: "203.0.113.7/32".parse().unwrap(),
            start: Timestamp::from_seconds(second),
            end: end.map(Timestamp::from_seconds),
            name: name.to_owned(),
            by: "me, myself".to_owned(),
            at: Timestamp::from_seconds(second),
            note: String::new(),
        })
    }

    fn client(attack: Option<(u32, u32, &str)>) -> Said {
        Said::Client(Report {
            number: 1,
            client: "dms-1".into(),
            targets: vec!["203.0.113.0/28".parse().unwrap()],
            start: 1_700_000_100,
            end: None,
            said_at: 1_700_000_110,
            heard_at: 1_700_000_200,
            attack: attack.map(|(vendor_id, attack_id, description)| ReportedAttack {
                vendor_id,
                attack_id,
                name: None,
                description: Some(description.to_owned()),
                severity: None,
                sources: vec![
                    "192.0.2.0/24".parse().unwrap(),
                    "198.51.100.1/32".parse().unwrap(),
                ],
                traffic: Vec::new(),
                dated: true,
            }),
        })
    }

    #[test]
    fn all_are_written_as_score_and_train_read_them() {
        let said = [
            operator("false-alarm", 1_700_000_100, Some(1_700_000_160)),
            operator("dns-amplification", 1_700_000_000, None),
            client(Some((32473, 3, "whatever"))),
            client(Some((4711, 3, "DrDoS_NTP"))),
            client(Some((4711, 9, "\u{1F480}"))),
            client(None),
        ];
        let text = csv(&said, 32473, Timestamp::from_seconds(1_700_000_300));
        assert_eq!(
            text,
            "start,end,target,attack,sources,by\n\
             2023-11-14T22:13:20Z,2023-11-14T22:18:20Z,203.0.113.7/32,dns-amplification,,operator:me__myself\n\
             2023-11-14T22:15:00Z,2023-11-14T22:16:40Z,203.0.113.0/28,,,dots:dms-1\n\
             2023-11-14T22:15:00Z,2023-11-14T22:16:40Z,203.0.113.0/28,ntp-amplification,192.0.2.0/24;198.51.100.1/32,dots:dms-1\n\
             2023-11-14T22:15:00Z,2023-11-14T22:16:40Z,203.0.113.0/28,tcp-syn-flood,192.0.2.0/24;198.51.100.1/32,dots:dms-1\n\
             2023-11-14T22:15:00Z,2023-11-14T22:16:40Z,203.0.113.0/28,vendor-4711-attack-9,192.0.2.0/24;198.51.100.1/32,dots:dms-1\n\
             2023-11-14T22:15:00Z,2023-11-14T22:16:00Z,203.0.113.7/32,,,operator:me__myself\n"
        );
        let truths = weir_datasets::score::read_truths(text.as_bytes()).unwrap();
        assert_eq!(truths.len(), 6);
        let labels = weir_datasets::read_attack_labels(text.as_bytes()).unwrap();
        assert_eq!(
            (labels[2].sources.len(), labels[2].by.as_str()),
            (2, "dots:dms-1")
        );
        let json = serde_json::to_string(&said.to_vec()).unwrap();
        assert_eq!(serde_json::from_str::<Vec<Said>>(&json).unwrap(), said);
    }
}
