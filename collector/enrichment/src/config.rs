use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use weir_flow_record::Quantity;

/// Octets of a name or another text that is kept, at most.
pub(crate) const MOST_TEXT: usize = 256;

/// The table `[enrichment]`. An empty path switches its source off.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct EnrichmentConfig {
    /// A MaxMind database (`.mmdb`) of autonomous systems: GeoLite2-ASN, GeoIP2-ISP, DB-IP or IPinfo.
    pub asn_database: PathBuf,
    /// A MaxMind database (`.mmdb`) of countries or cities.
    pub country_database: PathBuf,
    /// A CSV file of networks with the columns `prefix`, `name`, `site`, `role` and `tenant`.
    pub networks: PathBuf,
}

impl EnrichmentConfig {
    /// Whether any source is configured.
    pub fn is_on(&self) -> bool {
        *self != Self::default()
    }
}

/// A mistake in the configuration or in a file that it names: where, as a path such as `enrichment.networks`, and what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// The key.
    pub path: String,
    /// What is wrong with it; for a file of lines with the line's number.
    pub message: String,
}

impl Fault {
    /// A fault at `path`.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            message: message.into(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// What is configured of one interface: `"transit-a"`, or `{ name = "transit-a", description = "…", speed = "10G" }`.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub struct InterfaceConfig {
    /// Its name.
    pub name: String,
    /// What it is for; empty = as the exporter says.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Bits per second; 0 = unknown.
    pub speed: Quantity,
}

impl<'de> Deserialize<'de> for InterfaceConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = InterfaceConfig;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an interface's name, or a table with name, description and speed")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<InterfaceConfig, E> {
                Ok(InterfaceConfig {
                    name: name.to_owned(),
                    ..InterfaceConfig::default()
                })
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<InterfaceConfig, M::Error> {
                let mut interface = InterfaceConfig::default();
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "name" => interface.name = map.next_value()?,
                        "description" => interface.description = map.next_value()?,
                        "speed" => interface.speed = map.next_value()?,
                        _ => {
                            return Err(M::Error::unknown_field(
                                &key,
                                &["name", "description", "speed"],
                            ));
                        }
                    }
                }
                Ok(interface)
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// The key `interfaces` of an `[[exporter]]`: what is configured of its interfaces, by ifIndex.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Interfaces(pub BTreeMap<u32, InterfaceConfig>);

impl Interfaces {
    /// All mistakes at once; `path` is the table's, such as `exporter[1].interfaces`.
    pub fn check(&self, path: &str) -> Vec<Fault> {
        let mut faults = Vec::new();
        for (index, interface) in &self.0 {
            let mut fault = |message: &str| {
                faults.push(Fault::new(format!("{path}.{index}"), message));
            };
            if *index == 0 {
                fault("ifIndex 0 stands for no interface");
            }
            if interface.name.is_empty() {
                fault("an interface needs a name");
            }
            for text in [&interface.name, &interface.description] {
                if let Err(message) = check_text(text) {
                    fault(&message);
                }
            }
        }
        faults
    }
}

/// Refuses what would break a line of output, or is no name.
pub(crate) fn check_text(text: &str) -> Result<(), String> {
    if text.len() > MOST_TEXT {
        Err(format!("a text may have {MOST_TEXT} octets at most"))
    } else if text.chars().any(char::is_control) {
        Err(format!("{text:?} has a control character"))
    } else {
        Ok(())
    }
}

impl Serialize for Interfaces {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(
            self.0
                .iter()
                .map(|(index, value)| (index.to_string(), value)),
        )
    }
}

impl<'de> Deserialize<'de> for Interfaces {
    /// TOML knows only strings as keys.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = BTreeMap::<String, InterfaceConfig>::deserialize(deserializer)?;
        let mut interfaces = BTreeMap::new();
        for (key, interface) in texts {
            let index = key
                .parse()
                .map_err(|_| D::Error::custom(format!("`{key}` is no ifIndex")))?;
            interfaces.insert(index, interface);
        }
        Ok(Self(interfaces))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Serialize, Deserialize)]
    struct Exporter {
        interfaces: Interfaces,
    }

    #[test]
    fn interfaces_are_names_or_tables() {
        let text =
            "interfaces = { 1 = \"transit-a\", 7 = { name = \"customer-b\", speed = \"10G\" } }";
        let exporter: Exporter = toml::from_str(text).unwrap();
        assert_eq!(exporter.interfaces.0[&1].name, "transit-a");
        assert_eq!(exporter.interfaces.0[&7].speed, Quantity(10_000_000_000));
        assert_eq!(exporter.interfaces.check("exporter[0].interfaces"), []);
        let again: Exporter = toml::from_str(&toml::to_string(&exporter).unwrap()).unwrap();
        assert_eq!(again.interfaces, exporter.interfaces);
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        let of = |text: &str| toml::from_str::<Exporter>(text);
        for (text, message) in [
            ("interfaces = { a = \"x\" }", "`a` is no ifIndex"),
            (
                "interfaces = { 1 = { nam = \"x\" } }",
                "unknown field `nam`",
            ),
            ("interfaces = { 1 = 5 }", "an interface's name"),
        ] {
            let error = of(text).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
        let exporter = of("interfaces = { 0 = \"x\", 3 = \"\", 4 = \"a\\nb\" }").unwrap();
        let faults = exporter.interfaces.check("exporter[2].interfaces");
        let paths: Vec<_> = faults.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "exporter[2].interfaces.0",
                "exporter[2].interfaces.3",
                "exporter[2].interfaces.4"
            ]
        );
    }

    #[test]
    fn off_by_default() {
        let config: EnrichmentConfig = toml::from_str("").unwrap();
        assert!(!config.is_on());
    }
}
