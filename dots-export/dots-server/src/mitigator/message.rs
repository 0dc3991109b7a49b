//! What is said to an external back end, and what it answers: JSON with the names of RFC 9132.

use serde::{Deserialize, Serialize};
use weir_dots_proto::body::{MitigationStatus, Scope};

use super::MitigatorReport;

/// What is asked of an external back end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Action {
    /// Nothing of this server stands any more: end all of its mitigations. The first message of a run, and the last one.
    Reset,
    /// Filter.
    Start,
    /// Filter by another scope from now on. Where an answer was lost, a `start` may come twice, and a `change` for what was
    /// never started: both mean that this scope holds from now on.
    Change,
    /// Filter no more. For what is not known, nothing is to be done.
    Stop,
    /// Tell what was dropped.
    Report,
}

/// One message.
#[derive(Debug, Serialize)]
pub(crate) struct Message<'a> {
    pub(crate) action: Action,
    /// When the server's run began, in milliseconds since 1970: ids are unique within a run only.
    pub(crate) run: u64,
    /// Tells repetitions from other messages: they have the number of the first.
    pub(crate) sequence: u64,
    pub(crate) mitigations: Vec<MessageItem<'a>>,
}

/// A mitigation in a message.
#[derive(Debug, Serialize)]
pub(crate) struct MessageItem<'a> {
    pub(crate) id: u64,
    /// Absent where the action is `report`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) scope: Option<&'a Scope>,
}

/// An answer; it may always be absent.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Answer {
    pub(crate) reports: Vec<AnswerReport>,
}

/// What an external back end has measured.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct AnswerReport {
    pub(crate) id: u64,
    /// 1 to 4 of RFC 9132 Table 3, by number or by name; absent, it follows from the counters.
    #[serde(default)]
    status: Option<AnswerStatus>,
    #[serde(default)]
    bytes_dropped: Option<Count>,
    #[serde(default)]
    pkts_dropped: Option<Count>,
    /// Octets per second; absent, it follows from the counters.
    #[serde(default)]
    bps_dropped: Option<Count>,
    #[serde(default)]
    pps_dropped: Option<Count>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum AnswerStatus {
    Number(u8),
    Name(MitigationStatus),
}

/// RFC 7951 writes 64 bits as a string; programs like numbers better.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "CountText")]
struct Count(u64);

#[derive(Deserialize)]
#[serde(untagged)]
enum CountText {
    Number(u64),
    Text(String),
}

impl TryFrom<CountText> for Count {
    type Error = std::num::ParseIntError;

    fn try_from(text: CountText) -> Result<Self, Self::Error> {
        match text {
            CountText::Number(number) => Ok(Self(number)),
            CountText::Text(text) => text.parse().map(Self),
        }
    }
}

impl Answer {
    /// Reads an answer; nothing is an answer too.
    pub(crate) fn read(octets: &[u8]) -> Result<Self, serde_json::Error> {
        if octets.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_slice(octets)
    }
}

impl AnswerReport {
    /// The totals; `None` where it has none.
    pub(crate) fn totals(&self) -> Option<(u64, u64)> {
        let count = |count: Option<Count>| count.map(|count| count.0);
        match (count(self.bytes_dropped), count(self.pkts_dropped)) {
            (None, None) => None,
            (bytes, packets) => Some((bytes.unwrap_or_default(), packets.unwrap_or_default())),
        }
    }

    /// A report that follows from the counters, with what is said explicitly put into it.
    pub(crate) fn over(&self, measured: MitigatorReport) -> MitigatorReport {
        let status = match self.status {
            Some(AnswerStatus::Number(number)) => MitigationStatus::from_number(number),
            Some(AnswerStatus::Name(status)) => Some(status),
            None => None,
        };
        MitigatorReport {
            // 5 to 8 are the server's to say.
            status: status
                .filter(|status| status.number() <= 4)
                .unwrap_or(measured.status),
            bytes_per_second_dropped: self
                .bps_dropped
                .map_or(measured.bytes_per_second_dropped, |count| count.0),
            packets_per_second_dropped: self
                .pps_dropped
                .map_or(measured.packets_per_second_dropped, |count| count.0),
            ..measured
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use serde_json::json;

    use super::*;
    use crate::MitigationId;

    #[test]
    fn a_message_has_the_names_of_the_rfc() {
        let scope: Scope = serde_json::from_value(json!({
            "target-prefix": ["192.0.2.0/24"],
            "target-port-range": [{"lower-port": 53}],
            "target-protocol": [17],
        }))
        .unwrap();
        let message = Message {
            action: Action::Start,
            run: 1_800_000_000,
            sequence: 3,
            mitigations: vec![MessageItem {
                id: 7,
                scope: Some(&scope),
            }],
        };
        let expected = json!({
            "action": "start",
            "run": 1_800_000_000,
            "sequence": 3,
            "mitigations": [{"id": 7, "scope": scope}],
        });
        assert_eq!(serde_json::to_value(&message).unwrap(), expected);
    }

    #[test]
    fn answers_may_be_terse() {
        assert!(Answer::read(b" \n").unwrap().reports.is_empty());
        assert!(Answer::read(b"{}").unwrap().reports.is_empty());
        assert!(Answer::read(b"ok").is_err());
        let text = br#"{"reports": [
            {"id": 1, "status": 2, "bytes-dropped": "18446744073709551615", "pkts-dropped": 4},
            {"id": 2, "status": "attack-exceeded-capability", "bps-dropped": 5},
            {"id": 3, "status": 6}]}"#;
        let answer = Answer::read(text).unwrap();
        let [first, second, third] = answer.reports.as_slice() else {
            panic!("three reports");
        };
        let begun = MitigatorReport::begun(MitigationId(1));
        assert_eq!(first.totals(), Some((u64::MAX, 4)));
        assert_eq!(
            first.over(begun).status,
            MitigationStatus::AttackSuccessfullyMitigated
        );
        assert_eq!(second.totals(), None);
        assert_eq!(second.over(begun).bytes_per_second_dropped, 5);
        assert_eq!(
            second.over(begun).status,
            MitigationStatus::AttackExceededCapability
        );
        assert_eq!(third.over(begun), begun);
        assert!(Answer::read(br#"{"reports": [{"id": 1, "bytes-dropped": "-1"}]}"#).is_err());
    }
}
