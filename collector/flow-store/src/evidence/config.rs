use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use weir_flow_record::{ByteSize, Period};

/// The table `[evidence]`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct EvidenceConfig {
    /// Whether flows of attacked targets are kept at all.
    pub keep: bool,
    /// Where; empty = `evidence` in the state directory.
    pub dir: PathBuf,
    /// How long before the start of an attack rows are kept from, as far as the recent window holds them.
    pub before: Period,
    /// How long a bundle stays after its last change; zero = for ever.
    pub retain: Period,
    /// Octets of an attack's files; what does not fit is counted.
    pub max_size_per_attack: ByteSize,
    /// Rows of all attacks together that are kept of a second, each attack having its share of them; what is above is counted.
    /// So a bundle shows more of a large attack than its first seconds, and writing it costs a bounded part of a CPU.
    pub max_rows_per_second: u32,
    /// Octets of all bundles; the oldest ended ones give way. 0 = no bound.
    pub max_size: ByteSize,
    /// Attacks that are written at the same time; further ones are counted.
    pub max_attacks: usize,
    /// After so long a file is finished and a new one begun: what a crash loses at most.
    pub interval: Period,
}

impl Default for EvidenceConfig {
    fn default() -> Self {
        Self {
            keep: true,
            dir: PathBuf::new(),
            before: Period(Duration::from_secs(10)),
            retain: Period(Duration::from_secs(7 * 86_400)),
            max_size_per_attack: ByteSize(64 << 20),
            max_rows_per_second: 50_000,
            max_size: ByteSize(1 << 30),
            max_attacks: 64,
            interval: Period(Duration::from_secs(60)),
        }
    }
}

/// A checked `[evidence]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EvidenceSettings {
    /// The folder of all bundles.
    pub folder: PathBuf,
    /// How long before the start of an attack rows are kept from.
    pub before: Duration,
    /// How long a bundle stays; zero = for ever.
    pub retain: Duration,
    /// Octets of an attack's files.
    pub max_size_per_attack: u64,
    /// Rows of all attacks together that are kept of a second.
    pub max_rows_per_second: u32,
    /// Octets of all bundles; 0 = no bound.
    pub max_size: u64,
    /// Attacks that are written at the same time.
    pub max_attacks: usize,
    /// How long a file is written before it is finished.
    pub interval: Duration,
}

/// A mistake in `[evidence]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvidenceConfigError {
    /// Too small for one group of rows.
    #[error("max_size_per_attack must be at least 1MiB")]
    SmallBundle,
    /// Nothing would be kept.
    #[error("max_rows_per_second must be at least 1")]
    Rows,
    /// Each takes some megabytes of memory.
    #[error("max_attacks must be between 1 and 1024")]
    Attacks,
    /// A file for each instant.
    #[error("interval must be between 1s and 1h")]
    Interval,
    /// The recent window holds minutes at most.
    #[error("before must be at most 10m")]
    Before,
}

impl EvidenceConfig {
    /// Checks the values; `None` where nothing is to be kept.
    pub fn check(&self, state_dir: &Path) -> Result<Option<EvidenceSettings>, EvidenceConfigError> {
        if self.max_size_per_attack.0 < 1 << 20 {
            return Err(EvidenceConfigError::SmallBundle);
        }
        if self.max_rows_per_second == 0 {
            return Err(EvidenceConfigError::Rows);
        }
        if !(1..=1024).contains(&self.max_attacks) {
            return Err(EvidenceConfigError::Attacks);
        }
        if !(Duration::from_secs(1)..=Duration::from_secs(3_600)).contains(&self.interval.0) {
            return Err(EvidenceConfigError::Interval);
        }
        if self.before.0 > Duration::from_secs(600) {
            return Err(EvidenceConfigError::Before);
        }
        let folder = if self.dir.as_os_str().is_empty() {
            state_dir.join("evidence")
        } else {
            self.dir.clone()
        };
        Ok(self.keep.then_some(EvidenceSettings {
            folder,
            before: self.before.0,
            retain: self.retain.0,
            max_size_per_attack: self.max_size_per_attack.0,
            max_rows_per_second: self.max_rows_per_second,
            max_size: self.max_size.0,
            max_attacks: self.max_attacks,
            interval: self.interval.0,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_told() {
        let state = Path::new("/state");
        let config = EvidenceConfig::default();
        let settings = config.check(state).unwrap().unwrap();
        assert_eq!(settings.folder, Path::new("/state/evidence"));
        let with = |change: fn(&mut EvidenceConfig)| {
            let mut config = EvidenceConfig::default();
            change(&mut config);
            config.check(state)
        };
        assert_eq!(with(|config| config.keep = false), Ok(None));
        let small = with(|config| config.max_size_per_attack = ByteSize(1));
        assert_eq!(small, Err(EvidenceConfigError::SmallBundle));
        let none = with(|config| config.max_attacks = 0);
        assert_eq!(none, Err(EvidenceConfigError::Attacks));
        let often = with(|config| config.interval = Period(Duration::from_millis(1)));
        assert_eq!(often, Err(EvidenceConfigError::Interval));
        let long = with(|config| config.before = Period(Duration::from_secs(3600)));
        assert_eq!(long, Err(EvidenceConfigError::Before));
    }
}
