//! `[[dots_server.mitigator]]`: which back ends there are.

use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::Uri;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use weir_flow_record::Period;

use crate::Fault;

/// The longest time limit: a server that ends waits for its back ends.
const MAX_TIME_LIMIT: Duration = Duration::from_secs(60);

/// One `[[dots_server.mitigator]]`. Which of the options count follows from `kind`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct MitigatorConfig {
    /// `command`, `webhook` or `nftables`.
    pub kind: String,
    /// What it is called in logs; `kind` by default.
    pub name: String,
    /// How long a program or an exchange may take, up to a minute.
    pub time_limit: Period,
    /// An attack of which nothing was dropped for this long counts as stopped (status 3).
    pub quiet_after: Period,
    /// Whether filters stay in place when the server ends in order, as it does for a restart or a reload; the next run
    /// replaces them. After a crash they stay in any case.
    pub keep_on_exit: bool,
    /// Command, webhook: how often counters are asked for; 0 is never.
    pub report_interval: Period,
    /// Command: a program and its arguments. No shell is involved.
    pub command: Vec<String>,
    /// Webhook: where to POST to, `https` or `http`.
    pub url: String,
    /// Webhook: a file with a bearer token, read for each message.
    pub token_file: PathBuf,
    /// Webhook: authorities that the server may be certified by; the system's by default.
    pub ca: PathBuf,
    /// Webhook: our certificate and its chain, where the server wants one.
    pub certificate: PathBuf,
    /// Webhook: its key.
    pub key: PathBuf,
    /// nftables: a network namespace by its name in `/run/netns`; the server's own by default.
    pub namespace: String,
    /// nftables: the table, of family `inet`. It is Weir's alone: what else is in it goes.
    pub table: String,
    /// nftables: packets per second of each mitigation's traffic that may pass; 0 is none, if `pass_bytes_per_second` is 0 too.
    pub pass_packets_per_second: u64,
    /// nftables: octets per second that may pass instead.
    pub pass_bytes_per_second: u64,
    /// nftables: sources whose traffic is never dropped.
    pub spare: Vec<IpNet>,
}

impl Default for MitigatorConfig {
    fn default() -> Self {
        Self {
            kind: String::new(),
            name: String::new(),
            time_limit: Period(Duration::from_secs(5)),
            quiet_after: Period(Duration::from_secs(30)),
            keep_on_exit: false,
            report_interval: Period(Duration::from_secs(5)),
            command: Vec::new(),
            url: String::new(),
            token_file: PathBuf::new(),
            ca: PathBuf::new(),
            certificate: PathBuf::new(),
            key: PathBuf::new(),
            namespace: String::new(),
            table: "weir_dots".to_owned(),
            pass_packets_per_second: 0,
            pass_bytes_per_second: 0,
            spare: Vec::new(),
        }
    }
}

/// A checked back end.
#[derive(Clone, PartialEq, Debug)]
pub enum MitigatorSettings {
    /// A program.
    Command(CommandSettings),
    /// A web server.
    Webhook(WebhookSettings),
    /// The kernel's packet filter.
    Nftables(NftablesSettings),
}

impl MitigatorSettings {
    /// What it is called in logs.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Command(settings) => &settings.name,
            Self::Webhook(settings) => &settings.name,
            Self::Nftables(settings) => &settings.name,
        }
    }
}

/// What command and webhook have in common.
#[derive(Clone, PartialEq, Debug)]
pub struct ExternalSettings {
    /// How often counters are asked for; zero is never.
    pub report_interval: Duration,
    /// Without a drop for this long an attack counts as stopped.
    pub quiet_after: Duration,
    /// Whether filters stay in place when the server ends.
    pub keep_on_exit: bool,
}

/// A program that is run for each message.
#[derive(Clone, PartialEq, Debug)]
pub struct CommandSettings {
    /// What it is called in logs.
    pub name: String,
    /// The program and its arguments; not empty.
    pub command: Vec<String>,
    /// How long it may run.
    pub time_limit: Duration,
    /// Reports and exit.
    pub external: ExternalSettings,
}

/// A web server that each message is posted to.
#[derive(Clone, PartialEq, Debug)]
pub struct WebhookSettings {
    /// What it is called in logs.
    pub name: String,
    /// Where to.
    pub url: Uri,
    /// For `https`.
    pub tls: Option<WebhookTls>,
    /// A file with a bearer token.
    pub token_file: Option<PathBuf>,
    /// How long an exchange may take, with the connection.
    pub time_limit: Duration,
    /// Reports and exit.
    pub external: ExternalSettings,
}

/// Who is trusted, and who we are.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct WebhookTls {
    /// Authorities in PEM; the system's where there are none.
    pub ca: Option<PathBuf>,
    /// Our certificate and key in PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// A table of the kernel's packet filter.
#[derive(Clone, PartialEq, Debug)]
pub struct NftablesSettings {
    /// What it is called in logs.
    pub name: String,
    /// The network namespace; `None` is the server's own.
    pub namespace: Option<String>,
    /// The table of family `inet`.
    pub table: String,
    /// What may pass of each mitigation's traffic; `None`: nothing.
    pub pass: Option<RateLimit>,
    /// Sources whose traffic is never dropped.
    pub spare: Vec<IpNet>,
    /// How long `nft` may run.
    pub time_limit: Duration,
    /// Without a drop for this long an attack counts as stopped.
    pub quiet_after: Duration,
    /// Whether the table stays when the server ends.
    pub keep_on_exit: bool,
}

/// A rate per second.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RateLimit {
    /// Packets.
    Packets(NonZeroU64),
    /// Octets of packets from the IP header on.
    Octets(NonZeroU64),
}

impl MitigatorConfig {
    /// Makes relative paths relative to the folder of the configuration. A command's program is looked for in the `PATH` if
    /// it has no slash.
    pub fn resolve(&mut self, folder: &Path) {
        let files = [
            &mut self.token_file,
            &mut self.ca,
            &mut self.certificate,
            &mut self.key,
        ];
        for path in files {
            if !path.as_os_str().is_empty() {
                *path = folder.join(&path);
            }
        }
        if let Some(program) = self.command.first_mut()
            && program.contains('/')
        {
            *program = folder.join(&program).to_string_lossy().into_owned();
        }
    }

    fn check(&self, faults: &mut Faults<'_>) -> Option<MitigatorSettings> {
        let known = ["command", "webhook", "nftables"].contains(&self.kind.as_str());
        if !known {
            faults.add("kind", "is one of `command`, `webhook` and `nftables`");
            return None;
        }
        if self.time_limit.0.is_zero() || self.time_limit.0 > MAX_TIME_LIMIT {
            faults.add("time_limit", "must be more than 0 and at most 60 s");
        }
        self.check_foreign(faults);
        match self.kind.as_str() {
            "command" => self.check_command(faults),
            "webhook" => self.check_webhook(faults),
            _ => self.check_nftables(faults),
        }
    }

    /// Options of another kind would be without effect: somebody believes that they are not.
    fn check_foreign(&self, faults: &mut Faults<'_>) {
        let other = Self::default();
        let options = [
            ("command", "command", self.command != other.command),
            ("webhook", "url", self.url != other.url),
            ("webhook", "token_file", self.token_file != other.token_file),
            ("webhook", "ca", self.ca != other.ca),
            (
                "webhook",
                "certificate",
                self.certificate != other.certificate,
            ),
            ("webhook", "key", self.key != other.key),
            ("nftables", "namespace", self.namespace != other.namespace),
            ("nftables", "table", self.table != other.table),
            (
                "nftables",
                "pass_packets_per_second",
                self.pass_packets_per_second != 0,
            ),
            (
                "nftables",
                "pass_bytes_per_second",
                self.pass_bytes_per_second != 0,
            ),
            ("nftables", "spare", self.spare != other.spare),
        ];
        for (kind, option, is_set) in options {
            if is_set && kind != self.kind {
                faults.add(option, &format!("is an option of kind `{kind}`"));
            }
        }
        if self.kind == "nftables" && self.report_interval != other.report_interval {
            faults.add("report_interval", "is for commands and webhooks");
        }
    }

    fn name(&self) -> String {
        let name = if self.name.is_empty() {
            &self.kind
        } else {
            &self.name
        };
        name.clone()
    }

    fn external(&self) -> ExternalSettings {
        ExternalSettings {
            report_interval: self.report_interval.0,
            quiet_after: self.quiet_after.0,
            keep_on_exit: self.keep_on_exit,
        }
    }

    fn check_command(&self, faults: &mut Faults<'_>) -> Option<MitigatorSettings> {
        if self.command.first().is_none_or(String::is_empty) {
            faults.add("command", "is the program and its arguments, as a list");
            return None;
        }
        Some(MitigatorSettings::Command(CommandSettings {
            name: self.name(),
            command: self.command.clone(),
            time_limit: self.time_limit.0,
            external: self.external(),
        }))
    }

    fn check_webhook(&self, faults: &mut Faults<'_>) -> Option<MitigatorSettings> {
        let path = |path: &PathBuf| (!path.as_os_str().is_empty()).then(|| path.clone());
        let url: Uri = self
            .url
            .parse()
            .ok()
            .filter(|url: &Uri| url.host().is_some_and(|host| !host.is_empty()))
            .or_else(|| {
                faults.add(
                    "url",
                    "is an URL such as `https://scrubber.example.net/dots`",
                );
                None
            })?;
        let has_user = url
            .authority()
            .is_some_and(|authority| authority.as_str().contains('@'));
        if has_user {
            faults.add("url", "has a user name: a token goes into `token_file`");
        }
        let identity = match (path(&self.certificate), path(&self.key)) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => {
                faults.add("certificate", "and `key` go together");
                None
            }
        };
        let tls = WebhookTls {
            ca: path(&self.ca),
            identity,
        };
        let tls = match url.scheme_str() {
            Some("https") => Some(tls),
            Some("http") => {
                if tls != WebhookTls::default() || self.token_file != PathBuf::new() {
                    faults.add("url", "must be `https` for certificates and tokens");
                }
                None
            }
            _ => {
                faults.add("url", "must begin with `https://` or `http://`");
                None
            }
        };
        Some(MitigatorSettings::Webhook(WebhookSettings {
            name: self.name(),
            url,
            tls,
            token_file: path(&self.token_file),
            time_limit: self.time_limit.0,
            external: self.external(),
        }))
    }

    fn check_nftables(&self, faults: &mut Faults<'_>) -> Option<MitigatorSettings> {
        let is_word = |text: &str| {
            text.starts_with(|first: char| first.is_ascii_alphanumeric())
                && text
                    .chars()
                    .all(|char| char.is_ascii_alphanumeric() || "_-.".contains(char))
                && text.len() <= 64
        };
        if !self.namespace.is_empty() && !is_word(&self.namespace) {
            faults.add("namespace", "is a name as `ip netns list` shows it");
        }
        let is_table = is_word(&self.table)
            && self
                .table
                .starts_with(|first: char| first.is_ascii_alphabetic())
            && !self.table.contains(['-', '.']);
        if !is_table {
            faults.add(
                "table",
                "begins with a letter, and has letters, digits and `_`",
            );
        }
        let packets = NonZeroU64::new(self.pass_packets_per_second);
        let octets = NonZeroU64::new(self.pass_bytes_per_second);
        let most = i64::MAX as u64 / 2;
        if packets.max(octets).is_some_and(|rate| rate.get() > most) {
            faults.add("pass_packets_per_second", "or octets: the rate is too high");
        }
        let pass = match (packets, octets) {
            (Some(_), Some(_)) => {
                faults.add(
                    "pass_bytes_per_second",
                    "and `pass_packets_per_second` exclude each other",
                );
                None
            }
            (packets, octets) => packets
                .map(RateLimit::Packets)
                .or(octets.map(RateLimit::Octets)),
        };
        Some(MitigatorSettings::Nftables(NftablesSettings {
            name: self.name(),
            namespace: (!self.namespace.is_empty()).then(|| self.namespace.clone()),
            table: self.table.clone(),
            pass,
            spare: self.spare.clone(),
            time_limit: self.time_limit.0,
            quiet_after: self.quiet_after.0,
            keep_on_exit: self.keep_on_exit,
        }))
    }
}

/// Mistakes of one back end.
struct Faults<'a> {
    path: String,
    all: &'a mut Vec<Fault>,
}

impl Faults<'_> {
    fn add(&mut self, key: &str, message: &str) {
        self.all.push(Fault {
            path: format!("{}.{key}", self.path),
            message: message.to_owned(),
        });
    }
}

/// Checks all back ends. What it returns is of use if there was no fault.
pub(crate) fn check_all(
    configs: &[MitigatorConfig],
    all: &mut Vec<Fault>,
) -> Vec<MitigatorSettings> {
    let mut names = BTreeSet::new();
    let mut tables = BTreeSet::new();
    let mut settings = Vec::new();
    for (index, config) in configs.iter().enumerate() {
        let path = format!("dots_server.mitigator[{index}]");
        let mut faults = Faults { path, all };
        let Some(checked) = config.check(&mut faults) else {
            continue;
        };
        if !names.insert(checked.name().to_owned()) {
            faults.add("name", "there is another mitigator of this name");
        }
        if let MitigatorSettings::Nftables(nftables) = &checked
            && !tables.insert((nftables.namespace.clone(), nftables.table.clone()))
        {
            faults.add("table", "is another mitigator's");
        }
        settings.push(checked);
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(configs: &[MitigatorConfig]) -> Vec<String> {
        let mut faults = Vec::new();
        check_all(configs, &mut faults);
        faults
            .into_iter()
            .map(|fault| fault.path.replace("dots_server.mitigator", ""))
            .collect()
    }

    fn of_kind(kind: &str) -> MitigatorConfig {
        MitigatorConfig {
            kind: kind.to_owned(),
            ..MitigatorConfig::default()
        }
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let webhook = |url: &str| MitigatorConfig {
            url: url.to_owned(),
            ..of_kind("webhook")
        };
        let configs = [
            of_kind("bgp"),
            of_kind("command"),
            webhook("/relative"),
            webhook("ftp://a.example/"),
            MitigatorConfig {
                token_file: "token".into(),
                certificate: "c.pem".into(),
                name: "other".to_owned(),
                ..webhook("http://user@a.example/")
            },
            MitigatorConfig {
                namespace: "../x".to_owned(),
                table: "a b".to_owned(),
                pass_bytes_per_second: 1,
                pass_packets_per_second: 1,
                command: vec!["x".to_owned()],
                time_limit: Period(Duration::ZERO),
                ..of_kind("nftables")
            },
            MitigatorConfig {
                name: "second".to_owned(),
                ..of_kind("nftables")
            },
            MitigatorConfig {
                name: "second".to_owned(),
                ..of_kind("nftables")
            },
        ];
        let expected = [
            "[0].kind",
            "[1].command",
            "[2].url",
            "[3].url",
            "[4].url",
            "[4].certificate",
            "[4].url",
            "[5].time_limit",
            "[5].command",
            "[5].namespace",
            "[5].table",
            "[5].pass_bytes_per_second",
            "[7].name",
            "[7].table",
        ];
        assert_eq!(faults(&configs), expected);
    }

    #[test]
    fn defaults_are_of_use() {
        let command = MitigatorConfig {
            command: vec!["hooks/block".to_owned(), "--now".to_owned()],
            ..of_kind("command")
        };
        assert!(faults(&[command.clone(), of_kind("nftables")]).is_empty());
        let mut resolved = command;
        resolved.resolve(Path::new("/etc/weir"));
        assert_eq!(resolved.command, ["/etc/weir/hooks/block", "--now"]);
        assert_eq!(resolved.ca, PathBuf::new());
    }
}
