//! Records with names and networks: what `[enrichment]` and `[[exporter]]` of a configuration know, and what exporters say in
//! options data.

use std::io::Write;
use std::sync::Arc;

use anyhow::Context;
use weir_enrichment::{Enricher, FIELDS, Lookups, NameLimits, NameTable, RowEnricher, RowFields};
use weir_flow_format::{COLUMNS, Record, csv, ndjson};
use weir_flow_record::FlowBatch;
use weir_netflow::NameStatement;

use crate::config::Settings;
use crate::naming;

/// What is known, and how it is written.
pub(crate) struct Enriched {
    lookups: Lookups,
    names: NameTable,
    as_csv: bool,
}

impl Enriched {
    /// Reads the files that the configuration names.
    pub(super) fn load(settings: &Settings, as_csv: bool) -> anyhow::Result<Self> {
        let enricher = Enricher::load(&settings.enrichment)
            .map_err(|faults| anyhow::anyhow!(naming::listed(&faults)))
            .context("cannot enrich")?;
        Ok(Self {
            lookups: Lookups::new(Arc::new(enricher)),
            names: NameTable::new(settings.collector.names(), NameLimits::default()),
            as_csv,
        })
    }

    pub(super) fn handle_name(&mut self, statement: &NameStatement) {
        naming::handle_statement(&mut self.names, statement);
    }

    /// The header line of CSV.
    pub(super) fn append_header(&self, out: &mut Vec<u8>) {
        if self.as_csv {
            out.extend_from_slice(COLUMNS.join(",").as_bytes());
            out.push(b',');
            out.extend_from_slice(FIELDS.join(",").as_bytes());
            out.push(b'\n');
        }
    }

    /// All records of a batch.
    pub(super) fn append(&self, batch: &FlowBatch, out: &mut Vec<u8>) {
        let rows = RowEnricher::new(&self.lookups, &self.names);
        for datagram in &batch.datagrams {
            let enricher = rows.datagram(datagram);
            for row in datagram.rows.start as usize..datagram.rows.end as usize {
                let fields = enricher.row(batch, row);
                let record = Record {
                    src_as: fields.src_as,
                    dst_as: fields.dst_as,
                    ..Record::of(batch, datagram, row)
                };
                if self.as_csv {
                    append_csv(&record, &fields, out);
                } else {
                    ndjson::append_record(&record, out);
                    ndjson::append_inner(batch, row, out);
                    append_json(&fields, out);
                }
            }
        }
    }
}

fn append_csv(record: &Record, fields: &RowFields<'_>, out: &mut Vec<u8>) {
    csv::append_record(record, out);
    out.pop();
    // Writing to memory does not fail.
    let _ = writeln!(out, "{}", fields.csv());
}

fn append_json(fields: &RowFields<'_>, out: &mut Vec<u8>) {
    let mut more = Vec::new();
    if serde_json::to_writer(&mut more, fields).is_ok() && more.len() > 2 {
        ndjson::reopen(out);
        more[0] = b',';
        out.append(&mut more);
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use weir_flow_record::{
        Address, ColumnSet, DatagramInfo, ExportProtocol, ExportTime, ExporterId,
        ObservationDomainId, ReceivedAt, Row,
    };

    use super::*;
    use crate::config;

    fn batch() -> FlowBatch {
        let mut batch = FlowBatch::with_projection(ColumnSet::ALL);
        batch.push(&Row {
            source_address: Address::from_v4([192, 0, 2, 1]),
            destination_address: Address::from_v4([203, 0, 113, 9]),
            protocol: 17,
            input_interface: 7,
            ..Row::default()
        });
        batch.extra.inner_source_address[0] = Address::from_v4([10, 0, 0, 1]);
        batch.datagrams.push(DatagramInfo {
            rows: 0..1,
            exporter: ExporterId(0),
            exporter_address: Address::from_v4([198, 51, 100, 1]),
            domain: ObservationDomainId(0),
            protocol: ExportProtocol::Ipfix,
            sequence: 0,
            received_at: ReceivedAt::from_nanos(0),
            export_time: ExportTime::from_nanos(0),
            present: ColumnSet::NONE,
        });
        batch
    }

    #[test]
    fn names_and_networks_follow_the_record() {
        let folder = tempfile::tempdir().unwrap();
        let networks =
            "prefix,name,site,role,tenant\n203.0.113.0/24,\"web, front\",fra1,servers,acme\n";
        std::fs::write(folder.path().join("networks.csv"), networks).unwrap();
        let path = folder.path().join("weir.toml");
        let text = "[enrichment]\nnetworks = \"networks.csv\"\n[[exporter]]\naddress = \"198.51.100.1\"\n\
                    name = \"edge-1\"\ninterfaces = { 7 = \"transit-a\" }\n";
        std::fs::write(&path, text).unwrap();
        let settings = config::load(&path, ColumnSet::ALL).unwrap();

        let mut out = Vec::new();
        Enriched::load(&settings, false)
            .unwrap()
            .append(&batch(), &mut out);
        let record: serde_json::Value = serde_json::from_slice(&out).unwrap();
        for (name, expected) in [
            ("dst_net_name", "web, front"),
            ("dst_net_site", "fra1"),
            ("in_if_name", "transit-a"),
            ("sampler_name", "edge-1"),
            ("src_net_name", ""),
            ("inner_src_addr", "10.0.0.1"),
            ("dst_addr", "203.0.113.9"),
        ] {
            assert_eq!(record[name], expected, "{name}");
        }

        let csv = Enriched::load(&settings, true).unwrap();
        let mut out = Vec::new();
        csv.append_header(&mut out);
        csv.append(&batch(), &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.lines().nth(1).unwrap().contains("\"web, front\",fra1"),
            "{text}"
        );
        assert!(text.ends_with("transit-a,,edge-1\n"), "{text}");
    }
}
