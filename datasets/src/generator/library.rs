//! The scenarios that come with the program.

/// A scenario of the repository.
#[derive(Clone, Copy, Debug)]
pub struct BuiltIn {
    /// Its name.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
}

macro_rules! library {
    ($($name:literal),+ $(,)?) => {
        static LIBRARY: &[BuiltIn] = &[
            $( BuiltIn { name: $name, text: include_str!(concat!("../../scenarios/", $name, ".toml")) } ),+
        ];
    };
}

library! {
    "backup",
    "below-thresholds",
    "carpet",
    "clock-skew",
    "export-loss",
    "flash-crowd",
    "fragments",
    "learning",
    "low-and-slow",
    "multi-vector",
    "outbound",
    "peace",
    "pulse-wave",
    "reboot",
    "sflow",
    "slow-exporter",
    "threshold-timing",
    "two-samplers",
    "unknown-rate",
    "unknown-rate-configured",
    "unsampled",
    "uptime-wrap",
    "large",
}

/// All scenarios that come with the program.
pub fn built_in() -> &'static [BuiltIn] {
    LIBRARY
}

#[cfg(test)]
mod tests {
    use super::super::{Generator, ScenarioFile};
    use super::*;

    #[test]
    fn all_that_come_with_the_program_can_be_generated() {
        for scenario in built_in() {
            let file = ScenarioFile::parse(scenario.text).unwrap();
            assert!(!file.description.is_empty() && !file.expect.is_empty());
            let labels = Generator::new(file).unwrap().labels();
            assert!(!labels.is_empty(), "{}", scenario.name);
        }
    }
}
