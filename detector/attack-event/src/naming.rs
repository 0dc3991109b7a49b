use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use weir_flow_record::Vector;

use crate::description;

/// What models know and the vectors do not: number, name, and the attack in one sentence. Numbers never change, and none is
/// given twice.
const LEARNED: [(u32, &str, &str); 12] = [
    (64, "http-flood", "flood of HTTP requests"),
    (
        65,
        "slow-http",
        "HTTP connections held open by very slow requests",
    ),
    (66, "brute-force", "passwords tried one after another"),
    (67, "port-scan", "scan of ports"),
    (68, "web-attack", "attack on a web application"),
    (69, "exploit", "exploit of a known weakness"),
    (70, "botnet", "traffic of a botnet"),
    (71, "infiltration", "infiltration"),
    (72, "portmap-amplification", "amplified portmap responses"),
    (73, "netbios-amplification", "amplified NetBIOS responses"),
    (74, "mssql-amplification", "amplified MS SQL responses"),
    (75, "tftp-amplification", "amplified TFTP responses"),
];

/// From here on numbers follow from names, so that all models call an attack by the same one.
const BY_NAME: u32 = 1 << 16;

/// Octets of a name at most; a longer one is cut.
const LONGEST: usize = 64;

/// What a kind of attack is called: a vector of the catalogue, or what models learned (numbers from 64 on).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum AttackName {
    /// A vector, which records are counted by.
    Known(Vector),
    /// A class of a model that is no vector.
    Learned(Arc<str>),
}

/// What a model has to do with an attack.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ModelWord {
    /// The model.
    pub id: Arc<str>,
    /// What it calls the attack.
    pub name: AttackName,
    /// How sure it is, calibrated: 0 to 1.
    pub confidence: f64,
    /// Whether nothing but the model says that it is an attack: no limit was crossed, and no operator said so.
    pub alone: bool,
}

impl AttackName {
    /// The name in the catalogue's words or a model's.
    pub fn of(name: &str) -> Self {
        match Vector::by_name(name) {
            Some(vector) => Self::Known(vector),
            None => {
                let end = (0..=LONGEST.min(name.len())).rfind(|end| name.is_char_boundary(*end));
                Self::Learned(name.get(..end.unwrap_or(0)).unwrap_or("").into())
            }
        }
    }

    /// Its number: the same for every model. Below 64 the catalogue's; from 64 on of families that data sets share; from 65,536 on
    /// made of the name.
    pub fn attack_id(&self) -> u32 {
        match self {
            Self::Known(vector) => vector.attack_id(),
            Self::Learned(name) => match learned(name) {
                Some((number, _)) => number,
                None => {
                    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, octet| {
                        (hash ^ u32::from(octet)).wrapping_mul(0x0100_0193)
                    });
                    BY_NAME + hash % ((1 << 31) - BY_NAME)
                }
            },
        }
    }

    /// All names whose numbers are fixed: upstreams are told what they mean (RFC 9244 §8.1.6).
    pub fn catalogue() -> impl Iterator<Item = Self> {
        let learned = LEARNED.iter().map(|(_, name, _)| Self::of(name));
        Vector::ALL.into_iter().map(Self::Known).chain(learned)
    }

    /// Whether a number is in the [`catalogue`](Self::catalogue).
    pub const fn is_catalogued(attack_id: u32) -> bool {
        attack_id < BY_NAME
    }

    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Known(vector) => vector.name(),
            Self::Learned(name) => name,
        }
    }

    /// The vector, if it is one.
    pub const fn vector(&self) -> Option<Vector> {
        match self {
            Self::Known(vector) => Some(*vector),
            Self::Learned(_) => None,
        }
    }

    /// What the attack is, in one sentence: `attack-description` of RFC 9244 §7.6.
    pub fn description(&self) -> String {
        match self {
            Self::Known(vector) => description(*vector).to_owned(),
            Self::Learned(name) => match learned(name) {
                Some((_, words)) => words.to_owned(),
                None => format!("attack that a model knows as {name}"),
            },
        }
    }
}

fn learned(name: &str) -> Option<(u32, &'static str)> {
    let found = LEARNED.iter().find(|(_, known, _)| *known == name);
    found.map(|(number, _, words)| (*number, *words))
}

impl From<Vector> for AttackName {
    fn from(vector: Vector) -> Self {
        Self::Known(vector)
    }
}

impl PartialEq<Vector> for AttackName {
    fn eq(&self, other: &Vector) -> bool {
        self.vector() == Some(*other)
    }
}

impl fmt::Display for AttackName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for AttackName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for AttackName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::of(&String::deserialize(deserializer)?))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn numbers_are_the_catalogues_or_their_own_for_ever() {
        for vector in Vector::ALL {
            let name = AttackName::of(vector.name());
            assert_eq!((&name, name.attack_id()), (&vector.into(), vector as u32));
        }
        let numbers: BTreeSet<u32> = LEARNED.iter().map(|(number, ..)| *number).collect();
        assert_eq!((numbers.len(), numbers.first()), (LEARNED.len(), Some(&64)));
        for (number, name, words) in LEARNED {
            let name = AttackName::of(name);
            assert_eq!(
                (name.attack_id(), name.description().as_str()),
                (number, words)
            );
        }
        // Pinned: an upstream may have noted it.
        assert_eq!(AttackName::of("some-new-thing").attack_id(), 1_847_021_687);
    }

    #[test]
    fn a_name_of_another_program_is_cut_between_letters() {
        let name = AttackName::of(&"ü".repeat(100));
        assert_eq!(name.name(), "ü".repeat(32));
    }
}
