//! Writes export datagrams: for tests, benches and the traffic generator.
//!
//! An [`Encoder`] stands for one observation domain of one exporter and keeps its sequence number. It writes IPv4 and IPv6
//! records by templates of 16 fields, tells its sampling rate in options data, and keeps every datagram below an MTU:
//!
//! ```
//! use weir_flow_record::{ExportTime, ObservationDomainId, Row};
//! use weir_netflow::encode::{Encoder, Format};
//!
//! let mut encoder = Encoder::new(Format::Ipfix, ObservationDomainId(1)).with_sampling_rate(100);
//! let now = ExportTime::from_nanos(1_700_000_000_000_000_000);
//! let mut datagrams = Vec::new();
//! encoder.encode_templates(now, &mut datagrams);
//! encoder.encode_flows(now, &[Row::default()], &mut datagrams);
//! assert_eq!(datagrams.len(), 2);
//! ```

mod layout;

use weir_flow_record::{ExportTime, ObservationDomainId, Row};

use layout::{
    IPFIX_SAMPLING, Layout, TEMPLATE_SAMPLING, TEMPLATE_V4, TEMPLATE_V6, V9_SAMPLING, Writer,
};

/// What an [`Encoder`] writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// NetFlow v5: IPv4 only, 30 records a datagram at most.
    NetflowV5,
    /// NetFlow v9 (RFC 3954).
    NetflowV9,
    /// IPFIX (RFC 7011).
    Ipfix,
}

/// The largest datagram by default, in octets of UDP payload.
pub const DEFAULT_MTU: usize = 1400;
const SMALLEST_MTU: usize = 256;
const LARGEST_MTU: usize = 65_507;
const V5_HEADER: usize = 24;
const V5_RECORD: usize = 48;
const V5_MOST_RECORDS: usize = 30;
/// How long the exporter seems to have been up at its first export.
const UPTIME_AT_FIRST_EXPORT: i64 = 3_600_000_000_000;

/// One exporter's observation domain; see the [module](self).
#[derive(Clone, Debug)]
pub struct Encoder {
    format: Format,
    domain: ObservationDomainId,
    sampling_rate: u32,
    mtu: usize,
    sequence: u32,
    boot: Option<i64>,
}

impl Encoder {
    /// An encoder whose sequence starts at 0 and that tells no sampling rate. v5 takes engine type and id from the low 16
    /// bits of `domain`.
    pub fn new(format: Format, domain: ObservationDomainId) -> Self {
        Self {
            format,
            domain,
            sampling_rate: 0,
            mtu: DEFAULT_MTU,
            sequence: 0,
            boot: None,
        }
    }

    /// Tells this rate (one in `rate` packets; 0 = tell none): in options data, or in v5's header (at most 16,383 there).
    #[must_use]
    pub fn with_sampling_rate(mut self, rate: u32) -> Self {
        self.sampling_rate = rate;
        self
    }

    /// Keeps datagrams within `octets` of UDP payload (256 to 65,507).
    #[must_use]
    pub fn with_mtu(mut self, octets: usize) -> Self {
        self.mtu = octets.clamp(SMALLEST_MTU, LARGEST_MTU);
        self
    }

    /// The sequence number of the next datagram.
    pub fn sequence(&self) -> u32 {
        self.sequence
    }

    /// Appends one datagram with the IPv4 and the IPv6 template and, where a sampling rate is set, the options template
    /// and the options data that tell it. Nothing for v5.
    pub fn encode_templates(&mut self, export_time: ExportTime, out: &mut Vec<Vec<u8>>) {
        if self.format == Format::NetflowV5 {
            return;
        }
        let mut writer = self.header(export_time, 0);
        self.template_set(&mut writer);
        let mut count = 2;
        if self.sampling_rate > 0 {
            self.options_sets(&mut writer);
            count += 2;
        }
        self.finish(&mut writer, count);
        let data_records = u32::from(self.sampling_rate > 0);
        self.advance(data_records);
        out.push(writer.octets);
    }

    /// Appends datagrams with `rows`; IPv4 and IPv6 rows go to Sets of their own, order is kept within each. Times are cut
    /// to milliseconds, packets saturate at 2³² − 1 (v5: octets too). Returns how many rows v5 could not carry.
    pub fn encode_flows(
        &mut self,
        export_time: ExportTime,
        rows: &[Row],
        out: &mut Vec<Vec<u8>>,
    ) -> usize {
        let is_v4 = |row: &&Row| row.source_address.is_v4() && row.destination_address.is_v4();
        if self.format == Format::NetflowV5 {
            return self.encode_v5(export_time, rows.iter().filter(is_v4), rows.len(), out);
        }
        self.encode_family(
            export_time,
            TEMPLATE_V4,
            Layout::flows_v4(self.format),
            rows.iter().filter(is_v4),
            out,
        );
        self.encode_family(
            export_time,
            TEMPLATE_V6,
            Layout::flows_v6(self.format),
            rows.iter().filter(|row| !is_v4(row)),
            out,
        );
        0
    }

    /// Appends one IPFIX or v9 datagram that redefines nothing and withdraws the IPv4 and IPv6 templates (IPFIX only,
    /// RFC 7011 §8.1).
    pub fn encode_withdrawal(&mut self, export_time: ExportTime, out: &mut Vec<Vec<u8>>) {
        if self.format != Format::Ipfix {
            return;
        }
        let mut writer = self.header(export_time, 0);
        let set = writer.begin_set(2);
        for template in [TEMPLATE_V4, TEMPLATE_V6] {
            writer.u16(template);
            writer.u16(0);
        }
        writer.end_set(set);
        self.finish(&mut writer, 0);
        out.push(writer.octets);
    }

    fn encode_family<'a>(
        &mut self,
        export_time: ExportTime,
        template: u16,
        layout: Layout,
        rows: impl Iterator<Item = &'a Row>,
        out: &mut Vec<Vec<u8>>,
    ) {
        let header = layout::header_length(self.format) + layout::SET_HEADER;
        let most = ((self.mtu - header) / layout.record_length()).max(1);
        let mut rows = rows.peekable();
        while rows.peek().is_some() {
            let mut writer = self.header(export_time, 0);
            let set = writer.begin_set(template);
            let mut count = 0u16;
            for row in rows.by_ref().take(most) {
                layout.write(&mut writer, row, self.boot_time(export_time));
                count = count.saturating_add(1);
            }
            writer.end_set(set);
            self.finish(&mut writer, count);
            self.advance(u32::from(count));
            out.push(writer.octets);
        }
    }

    fn encode_v5<'a>(
        &mut self,
        export_time: ExportTime,
        rows: impl Iterator<Item = &'a Row>,
        total: usize,
        out: &mut Vec<Vec<u8>>,
    ) -> usize {
        let most = ((self.mtu - V5_HEADER) / V5_RECORD).clamp(1, V5_MOST_RECORDS);
        let boot = self.boot_time(export_time);
        let mut rows = rows.peekable();
        let mut encoded = 0;
        while rows.peek().is_some() {
            let mut writer = self.header(export_time, 0);
            let mut count = 0u16;
            for row in rows.by_ref().take(most) {
                layout::write_v5(&mut writer, row, boot);
                count += 1;
            }
            self.finish(&mut writer, count);
            self.advance(u32::from(count));
            encoded += usize::from(count);
            out.push(writer.octets);
        }
        total - encoded
    }

    fn boot_time(&mut self, export_time: ExportTime) -> i64 {
        let at = export_time.nanos();
        *self
            .boot
            .get_or_insert_with(|| at.saturating_sub(UPTIME_AT_FIRST_EXPORT))
    }

    fn header(&mut self, export_time: ExportTime, count: u16) -> Writer {
        let boot = self.boot_time(export_time);
        let nanos = export_time.nanos();
        let seconds = nanos.div_euclid(1_000_000_000) as u32;
        let mut writer = Writer::with_capacity(self.mtu);
        match self.format {
            Format::Ipfix => {
                writer.u16(10);
                writer.u16(0);
                writer.u32(seconds);
                writer.u32(self.sequence);
                writer.u32(self.domain.0);
            }
            Format::NetflowV9 => {
                writer.u16(9);
                writer.u16(count);
                // v9's header has whole seconds: the uptime must be that of the same instant.
                writer.u32(layout::uptime(
                    nanos - nanos.rem_euclid(1_000_000_000),
                    boot,
                ));
                writer.u32(seconds);
                writer.u32(self.sequence);
                writer.u32(self.domain.0);
            }
            Format::NetflowV5 => {
                writer.u16(5);
                writer.u16(count);
                writer.u32(layout::uptime(nanos, boot));
                writer.u32(seconds);
                writer.u32(nanos.rem_euclid(1_000_000_000) as u32);
                writer.u32(self.sequence);
                writer.u16(self.domain.0 as u16);
                let rate = self.sampling_rate.min(0x3fff) as u16;
                writer.u16(if rate > 0 { 0x4000 | rate } else { 0 });
            }
        }
        writer
    }

    /// Writes what only the end knows: IPFIX's Length, the others' Count.
    fn finish(&self, writer: &mut Writer, count: u16) {
        match self.format {
            Format::Ipfix => writer.patch_u16(2, writer.octets.len() as u16),
            Format::NetflowV5 | Format::NetflowV9 => writer.patch_u16(2, count),
        }
    }

    /// v9 counts datagrams, IPFIX and v5 data records.
    fn advance(&mut self, data_records: u32) {
        let step = match self.format {
            Format::NetflowV9 => 1,
            Format::NetflowV5 | Format::Ipfix => data_records,
        };
        self.sequence = self.sequence.wrapping_add(step);
    }

    fn template_set(&self, writer: &mut Writer) {
        let set = writer.begin_set(if self.format == Format::Ipfix { 2 } else { 0 });
        for (template, layout) in [
            (TEMPLATE_V4, Layout::flows_v4(self.format)),
            (TEMPLATE_V6, Layout::flows_v6(self.format)),
        ] {
            writer.u16(template);
            writer.u16(layout.fields().len() as u16);
            writer.fields(layout.fields());
        }
        writer.end_set(set);
    }

    /// RFC 7011 §3.4.2.2, RFC 3954 §6.1; the rate as a count-based sampler of RFC 5476 or as Cisco's sampler table.
    fn options_sets(&self, writer: &mut Writer) {
        if self.format == Format::Ipfix {
            let set = writer.begin_set(3);
            writer.u16(TEMPLATE_SAMPLING);
            writer.u16(IPFIX_SAMPLING.len() as u16);
            writer.u16(1);
            writer.fields(&IPFIX_SAMPLING);
            writer.end_set(set);
            let set = writer.begin_set(TEMPLATE_SAMPLING);
            writer.u64(1);
            writer.u16(1);
            writer.u32(1);
            writer.u32(self.sampling_rate - 1);
            writer.end_set(set);
        } else {
            let set = writer.begin_set(1);
            writer.u16(TEMPLATE_SAMPLING);
            writer.u16(4);
            writer.u16((V9_SAMPLING.len() as u16 - 1) * 4);
            writer.fields(&V9_SAMPLING);
            writer.end_set(set);
            let set = writer.begin_set(TEMPLATE_SAMPLING);
            writer.u32(self.domain.0);
            writer.u8(1);
            writer.u8(2);
            writer.u32(self.sampling_rate);
            writer.end_set(set);
        }
    }
}
