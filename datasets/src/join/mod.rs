//! The label join: flows without labels × what somebody who knows said about attacks (a DMS over DOTS, an operator, a
//! scenario's label file): target × top-talker prefix × time, with counts of what matched nothing.

use std::io::Read;

use ipnet::IpNet;
use weir_flow_record::Row;

/// Labels at most.
const MAX_LABELS: usize = 100_000;

/// One attack, as somebody reported it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AttackLabel {
    /// From, ns since 1970.
    pub start: i64,
    /// To, ns since 1970.
    pub end: i64,
    /// Whom it was against.
    pub target: IpNet,
    /// What it was; empty for a time of peace.
    pub attack: String,
    /// Who took part, where known: top talkers' prefixes. Empty says everybody.
    pub sources: Vec<IpNet>,
}

/// Why labels cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabelsError {
    /// Not CSV.
    #[error("no CSV: {0}")]
    Csv(#[from] csv::Error),
    /// A value that is none.
    #[error("line {line}: `{value}` is no {what}")]
    Value {
        /// The line.
        line: u64,
        /// What should stand there.
        what: &'static str,
        /// What stands there.
        value: String,
    },
    /// A column is missing.
    #[error("labels need the columns start,end,target,attack (and may have sources)")]
    Columns,
    /// Too many.
    #[error("more than {MAX_LABELS} labels")]
    TooMany,
}

/// What the join says of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Joined<'a> {
    /// The attack that it belongs to; `None` is peace.
    pub attack: Option<&'a str>,
    /// Whether it is the victim's answer.
    pub answer: bool,
}

/// Labels, ready to be joined with flows.
#[derive(Debug, Default)]
pub struct LabelJoin {
    /// By start.
    labels: Vec<AttackLabel>,
    matched: Vec<u64>,
    /// The greatest end of this and all labels before: where looking back may stop.
    latest: Vec<i64>,
    tolerance: i64,
}

impl LabelJoin {
    /// Joins with these labels; a flow that misses one by `tolerance` ns still matches.
    pub fn new(mut labels: Vec<AttackLabel>, tolerance: i64) -> Self {
        labels.retain(|label| !label.attack.is_empty());
        labels.sort_by(|one, other| {
            (one.start, one.end, &one.attack).cmp(&(other.start, other.end, &other.attack))
        });
        let mut latest = i64::MIN;
        let latest = labels.iter().map(|label| {
            latest = latest.max(label.end);
            latest
        });
        Self {
            latest: latest.collect(),
            matched: vec![0; labels.len()],
            labels,
            tolerance: tolerance.max(0),
        }
    }

    /// What a flow belongs to: the narrowest target, then the latest start.
    pub fn join(&mut self, row: &Row) -> Joined<'_> {
        let (from, to) = (
            row.flow_start.saturating_sub(self.tolerance),
            row.flow_end.saturating_add(self.tolerance),
        );
        let begun = self.labels.partition_point(|label| label.start <= to);
        let mut best: Option<(usize, bool)> = None;
        for at in (0..begun).rev() {
            if self.latest.get(at).is_none_or(|latest| *latest < from) {
                break;
            }
            let Some(label) = self.labels.get(at).filter(|label| label.end >= from) else {
                continue;
            };
            let named = |prefix: &IpNet, sources: &[IpNet], target, source| {
                holds(prefix, target)
                    && (sources.is_empty() || sources.iter().any(|one| holds(one, source)))
            };
            let forth = named(
                &label.target,
                &label.sources,
                row.destination_address,
                row.source_address,
            );
            let back = named(
                &label.target,
                &label.sources,
                row.source_address,
                row.destination_address,
            );
            let narrower = |held: &(usize, bool)| {
                self.labels
                    .get(held.0)
                    .is_none_or(|held| label.target.prefix_len() > held.target.prefix_len())
            };
            if (forth || back) && best.as_ref().is_none_or(narrower) {
                best = Some((at, !forth));
            }
        }
        let Some((at, answer)) = best else {
            return Joined {
                attack: None,
                answer: false,
            };
        };
        if let Some(count) = self.matched.get_mut(at) {
            *count += 1;
        }
        Joined {
            attack: self.labels.get(at).map(|label| label.attack.as_str()),
            answer,
        }
    }

    /// Labels that no flow matched.
    pub fn unmatched(&self) -> Vec<&AttackLabel> {
        let pairs = self.labels.iter().zip(&self.matched);
        pairs
            .filter(|(_, count)| **count == 0)
            .map(|(label, _)| label)
            .collect()
    }
}

fn holds(prefix: &IpNet, address: weir_flow_record::Address) -> bool {
    address.is_in(prefix)
}

/// Reads `start,end,target,attack` with times in RFC 3339 and, if it is there, `sources`: prefixes parted by blanks or semicolons.
pub fn read_attack_labels(input: impl Read) -> Result<Vec<AttackLabel>, LabelsError> {
    let mut reader = csv::ReaderBuilder::new()
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(input);
    let header = reader.headers()?.clone();
    let place = |name: &str| {
        header
            .iter()
            .position(|column| column.eq_ignore_ascii_case(name))
    };
    let needed = [
        place("start"),
        place("end"),
        place("target"),
        place("attack"),
    ];
    let [Some(start), Some(end), Some(target), Some(attack)] = needed else {
        return Err(LabelsError::Columns);
    };
    let sources = place("sources");
    let mut labels = Vec::new();
    for record in reader.records() {
        let record = record?;
        let line = record.position().map_or(0, csv::Position::line);
        let text = |column: usize| record.get(column).unwrap_or("");
        let wrong = |what, value: &str| LabelsError::Value {
            line,
            what,
            value: value.to_owned(),
        };
        let time = |column: usize| {
            let value = text(column)
                .parse::<jiff::Timestamp>()
                .map_err(|_| wrong("time", text(column)))?;
            i64::try_from(value.as_nanosecond()).map_err(|_| wrong("time", text(column)))
        };
        let prefix = |text: &str| {
            let host = || text.parse::<std::net::IpAddr>().map(IpNet::from);
            text.parse()
                .or_else(|_| host())
                .map_err(|_| wrong("prefix", text))
        };
        let talkers = sources
            .map(text)
            .unwrap_or("")
            .split([' ', ';'])
            .filter(|one| !one.is_empty());
        labels.push(AttackLabel {
            start: time(start)?,
            end: time(end)?,
            target: prefix(text(target))?,
            attack: text(attack).to_owned(),
            sources: talkers.map(prefix).collect::<Result<_, _>>()?,
        });
        if labels.len() > MAX_LABELS {
            return Err(LabelsError::TooMany);
        }
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "helpers of tests")]

    use weir_flow_record::{Address, FragmentKind};

    use super::*;

    fn row(source: [u8; 4], destination: [u8; 4], second: i64) -> Row {
        Row {
            source_address: Address::from_v4(source),
            destination_address: Address::from_v4(destination),
            source_port: 1,
            destination_port: 2,
            protocol: 17,
            tcp_flags: 0,
            fragment: FragmentKind::None,
            octets: 100,
            packets: 1,
            flow_start: second * 1_000_000_000,
            flow_end: second * 1_000_000_000,
            sampling_rate: 1,
            input_interface: 0,
            output_interface: 0,
            direction: 255,
            forwarding_status: 0,
        }
    }

    const LABELS: &str = "start,end,target,attack,sources\n\
        1970-01-01T00:01:40Z,1970-01-01T00:03:20Z,203.0.113.0/24,udp-flood,\n\
        1970-01-01T00:02:00Z,1970-01-01T00:02:30Z,203.0.113.9,dns-amplification,198.51.100.0/24;192.0.2.1\n\
        1970-01-01T00:02:00Z,1970-01-01T00:02:30Z,203.0.113.9/32,,\n\
        1970-01-02T00:00:00Z,1970-01-02T00:01:00Z,203.0.113.9/32,icmp-flood,\n";

    #[test]
    fn target_talker_and_time_decide() {
        let mut join = LabelJoin::new(
            read_attack_labels(LABELS.as_bytes()).unwrap(),
            2_000_000_000,
        );
        let victim = [203, 0, 113, 9];
        let mut attack = |source, destination, second| {
            let joined = join.join(&row(source, destination, second));
            (joined.attack.map(str::to_owned), joined.answer)
        };
        let is = |name: &str, answer| (Some(name.to_owned()), answer);
        assert_eq!(
            attack([198, 51, 100, 7], victim, 130),
            is("dns-amplification", false)
        );
        assert_eq!(
            attack([8, 8, 8, 8], victim, 130),
            is("udp-flood", false),
            "no talker of the narrower label"
        );
        assert_eq!(
            attack(victim, [192, 0, 2, 1], 130),
            is("dns-amplification", true),
            "the victim answers"
        );
        assert_eq!(
            attack([8, 8, 8, 8], victim, 201),
            is("udp-flood", false),
            "within the tolerance"
        );
        assert_eq!(attack([8, 8, 8, 8], victim, 203), (None, false));
        assert_eq!(attack([8, 8, 8, 8], [198, 51, 100, 7], 130), (None, false));
        let unmatched: Vec<&str> = join
            .unmatched()
            .iter()
            .map(|label| label.attack.as_str())
            .collect();
        assert_eq!(unmatched, ["icmp-flood"]);
    }

    #[test]
    fn mistakes_name_their_line() {
        let error =
            read_attack_labels(&b"start,end,target,attack\nnow,later,x,y\n"[..]).unwrap_err();
        assert_eq!(error.to_string(), "line 2: `now` is no time");
        assert!(matches!(
            read_attack_labels(&b"a,b\n"[..]),
            Err(LabelsError::Columns)
        ));
    }
}
