//! Names of exporters and interfaces: configured, or learned from options data.

use std::net::IpAddr;

use hashbrown::HashMap;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use weir_flow_record::{Address, ObservationDomainId, Quantity};

use crate::config::Interfaces;

/// Octets of a learned text, at most; what is longer is cut.
const MOST_TEXT: usize = 64;

/// What is configured of the exporters in a prefix: part of an `[[exporter]]` table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExporterNames {
    /// Exporters that it holds for; the longest match holds.
    pub prefix: IpNet,
    /// Their name; empty = none.
    pub name: String,
    /// Their interfaces.
    pub interfaces: Interfaces,
}

/// An exporter says what an interface of its is called (IE 82, 83).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InterfaceName<'a> {
    /// The exporter.
    pub exporter: Address,
    /// ifIndex.
    pub index: u32,
    /// Its name; empty = not said.
    pub name: &'a str,
    /// Its description; empty = not said.
    pub description: &'a str,
}

/// An exporter says what an observation domain of its is called (IE 300).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DomainName<'a> {
    /// The exporter.
    pub exporter: Address,
    /// The domain.
    pub domain: ObservationDomainId,
    /// Its name.
    pub name: &'a str,
}

/// An exporter says what an application id of its stands for (IE 94–96, RFC 6759).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ApplicationName<'a> {
    /// The exporter.
    pub exporter: Address,
    /// The application's id: classification engine in the first octet, selector behind it, as one number.
    pub application: u64,
    /// Its name; empty = not said.
    pub name: &'a str,
    /// Its description; empty = not said.
    pub description: &'a str,
}

/// What a learned name is stored as over a restart.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct LearnedName {
    /// The exporter.
    pub exporter: IpAddr,
    /// What of it has the name.
    #[serde(flatten)]
    pub subject: Subject,
    /// The name.
    pub name: String,
    /// The description.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

/// What of an exporter has a name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// An interface by ifIndex.
    Interface(u32),
    /// An observation domain.
    Domain(u32),
    /// An application by its id.
    Application(u64),
}

/// What is known of an interface; texts are empty where nothing is.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct InterfaceView<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it is for.
    pub description: &'a str,
    /// Bits per second; 0 = unknown.
    pub speed: Quantity,
}

/// What exporters may make a [`NameTable`] hold. What is beyond is refused and counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NameLimits {
    /// Names of one exporter.
    pub per_exporter: u32,
    /// Names of all exporters.
    pub total: usize,
}

impl Default for NameLimits {
    fn default() -> Self {
        Self {
            per_exporter: 16_384,
            total: 262_144,
        }
    }
}

/// Sums over a table's life.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
pub struct NameCounters {
    /// Names learned or changed.
    pub learned: u64,
    /// Names that there was no room for.
    pub refused: u64,
}

/// Names of exporters and interfaces. What is configured wins over what an exporter says.
#[derive(Default)]
pub struct NameTable {
    /// Longest prefix first.
    configured: Vec<ExporterNames>,
    limits: NameLimits,
    learned: HashMap<(Address, Subject), Texts>,
    of_exporter: HashMap<Address, u32>,
    counters: NameCounters,
}

#[derive(Default)]
struct Texts {
    name: Box<str>,
    description: Box<str>,
}

impl NameTable {
    /// A table that knows what is configured.
    pub fn new(configured: Vec<ExporterNames>, limits: NameLimits) -> Self {
        let mut table = Self {
            limits,
            ..Self::default()
        };
        table.configure(configured);
        table
    }

    /// Replaces what is configured; what was learned stays.
    pub fn configure(&mut self, mut configured: Vec<ExporterNames>) {
        configured.sort_by_key(|names| std::cmp::Reverse(names.prefix.prefix_len()));
        self.configured = configured;
    }

    /// Takes in what an exporter says of an interface; returns whether it is news, and so to be stored.
    pub fn handle_interface(&mut self, said: &InterfaceName<'_>) -> bool {
        let subject = Subject::Interface(said.index);
        self.learn(said.exporter, subject, said.name, said.description)
    }

    /// Takes in what an exporter says of an observation domain; returns whether it is news.
    pub fn handle_domain(&mut self, said: &DomainName<'_>) -> bool {
        let subject = Subject::Domain(said.domain.0);
        self.learn(said.exporter, subject, said.name, "")
    }

    /// Takes in what an exporter says of an application; returns whether it is news.
    pub fn handle_application(&mut self, said: &ApplicationName<'_>) -> bool {
        let subject = Subject::Application(said.application);
        self.learn(said.exporter, subject, said.name, said.description)
    }

    /// Brings back a name of an earlier run; the limits hold here too.
    pub fn restore(&mut self, name: &LearnedName) {
        let exporter = Address::from(name.exporter);
        self.learn(exporter, name.subject, &name.name, &name.description);
    }

    /// All names that were learned, sorted: to store them.
    pub fn learned(&self) -> Vec<LearnedName> {
        let all = self.learned.iter();
        let mut names: Vec<_> = all
            .map(|(&(exporter, subject), texts)| LearnedName {
                exporter: exporter.ip(),
                subject,
                name: texts.name.to_string(),
                description: texts.description.to_string(),
            })
            .collect();
        names.sort();
        names
    }

    /// The configured name of an exporter; empty where there is none.
    pub fn exporter(&self, exporter: Address) -> &str {
        self.configured_of(exporter).map_or("", |names| &names.name)
    }

    /// What is known of an interface.
    pub fn interface(&self, exporter: Address, index: u32) -> InterfaceView<'_> {
        self.interface_of(self.configured_of(exporter), exporter, index)
    }

    /// The interfaces of an exporter that have a name, configured or learned, sorted.
    pub fn interfaces(&self, exporter: Address) -> Vec<u32> {
        let configured = self.configured_of(exporter).into_iter();
        let configured = configured.flat_map(|names| names.interfaces.0.keys().copied());
        let learned = self
            .learned
            .keys()
            .filter_map(|(whose, subject)| match subject {
                Subject::Interface(index) if *whose == exporter => Some(*index),
                _ => None,
            });
        let mut all: Vec<u32> = configured.chain(learned).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The name of an observation domain; empty where none was learned.
    pub fn domain(&self, exporter: Address, domain: ObservationDomainId) -> &str {
        let texts = self.learned.get(&(exporter, Subject::Domain(domain.0)));
        texts.map_or("", |texts| &texts.name)
    }

    /// The name and description of an application; empty where none was learned.
    pub fn application(&self, exporter: Address, application: u64) -> (&str, &str) {
        let key = (exporter, Subject::Application(application));
        self.learned
            .get(&key)
            .map_or(("", ""), |texts| (&texts.name, &texts.description))
    }

    /// How many names were learned and refused.
    pub fn counters(&self) -> NameCounters {
        self.counters
    }

    pub(crate) fn configured_of(&self, exporter: Address) -> Option<&ExporterNames> {
        let mut all = self.configured.iter();
        all.find(|names| exporter.is_in(&names.prefix))
    }

    /// [`Self::interface`] where what is configured of the exporter was looked up before.
    pub(crate) fn interface_of<'a>(
        &'a self,
        configured: Option<&'a ExporterNames>,
        exporter: Address,
        index: u32,
    ) -> InterfaceView<'a> {
        let learned = self.learned.get(&(exporter, Subject::Interface(index)));
        let mut view = learned.map_or_else(InterfaceView::default, |texts| InterfaceView {
            name: &texts.name,
            description: &texts.description,
            speed: Quantity(0),
        });
        if let Some(own) = configured.and_then(|names| names.interfaces.0.get(&index)) {
            (view.name, view.speed) = (&own.name, own.speed);
            if !own.description.is_empty() {
                view.description = &own.description;
            }
        }
        view
    }

    /// An empty text says nothing, and leaves what was said before.
    fn learn(
        &mut self,
        exporter: Address,
        subject: Subject,
        name: &str,
        description: &str,
    ) -> bool {
        let (name, description) = (clean(name), clean(description));
        if name.is_empty() && description.is_empty() {
            return false;
        }
        let key = (exporter, subject);
        if !self.learned.contains_key(&key) && !self.has_room(exporter) {
            self.counters.refused += 1;
            return false;
        }
        let texts = self.learned.entry(key).or_insert_with(|| {
            *self.of_exporter.entry(exporter).or_default() += 1;
            Texts::default()
        });
        let mut news = false;
        for (known, said) in [
            (&mut texts.name, name),
            (&mut texts.description, description),
        ] {
            if !said.is_empty() && **known != *said {
                *known = said.into();
                news = true;
            }
        }
        self.counters.learned += u64::from(news);
        news
    }

    fn has_room(&self, exporter: Address) -> bool {
        let own = self.of_exporter.get(&exporter).copied().unwrap_or(0);
        own < self.limits.per_exporter && self.learned.len() < self.limits.total
    }
}

/// Up to the first control character (exporters fill up with zeros), no longer than it may be.
fn clean(text: &str) -> &str {
    let text = text.split(char::is_control).next().unwrap_or_default();
    let end = text.floor_char_boundary(MOST_TEXT);
    text.get(..end).unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

    use super::*;
    use crate::InterfaceConfig;

    const EXPORTER: Address = Address::from_v4([192, 0, 2, 1]);

    fn said<'a>(index: u32, name: &'a str, description: &'a str) -> InterfaceName<'a> {
        InterfaceName {
            exporter: EXPORTER,
            index,
            name,
            description,
        }
    }

    fn configured(prefix: &str, name: &str, interface: InterfaceConfig) -> ExporterNames {
        ExporterNames {
            prefix: prefix.parse().unwrap(),
            name: name.to_owned(),
            interfaces: Interfaces([(1, interface)].into()),
        }
    }

    #[test]
    fn what_is_configured_wins_and_what_is_missing_there_is_learned() {
        let mut table = NameTable::new(
            vec![
                configured("192.0.2.0/24", "all", InterfaceConfig::default()),
                configured(
                    "192.0.2.1/32",
                    "edge-1",
                    InterfaceConfig {
                        name: "transit-a".to_owned(),
                        description: String::new(),
                        speed: Quantity(10),
                    },
                ),
            ],
            NameLimits::default(),
        );
        assert!(table.handle_interface(&said(1, "Te0/0/0/1", "to transit A")));
        assert!(table.handle_interface(&said(2, "Te0/0/0/2", "")));
        let first = table.interface(EXPORTER, 1);
        assert_eq!((first.name, first.speed), ("transit-a", Quantity(10)));
        assert_eq!(first.description, "to transit A");
        assert_eq!(table.interface(EXPORTER, 2).name, "Te0/0/0/2");
        assert_eq!(table.interface(EXPORTER, 3), InterfaceView::default());
        assert_eq!(table.exporter(EXPORTER), "edge-1");
        assert_eq!(table.exporter(Address::from_v4([192, 0, 2, 9])), "all");
        assert_eq!(table.exporter(Address::UNSPECIFIED), "");
        table.configure(Vec::new());
        assert_eq!(table.interface(EXPORTER, 1).name, "Te0/0/0/1");
    }

    #[test]
    fn only_news_is_to_be_stored() {
        let mut table = NameTable::default();
        assert!(table.handle_interface(&said(1, "a\0\0garbage", "")));
        assert!(!table.handle_interface(&said(1, "a", "")));
        assert!(table.handle_interface(&said(1, "", "uplink")));
        assert!(!table.handle_interface(&said(1, "", "")));
        assert_eq!(table.interface(EXPORTER, 1).description, "uplink");
        assert!(table.handle_interface(&said(1, "b", "uplink")));
        assert_eq!(table.counters().learned, 3);
    }

    #[test]
    fn names_come_back_after_a_restart() {
        let mut table = NameTable::default();
        table.handle_interface(&said(7, "ge-0/0/7", "customer"));
        let domain = ObservationDomainId(3);
        table.handle_domain(&DomainName {
            exporter: EXPORTER,
            domain,
            name: "line card 3",
        });
        table.handle_application(&ApplicationName {
            exporter: EXPORTER,
            application: 0x0d00_0001,
            name: "bittorrent",
            description: "",
        });
        let stored = serde_json::to_string(&table.learned()).unwrap();
        let stored: Vec<LearnedName> = serde_json::from_str(&stored).unwrap();
        let mut again = NameTable::default();
        stored.iter().for_each(|name| again.restore(name));
        assert_eq!(again.learned(), table.learned());
        assert_eq!(again.domain(EXPORTER, domain), "line card 3");
        assert_eq!(again.application(EXPORTER, 0x0d00_0001).0, "bittorrent");
    }

    #[test]
    fn a_flood_of_names_is_refused_and_counted() {
        let limits = NameLimits {
            per_exporter: 10,
            total: 15,
        };
        let mut table = NameTable::new(Vec::new(), limits);
        for index in 0..100 {
            table.handle_interface(&said(index, &"ü".repeat(100), ""));
        }
        assert_eq!(table.learned().len(), 10);
        assert_eq!(table.counters().refused, 90);
        assert_eq!(table.interface(EXPORTER, 0).name.len(), MOST_TEXT);
        for last in 2..20 {
            let exporter = Address::from_v4([192, 0, 2, last]);
            table.handle_interface(&InterfaceName {
                exporter,
                ..said(1, "a", "")
            });
        }
        assert_eq!(table.learned().len(), 15);
        // Known ones still change.
        assert!(table.handle_interface(&said(1, "new", "")));
    }
}
