//! Vendor attack mappings: what the numbers of attacks mean (RFC 9244 §8.1.6).

use serde_json::{Map, Value};

use super::element::{Element, parsed, put, text, unique_keys, unsigned};
use super::{BodyFault, Source};

/// Longest description or name that is taken, in characters; the module sets no bound.
const MAX_TEXT: usize = 4_096;
/// Longest language tag that is taken (RFC 5646 §4.4.1 asks for 35), in octets.
const MAX_TAG: usize = 64;

/// Tables of attacks by vendor.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct VendorMapping {
    /// The vendors, unique by number.
    pub vendors: Vec<Vendor>,
}

/// A vendor's table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Vendor {
    /// Private enterprise number.
    pub id: u32,
    /// Name.
    pub name: Option<String>,
    /// Language of the descriptions (RFC 5646); `en-US` where absent.
    pub language: Option<String>,
    /// When the table was updated, in seconds since the epoch.
    pub last_updated: u64,
    /// The attacks, unique by number.
    pub attacks: Vec<AttackMapping>,
}

/// What an attack's number means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AttackMapping {
    /// The vendor's number.
    pub id: u32,
    /// What it means.
    pub description: String,
}

impl VendorMapping {
    /// Reads the value of `ietf-dots-mapping:vendor-mapping`.
    pub fn read(value: &Value, source: Source) -> Result<Self, BodyFault> {
        let mut element = Element::open(value, "vendor-mapping", source)?;
        let vendors = element.list("vendor", Vendor::read)?;
        unique_keys(
            vendors.iter().map(|vendor| vendor.id),
            &element.child("vendor"),
        )?;
        element.finish()?;
        Ok(Self { vendors })
    }

    /// The value of `ietf-dots-mapping:vendor-mapping`.
    #[must_use]
    pub fn json(&self) -> Value {
        let mut members = Map::new();
        super::element::put_all(&mut members, "vendor", &self.vendors, Vendor::json);
        Value::Object(members)
    }

    /// The meaning of an attack's number.
    #[must_use]
    pub fn description(&self, vendor: u32, attack: u32) -> Option<&str> {
        let vendor = self.vendors.iter().find(|known| known.id == vendor)?;
        let attack = vendor.attacks.iter().find(|known| known.id == attack)?;
        Some(&attack.description)
    }

    /// Attacks of all vendors.
    #[must_use]
    pub fn attacks(&self) -> usize {
        self.vendors.iter().map(|vendor| vendor.attacks.len()).sum()
    }
}

impl Vendor {
    fn read(mut element: Element<'_>) -> Result<Self, BodyFault> {
        let found = Self {
            id: element.mandatory("vendor-id", unsigned)?,
            name: element.leaf("vendor-name", |value| text(value, MAX_TEXT))?,
            language: element.leaf("description-lang", language)?,
            last_updated: element.mandatory("last-updated", parsed)?,
            attacks: element.list("attack-mapping", AttackMapping::read)?,
        };
        unique_keys(
            found.attacks.iter().map(|attack| attack.id),
            &element.child("attack-mapping"),
        )?;
        element.finish()?;
        Ok(found)
    }

    fn json(&self) -> Value {
        let mut members = Map::new();
        put(&mut members, "vendor-id", Some(self.id));
        put(&mut members, "vendor-name", self.name.as_deref());
        put(&mut members, "description-lang", self.language.as_deref());
        put(
            &mut members,
            "last-updated",
            Some(self.last_updated.to_string()),
        );
        super::element::put_all(&mut members, "attack-mapping", &self.attacks, |attack| {
            let mut members = Map::new();
            put(&mut members, "attack-id", Some(attack.id));
            let description = attack.description.as_str();
            put(&mut members, "attack-description", Some(description));
            Value::Object(members)
        });
        Value::Object(members)
    }
}

impl AttackMapping {
    fn read(mut element: Element<'_>) -> Result<Self, BodyFault> {
        let found = Self {
            id: element.mandatory("attack-id", unsigned)?,
            description: element.mandatory("attack-description", |value| text(value, MAX_TEXT))?,
        };
        element.finish()?;
        Ok(found)
    }
}

/// A language tag: subtags of 1 to 8 letters and digits, the first of letters (RFC 5646 §2.1).
fn language(value: &Value) -> Option<String> {
    let tag = value.as_str()?;
    let mut subtags = tag.split('-');
    let first = subtags.next()?;
    let is_subtag = |subtag: &str| {
        (1..=8).contains(&subtag.len()) && subtag.bytes().all(|o| o.is_ascii_alphanumeric())
    };
    let fits = tag.len() <= MAX_TAG
        && is_subtag(first)
        && first.bytes().all(|octet| octet.is_ascii_alphabetic())
        && (first.len() > 1 || first.eq_ignore_ascii_case("x") || first.eq_ignore_ascii_case("i"))
        && subtags.all(is_subtag);
    fits.then(|| tag.to_owned())
}
