//! The label join: flows without labels × what somebody who knows said about attacks (a DMS over DOTS, an operator, a
//! scenario's label file): target × top-talker prefix × time, with counts of what matched nothing.

use std::io::Read;

use ipnet::IpNet;
use weir_flow_record::{Address, Row};

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
    /// Who says so, such as `dots:dms-1` or `operator:ann`; empty where nobody stands by it: the labels of a data set.
    pub by: String,
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
    /// Who says so; empty for peace, and where nobody stands by it.
    pub by: &'a str,
    /// Whether it is known to be what it is said to be: an attack, or peace that somebody has declared.
    pub declared: bool,
}

/// Labels, ready to be joined with flows.
///
/// Labels of a data set tell of all attacks: what they do not name is peace. Labels of people and mitigation systems (`by`) tell of
/// what they know: what they do not name is peace only where one of them has declared it, and else nothing is known of it. Of the
/// traffic to an attacked target during the attack, what is not of the top talkers is neither.
#[derive(Debug, Default)]
pub struct LabelJoin {
    attacks: Spans,
    peace: Spans,
    /// Attacks of sources that are not trusted: neither attack nor peace.
    doubted: Spans,
    matched: Vec<u64>,
    tolerance: i64,
    strict: bool,
}

/// Labels by start.
#[derive(Debug, Default)]
struct Spans {
    labels: Vec<AttackLabel>,
    /// The greatest end of this and all labels before: where looking back may stop.
    latest: Vec<i64>,
}

impl Spans {
    fn new(mut labels: Vec<AttackLabel>) -> Self {
        labels.sort_by(|one, other| {
            (one.start, one.end, &one.attack, &one.by).cmp(&(
                other.start,
                other.end,
                &other.attack,
                &other.by,
            ))
        });
        let mut latest = i64::MIN;
        let ends = labels.iter().map(|label| {
            latest = latest.max(label.end);
            latest
        });
        Self {
            latest: ends.collect(),
            labels,
        }
    }

    /// Labels that overlap in time, the latest start first.
    fn during(&self, from: i64, to: i64) -> impl Iterator<Item = (usize, &AttackLabel)> {
        let begun = self.labels.partition_point(|label| label.start <= to);
        (0..begun)
            .rev()
            .take_while(move |at| self.latest.get(*at).is_some_and(|latest| *latest >= from))
            .filter_map(|at| Some((at, self.labels.get(at)?)))
            .filter(move |(_, label)| label.end >= from)
    }
}

impl LabelJoin {
    /// Joins with these labels; a flow that misses an attack by `tolerance` ns still matches.
    pub fn new(labels: Vec<AttackLabel>, tolerance: i64) -> Self {
        Self::with_trust(labels, tolerance, |_| true)
    }

    /// Joins with labels of sources that are trusted; of what others call attacks nothing is known.
    pub fn with_trust(
        labels: Vec<AttackLabel>,
        tolerance: i64,
        is_trusted: impl Fn(&str) -> bool,
    ) -> Self {
        let strict = labels.iter().any(|label| !label.by.is_empty());
        let (trusted, doubted): (Vec<_>, Vec<_>) = labels
            .into_iter()
            .partition(|label| label.by.is_empty() || is_trusted(&label.by));
        let (peace, attacks): (Vec<_>, Vec<_>) = trusted
            .into_iter()
            .partition(|label| label.attack.is_empty());
        let doubted = doubted.into_iter().filter(|label| !label.attack.is_empty());
        Self {
            matched: vec![0; attacks.len()],
            attacks: Spans::new(attacks),
            peace: Spans::new(peace),
            doubted: Spans::new(doubted.collect()),
            tolerance: tolerance.max(0),
            strict,
        }
    }

    /// Takes as peace what no label calls an attack, whether or not somebody has declared it.
    pub fn assume_peace(&mut self) {
        self.strict = false;
    }

    /// What a flow belongs to: the narrowest target, then the latest start.
    pub fn join(&mut self, row: &Row) -> Joined<'_> {
        let (from, to) = (
            row.flow_start.saturating_sub(self.tolerance),
            row.flow_end.saturating_add(self.tolerance),
        );
        let mut best: Option<(usize, bool)> = None;
        let mut near = false;
        for (at, label) in self.attacks.during(from, to) {
            let (forth, back) = (is_to(label, row), is_from(label, row));
            near |= forth && !is_of_talkers(label, row.source_address);
            let is_part = (forth && is_of_talkers(label, row.source_address))
                || (back && is_of_talkers(label, row.destination_address));
            let narrower = |held: &(usize, bool)| {
                let held = self.attacks.labels.get(held.0);
                held.is_none_or(|held| label.target.prefix_len() > held.target.prefix_len())
            };
            if is_part && best.as_ref().is_none_or(narrower) {
                best = Some((at, !forth));
            }
        }
        if let Some((at, answer)) = best {
            if let Some(count) = self.matched.get_mut(at) {
                *count += 1;
            }
            let label = self.attacks.labels.get(at);
            return Joined {
                attack: label.map(|label| label.attack.as_str()),
                by: label.map_or("", |label| label.by.as_str()),
                answer,
                declared: true,
            };
        }
        near |= self
            .doubted
            .during(from, to)
            .any(|(_, label)| is_to(label, row));
        let peaceful = |(_, label): (usize, &AttackLabel)| is_to(label, row);
        let declared = !self.strict
            || self
                .peace
                .during(row.flow_end, row.flow_start)
                .any(peaceful);
        Joined {
            attack: None,
            answer: false,
            by: "",
            declared: declared && !near,
        }
    }

    /// Whether only declared peace counts as such.
    pub fn is_strict(&self) -> bool {
        self.strict
    }

    /// Labels of attacks, each with how many flows matched it.
    pub fn matches(&self) -> impl Iterator<Item = (&AttackLabel, u64)> {
        self.attacks.labels.iter().zip(self.matched.iter().copied())
    }

    /// Labels that no flow matched.
    pub fn unmatched(&self) -> Vec<&AttackLabel> {
        let labels = self.matches().filter(|(_, count)| *count == 0);
        labels.map(|(label, _)| label).collect()
    }
}

fn is_to(label: &AttackLabel, row: &Row) -> bool {
    row.destination_address.is_in(&label.target)
}

fn is_from(label: &AttackLabel, row: &Row) -> bool {
    row.source_address.is_in(&label.target)
}

fn is_of_talkers(label: &AttackLabel, address: Address) -> bool {
    label.sources.is_empty() || label.sources.iter().any(|one| address.is_in(one))
}

/// Reads `start,end,target,attack` with times in RFC 3339 and, if they are there, `sources` (prefixes parted by blanks or semicolons)
/// and `by`. An empty attack declares peace.
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
    let (sources, by) = (place("sources"), place("by"));
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
            by: by.map(text).unwrap_or("").to_owned(),
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

    use weir_flow_record::FragmentKind;

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
    fn what_nobody_declares_is_neither_peace_nor_attack() {
        const SAID: &str = "start,end,target,attack,sources,by\n\
            1970-01-01T00:00:00Z,1970-01-01T01:00:00Z,203.0.113.0/28,,,dots:a\n\
            1970-01-01T00:02:00Z,1970-01-01T00:02:30Z,203.0.113.9,udp-flood,198.51.100.0/24,dots:a\n\
            1970-01-01T00:05:00Z,1970-01-01T00:05:30Z,203.0.113.9,udp-flood,,dots:liar\n";
        let labels = read_attack_labels(SAID.as_bytes()).unwrap();
        let victim = [203, 0, 113, 9];
        let mut join = LabelJoin::with_trust(labels.clone(), 0, |by| by != "dots:liar");
        let mut joined = |source, destination, second| {
            let joined = join.join(&row(source, destination, second));
            (joined.attack.is_some(), joined.declared)
        };
        assert_eq!(joined([198, 51, 100, 7], victim, 130), (true, true));
        assert_eq!(
            joined([8, 8, 8, 8], victim, 130),
            (false, false),
            "no talker of it"
        );
        assert_eq!(
            joined([8, 8, 8, 8], victim, 200),
            (false, true),
            "declared peace"
        );
        assert_eq!(joined([8, 8, 8, 8], victim, 4000), (false, false), "later");
        assert_eq!(
            joined([8, 8, 8, 8], [203, 0, 113, 99], 200),
            (false, false),
            "elsewhere"
        );
        assert_eq!(joined([8, 8, 8, 8], victim, 310), (false, false), "doubted");
        let mut join = LabelJoin::new(labels, 0);
        assert!(join.join(&row([8, 8, 8, 8], victim, 310)).attack.is_some());
        join.assume_peace();
        assert!(
            join.join(&row([8, 8, 8, 8], [203, 0, 113, 99], 200))
                .declared
        );
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
