//! What enrichment adds to a flow record.

use std::fmt;

use serde::Serialize;
use weir_flow_record::{Address, DatagramInfo, FlowBatch};

use crate::country::CountryCode;
use crate::lookups::Lookups;
use crate::names::{ExporterNames, NameTable};
use crate::snapshot::NetworkInfo;

/// The names of the added fields, in the order of [`RowFields::texts`] and of its JSON form.
pub const FIELDS: [&str; 13] = [
    "src_country",
    "dst_country",
    "src_net_name",
    "src_net_site",
    "src_net_role",
    "src_net_tenant",
    "dst_net_name",
    "dst_net_site",
    "dst_net_role",
    "dst_net_tenant",
    "in_if_name",
    "out_if_name",
    "sampler_name",
];

/// Enriches the rows of batches.
#[derive(Clone, Copy)]
pub struct RowEnricher<'a> {
    lookups: &'a Lookups,
    names: &'a NameTable,
}

/// Enriches the rows of one datagram.
#[derive(Clone, Copy)]
pub struct DatagramEnricher<'a> {
    enricher: RowEnricher<'a>,
    exporter: Address,
    configured: Option<&'a ExporterNames>,
}

/// What is added to one flow record. Texts are empty where nothing is known.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
pub struct RowFields<'a> {
    /// The source's AS as the exporter states it, else the database's, else 0: replaces the record's own `src_as`.
    #[serde(skip)]
    pub src_as: u32,
    /// The destination's AS, likewise.
    #[serde(skip)]
    pub dst_as: u32,
    /// The source's country.
    #[serde(serialize_with = "country")]
    pub src_country: Option<CountryCode>,
    /// The destination's country.
    #[serde(serialize_with = "country")]
    pub dst_country: Option<CountryCode>,
    /// The name of the source's network.
    pub src_net_name: &'a str,
    /// The site of the source's network.
    pub src_net_site: &'a str,
    /// The role of the source's network.
    pub src_net_role: &'a str,
    /// The tenant of the source's network.
    pub src_net_tenant: &'a str,
    /// The name of the destination's network.
    pub dst_net_name: &'a str,
    /// The site of the destination's network.
    pub dst_net_site: &'a str,
    /// The role of the destination's network.
    pub dst_net_role: &'a str,
    /// The tenant of the destination's network.
    pub dst_net_tenant: &'a str,
    /// The name of the input interface.
    pub in_if_name: &'a str,
    /// The name of the output interface.
    pub out_if_name: &'a str,
    /// The exporter's name.
    pub sampler_name: &'a str,
}

impl<'a> RowEnricher<'a> {
    /// Enriches from what is known now.
    pub fn new(lookups: &'a Lookups, names: &'a NameTable) -> Self {
        Self { lookups, names }
    }

    /// For the rows of `datagram`: what they share is looked up here.
    pub fn datagram(self, datagram: &DatagramInfo) -> DatagramEnricher<'a> {
        DatagramEnricher {
            enricher: self,
            exporter: datagram.exporter_address,
            configured: self.names.configured_of(datagram.exporter_address),
        }
    }
}

impl<'a> DatagramEnricher<'a> {
    /// What is added to a row, a number below the batch's length. Nothing is allocated.
    pub fn row(&self, batch: &FlowBatch, row: usize) -> RowFields<'a> {
        let RowEnricher { lookups, names } = self.enricher;
        let info = |addresses: &[Address]| {
            let address = addresses.get(row).copied();
            address.map_or_else(NetworkInfo::default, |address| lookups.lookup(address))
        };
        let (source, destination) = (
            info(&batch.source_address),
            info(&batch.destination_address),
        );
        let interface = |indices: &[u32]| {
            let index = indices.get(row).copied().unwrap_or(0);
            let known = index != 0;
            known.then(|| {
                names
                    .interface_of(self.configured, self.exporter, index)
                    .name
            })
        };
        RowFields {
            src_as: stated_or(&batch.extra.source_as, row, source.asn),
            dst_as: stated_or(&batch.extra.destination_as, row, destination.asn),
            src_country: source.country,
            dst_country: destination.country,
            src_net_name: source.name,
            src_net_site: source.site,
            src_net_role: source.role,
            src_net_tenant: source.tenant,
            dst_net_name: destination.name,
            dst_net_site: destination.site,
            dst_net_role: destination.role,
            dst_net_tenant: destination.tenant,
            in_if_name: interface(&batch.input_interface).unwrap_or_default(),
            out_if_name: interface(&batch.output_interface).unwrap_or_default(),
            sampler_name: self.configured.map_or("", |names| &names.name),
        }
    }
}

/// An exporter that has the routes knows better than a database.
fn stated_or(stated: &[u32], row: usize, found: Option<u32>) -> u32 {
    match stated.get(row) {
        Some(&stated) if stated != 0 => stated,
        _ => found.unwrap_or(0),
    }
}

fn country<S: serde::Serializer>(
    country: &Option<CountryCode>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(country.as_ref().map_or("", CountryCode::as_str))
}

impl RowFields<'_> {
    /// The values of [`FIELDS`].
    pub fn texts(&self) -> [&str; FIELDS.len()] {
        [
            self.src_country.as_ref().map_or("", CountryCode::as_str),
            self.dst_country.as_ref().map_or("", CountryCode::as_str),
            self.src_net_name,
            self.src_net_site,
            self.src_net_role,
            self.src_net_tenant,
            self.dst_net_name,
            self.dst_net_site,
            self.dst_net_role,
            self.dst_net_tenant,
            self.in_if_name,
            self.out_if_name,
            self.sampler_name,
        ]
    }

    /// The values as the end of a CSV line: each behind a comma, quoted where it must be (RFC 4180).
    pub fn csv(&self) -> impl fmt::Display + '_ {
        CsvTail(self)
    }
}

struct CsvTail<'a>(&'a RowFields<'a>);

impl fmt::Display for CsvTail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for text in self.0.texts() {
            f.write_str(",")?;
            if text.contains([',', '"', '\n', '\r']) {
                write!(f, "\"{}\"", text.replace('"', "\"\""))?;
            } else {
                f.write_str(text)?;
            }
        }
        Ok(())
    }
}
