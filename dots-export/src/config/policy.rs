//! `[[policy]]`: what is done about the attacks on the zones that name it.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use weir_attack_event::{AttackEvent, Severity};
use weir_dots_proto::body::Lifetime;
use weir_flow_record::Period;

use super::Faults;
use super::upstream::UpstreamConfig;

/// Who asks for mitigation; the strictest last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RequestMode {
    /// Weir does, when an attack is detected.
    #[default]
    Automatic,
    /// Weir does, once an operator has confirmed.
    Confirm,
    /// Nobody: telemetry only, the upstream decides.
    Never,
}

/// How the upstreams of a policy are asked.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// One after another: the next where one refuses, does not answer, or cannot do enough.
    #[default]
    Fallback,
    /// All at the same time, as RFC 9284 §5 wants it of provider-independent prefixes.
    Parallel,
}

/// When an attack is worth asking for help.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// Whenever its severity is.
    #[default]
    Always,
    /// Once the attacks on its zone take more than `link_share` of the pipe: what is less is dealt with on the spot
    /// (draft-ietf-dots-use-cases-06 §3.1.1).
    LinkShare,
}

/// `[[policy]]`: what is done about the attacks on the zones that name it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct PolicyConfig {
    /// Name, by which zones choose it.
    pub name: String,
    /// Upstreams in the order in which they are asked. Empty: all, in the order of the file.
    pub upstreams: Vec<String>,
    /// Whether they are asked one after another or all at once.
    pub order: Order,
    /// Nobody is asked about attacks below it.
    pub minimum_severity: Severity,
    /// Upstreams that may know are told of attacks from this severity on, whether they are asked or not.
    pub telemetry_severity: Severity,
    /// Nothing is asked and nothing is told: the audit log says what would have been asked.
    pub dry_run: bool,
    /// Who asks.
    pub request: RequestMode,
    /// Who asks where nothing but a model says that it is an attack: whatever `minimum_severity`, since no limit rates it.
    pub models: RequestMode,
    /// When.
    pub when: When,
    /// Share of the zone's pipe, above 0 and at most 1, for `when = "link-share"`.
    pub link_share: f64,
    /// Lifetime that is asked for, in whole seconds.
    pub lifetime: Period,
    /// Least time between two telemetry messages on one attack, save for its start and its end.
    pub telemetry_interval: Period,
    /// Prefixes for which nothing is ever asked.
    pub never: Vec<IpNet>,
    /// Shortest prefix lengths that are asked for: IPv4, IPv6.
    pub max_prefix: [u8; 2],
    /// Most mitigations that are asked for at once.
    pub max_requests: usize,
    /// Most requests, wider scopes and other upstreams included, within a minute.
    pub max_requests_per_minute: usize,
    /// A mitigation that drops nothing for this long while the attack goes on has no effect: the next upstream is asked too.
    pub effect_after: Period,
    /// When all upstreams were tried in vain, they are tried again after this.
    pub retry_after: Period,
    /// Time between two words to an upstream on how well its mitigation works; `0s`: none.
    pub efficacy_interval: Period,
}

impl Default for PolicyConfig {
    fn default() -> Self {
        Self {
            name: "default".to_owned(),
            upstreams: Vec::new(),
            order: Order::Fallback,
            minimum_severity: Severity::Medium,
            telemetry_severity: Severity::Low,
            dry_run: false,
            request: RequestMode::Automatic,
            models: RequestMode::Confirm,
            when: When::Always,
            link_share: 0.5,
            lifetime: Period(Duration::from_secs(3600)),
            telemetry_interval: Period(Duration::from_secs(10)),
            never: Vec::new(),
            max_prefix: [24, 48],
            max_requests: 100,
            max_requests_per_minute: 60,
            effect_after: Period(Duration::from_secs(120)),
            retry_after: Period(Duration::from_secs(60)),
            efficacy_interval: Period(Duration::from_secs(60)),
        }
    }
}

/// A checked policy.
#[derive(Clone, PartialEq, Debug)]
pub struct PolicySettings {
    /// Its name.
    pub name: Arc<str>,
    /// Upstreams in the order in which they are asked.
    pub upstreams: Vec<Arc<str>>,
    /// Nobody is asked about attacks below it.
    pub minimum_severity: Severity,
    /// Nobody is told of attacks below it.
    pub telemetry_severity: Severity,
    /// Nothing is asked and nothing is told.
    pub dry_run: bool,
    /// Who asks.
    pub request: RequestMode,
    /// Who asks where nothing but a model says that it is an attack.
    pub models: RequestMode,
    /// Share of the pipe, above 0 and at most 1, that the attacks on a zone have to take before anybody is asked.
    pub link_share: Option<f64>,
    /// Lifetime that is asked for.
    pub lifetime: Lifetime,
    /// Least time between two telemetry messages on one attack, save for its start and its end.
    pub telemetry_interval: Duration,
    /// Prefixes for which nothing is ever asked.
    pub never: Vec<IpNet>,
    /// Shortest prefix length that is asked for, IPv4.
    pub max_prefix_v4: u8,
    /// Shortest prefix length that is asked for, IPv6.
    pub max_prefix_v6: u8,
    /// Most mitigations that are asked for at once.
    pub max_requests: usize,
    /// Most requests within a minute.
    pub max_requests_per_minute: usize,
    /// How long a mitigation may drop nothing.
    pub effect_after: Duration,
    /// Time until all upstreams are tried again.
    pub retry_after: Duration,
    /// Time between two efficacy updates; zero: none.
    pub efficacy_interval: Duration,
    /// Whether upstreams are asked one after another.
    pub order: Order,
}

impl PolicySettings {
    /// Who asks for help about an attack: of `request` and `models` the stricter where only a model speaks of it.
    #[must_use]
    pub fn request_for(&self, event: &AttackEvent) -> RequestMode {
        if is_model_alone(event) {
            self.request.max(self.models)
        } else {
            self.request
        }
    }

    /// Whether an attack is severe enough to ask for help. A model's word has no severity.
    pub(crate) fn is_severe_enough(&self, event: &AttackEvent) -> bool {
        is_model_alone(event) || event.severity >= self.minimum_severity
    }

    /// Upstreams that are asked at the same time, each with those that follow it if it does not help.
    #[must_use]
    pub fn lanes(&self) -> Vec<Vec<Arc<str>>> {
        match self.order {
            Order::Fallback => vec![self.upstreams.clone()],
            Order::Parallel => self.upstreams.iter().map(|one| vec![one.clone()]).collect(),
        }
    }
}

fn is_model_alone(event: &AttackEvent) -> bool {
    event.model.as_ref().is_some_and(|model| model.alone)
}

pub(super) fn check_policy(
    config: &PolicyConfig,
    upstreams: &[UpstreamConfig],
    table: &str,
    faults: &mut Faults,
) -> PolicySettings {
    if config.name.is_empty() {
        faults.add(table, "name", "a policy needs a name");
    }
    for (index, name) in config.upstreams.iter().enumerate() {
        if !upstreams.iter().any(|upstream| &upstream.name == name) {
            let message = format!("no [[upstream]] is named `{name}`");
            faults.add(table, &format!("upstreams[{index}]"), message);
        } else if config.upstreams[..index].contains(name) {
            let message = format!("`{name}` stands here twice");
            faults.add(table, &format!("upstreams[{index}]"), message);
        }
    }
    if upstreams.is_empty() {
        let message = "there is no [[upstream]] that this policy could tell anything";
        faults.add(table, "upstreams", message);
    }
    let seconds = u32::try_from(config.lifetime.0.as_secs()).unwrap_or(u32::MAX);
    if !(60..=i32::MAX.unsigned_abs()).contains(&seconds) {
        faults.add(table, "lifetime", "must be at least 60s and below 68 years");
    }
    let interval = config.telemetry_interval.0;
    if !(Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&interval) {
        // RFC 9244 §7.1: telemetry-notify-interval.
        faults.add(table, "telemetry_interval", "must be from 1s to 1h");
    }
    let [v4, v6] = config.max_prefix;
    if v4 > 32 || v6 > 128 {
        faults.add(
            table,
            "max_prefix",
            "prefix lengths end at 32 (IPv4) and 128 (IPv6)",
        );
    }
    if !(config.link_share > 0.0 && config.link_share <= 1.0) {
        let message = "must be above 0 and at most 1 (the whole pipe)";
        faults.add(table, "link_share", message);
    }
    if config.max_requests == 0 && config.request != RequestMode::Never {
        let message = "0 asks for nothing: write request = \"never\"";
        faults.add(table, "max_requests", message);
    }
    if config.max_requests_per_minute == 0 {
        let message = "0 asks for nothing: write request = \"never\"";
        faults.add(table, "max_requests_per_minute", message);
    }
    if config.retry_after.0 < Duration::from_secs(1) {
        faults.add(table, "retry_after", "must be at least 1s");
    }
    let names: Vec<&String> = match config.upstreams.as_slice() {
        [] => upstreams.iter().map(|upstream| &upstream.name).collect(),
        named => named.iter().collect(),
    };
    PolicySettings {
        name: config.name.as_str().into(),
        upstreams: names.into_iter().map(|name| name.as_str().into()).collect(),
        minimum_severity: config.minimum_severity,
        telemetry_severity: config.telemetry_severity,
        dry_run: config.dry_run,
        request: config.request,
        models: config.models,
        link_share: (config.when == When::LinkShare).then_some(config.link_share),
        lifetime: Lifetime::Seconds(seconds),
        telemetry_interval: interval,
        never: config.never.iter().map(IpNet::trunc).collect(),
        max_prefix_v4: v4,
        max_prefix_v6: v6,
        max_requests: config.max_requests,
        max_requests_per_minute: config.max_requests_per_minute,
        effect_after: config.effect_after.0,
        retry_after: config.retry_after.0,
        efficacy_interval: config.efficacy_interval.0,
        order: config.order,
    }
}
