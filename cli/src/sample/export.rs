//! `weir sample --export`: flows as IPFIX over UDP (RFC 7011 §10.3), to another Weir or any collector.

use std::collections::HashMap;
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};

use anyhow::Context;
use weir_ebpf::Observation;
use weir_flow_record::{Address, ExportTime, FlowBatch, ObservationDomainId, ReceivedAt, Row};
use weir_netflow::encode::{Encoder, Format};

/// Flows end after this, in ns: whoever detects attacks wants to know soon.
const ACTIVE_TIMEOUT: i64 = 1_000_000_000;
/// Time between two exports of the templates (RFC 7011 §8.4: over UDP they are repeated), in ns.
const TEMPLATES: i64 = 30_000_000_000;
/// Flows that are held at most; then all are exported.
const MOST_FLOWS: usize = 65_536;
/// IPFIX's port (RFC 7011 §10.2.1).
const PORT: u16 = 4739;

/// What makes packets one flow.
type Key = (Address, Address, u16, u16, u8, u8);

/// One interface's exporting process: its observation domain is the interface's index.
pub(super) struct FlowExporter {
    socket: UdpSocket,
    to: SocketAddr,
    encoder: Encoder,
    flows: HashMap<Key, Row>,
    flushed: i64,
    templates: i64,
    records: u64,
    datagrams: u64,
    failed: u64,
}

impl FlowExporter {
    /// Opens a socket to `target`, as `udp://host:port`.
    pub(super) fn open(target: &str, observation: &Observation) -> anyhow::Result<Self> {
        let to = resolve(target)?;
        let any: SocketAddr = if to.is_ipv4() {
            ([0, 0, 0, 0], 0).into()
        } else {
            ([0; 16], 0).into()
        };
        let socket = UdpSocket::bind(any).context("cannot open a socket")?;
        socket
            .connect(to)
            .with_context(|| format!("cannot reach {to}"))?;
        let domain = ObservationDomainId(observation.interface);
        Ok(Self {
            socket,
            to,
            encoder: Encoder::new(Format::Ipfix, domain)
                .with_sampling_rate(observation.sampling_rate),
            flows: HashMap::new(),
            flushed: i64::MIN,
            templates: i64::MIN,
            records: 0,
            datagrams: 0,
            failed: 0,
        })
    }

    /// Adds records to their flows, and exports what is due.
    pub(super) fn handle_batch(&mut self, now: ReceivedAt, batch: &FlowBatch) {
        for row in 0..batch.len() {
            self.add(batch.row(row));
            if self.flows.len() >= MOST_FLOWS {
                self.export(now);
            }
        }
        if now.nanos() >= self.flushed.saturating_add(ACTIVE_TIMEOUT) {
            self.export(now);
        }
    }

    /// Exports what is left.
    pub(super) fn finish(&mut self, now: ReceivedAt) {
        self.export(now);
    }

    /// In one line.
    pub(super) fn summary(&self) -> String {
        format!(
            "exported {} flows in {} datagrams to {}, {} could not be sent",
            self.records, self.datagrams, self.to, self.failed
        )
    }

    fn add(&mut self, row: Row) {
        let key = (
            row.source_address,
            row.destination_address,
            row.source_port,
            row.destination_port,
            row.protocol,
            row.fragment as u8,
        );
        self.flows
            .entry(key)
            .and_modify(|flow| {
                flow.octets = flow.octets.saturating_add(row.octets);
                flow.packets = flow.packets.saturating_add(row.packets);
                flow.tcp_flags |= row.tcp_flags;
                flow.flow_start = flow.flow_start.min(row.flow_start);
                flow.flow_end = flow.flow_end.max(row.flow_end);
            })
            .or_insert(row);
    }

    fn export(&mut self, now: ReceivedAt) {
        self.flushed = now.nanos();
        let at = ExportTime::from_nanos(now.nanos());
        let mut datagrams = Vec::new();
        if now.nanos() >= self.templates.saturating_add(TEMPLATES) {
            self.templates = now.nanos();
            self.encoder.encode_templates(at, &mut datagrams);
        }
        let mut rows: Vec<Row> = self.flows.drain().map(|(_, row)| row).collect();
        rows.sort_by_key(|row| (row.flow_start, row.source_address, row.source_port));
        self.records += rows.len() as u64;
        self.encoder.encode_flows(at, &rows, &mut datagrams);
        for datagram in datagrams {
            self.datagrams += 1;
            // While nobody listens there, the system says so now and then.
            self.failed += u64::from(self.socket.send(&datagram).is_err());
        }
    }
}

/// The address of `udp://host:port`; the port may be left out.
fn resolve(target: &str) -> anyhow::Result<SocketAddr> {
    let wrong = || format!("`{target}` is no address such as udp://collector:{PORT}");
    let host = target.strip_prefix("udp://").with_context(wrong)?;
    let host = host.strip_suffix('/').unwrap_or(host);
    let has_port = host
        .rsplit_once(':')
        .is_some_and(|(before, port)| port.parse::<u16>().is_ok() && !before.ends_with(':'))
        && !(host.starts_with('[') && host.ends_with(']'));
    let text = if has_port {
        host.to_owned()
    } else {
        format!("{host}:{PORT}")
    };
    let mut found = text.to_socket_addrs().with_context(wrong)?;
    found.next().with_context(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_ipfix_s_unless_it_is_given() {
        let address = |text: &str| resolve(text).unwrap().to_string();
        assert_eq!(address("udp://192.0.2.1"), "192.0.2.1:4739");
        assert_eq!(address("udp://192.0.2.1:2055"), "192.0.2.1:2055");
        assert_eq!(address("udp://[2001:db8::1]"), "[2001:db8::1]:4739");
        assert_eq!(address("udp://[2001:db8::1]:2055/"), "[2001:db8::1]:2055");
        assert!(resolve("tcp://192.0.2.1").is_err());
        assert!(resolve("192.0.2.1:4739").is_err());
    }
}
