//! A strict reader over the members of a JSON object.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use thiserror::Error;

/// Who wrote a body, which decides how unknown members are taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// A request: unknown members are faults (RFC 8783 §6.1).
    Request,
    /// An answer: what a later version of a module adds is skipped.
    Answer,
}

/// The three kinds of fault that RFC 8783 §6.1 and §7.2 tell apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultKind {
    /// A mandatory node is not there.
    MissingAttribute,
    /// A value is outside its type, or contradicts another.
    InvalidValue,
    /// A node that the module, or this server, does not have.
    UnknownElement,
}

/// What is wrong with a body, and where.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{place}: {problem}")]
pub struct BodyFault {
    /// Which kind it is.
    pub kind: FaultKind,
    /// Names of the nodes from the root of the body, such as `acls/acl[0]/aces`.
    pub place: String,
    /// What is wrong there.
    pub problem: String,
}

impl BodyFault {
    /// A value that cannot stand there.
    #[must_use]
    pub fn invalid(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::new(FaultKind::InvalidValue, place, problem)
    }

    /// A node that is not there but must.
    #[must_use]
    pub fn missing(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::new(FaultKind::MissingAttribute, place, problem)
    }

    /// A node that is there but is not known.
    #[must_use]
    pub fn unknown(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::new(FaultKind::UnknownElement, place, problem)
    }

    fn new(kind: FaultKind, place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            kind,
            place: place.into(),
            problem: problem.into(),
        }
    }
}

/// A JSON object whose members are taken one by one; what is left at the end is unknown.
pub struct Element<'a> {
    place: String,
    source: Source,
    left: BTreeMap<&'a str, &'a Value>,
}

impl<'a> Element<'a> {
    pub(crate) fn open(
        value: &'a Value,
        place: impl Into<String>,
        source: Source,
    ) -> Result<Self, BodyFault> {
        let place = place.into();
        let Value::Object(members) = value else {
            return Err(BodyFault::invalid(place, "must be an object"));
        };
        Ok(Self {
            place,
            source,
            left: members.iter().map(|(n, v)| (n.as_str(), v)).collect(),
        })
    }

    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    pub(crate) fn child(&self, name: &str) -> String {
        format!("{}/{name}", self.place)
    }

    pub(crate) fn invalid(&self, name: &str, problem: &str) -> BodyFault {
        BodyFault::invalid(self.child(name), problem)
    }

    pub(crate) fn missing(&self, name: &str) -> BodyFault {
        BodyFault::missing(self.child(name), "is missing")
    }

    pub(crate) fn optional(&mut self, name: &str) -> Option<&'a Value> {
        self.left.remove(name)
    }

    /// A leaf that may be absent; `read` gives none for a value outside the leaf's type.
    pub(crate) fn leaf<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, BodyFault> {
        let Some(value) = self.optional(name) else {
            return Ok(None);
        };
        read(value)
            .map(Some)
            .ok_or_else(|| self.invalid(name, &format!("{} is not a value of it", brief(value))))
    }

    pub(crate) fn mandatory<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<T, BodyFault> {
        self.leaf(name, read)?.ok_or_else(|| self.missing(name))
    }

    /// An unsigned number of the width of `T`.
    pub(crate) fn number<T: TryFrom<u64>>(&mut self, name: &str) -> Result<Option<T>, BodyFault> {
        self.leaf(name, unsigned)
    }

    /// A number within a range.
    pub(crate) fn ranged<T: TryFrom<u64>>(
        &mut self,
        name: &str,
        range: std::ops::RangeInclusive<u64>,
    ) -> Result<Option<T>, BodyFault> {
        self.leaf(name, |value| {
            let number = value.as_u64().filter(|number| range.contains(number))?;
            T::try_from(number).ok()
        })
    }

    /// A list whose entries are objects.
    pub(crate) fn list<T>(
        &mut self,
        name: &str,
        mut read: impl FnMut(Self) -> Result<T, BodyFault>,
    ) -> Result<Vec<T>, BodyFault> {
        let Some(value) = self.optional(name) else {
            return Ok(Vec::new());
        };
        let Value::Array(entries) = value else {
            return Err(self.invalid(name, "must be an array"));
        };
        entries
            .iter()
            .enumerate()
            .map(|(index, entry)| {
                let place = format!("{}[{index}]", self.child(name));
                read(Self::open(entry, place, self.source)?)
            })
            .collect()
    }

    /// A leaf-list; a value of configuration occurs once (RFC 7950 §7.7).
    pub(crate) fn leaf_list<T: Ord + Clone>(
        &mut self,
        name: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Vec<T>, BodyFault> {
        let values = self.leaf(name, |value| {
            value
                .as_array()?
                .iter()
                .map(&read)
                .collect::<Option<Vec<T>>>()
        })?;
        let values = values.unwrap_or_default();
        if has_duplicates(values.iter()) && self.source == Source::Request {
            return Err(self.invalid(name, "has a value twice"));
        }
        Ok(values)
    }

    /// A container that may be absent.
    pub(crate) fn container(&mut self, name: &str) -> Result<Option<Self>, BodyFault> {
        let place = self.child(name);
        let source = self.source;
        self.optional(name)
            .map(|value| Self::open(value, place, source))
            .transpose()
    }

    /// Skips members of modules that are not ours (RFC 8783 §6.1: vendor-specific parameters can be ignored).
    pub(crate) fn skip_vendor_specific(&mut self) {
        self.left.retain(|name, _| !name.contains(':'));
    }

    /// Ends the reading: what is left is unknown.
    pub(crate) fn finish(self) -> Result<(), BodyFault> {
        match (self.source, self.left.keys().next()) {
            (Source::Request, Some(name)) => {
                Err(BodyFault::unknown(self.child(name), "is not known"))
            }
            _ => Ok(()),
        }
    }
}

/// Refuses a list in which a key occurs twice (RFC 7950 §7.8.2).
pub(crate) fn unique_keys<K: Ord>(
    keys: impl Iterator<Item = K>,
    place: &str,
) -> Result<(), BodyFault> {
    if has_duplicates(keys) {
        return Err(BodyFault::invalid(place, "has two entries of one key"));
    }
    Ok(())
}

fn has_duplicates<K: Ord>(keys: impl Iterator<Item = K>) -> bool {
    let mut seen = std::collections::BTreeSet::new();
    !keys.into_iter().all(|key| seen.insert(key))
}

/// An unsigned number of the width of `T`; JSON numbers alone (RFC 7951 §6.1).
pub(crate) fn unsigned<T: TryFrom<u64>>(value: &Value) -> Option<T> {
    T::try_from(value.as_u64()?).ok()
}

/// A text that parses.
pub(crate) fn parsed<T: std::str::FromStr>(value: &Value) -> Option<T> {
    value.as_str()?.parse().ok()
}

/// A text of 1 to `max` characters without control characters.
pub(crate) fn text(value: &Value, max: usize) -> Option<String> {
    let text = value.as_str()?;
    let fits = !text.is_empty() && text.chars().count() <= max;
    (fits && !text.chars().any(char::is_control)).then(|| text.to_owned())
}

/// Puts a member into an object where there is a value.
pub(crate) fn put(into: &mut Map<String, Value>, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        into.insert(name.to_owned(), value.into());
    }
}

/// Puts a list into an object where it is not empty.
pub(crate) fn put_all<T>(
    into: &mut Map<String, Value>,
    name: &str,
    values: &[T],
    write: impl Fn(&T) -> Value,
) {
    if !values.is_empty() {
        let values = values.iter().map(write).collect();
        into.insert(name.to_owned(), Value::Array(values));
    }
}

/// A value for a message, cut where it is long.
fn brief(value: &Value) -> String {
    const LONGEST: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}
