//! From the JSON form to CBOR.

use serde_json::Value;

use super::{
    DECIMAL_EXPONENT, DECIMAL_TAG, MAX_BODY, MAX_DEPTH, MAX_ITEMS, json_to_number, wrong_type,
};
use crate::Decimal;
use crate::body::BodyError;
use crate::keys::{Kind, Parameter, by_name};

// Major types (RFC 8949 §3.1).
const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;
const SIMPLE: u8 = 7;
const FALSE: u64 = 20;
const TRUE: u64 = 21;

/// Writes one body.
#[derive(Default)]
pub(super) struct Writer {
    octets: Vec<u8>,
    items: usize,
}

impl Writer {
    pub(super) fn finish(self) -> Result<Vec<u8>, BodyError> {
        if self.octets.len() > MAX_BODY {
            Err(BodyError::TooLarge)
        } else {
            Ok(self.octets)
        }
    }

    pub(super) fn map(
        &mut self,
        name: &'static str,
        value: &Value,
        depth: usize,
    ) -> Result<(), BodyError> {
        let Value::Object(members) = value else {
            return Err(wrong_type(name, Kind::Map));
        };
        self.enter(members.len().saturating_mul(2), depth)?;
        let mut entries = Vec::with_capacity(members.len());
        for (name, value) in members {
            let parameter = by_name(name)
                .ok_or_else(|| BodyError::UnknownName(name.chars().take(64).collect()))?;
            entries.push((parameter, value));
        }
        entries.sort_by_key(|(parameter, _)| parameter.key);
        self.head(MAP, entries.len() as u64);
        for (parameter, value) in entries {
            self.head(UNSIGNED, parameter.key.into());
            self.value(parameter, value, depth + 1)?;
        }
        Ok(())
    }

    /// Counts the items below a map or an array as the reader does.
    fn enter(&mut self, items: usize, depth: usize) -> Result<(), BodyError> {
        if depth > MAX_DEPTH {
            return Err(BodyError::TooDeep);
        }
        self.items = self.items.saturating_add(items);
        if self.items >= MAX_ITEMS {
            Err(BodyError::TooManyItems)
        } else {
            Ok(())
        }
    }

    fn value(
        &mut self,
        parameter: &'static Parameter,
        value: &Value,
        depth: usize,
    ) -> Result<(), BodyError> {
        let name = parameter.name;
        let element = match parameter.kind {
            Kind::Map => return self.map(name, value, depth),
            Kind::List => None,
            Kind::TextList => Some(Kind::Text),
            Kind::UnsignedList(greatest) => Some(Kind::Unsigned(greatest)),
            Kind::EnumerationList(labels) => Some(Kind::Enumeration(labels)),
            kind => return self.scalar(name, kind, value),
        };
        let Value::Array(elements) = value else {
            return Err(wrong_type(name, parameter.kind));
        };
        self.enter(elements.len(), depth)?;
        self.head(ARRAY, elements.len() as u64);
        for value in elements {
            match element {
                Some(kind) => self.scalar(name, kind, value)?,
                None => self.map(name, value, depth + 1)?,
            }
        }
        Ok(())
    }

    fn scalar(&mut self, name: &'static str, kind: Kind, value: &Value) -> Result<(), BodyError> {
        match kind {
            Kind::Text => {
                let text = value.as_str().ok_or(wrong_type(name, kind))?;
                self.head(TEXT, text.len() as u64);
                self.octets.extend_from_slice(text.as_bytes());
            }
            Kind::Boolean => {
                let value = value.as_bool().ok_or(wrong_type(name, kind))?;
                self.head(SIMPLE, if value { TRUE } else { FALSE });
            }
            Kind::Decimal => {
                let decimal: Option<Decimal> = value.as_str().and_then(|text| text.parse().ok());
                let hundredths = decimal.ok_or(wrong_type(name, kind))?.hundredths();
                // The fraction's array and numbers are items too.
                self.items += 3;
                self.head(TAG, DECIMAL_TAG);
                self.head(ARRAY, 2);
                self.integer(DECIMAL_EXPONENT.into());
                self.integer(hundredths.into());
            }
            _ => self.integer(json_to_number(name, kind, value)?),
        }
        Ok(())
    }

    /// Writes an integer of 64 bits and a sign.
    fn integer(&mut self, number: i128) {
        let (major, argument) = if number < 0 {
            (NEGATIVE, -1 - number)
        } else {
            (UNSIGNED, number)
        };
        // All numbers of the table have at most 64 bits.
        self.head(major, u64::try_from(argument).unwrap_or(u64::MAX));
    }

    /// Writes the shortest head of an item (RFC 8949 §4.2.1).
    fn head(&mut self, major: u8, argument: u64) {
        let major = major << 5;
        let octets = argument.to_be_bytes();
        let (information, kept) = match argument {
            0..=23 => return self.octets.push(major | octets[7]),
            24..=0xff => (24, 1),
            0x100..=0xffff => (25, 2),
            0x1_0000..=0xffff_ffff => (26, 4),
            _ => (27, 8),
        };
        self.octets.push(major | information);
        self.octets.extend_from_slice(&octets[8 - kept..]);
    }
}
