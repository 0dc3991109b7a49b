//! A scenario as it stands in a TOML file.

use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;
use weir_flow_record::{Period, Quantity, Timestamp};

use crate::score::Requirement;

/// What is generated; the same file and seed give the same datagrams, octet by octet.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScenarioFile {
    /// What it is for, in a sentence.
    pub description: String,
    /// Seeds all chance.
    pub seed: u64,
    /// When it begins.
    pub start: Timestamp,
    /// How long it lasts.
    pub duration: Period,
    /// Bounds that the score should keep, such as `recall>=0.98`.
    pub expect: Vec<String>,
    /// Appended as it is to the configuration that fits the scenario.
    pub configuration: String,
    /// The limits of a host, which `over` refers to.
    pub limits: Limits,
    /// Protected networks.
    #[serde(rename = "zone")]
    pub zones: Vec<ZoneTable>,
    /// Routers and switches that export.
    #[serde(rename = "exporter")]
    pub exporters: Vec<ExporterTable>,
    /// Traffic on a usual day.
    pub normal: NormalTable,
    /// Attacks.
    #[serde(rename = "attack")]
    pub attacks: Vec<SurgeTable>,
    /// What looks like an attack and is none.
    #[serde(rename = "benign")]
    pub benign: Vec<SurgeTable>,
    /// Attacks and benign extremes by chance.
    pub random: RandomTable,
}

/// Limits per host, in and out.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bits per second.
    pub bits_per_second: Quantity,
    /// Packets per second.
    pub packets_per_second: Quantity,
    /// Flows per second.
    pub flows_per_second: Quantity,
}

/// A protected network.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ZoneTable {
    /// Its name.
    pub name: String,
    /// Its prefixes.
    pub prefixes: Vec<IpNet>,
    /// Hosts in all, spread over the prefixes.
    pub hosts: u32,
}

/// How an exporter states its sampling rate.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Statement {
    /// In options data (v5: in the header; sFlow: in each sample).
    Options,
    /// In each record (v9 and IPFIX).
    Record,
    /// Nowhere (sFlow states it all the same).
    None,
}

/// What an exporter speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// RFC 7011.
    Ipfix,
    /// RFC 3954.
    NetflowV9,
    /// IPv4 only.
    NetflowV5,
    /// sFlow v5: each sampled packet is a record, sent within a second.
    Sflow,
}

/// Which fields records have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Style {
    /// All that helps: 64-bit counters, milliseconds, fragments.
    Full,
    /// Counters of 32 bits, one octet of TCP flags, no fragments, masks and AS numbers.
    Classic,
    /// Times in whole seconds (v9: of the uptime, as all v9).
    Seconds,
    /// Times as microseconds before the export (IPFIX).
    Delta,
    /// No times at all: only octets and packets.
    Timeless,
}

/// A router or switch that exports.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExporterTable {
    /// Its address; 192.0.2.1 and up by default.
    pub address: Option<std::net::IpAddr>,
    /// What it speaks.
    pub protocol: Protocol,
    /// Observation domain, source id or sub-agent.
    pub domain: u32,
    /// It looks at one in so many packets. Several: as many samplers in one domain, each for an interface of its own.
    pub sampling: Vec<u32>,
    /// How it states that.
    pub statement: Statement,
    /// Whether the fitting configuration has `default_sampling_rate` for it (the first of `sampling`).
    pub configured_rate: bool,
    /// Which fields.
    pub style: Style,
    /// Fields in an order by chance.
    pub shuffled: bool,
    /// A flow that lasts is exported this often.
    pub active_timeout: Period,
    /// A flow that paused so long is exported.
    pub inactive_timeout: Period,
    /// A record waits so long for others to fill its datagram.
    pub flush: Period,
    /// Flows in the cache; when it is full, new ones are exported at once.
    pub cache: u32,
    /// Templates and options are repeated this often.
    pub template_interval: Period,
    /// Share of datagrams that get lost.
    pub loss: f64,
    /// It restarts at these times: sequence and uptime begin anew.
    pub reboots: Vec<Period>,
    /// How long it is silent then.
    pub reboot_time: Period,
    /// Its clock is ahead so much, in seconds; negative = behind.
    pub clock_skew: f64,
    /// How long it has been up at the start, in seconds (4,294,967 s wrap a 32-bit uptime).
    pub uptime: f64,
    /// Its share of all traffic, in relation to the others'.
    pub share: f64,
}

/// Traffic on a usual day.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NormalTable {
    /// Exported records per second on the average of a week.
    pub records_per_second: f64,
    /// Clients outside.
    pub clients: u32,
    /// How much more the popular have than others: Zipf's exponent.
    pub popularity: f64,
    /// How much day differs from night, and weekday from weekend: 0 = not, 1 = much.
    pub rhythm: f64,
    /// How unsteady hosts are: 0 = not, 1 = much.
    pub noise: f64,
    /// Share of IPv6 where the zone has both.
    pub ipv6: f64,
}

/// An attack, or something that looks like one.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SurgeTable {
    /// A kind that `weir generate --list` shows; several are joined by `+`.
    pub kind: String,
    /// From the scenario's start.
    pub at: Period,
    /// How long.
    pub lasts: Period,
    /// `host` (by chance), `host:3` (the third most popular of the first zone), an address, or a prefix (all its addresses).
    pub target: String,
    /// The rate as a multiple of the host's limit in bits or packets per second that it reaches first.
    pub over: Option<f64>,
    /// The rate, all kinds together.
    pub packets_per_second: Option<Quantity>,
    /// The rate, all kinds together.
    pub bits_per_second: Option<Quantity>,
    /// A flash crowd's rate: a multiple of what the host has.
    pub times_normal: Option<f64>,
    /// Senders; absent = as the kind has it, 0 = forged.
    pub sources: Option<u32>,
    /// Octets of a packet; absent = as the kind has it.
    pub packet_octets: Option<u32>,
    /// Share of packets that are later fragments.
    pub fragments: f64,
    /// Time to the full rate.
    pub rise: Period,
    /// From the full rate to nothing.
    pub fall: Period,
    /// Pulses: on so long.
    pub on: Period,
    /// Pulses: off so long.
    pub off: Period,
    /// Further kinds begin one after the other, so far apart.
    pub stagger: Period,
    /// From the zone to the outside: hosts of the target send.
    pub outbound: bool,
    /// How much the rate wavers from second to second.
    pub waver: f64,
}

/// Attacks and benign extremes by chance.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RandomTable {
    /// Attacks: all kinds in turn, with rates, shapes and targets by chance.
    pub attacks: u32,
    /// All at a constant rate, of one kind each.
    pub plain: bool,
    /// Lowest and highest multiple of the limits.
    pub over: Option<(f64, f64)>,
    /// Shortest and longest attack.
    pub lasts: Option<(Period, Period)>,
    /// Nothing begins before: time to learn.
    pub quiet: Period,
    /// Flash crowds.
    pub flash_crowds: u32,
    /// Backups of an hour and more.
    pub backups: u32,
    /// Speed tests.
    pub speed_tests: u32,
    /// Scans of a whole prefix.
    pub scans: u32,
    /// Pushes by a content network.
    pub cdn_pushes: u32,
    /// Hours of a busy resolver or time server.
    pub busy_servers: u32,
}

/// Why a scenario cannot be generated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScenarioFault {
    /// The text is no scenario.
    #[error("{0}")]
    Toml(#[from] toml::de::Error),
    /// A value is impossible.
    #[error("{place}: {message}")]
    Value {
        /// Where.
        place: String,
        /// What is wrong.
        message: String,
    },
}

impl ScenarioFault {
    pub(super) fn value(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Value {
            place: place.into(),
            message: message.into(),
        }
    }
}

const fn seconds(seconds: u64) -> Period {
    Period(Duration::from_secs(seconds))
}

impl Default for ScenarioFile {
    fn default() -> Self {
        Self {
            description: String::new(),
            seed: 1,
            // A Monday.
            start: Timestamp::from_seconds(1_772_409_600),
            duration: seconds(600),
            expect: Vec::new(),
            configuration: String::new(),
            limits: Limits::default(),
            zones: vec![ZoneTable::default()],
            exporters: vec![ExporterTable::default()],
            normal: NormalTable::default(),
            attacks: Vec::new(),
            benign: Vec::new(),
            random: RandomTable::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bits_per_second: Quantity(1_000_000_000),
            packets_per_second: Quantity(100_000),
            flows_per_second: Quantity(20_000),
        }
    }
}

impl Default for ZoneTable {
    fn default() -> Self {
        let prefixes = ["203.0.112.0/22", "2001:db8:a::/48"];
        Self {
            name: "campus".to_owned(),
            prefixes: prefixes
                .iter()
                .filter_map(|text| text.parse().ok())
                .collect(),
            hosts: 300,
        }
    }
}

impl Default for ExporterTable {
    fn default() -> Self {
        Self {
            address: None,
            protocol: Protocol::Ipfix,
            domain: 1,
            sampling: vec![1000],
            statement: Statement::Options,
            configured_rate: false,
            style: Style::Full,
            shuffled: false,
            active_timeout: seconds(60),
            inactive_timeout: seconds(15),
            flush: Period(Duration::from_millis(500)),
            cache: 65_536,
            template_interval: seconds(60),
            loss: 0.0,
            reboots: Vec::new(),
            reboot_time: seconds(60),
            clock_skew: 0.0,
            uptime: 1_000_000.0,
            share: 1.0,
        }
    }
}

impl Default for NormalTable {
    fn default() -> Self {
        Self {
            records_per_second: 40.0,
            clients: 50_000,
            popularity: 0.9,
            rhythm: 1.0,
            noise: 1.0,
            ipv6: 0.25,
        }
    }
}

impl ScenarioFile {
    /// Reads a scenario; mistakes come with their line.
    pub fn parse(text: &str) -> Result<Self, ScenarioFault> {
        Ok(toml::from_str(text)?)
    }

    /// What the score should keep.
    pub fn requirements(&self) -> Result<Vec<Requirement>, ScenarioFault> {
        let parsed = self.expect.iter().map(|text| {
            text.parse()
                .map_err(|error| ScenarioFault::value("expect", format!("{error}")))
        });
        parsed.collect()
    }

    /// Finds what makes it impossible, besides what the kinds and targets of its attacks do.
    pub(super) fn check(&self) -> Result<(), ScenarioFault> {
        const YEAR: Duration = Duration::from_secs(366 * 86_400);
        let fault = |place: &str, message: &str| Err(ScenarioFault::value(place, message));
        if self.duration.0.is_zero() || self.duration.0 > YEAR {
            return fault("duration", "must be above zero and at most a year");
        }
        // Sums of nanoseconds and the seconds of a capture stay in range.
        if !(0..4_000_000_000).contains(&self.start.second()) {
            return fault("start", "must lie between 1970 and 2096");
        }
        self.requirements()?;
        if self.zones.is_empty() || self.exporters.is_empty() {
            return fault("zone, exporter", "one of each is needed");
        }
        for (index, zone) in self.zones.iter().enumerate() {
            let place = format!("zone[{index}]");
            if zone.prefixes.is_empty() || !(1..=100_000).contains(&zone.hosts) {
                return fault(&place, "needs prefixes and 1 to 100000 hosts");
            }
        }
        if !(0.001..=100_000.0).contains(&self.normal.records_per_second) {
            return fault(
                "normal.records_per_second",
                "must lie between 0.001 and 100000",
            );
        }
        if self.normal.clients == 0 || !(0.0..=3.0).contains(&self.normal.popularity) {
            return fault("normal", "needs clients, and a popularity from 0 to 3");
        }
        for (name, share) in [
            ("rhythm", self.normal.rhythm),
            ("noise", self.normal.noise),
            ("ipv6", self.normal.ipv6),
        ] {
            if !(0.0..=1.0).contains(&share) {
                return fault(&format!("normal.{name}"), "must lie between 0 and 1");
            }
        }
        self.exporters
            .iter()
            .enumerate()
            .try_for_each(|(index, exporter)| exporter.check(&format!("exporter[{index}]")))
    }
}

impl ExporterTable {
    fn check(&self, place: &str) -> Result<(), ScenarioFault> {
        let fault = |message: &str| Err(ScenarioFault::value(place, message));
        if self.sampling.is_empty() || self.sampling.len() > 8 || self.sampling.contains(&0) {
            return fault("sampling: one to eight rates above 0");
        }
        if !(0.0..=1.0).contains(&self.loss) || !(0.0..=1e6).contains(&self.share) {
            return fault("loss and share are shares");
        }
        if self.template_interval.0 < Duration::from_secs(1) {
            return fault("template_interval must be at least 1s");
        }
        if self.clock_skew.abs() > 1e8 || !(0.0..=1e9).contains(&self.uptime) {
            return fault("clock_skew or uptime is out of range");
        }
        let several = self.sampling.len() > 1;
        let v5_or_sflow = matches!(self.protocol, Protocol::NetflowV5 | Protocol::Sflow);
        if several && v5_or_sflow {
            return fault("several samplers need v9 or IPFIX");
        }
        if v5_or_sflow && self.statement == Statement::Record {
            return fault("statement: only v9 and IPFIX state the rate in records");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_found() {
        for (text, part) in [
            ("sed = 1", "unknown field `sed`"),
            ("duration = \"0s\"", "duration"),
            ("[[exporter]]\nsampling = [0]", "exporter[0]"),
            (
                "[[exporter]]\nprotocol = \"sflow\"\nsampling = [1, 2]",
                "several",
            ),
            ("[normal]\nnoise = 2.0", "normal.noise"),
            ("expect = [\"recall\"]", "expect"),
        ] {
            let result = ScenarioFile::parse(text).and_then(|file| file.check());
            let error = result.unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        ScenarioFile::parse("")
            .and_then(|file| file.check())
            .unwrap();
    }
}
