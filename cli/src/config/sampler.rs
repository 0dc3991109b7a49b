//! `[[packet_sampler]]`: interfaces whose packets this host samples itself.

use serde::{Deserialize, Serialize};
use weir_ebpf::SamplerSettings;
use weir_flow_record::ByteSize;

/// One `[[packet_sampler]]`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PacketSamplerConfig {
    /// The interface.
    interface: String,
    /// One in how many packets is sampled.
    sample_one_in: u32,
    /// `auto`, `native`, `generic`, `tpacket` or `pnet`.
    mode: String,
    /// Counts all packets by flow instead.
    exact: bool,
    /// Lets the interface take in frames for others.
    promiscuous: bool,
    /// Between kernel and us; a power of two.
    ring: ByteSize,
    /// Flows that exact mode counts at once.
    max_flows: u32,
}

impl Default for PacketSamplerConfig {
    fn default() -> Self {
        let settings = SamplerSettings::default();
        Self {
            interface: settings.interface,
            sample_one_in: settings.sample_one_in,
            mode: "auto".to_owned(),
            exact: settings.exact,
            promiscuous: settings.promiscuous,
            ring: ByteSize(u64::from(settings.ring_octets)),
            max_flows: settings.max_flows,
        }
    }
}

impl PacketSamplerConfig {
    /// Checks all tables; mistakes with their paths.
    pub(crate) fn check(samplers: &[Self]) -> Result<Vec<SamplerSettings>, Vec<(String, String)>> {
        let mut faults = Vec::new();
        let mut checked: Vec<SamplerSettings> = Vec::new();
        for (index, sampler) in samplers.iter().enumerate() {
            let mut fault = |key: &str, text: &str| {
                faults.push((format!("packet_sampler[{index}].{key}"), text.to_owned()))
            };
            if checked
                .iter()
                .any(|other| other.interface == sampler.interface)
            {
                fault("interface", "another [[packet_sampler]] has this interface");
            }
            let settings = sampler.settings(&mut fault);
            checked.extend(settings);
        }
        if faults.is_empty() {
            Ok(checked)
        } else {
            Err(faults)
        }
    }

    fn settings(&self, fault: &mut impl FnMut(&str, &str)) -> Option<SamplerSettings> {
        let mut is_good = true;
        let mut wrong = |key: &str, text: &str| {
            is_good = false;
            fault(key, text);
        };
        if self.interface.is_empty() {
            wrong("interface", "which interface?");
        }
        if !(1..=1 << 30).contains(&self.sample_one_in) {
            wrong("sample_one_in", "must lie between 1 and 2^30");
        }
        let mode = self
            .mode
            .parse()
            .map_err(|text: String| wrong("mode", &text));
        if self.max_flows == 0 {
            wrong("max_flows", "must be at least 1");
        }
        let ring = u32::try_from(self.ring.0).unwrap_or(0);
        if !ring.is_power_of_two() || !(4 << 10..=1 << 30).contains(&ring) {
            wrong("ring", "must be a power of two from 4KiB to 1GiB");
        }
        let mode = mode.ok()?;
        is_good.then(|| SamplerSettings {
            interface: self.interface.clone(),
            sample_one_in: self.sample_one_in,
            mode,
            exact: self.exact,
            headers: true,
            promiscuous: self.promiscuous,
            ring_octets: ring,
            max_flows: self.max_flows,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_has_its_key() {
        let good = PacketSamplerConfig {
            interface: "eth0".into(),
            ..PacketSamplerConfig::default()
        };
        let checked = PacketSamplerConfig::check(std::slice::from_ref(&good)).unwrap();
        let expected = SamplerSettings {
            interface: "eth0".into(),
            ..SamplerSettings::default()
        };
        assert_eq!(checked, [expected]);
        let bad = PacketSamplerConfig {
            sample_one_in: 0,
            mode: "fast".into(),
            ring: ByteSize(5000),
            max_flows: 0,
            ..good.clone()
        };
        let faults = PacketSamplerConfig::check(&[good, bad]).unwrap_err();
        let keys: Vec<&str> = faults
            .iter()
            .filter_map(|(path, _)| path.strip_prefix("packet_sampler[1]."))
            .collect();
        assert_eq!(
            keys,
            ["interface", "sample_one_in", "mode", "max_flows", "ring"]
        );
    }
}
