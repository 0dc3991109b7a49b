/// What a peer may make the decoder hold. Everything beyond is refused and counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Exporters (agents, each as seen from one UDP source) at once; one that was silent for an hour gives way.
    pub max_exporters: usize,
    /// Agents behind one UDP source.
    pub max_agents_per_source: usize,
    /// Sub-agents of one exporter; the one that was silent longest gives way.
    pub max_sub_agents_per_exporter: usize,
    /// Data sources (interfaces that are sampled) whose drop and pool counters are followed, over all exporters.
    pub max_data_sources: usize,
    /// Interface counters that wait to be polled; the oldest gives way.
    pub max_counters: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_exporters: 4096,
            max_agents_per_source: 256,
            max_sub_agents_per_exporter: 64,
            max_data_sources: 65_536,
            max_counters: 4096,
        }
    }
}

impl Limits {
    /// Refuses limits with which nothing could be decoded, or whose tables would need more than 32-bit numbers.
    pub fn check(self) -> Result<CheckedLimits, LimitsError> {
        for (name, value, most) in [
            ("max_exporters", self.max_exporters, 1 << 20),
            ("max_agents_per_source", self.max_agents_per_source, 1 << 20),
            (
                "max_sub_agents_per_exporter",
                self.max_sub_agents_per_exporter,
                1 << 10,
            ),
            ("max_data_sources", self.max_data_sources, 1 << 24),
            ("max_counters", self.max_counters, 1 << 20),
        ] {
            if value == 0 {
                return Err(LimitsError::Zero { name });
            }
            if value > most {
                return Err(LimitsError::TooLarge { name, most });
            }
        }
        Ok(CheckedLimits(self))
    }
}

/// [`Limits`] that were found good.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct CheckedLimits(Limits);

impl CheckedLimits {
    /// The limits as given.
    pub const fn get(&self) -> &Limits {
        &self.0
    }
}

/// Why limits make no sense.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LimitsError {
    /// Nothing could be decoded.
    #[error("{name} must be at least 1")]
    Zero {
        /// The setting.
        name: &'static str,
    },
    /// The tables would grow beyond reason.
    #[error("{name} must be at most {most}")]
    TooLarge {
        /// The setting.
        name: &'static str,
        /// The largest value.
        most: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_good_and_zeros_are_not() {
        assert!(Limits::default().check().is_ok());
        let limits = Limits {
            max_counters: 0,
            ..Limits::default()
        };
        assert_eq!(
            limits.check(),
            Err(LimitsError::Zero {
                name: "max_counters"
            })
        );
    }
}
