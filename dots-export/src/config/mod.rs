//! `[[upstream]]` and `[[policy]]`: what the file may say, and the checked form of it.

mod policy;
mod upstream;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub use policy::{Order, PolicyConfig, PolicySettings, RequestMode, When};
pub use upstream::{
    AcceptListWhen, SessionConfig, Share, Transport, UpstreamConfig, UpstreamSettings,
};

use policy::check_policy;
use upstream::check_upstream;

/// A mistake in the configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Where, as `upstream[0].server`.
    pub path: String,
    /// What is wrong.
    pub message: String,
}

/// What a policy has to know of a zone.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ZoneConfig {
    /// Name of the zone.
    pub name: String,
    /// Name of its policy.
    pub policy: Option<String>,
    /// bit/s that its links carry towards it.
    pub pipe_capacity: Option<u64>,
}

/// A zone with a policy.
#[derive(Clone, PartialEq, Debug)]
struct ZoneSettings {
    policy: Arc<PolicySettings>,
    pipe_capacity: Option<u64>,
}

/// What [`check`] found good.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct ExportSettings {
    upstreams: Vec<UpstreamSettings>,
    policies: BTreeMap<Arc<str>, Arc<PolicySettings>>,
    zones: BTreeMap<Arc<str>, ZoneSettings>,
}

impl ExportSettings {
    /// All upstreams, in the order of the file.
    #[must_use]
    pub fn upstreams(&self) -> &[UpstreamSettings] {
        &self.upstreams
    }

    /// The upstream of that name.
    #[must_use]
    pub fn upstream(&self, name: &str) -> Option<&UpstreamSettings> {
        self.upstreams.iter().find(|one| &*one.name == name)
    }

    /// The least `telemetry_interval` of all policies; 10 s where there is none.
    #[must_use]
    pub fn telemetry_interval(&self) -> Duration {
        let intervals = self.policies.values().map(|one| one.telemetry_interval);
        intervals.min().unwrap_or(Duration::from_secs(10))
    }

    /// The policy of that name.
    #[must_use]
    pub fn policy(&self, name: &str) -> Option<&Arc<PolicySettings>> {
        self.policies.get(name)
    }

    /// The policy of a zone; `None`: its attacks are reported and nothing else.
    #[must_use]
    pub fn policy_of_zone(&self, zone: &str) -> Option<&Arc<PolicySettings>> {
        self.zones.get(zone).map(|zone| &zone.policy)
    }

    /// What concerns some zones: theirs, and the upstreams that their policies name.
    #[must_use]
    pub fn only_for(&self, is_wanted: impl Fn(&str) -> bool) -> Self {
        let zones = self.zones.iter().filter(|(name, _)| is_wanted(name));
        let zones: BTreeMap<_, _> = zones.map(|(k, v)| (Arc::clone(k), v.clone())).collect();
        let is_named = |name: &Arc<str>| {
            let mut policies = zones.values().map(|zone| &zone.policy);
            policies.any(|policy| policy.upstreams.contains(name))
        };
        let upstreams = self.upstreams.iter().filter(|one| is_named(&one.name));
        Self {
            upstreams: upstreams.cloned().collect(),
            policies: self.policies.clone(),
            zones,
        }
    }

    /// bit/s that a zone's links carry towards it, where that is known.
    #[must_use]
    pub fn pipe_capacity(&self, zone: &str) -> Option<u64> {
        self.zones.get(zone)?.pipe_capacity
    }
}

/// Checks the tables of one file and what its zones want of them. It opens no file.
pub fn check(
    upstreams: &[UpstreamConfig],
    policies: &[PolicyConfig],
    zones: &[ZoneConfig],
) -> Result<ExportSettings, Vec<Fault>> {
    let mut faults = Faults::default();
    let mut settings = ExportSettings::default();
    for (index, config) in upstreams.iter().enumerate() {
        let table = format!("upstream[{index}]");
        if settings.upstream(&config.name).is_some() {
            let message = format!("another upstream is named `{}`", config.name);
            faults.add(&table, "name", message);
        }
        if let Some(upstream) = check_upstream(config, &table, &mut faults) {
            settings.upstreams.push(upstream);
        }
    }
    for (index, config) in policies.iter().enumerate() {
        let table = format!("policy[{index}]");
        if settings.policies.contains_key(config.name.as_str()) {
            let message = format!("another policy is named `{}`", config.name);
            faults.add(&table, "name", message);
        }
        let policy = Arc::new(check_policy(config, upstreams, &table, &mut faults));
        settings.policies.insert(policy.name.clone(), policy);
    }
    for (index, zone) in zones.iter().enumerate() {
        let Some(policy) = &zone.policy else { continue };
        let table = format!("zone[{index}]");
        let Some(found) = settings.policies.get(policy.as_str()) else {
            let message = format!("no [[policy]] is named `{policy}`");
            faults.add(&table, "policy", message);
            continue;
        };
        if found.link_share.is_some() && zone.pipe_capacity.is_none() {
            let message = format!("`{policy}` asks by the share of the pipe: it has to be known");
            faults.add(&table, "pipe_capacity", message);
        }
        let zone_settings = ZoneSettings {
            policy: found.clone(),
            pipe_capacity: zone.pipe_capacity.filter(|capacity| *capacity > 0),
        };
        settings
            .zones
            .insert(zone.name.as_str().into(), zone_settings);
    }
    if faults.0.is_empty() {
        Ok(settings)
    } else {
        Err(faults.0)
    }
}

#[derive(Default)]
struct Faults(Vec<Fault>);

impl Faults {
    fn add(&mut self, table: &str, key: &str, message: impl Into<String>) {
        self.0.push(Fault {
            path: format!("{table}.{key}"),
            message: message.into(),
        });
    }
}

#[cfg(test)]
mod tests {
    use weir_dots_proto::body::Lifetime;
    use weir_flow_record::Period;

    use super::*;

    pub(super) fn upstream() -> UpstreamConfig {
        UpstreamConfig {
            name: "provider".to_owned(),
            server: "dots.example.net:4646".to_owned(),
            ..UpstreamConfig::default()
        }
    }

    fn zone(name: &str, policy: Option<&str>) -> ZoneConfig {
        ZoneConfig {
            name: name.to_owned(),
            policy: policy.map(str::to_owned),
            pipe_capacity: None,
        }
    }

    fn paths(faults: &[Fault]) -> Vec<&str> {
        faults.iter().map(|fault| fault.path.as_str()).collect()
    }

    #[test]
    fn a_zone_gets_its_policy() {
        let zones = [zone("a", Some("default")), zone("b", None)];
        let settings = check(&[upstream()], &[PolicyConfig::default()], &zones).unwrap();
        let policy = settings.policy_of_zone("a").unwrap();
        assert_eq!(policy.upstreams, ["provider".into()]);
        assert_eq!(policy.lifetime, Lifetime::Seconds(3600));
        assert!(settings.policy_of_zone("b").is_none());
        assert_eq!(settings.upstreams()[0].server(), "dots.example.net:4646");
    }

    #[test]
    fn all_mistakes_are_found_at_once() {
        let mut wrong = upstream();
        wrong.server = "x:y".to_owned();
        wrong.addresses = vec!["192.0.2.1".to_owned(), "dots.example.net".to_owned()];
        wrong.psk_file = Some("psk".into());
        wrong.data_channel = "http://dots.example.net".to_owned();
        let policy = PolicyConfig {
            upstreams: vec!["nobody".to_owned()],
            max_prefix: [33, 48],
            telemetry_interval: Period(Duration::ZERO),
            ..PolicyConfig::default()
        };
        let zones = [zone("a", Some("missing"))];
        let faults = check(&[wrong], &[policy], &zones).unwrap_err();
        assert_eq!(
            paths(&faults),
            [
                "upstream[0].server",
                "upstream[0].psk_file",
                "upstream[0].addresses[1]",
                "upstream[0].data_channel",
                "policy[0].upstreams[0]",
                "policy[0].telemetry_interval",
                "policy[0].max_prefix",
                "zone[0].policy",
            ]
        );
    }

    #[test]
    fn names_are_unique() {
        let faults = check(
            &[upstream(), upstream()],
            &[PolicyConfig::default(), PolicyConfig::default()],
            &[],
        )
        .unwrap_err();
        assert_eq!(paths(&faults), ["upstream[1].name", "policy[1].name"]);
    }
}
