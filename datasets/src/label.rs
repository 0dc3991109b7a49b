use std::fmt::Write as _;

use ipnet::IpNet;
use weir_flow_record::{Timestamp, Vector};

/// What really happened: the truth that events are scored against.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Label {
    /// First packet.
    pub start: Timestamp,
    /// After the last packet.
    pub end: Timestamp,
    /// Who was attacked.
    pub target: IpNet,
    /// How; `None` marks a time of peace.
    pub attack: Option<Vector>,
}

/// Labels as CSV, header included: `start,end,target,attack` with times in RFC 3339.
pub fn write_labels(labels: &[Label]) -> String {
    let mut text = String::from("start,end,target,attack\n");
    for label in labels {
        let attack = label.attack.map_or("", Vector::name);
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{},{},{},{attack}",
            label.start, label.end, label.target
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_each() {
        let label = |attack| Label {
            start: Timestamp::from_nanos(1_700_000_000_500_000_000),
            end: Timestamp::from_seconds(1_700_000_060),
            target: "2001:db8::1/128".parse().unwrap(),
            attack,
        };
        assert_eq!(
            write_labels(&[label(Some(Vector::DnsAmplification)), label(None)]),
            "start,end,target,attack\n\
             2023-11-14T22:13:20.5Z,2023-11-14T22:14:20Z,2001:db8::1/128,dns-amplification\n\
             2023-11-14T22:13:20.5Z,2023-11-14T22:14:20Z,2001:db8::1/128,\n"
        );
    }
}
