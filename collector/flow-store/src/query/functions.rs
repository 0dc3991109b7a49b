use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use polars::error::{PolarsResult, polars_bail, polars_err};
use polars::prelude::udf::UserDefinedFunction;
use polars::prelude::{
    AnonymousColumnsUdf, BooleanChunked, Column, ColumnsUdf, DataType, Field, IntoColumn,
    NewChunkedArray, Schema, StringChunked,
};
use polars::sql::FunctionRegistry;

/// SQL functions on addresses.
pub(super) struct Functions {
    known: [UserDefinedFunction; 2],
}

impl Functions {
    pub(super) fn new() -> Self {
        Self {
            known: [
                UserDefinedFunction::new("in_prefix".into(), Function::InPrefix),
                UserDefinedFunction::new("prefix".into(), Function::Prefix),
            ],
        }
    }
}

impl FunctionRegistry for Functions {
    fn register(&mut self, name: &str, _: UserDefinedFunction) -> PolarsResult<()> {
        polars_bail!(ComputeError: "the functions are fixed: {name} cannot be added")
    }

    fn get_udf(&self, name: &str) -> PolarsResult<Option<UserDefinedFunction>> {
        let known = self.known.iter().find(|function| function.name == name);
        Ok(known.cloned())
    }

    fn contains(&self, name: &str) -> bool {
        self.known.iter().any(|function| function.name == name)
    }
}

#[derive(Clone, Copy)]
enum Function {
    InPrefix,
    Prefix,
}

impl ColumnsUdf for Function {
    fn call_udf(&self, arguments: &mut [Column]) -> PolarsResult<Column> {
        match (self, &*arguments) {
            (Self::InPrefix, [addresses, prefix]) => in_prefix(addresses, prefix),
            (Self::InPrefix, _) => {
                polars_bail!(SQLInterface: "in_prefix takes an address and a prefix")
            }
            (Self::Prefix, [addresses, v4, v6]) => prefix(addresses, v4, v6),
            (Self::Prefix, _) => {
                polars_bail!(SQLInterface: "prefix takes an address, a length for IPv4 and one for IPv6")
            }
        }
    }
}

impl AnonymousColumnsUdf for Function {
    fn as_column_udf(self: Arc<Self>) -> Arc<dyn ColumnsUdf> {
        self
    }

    fn deep_clone(self: Arc<Self>) -> Arc<dyn AnonymousColumnsUdf> {
        self
    }

    fn get_field(&self, _: &Schema, fields: &[Field]) -> PolarsResult<Field> {
        let name = fields.first().map(|field| field.name.clone());
        let kind = match self {
            Self::InPrefix => DataType::Boolean,
            Self::Prefix => DataType::String,
        };
        Ok(Field::new(name.unwrap_or_default(), kind))
    }
}

fn in_prefix(addresses: &Column, prefix: &Column) -> PolarsResult<Column> {
    let text = prefix.cast(&DataType::String)?;
    let text = text.str()?.get(0).unwrap_or_default().to_owned();
    let prefix: IpNet = text
        .parse()
        .map_err(|_| polars_err!(SQLInterface: "in_prefix: `{text}` is no prefix"))?;
    let mut last = Last::default();
    let found = addresses.str()?.iter().map(|address| {
        address.map(|address| last.of(address, |ip| ip.is_some_and(|ip| prefix.contains(&ip))))
    });
    let found: Vec<Option<bool>> = found.collect();
    Ok(BooleanChunked::from_slice_options(addresses.name().clone(), &found).into_column())
}

fn prefix(addresses: &Column, v4: &Column, v6: &Column) -> PolarsResult<Column> {
    let (v4, v6) = (length(v4, 32)?, length(v6, 128)?);
    let mut last = Last::default();
    let networks: Vec<Option<String>> = addresses
        .str()?
        .iter()
        .map(|address| last.of(address?, |ip| network(ip?, v4, v6)))
        .collect();
    let networks = StringChunked::from_iter_options(addresses.name().clone(), networks.into_iter());
    Ok(networks.into_column())
}

fn network(address: IpAddr, v4: u8, v6: u8) -> Option<String> {
    let length = if address.is_ipv4() { v4 } else { v6 };
    let network = IpNet::new(address, length).ok()?.trunc();
    Some(network.to_string())
}

fn length(column: &Column, most: u8) -> PolarsResult<u8> {
    let value = column.cast(&DataType::UInt8)?;
    let value = value.u8()?.get(0).filter(|length| *length <= most);
    value.ok_or_else(|| polars_err!(SQLInterface: "prefix: a length is a number from 0 to {most}"))
}

/// Rows that follow each other often hold the same address: it is looked at once.
struct Last<T> {
    text: String,
    value: Option<T>,
}

impl<T> Default for Last<T> {
    fn default() -> Self {
        Self {
            text: String::new(),
            value: None,
        }
    }
}

impl<T: Clone> Last<T> {
    fn of(&mut self, text: &str, make: impl FnOnce(Option<IpAddr>) -> T) -> T {
        match &self.value {
            Some(value) if self.text == text => value.clone(),
            _ => {
                let value = make(text.parse().ok());
                self.text.clear();
                self.text.push_str(text);
                self.value.insert(value).clone()
            }
        }
    }
}
