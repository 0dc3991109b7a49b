//! A model's word: what it says of hosts, and how far that goes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use weir_attack_event::{AttackName, Reason};
use weir_flow_record::{Period, TargetKey, Timestamp};

use crate::config::{DetectorSettings, Fault};

/// Attacks of which only a model's word is known, at once; thresholds have their room beside them.
const MAX_RAISED: usize = 1000;
/// Alarms whose attacks are over, at once.
const MAX_HEARD: usize = 10_000;
/// Seconds after which an alarm that is not repeated is forgotten.
const FORGET: i64 = 600;
/// The span of `max_events_per_hour`.
const HOUR: Duration = Duration::from_secs(3600);

/// The table `[models]`: how far the active model's word goes. Models in shadow have none.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelsConfig {
    /// Whether the model that ships with Weir watches, in shadow.
    pub default: bool,
    /// Whether it raises attacks of its own. If not, it only names those that limits found.
    pub raise: bool,
    /// For how long it must have seen an attack before it raises one: traffic of one moment is in its sight for ten seconds.
    pub raise_after: Period,
    /// What it is less sure of is not heard: 0.5 to 1.
    pub least_confidence: f64,
    /// How sure it must be to raise an attack that no limit shows, over all seconds that count: 0.5 to 1. Services that begin
    /// all at once look much like small floods.
    pub raise_confidence: f64,
    /// Attacks that it raises within an hour at most, against storms of false alarms.
    pub max_events_per_hour: usize,
    /// How long it must have seen nothing before an attack is over that it raised.
    pub clear_for: Period,
    /// Hosts that a model watches at once; idle ones make room. Each takes 32 KiB at most.
    pub targets: usize,
}

impl Default for ModelsConfig {
    fn default() -> Self {
        Self {
            default: true,
            raise: true,
            raise_after: Period(Duration::from_secs(12)),
            least_confidence: 0.9,
            raise_confidence: 0.97,
            max_events_per_hour: 20,
            clear_for: Period(Duration::from_secs(60)),
            targets: 4096,
        }
    }
}

impl ModelsConfig {
    fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut fault = |key: &str, message: &str| {
            faults.push(Fault {
                path: format!("models.{key}"),
                message: message.to_owned(),
            });
        };
        for (key, confidence) in [
            ("least_confidence", self.least_confidence),
            ("raise_confidence", self.raise_confidence),
        ] {
            if !(0.5..=1.0).contains(&confidence) {
                fault(key, "must be from 0.5 to 1");
            }
        }
        if self.clear_for.0 < Duration::from_secs(1) {
            fault("clear_for", "must be at least 1s");
        }
        if !(1..=1_000_000).contains(&self.targets) {
            fault("targets", "must be from 1 to 1000000");
        }
        faults
    }
}

impl DetectorSettings {
    /// Adds the table `[models]`; all its mistakes at once.
    pub fn with_models(mut self, table: &ModelsConfig) -> Result<Self, Vec<Fault>> {
        let faults = table.faults();
        if !faults.is_empty() {
            return Err(faults);
        }
        self.models = table.clone();
        Ok(self)
    }
}

/// What the active model says of a host: to be repeated as long as it says so.
#[derive(Clone, PartialEq, Debug)]
pub struct ModelVerdict {
    /// The host, as a prefix.
    pub target: IpNet,
    /// The model.
    pub model: Arc<str>,
    /// What it calls the attack.
    pub name: AttackName,
    /// How sure it is that it is an attack, calibrated: 0 to 1.
    pub attack: f64,
    /// How sure it is that it is this one.
    pub confidence: f64,
    /// The first second of it.
    pub start: i64,
    /// The newest second of it.
    pub last: i64,
    /// What it rests on, strongest first.
    pub reasons: Vec<String>,
}

impl ModelVerdict {
    /// Whether it speaks of at least so long a time.
    pub(crate) fn is_long(&self, least: Duration) -> bool {
        let seconds = self.last.saturating_sub(self.start).saturating_add(1);
        Duration::from_secs(u64::try_from(seconds).unwrap_or(0)) >= least
    }

    /// In words.
    pub(crate) fn reason(&self) -> Reason {
        let separator = if self.reasons.is_empty() { "" } else { ": " };
        Reason(format!(
            "model {} takes it for {} ({:.0} % sure){separator}{}",
            self.model,
            self.name,
            self.attack * 100.0,
            self.reasons.join(", "),
        ))
    }
}

/// What became of a model's words.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ModelCounters {
    /// Verdicts heard.
    pub verdicts: u64,
    /// Attacks raised.
    pub raised: u64,
    /// Attacks named that a limit or an operator had opened.
    pub named: u64,
    /// Attacks raised that a limit fired on later.
    pub taken_over: u64,
    /// Verdicts that raised nothing because of `max_events_per_hour`, or because too many attacks are open.
    pub capped: u64,
}

/// What the detector remembers of a model's words.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard {
    /// Alarms whose attacks are over, by the newest second of each: while they last they raise nothing again.
    over: BTreeMap<TargetKey, i64>,
    /// When attacks were raised, of the last hour.
    raised: VecDeque<Timestamp>,
    pub(crate) counters: ModelCounters,
}

impl Heard {
    /// Notes that an attack is over of which the model may go on to speak.
    pub(crate) fn note_over(&mut self, key: TargetKey, last: i64) {
        if self.over.len() < MAX_HEARD || self.over.contains_key(&key) {
            self.over.insert(key, last);
        }
    }

    /// Whether a verdict only goes on with an alarm whose attack is over.
    pub(crate) fn is_over(&mut self, key: &TargetKey, verdict: &ModelVerdict) -> bool {
        match self.over.get_mut(key) {
            Some(last) if verdict.start <= *last => {
                *last = verdict.last.max(*last);
                true
            }
            _ => false,
        }
    }

    /// The target's alarm may raise an attack again.
    pub(crate) fn forget(&mut self, key: &TargetKey) {
        self.over.remove(key);
    }

    /// Whether one more attack may be raised, so many being open; if so it counts as raised.
    pub(crate) fn may_raise(&mut self, now: Timestamp, most: usize, open: usize) -> bool {
        while self
            .raised
            .front()
            .is_some_and(|first| first.plus(HOUR) <= now)
        {
            self.raised.pop_front();
        }
        let may = self.raised.len() < most && open < MAX_RAISED;
        if may {
            self.raised.push_back(now);
            self.counters.raised += 1;
        } else {
            self.counters.capped += 1;
        }
        may
    }

    /// Forgets alarms that are not repeated.
    pub(crate) fn sweep(&mut self, second: i64) {
        self.over.retain(|_, last| *last > second - FORGET);
    }
}
