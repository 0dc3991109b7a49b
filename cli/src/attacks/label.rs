use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use weir_attack_event::{AttackEvent, AttackId};
use weir_flow_record::Timestamp;

/// What an attack that was none is labelled.
pub(crate) const FALSE_ALARM: &str = "false-alarm";
/// Longest name, of a label or of who says so.
const LONGEST_NAME: usize = 64;
/// Longest reason.
const LONGEST_NOTE: usize = 1024;

/// What an operator says that an attack really was.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Label {
    /// The attack.
    pub(crate) attack: AttackId,
    /// What was attacked.
    pub(crate) target: IpNet,
    /// When it began.
    pub(crate) start: Timestamp,
    /// When it ended; `None` while it is open.
    pub(crate) end: Option<Timestamp>,
    /// What it was: a name of the catalogue or another; `false-alarm` for none.
    pub(crate) name: String,
    /// Who says so.
    pub(crate) by: String,
    /// When it was said.
    pub(crate) at: Timestamp,
    /// Why.
    pub(crate) note: String,
}

/// An operator's word on what an attack was.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Labelling {
    pub(crate) attack: String,
    pub(crate) name: String,
    pub(crate) by: String,
    #[serde(default)]
    pub(crate) note: String,
}

impl Labelling {
    /// Checks the texts.
    pub(crate) fn check(&self) -> Result<(), String> {
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.name.is_empty()
            || self.name.len() > LONGEST_NAME
            || !self.name.chars().all(is_plain)
        {
            return Err(format!(
                "`{}` is no name: at most {LONGEST_NAME} lower-case letters, digits and hyphens",
                self.name
            ));
        }
        if self.by.len() > LONGEST_NAME || self.note.len() > LONGEST_NOTE {
            return Err(format!(
                "who says so takes at most {LONGEST_NAME} octets, and why {LONGEST_NOTE}"
            ));
        }
        Ok(())
    }

    /// The label of the attack that this is about.
    pub(crate) fn label(self, event: &AttackEvent, now: Timestamp) -> Label {
        Label {
            attack: event.id.clone(),
            target: event.target.prefix,
            start: event.start_time,
            end: event.end_time,
            name: self.name,
            by: self.by,
            at: now,
            note: self.note,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_to_what_a_line_can_hold() {
        let named = |name: &str| Labelling {
            attack: "a".to_owned(),
            name: name.to_owned(),
            by: "me".to_owned(),
            note: String::new(),
        };
        assert!(named("udp-flood").check().is_ok());
        for name in ["", "UDP", "a,b", "a\nb", &"a".repeat(65)] {
            assert!(named(name).check().is_err(), "{name:?}");
        }
    }
}
