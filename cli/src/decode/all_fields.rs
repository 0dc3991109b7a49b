//! The second opinion: every information element by name, as `netflow_parser` decodes it.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::SocketAddr;

use netflow_parser::NetflowParser;
use serde_json::json;
use weir_collector::CapturedDatagram;

/// One parser for each exporter's transport session, so that templates do not mix.
#[derive(Default)]
pub(crate) struct AllFields {
    parsers: HashMap<SocketAddr, NetflowParser>,
}

impl AllFields {
    /// Writes what a datagram holds as one JSON object, with the parser's error where it stopped.
    pub(crate) fn write(
        &mut self,
        datagram: &CapturedDatagram,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let parser = self.parsers.entry(datagram.from).or_default();
        let result = parser.parse_bytes(&datagram.payload);
        let line = json!({
            "time_received_ns": datagram.at.nanos(),
            "sampler_address": datagram.from.ip(),
            "sampler_port": datagram.from.port(),
            "messages": result.packets,
            "error": result.error.map(|error| error.to_string()),
        });
        serde_json::to_writer(&mut *out, &line)?;
        out.write_all(b"\n")
    }
}
