use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, Read};

use ipnet::IpNet;
use serde::Deserialize;
use weir_flow_record::Timestamp;

use super::{Told, Truth};

/// Why labels or events cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScoreInputError {
    /// The file could not be read.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// A line of events is no event.
    #[error("line {line}: {source}")]
    Event {
        /// From 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A line of labels is no label.
    #[error("{0}")]
    Label(#[from] csv::Error),
    /// A target that is none.
    #[error("line {line}: `{text}` is neither a prefix nor an address")]
    Target {
        /// From 1.
        line: usize,
        /// What stands there.
        text: String,
    },
    /// A label that ends before it starts.
    #[error("the label of {target} at {start} ends before it starts")]
    Backwards {
        /// Its target.
        target: IpNet,
        /// Its start.
        start: Timestamp,
    },
}

/// A line of the labels; columns that it does not name are passed over.
#[derive(Deserialize)]
struct Row {
    start: Timestamp,
    end: Timestamp,
    target: String,
    attack: String,
    #[serde(default)]
    exported: Option<Timestamp>,
}

/// What a line of events needs to say; the rest of it may be anything.
#[derive(Deserialize)]
struct Line {
    event: String,
    id: String,
    detected_at: Timestamp,
    start_time: Timestamp,
    #[serde(default)]
    end_time: Option<Timestamp>,
    target: String,
    #[serde(default)]
    other_prefixes: Vec<String>,
    #[serde(default)]
    vectors: Vec<Name>,
}

#[derive(Deserialize)]
struct Name {
    #[serde(default)]
    name: String,
}

/// Reads labels: CSV with the header `start,end,target,attack`, and `exported` if there is one; a target is a prefix or an
/// address.
pub fn read_truths(input: impl Read) -> Result<Vec<Truth>, ScoreInputError> {
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .comment(Some(b'#'))
        .from_reader(input);
    let mut truths = Vec::new();
    for (number, row) in reader.deserialize().enumerate() {
        let row: Row = row?;
        let target = prefix(&row.target, number + 2)?;
        if row.end < row.start {
            let start = row.start;
            return Err(ScoreInputError::Backwards { target, start });
        }
        truths.push(Truth {
            start: row.start,
            end: row.end,
            target,
            attack: row.attack,
            exported: row.exported,
        });
    }
    Ok(truths)
}

/// Labels as CSV that [`read_truths`] reads: `start,end,target,attack,exported`.
pub fn write_truths(truths: &[Truth]) -> String {
    let mut text = String::from("start,end,target,attack,exported\n");
    for truth in truths {
        let exported = truth.exported.map(|at| at.to_string()).unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{},{},{},{},{exported}",
            truth.start, truth.end, truth.target, truth.attack
        );
    }
    text
}

/// Reads events, one JSON object a line, and puts together those of one attack.
pub fn read_events(input: impl BufRead) -> Result<Vec<Told>, ScoreInputError> {
    let mut attacks: BTreeMap<String, Told> = BTreeMap::new();
    for (number, line) in input.lines().enumerate() {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        let told: Line = serde_json::from_str(&line).map_err(|source| ScoreInputError::Event {
            line: number + 1,
            source,
        })?;
        let mut targets = Vec::new();
        for text in [&told.target].into_iter().chain(&told.other_prefixes) {
            targets.push(prefix(text, number + 1)?);
        }
        add(&mut attacks, told, targets);
    }
    Ok(attacks.into_values().collect())
}

fn add(attacks: &mut BTreeMap<String, Told>, line: Line, targets: Vec<IpNet>) {
    let attack = attacks.entry(line.id.clone()).or_insert_with(|| Told {
        id: line.id,
        detected_at: line.detected_at,
        start: line.start_time,
        end: None,
        targets: Vec::new(),
        vectors: Vec::new(),
    });
    attack.detected_at = attack.detected_at.min(line.detected_at);
    attack.start = attack.start.min(line.start_time);
    if line.event == "attack-end" {
        // An attack that goes on after a restart may end again.
        attack.end = attack.end.max(line.end_time);
    }
    attack.targets.retain(|seen| !targets.contains(seen));
    attack.targets.splice(0..0, targets);
    attack.vectors = line.vectors.into_iter().map(|vector| vector.name).collect();
}

/// A prefix, or an address as a host's prefix.
fn prefix(text: &str, line: usize) -> Result<IpNet, ScoreInputError> {
    text.parse::<IpNet>()
        .map(|prefix| prefix.trunc())
        .or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from))
        .map_err(|_| ScoreInputError::Target {
            line,
            text: text.to_owned(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_any_writer_are_read() {
        let text = "start,end,target,attack,note\n\
                    2026-03-02T00:00:00Z,2026-03-02T00:01:00Z,192.0.2.1,udp-flood,x\n\
                    2026-03-02T01:00:00+01:00, 2026-03-02T02:00:00Z, 192.0.2.77/24, ,\n";
        let truths = read_truths(text.as_bytes()).unwrap();
        assert_eq!(truths[0].target.to_string(), "192.0.2.1/32");
        assert_eq!(truths[0].start, truths[1].start);
        assert_eq!(truths[1].target.to_string(), "192.0.2.0/24");
        assert!(truths[1].attack.is_empty() && truths[1].exported.is_none());
    }

    #[test]
    fn the_arrival_of_the_first_datagram_is_read() {
        let text = "start,end,target,attack,exported\n\
                    2026-03-02T00:00:00Z,2026-03-02T00:01:00Z,192.0.2.1/32,udp-flood,2026-03-02T00:00:01.5Z\n\
                    2026-03-02T00:00:00Z,2026-03-02T00:01:00Z,192.0.2.2/32,udp-flood,\n";
        let truths = read_truths(text.as_bytes()).unwrap();
        assert_eq!(write_truths(&truths), text);
        let after = truths[0].exported.unwrap().since(truths[0].start);
        assert_eq!(after.as_millis(), 1500);
        assert_eq!(truths[1].exported, None);
    }

    #[test]
    fn wrong_labels_say_where() {
        for (text, part) in [
            ("start,end,target,attack\nx,y,z,w\n", "line: 2"),
            ("start,end,target\n", ""),
            (
                "start,end,target,attack\n2026-03-02T00:00:00Z,2026-03-01T00:00:00Z,192.0.2.1,a\n",
                "ends before",
            ),
            (
                "start,end,target,attack\n2026-03-02T00:00:00Z,2026-03-03T00:00:00Z,host,a\n",
                "`host`",
            ),
        ] {
            match read_truths(text.as_bytes()) {
                Ok(truths) => assert!(part.is_empty() && truths.is_empty()),
                Err(error) => assert!(error.to_string().contains(part), "{error}"),
            }
        }
    }

    #[test]
    fn events_of_one_attack_are_one() {
        let line = |event: &str, target: &str, end: &str| {
            format!(
                r#"{{"event":"{event}","id":"a","time":"2026-03-02T00:00:09Z","detected_at":"2026-03-02T00:00:02Z","start_time":"2026-03-02T00:00:01Z","end_time":{end},"target":"{target}","vectors":[{{"name":"udp-flood","share":1}}]}}"#
            )
        };
        let text = [
            line("attack-start", "192.0.2.1/32", "null"),
            line("attack-update", "192.0.2.0/24", "null"),
            line("attack-end", "192.0.2.0/24", "\"2026-03-02T00:02:00Z\""),
        ]
        .join("\n");
        let told = read_events(text.as_bytes()).unwrap();
        assert_eq!(told.len(), 1);
        let targets: Vec<String> = told[0].targets.iter().map(ToString::to_string).collect();
        assert_eq!(targets, ["192.0.2.0/24", "192.0.2.1/32"]);
        assert_eq!(told[0].vectors, ["udp-flood"]);
        assert_eq!(told[0].end.unwrap().since(told[0].start).as_secs(), 119);
        let error = read_events("\n{}\n".as_bytes()).unwrap_err();
        assert!(error.to_string().starts_with("line 2"), "{error}");
    }
}
