//! From CBOR to the JSON form.

use std::collections::BTreeSet;

use minicbor::Decoder;
use minicbor::data::{Tag, Type};
use serde_json::{Map, Value};

use super::{
    DECIMAL_EXPONENT, DECIMAL_TAG, MAX_DEPTH, MAX_ITEMS, ROOT, number_to_json, wrong_type,
};
use crate::Decimal;
use crate::body::BodyError;
use crate::keys::{Comprehension, Kind, Parameter, by_key};

/// Tag that may precede a body (RFC 9132 §10.5).
const DOTS_TAG: u64 = 271;
/// Unknown keys that an error names at most.
const MAX_NAMED_KEYS: usize = 16;

/// Reads one body.
pub(super) struct Reader<'a> {
    decoder: Decoder<'a>,
    items: usize,
    unknown: BTreeSet<u16>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(octets: &'a [u8]) -> Self {
        Self {
            decoder: Decoder::new(octets),
            items: 0,
            unknown: BTreeSet::new(),
        }
    }

    /// Returns whether all octets were read and all required keys known.
    pub(super) fn finish(self) -> Result<(), BodyError> {
        if self.offset() != self.decoder.input().len() {
            return Err(BodyError::Trailing {
                offset: self.offset(),
            });
        }
        if self.unknown.is_empty() {
            return Ok(());
        }
        Err(BodyError::UnknownKeys(self.unknown.into_iter().collect()))
    }

    fn offset(&self) -> usize {
        self.decoder.position()
    }

    fn malformed(&self) -> BodyError {
        BodyError::Malformed {
            offset: self.offset(),
        }
    }

    pub(super) fn body(&mut self) -> Result<Value, BodyError> {
        if self.next()? == Type::Tag {
            let offset = self.offset();
            if self.tag()? != DOTS_TAG {
                return Err(BodyError::Malformed { offset });
            }
        }
        self.map(ROOT, 1)
    }

    /// Counts the item that follows and returns its type.
    fn next(&mut self) -> Result<Type, BodyError> {
        self.items += 1;
        if self.items > MAX_ITEMS {
            return Err(BodyError::TooManyItems);
        }
        self.peek()
    }

    fn peek(&self) -> Result<Type, BodyError> {
        match self.decoder.datatype() {
            Ok(
                Type::ArrayIndef
                | Type::MapIndef
                | Type::BytesIndef
                | Type::StringIndef
                | Type::Break,
            ) => Err(BodyError::Indefinite {
                offset: self.offset(),
            }),
            Ok(found) => Ok(found),
            Err(_) => Err(self.malformed()),
        }
    }

    fn tag(&mut self) -> Result<u64, BodyError> {
        let offset = self.offset();
        self.decoder
            .tag()
            .map(Tag::as_u64)
            .map_err(|_| BodyError::Malformed { offset })
    }

    /// Reads the head of an array or a map and returns its number of entries, of which octets have to follow.
    fn length(&mut self, found: Type, name: &'static str, depth: usize) -> Result<u64, BodyError> {
        if depth > MAX_DEPTH {
            return Err(BodyError::TooDeep);
        }
        let offset = self.offset();
        let length = match found {
            Type::Array => self.decoder.array(),
            Type::Map => self.decoder.map(),
            _ => {
                return Err(BodyError::WrongType {
                    name,
                    expected: "a map or an array",
                });
            }
        };
        let length = length
            .map_err(|_| BodyError::Malformed { offset })?
            .ok_or(BodyError::Indefinite { offset })?;
        let remaining = self.decoder.input().len().saturating_sub(self.offset());
        // Every item takes an octet at least.
        if usize::try_from(length).is_ok_and(|length| length <= remaining) {
            Ok(length)
        } else {
            Err(BodyError::Malformed { offset })
        }
    }

    fn map(&mut self, name: &'static str, depth: usize) -> Result<Value, BodyError> {
        let found = self.peek()?;
        if found != Type::Map {
            return Err(BodyError::WrongType {
                name,
                expected: "a map",
            });
        }
        let mut members = Map::new();
        let mut optional = BTreeSet::new();
        for _ in 0..self.length(found, name, depth)? {
            let key = self.key()?;
            let Some(parameter) = by_key(key) else {
                if !self.unknown_key(key, &mut optional) {
                    return Err(BodyError::DuplicateKey { key });
                }
                self.skip(depth + 1)?;
                continue;
            };
            let value = self.value(parameter, depth + 1)?;
            if members.insert(parameter.name.to_owned(), value).is_some() {
                return Err(BodyError::DuplicateKey { key });
            }
        }
        Ok(Value::Object(members))
    }

    fn key(&mut self) -> Result<u16, BodyError> {
        self.next()?;
        let offset = self.offset();
        let key = self
            .integer()
            .and_then(|key| u16::try_from(key).ok())
            .filter(|key| *key > 0);
        key.ok_or(BodyError::InvalidKey { offset })
    }

    /// Returns false for an optional key that the map had already.
    fn unknown_key(&mut self, key: u16, optional: &mut BTreeSet<u16>) -> bool {
        match Comprehension::of(key) {
            Comprehension::Optional => optional.insert(key),
            Comprehension::Required => {
                if self.unknown.len() < MAX_NAMED_KEYS {
                    self.unknown.insert(key);
                }
                true
            }
        }
    }

    fn value(&mut self, parameter: &'static Parameter, depth: usize) -> Result<Value, BodyError> {
        let name = parameter.name;
        let found = self.next()?;
        match parameter.kind {
            Kind::Map => self.map(name, depth),
            Kind::List => self.array(name, depth, |reader| {
                reader.next()?;
                reader.map(name, depth + 1)
            }),
            Kind::TextList => self.array(name, depth, |reader| reader.scalar(name, Kind::Text)),
            Kind::UnsignedList(greatest) => self.array(name, depth, |reader| {
                reader.scalar(name, Kind::Unsigned(greatest))
            }),
            Kind::EnumerationList(labels) => self.array(name, depth, |reader| {
                reader.scalar(name, Kind::Enumeration(labels))
            }),
            kind => self.read_scalar(name, kind, found),
        }
    }

    fn array(
        &mut self,
        name: &'static str,
        depth: usize,
        mut element: impl FnMut(&mut Self) -> Result<Value, BodyError>,
    ) -> Result<Value, BodyError> {
        let found = self.peek()?;
        if found != Type::Array {
            return Err(BodyError::WrongType {
                name,
                expected: "an array",
            });
        }
        let mut values = Vec::new();
        for _ in 0..self.length(found, name, depth)? {
            values.push(element(self)?);
        }
        Ok(Value::Array(values))
    }

    fn scalar(&mut self, name: &'static str, kind: Kind) -> Result<Value, BodyError> {
        let found = self.next()?;
        self.read_scalar(name, kind, found)
    }

    fn read_scalar(
        &mut self,
        name: &'static str,
        kind: Kind,
        found: Type,
    ) -> Result<Value, BodyError> {
        match (kind, found) {
            (Kind::Text, Type::String) => match self.decoder.str() {
                Ok(text) => Ok(Value::from(text)),
                Err(_) => Err(self.malformed()),
            },
            (Kind::Boolean, Type::Bool) => match self.decoder.bool() {
                Ok(value) => Ok(Value::from(value)),
                Err(_) => Err(self.malformed()),
            },
            (Kind::Decimal, Type::Tag) => self.decimal(name),
            (Kind::Text | Kind::Boolean | Kind::Decimal, _) => Err(wrong_type(name, kind)),
            _ => {
                let offset = self.offset();
                if !is_integer(found) {
                    return Err(wrong_type(name, kind));
                }
                let number = self.integer().ok_or(BodyError::Malformed { offset })?;
                number_to_json(name, kind, number)
            }
        }
    }

    fn decimal(&mut self, name: &'static str) -> Result<Value, BodyError> {
        let wrong = wrong_type(name, Kind::Decimal);
        if self.tag()? != DECIMAL_TAG || self.next()? != Type::Array {
            return Err(wrong);
        }
        if self.decoder.array().ok().flatten() != Some(2) {
            return Err(wrong);
        }
        self.next()?;
        if self.integer() != Some(DECIMAL_EXPONENT.into()) {
            return Err(wrong);
        }
        self.next()?;
        let mantissa = self.integer().ok_or(wrong)?;
        let hundredths = i64::try_from(mantissa).map_err(|_| BodyError::OutOfRange { name })?;
        Ok(Value::from(
            Decimal::from_hundredths(hundredths).to_string(),
        ))
    }

    /// Reads an integer of either sign; leaves other items where they are.
    fn integer(&mut self) -> Option<i128> {
        self.decoder.int().ok().map(i128::from)
    }

    /// Passes over the value of an unknown key, under the same bounds as known ones.
    fn skip(&mut self, depth: usize) -> Result<(), BodyError> {
        match self.next()? {
            found @ Type::Array => {
                for _ in 0..self.length(found, ROOT, depth)? {
                    self.skip(depth + 1)?;
                }
                Ok(())
            }
            found @ Type::Map => {
                for _ in 0..self.length(found, ROOT, depth)? {
                    self.skip(depth + 1)?;
                    self.skip(depth + 1)?;
                }
                Ok(())
            }
            Type::Tag => {
                if depth > MAX_DEPTH {
                    return Err(BodyError::TooDeep);
                }
                self.tag()?;
                self.skip(depth + 1)
            }
            Type::String => {
                let offset = self.offset();
                self.decoder
                    .str()
                    .map(drop)
                    .map_err(|_| BodyError::Malformed { offset })
            }
            _ => {
                let offset = self.offset();
                self.decoder
                    .skip()
                    .map_err(|_| BodyError::Malformed { offset })
            }
        }
    }
}

fn is_integer(found: Type) -> bool {
    matches!(
        found,
        Type::U8
            | Type::U16
            | Type::U32
            | Type::U64
            | Type::I8
            | Type::I16
            | Type::I32
            | Type::I64
            | Type::Int
    )
}
