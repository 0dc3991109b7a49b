use std::time::Duration;

/// What a peer may make the decoder hold. Everything beyond is refused and counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Exporters (addresses) at once; one that was silent for an hour gives way.
    pub max_exporters: usize,
    /// Transport sessions and observation domains of one exporter, each; one that was silent for an hour gives way.
    pub max_domains_per_exporter: usize,
    /// Templates of one exporter, data and options, over all its domains.
    pub max_templates_per_exporter: usize,
    /// Fields of one template.
    pub max_fields_per_template: usize,
    /// Samplers of one exporter over all its domains.
    pub max_samplers: usize,
    /// Octets of all templates and their plans together, over all exporters.
    pub template_octets: usize,
    /// Of those, octets of one exporter.
    pub template_octets_per_exporter: usize,
    /// Octets of data waiting for a template, over all exporters, bookkeeping included.
    pub held_back_octets: usize,
    /// Of those, octets of one exporter.
    pub held_back_octets_per_exporter: usize,
    /// How long data wait for their template.
    pub held_back_for: Duration,
    /// Connections through firewalls (Cisco NSEL) of which parts were counted, over all exporters; 0 = none.
    pub max_connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_exporters: 4096,
            max_domains_per_exporter: 256,
            max_templates_per_exporter: 4096,
            max_fields_per_template: 512,
            max_samplers: 1024,
            template_octets: 64 << 20,
            template_octets_per_exporter: 16 << 20,
            held_back_octets: 16 << 20,
            held_back_octets_per_exporter: 4 << 20,
            held_back_for: Duration::from_secs(300),
            max_connections: 1 << 16,
        }
    }
}

impl Limits {
    /// Refuses limits with which nothing could be decoded, or whose tables would need more than 32-bit numbers.
    pub fn check(self) -> Result<CheckedLimits, LimitsError> {
        for (name, value) in [
            ("max_exporters", self.max_exporters),
            ("max_domains_per_exporter", self.max_domains_per_exporter),
            (
                "max_templates_per_exporter",
                self.max_templates_per_exporter,
            ),
            ("max_fields_per_template", self.max_fields_per_template),
            ("max_samplers", self.max_samplers),
            ("template_octets", self.template_octets),
            (
                "template_octets_per_exporter",
                self.template_octets_per_exporter,
            ),
        ] {
            if value == 0 {
                return Err(LimitsError::Zero { name });
            }
        }
        for (name, value, most) in [
            ("max_exporters", self.max_exporters, 1 << 20),
            (
                "max_domains_per_exporter",
                self.max_domains_per_exporter,
                1 << 16,
            ),
            (
                "max_fields_per_template",
                self.max_fields_per_template,
                1 << 14,
            ),
        ] {
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
    /// The tables could not be numbered.
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
            max_samplers: 0,
            ..Limits::default()
        };
        assert_eq!(
            limits.check(),
            Err(LimitsError::Zero {
                name: "max_samplers"
            })
        );
    }
}
