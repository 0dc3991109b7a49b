use serde_json::{Map, Value};

use super::BodyFault;
use super::element::{Element, put};

/// Ports that match (RFC 8519 `port-range-or-operator`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PortMatch {
    /// From the first to the second, both included.
    Range(u16, u16),
    /// Compared with one port.
    Operator(PortOperator, u16),
}

/// How a port is compared.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PortOperator {
    /// Less than or equal.
    Lte,
    /// Greater than or equal.
    Gte,
    /// Equal; the default.
    Eq,
    /// Not equal.
    Neq,
}

impl PortOperator {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Lte, "lte"),
        (Self::Gte, "gte"),
        (Self::Eq, "eq"),
        (Self::Neq, "neq"),
    ];

    fn read(value: &Value) -> Option<Self> {
        let name = value.as_str()?;
        let found = Self::ALL.iter().find(|(_, label)| *label == name)?;
        Some(found.0)
    }

    fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find_map(|(operator, name)| (*operator == self).then_some(*name))
            .unwrap_or("eq")
    }
}

impl PortMatch {
    /// Whether a port matches.
    #[must_use]
    pub fn contains(self, port: u16) -> bool {
        match self {
            Self::Range(lower, upper) => (lower..=upper).contains(&port),
            Self::Operator(PortOperator::Lte, of) => port <= of,
            Self::Operator(PortOperator::Gte, of) => port >= of,
            Self::Operator(PortOperator::Eq, of) => port == of,
            Self::Operator(PortOperator::Neq, of) => port != of,
        }
    }

    pub(super) fn read(mut element: Element<'_>) -> Result<Self, BodyFault> {
        let lower = element.number("lower-port")?;
        let upper = element.number("upper-port")?;
        let operator = element.leaf("operator", PortOperator::read)?;
        let port = element.number("port")?;
        let found = match (lower, upper, operator, port) {
            (Some(lower), Some(upper), None, None) if lower <= upper => Self::Range(lower, upper),
            (Some(_), Some(_), None, None) => {
                return Err(element.invalid("lower-port", "is above upper-port"));
            }
            (Some(_), None, None, None) => return Err(element.missing("upper-port")),
            (None, Some(_), None, None) => return Err(element.missing("lower-port")),
            (None, None, operator, Some(port)) => {
                Self::Operator(operator.unwrap_or(PortOperator::Eq), port)
            }
            (None, None, _, None) => return Err(element.missing("port")),
            _ => return Err(element.invalid("port", "stands beside a range")),
        };
        element.finish()?;
        Ok(found)
    }

    pub(super) fn json(self) -> Value {
        let mut members = Map::new();
        match self {
            Self::Range(lower, upper) => {
                put(&mut members, "lower-port", Some(lower));
                put(&mut members, "upper-port", Some(upper));
            }
            Self::Operator(operator, port) => {
                put(&mut members, "operator", Some(operator.name()));
                put(&mut members, "port", Some(port));
            }
        }
        Value::Object(members)
    }
}
