//! Export datagrams of several makes. It shares nothing with the decoder's own encoder, so that one does not repeat the
//! other's mistakes; sFlow alone is written by `weir_sflow::encode`.

use weir_flow_record::{FragmentKind, Row};

use super::draw::hash;
use super::scenario::{Protocol, Statement, Style};

/// Number and length of an information element.
type Field = (u16, u16);

const MTU: usize = 1400;
const TEMPLATE_V4: u16 = 300;
const TEMPLATE_V6: u16 = 301;
const OPTIONS: u16 = 310;
const MILLISECOND: i64 = 1_000_000;
const SECOND: i64 = 1_000_000_000;
const V5_RECORD: usize = 48;

/// What one exporter writes.
pub(super) struct Wire {
    protocol: Protocol,
    domain: u32,
    statement: Statement,
    rates: Vec<u32>,
    skew: i64,
    boot: i64,
    sequence: u32,
    fields_v4: Vec<Field>,
    fields_v6: Vec<Field>,
    octets: Vec<u8>,
}

/// How a [`Wire`] writes.
pub(super) struct Manner<'a> {
    pub(super) protocol: Protocol,
    pub(super) style: Style,
    pub(super) statement: Statement,
    /// By sampler.
    pub(super) rates: &'a [u32],
    pub(super) domain: u32,
    /// Orders fields by chance.
    pub(super) shuffle: Option<u64>,
    /// Added to our time, ns.
    pub(super) skew: i64,
    /// When its uptime was 0, ns on our clock.
    pub(super) boot: i64,
}

impl Wire {
    pub(super) fn new(manner: &Manner<'_>) -> Self {
        let named = manner.rates.len() > 1;
        let fields = |v6| {
            let mut fields = fields(manner, v6, named);
            if let Some(seed) = manner.shuffle {
                fields.sort_by_key(|(element, _)| hash(&[seed, u64::from(*element)]));
            }
            fields
        };
        Self {
            protocol: manner.protocol,
            domain: manner.domain,
            statement: manner.statement,
            rates: manner.rates.to_vec(),
            skew: manner.skew,
            boot: manner.boot,
            sequence: 0,
            fields_v4: fields(false),
            fields_v6: fields(true),
            octets: Vec::with_capacity(MTU),
        }
    }

    /// Begins anew after a restart.
    pub(super) fn handle_reboot(&mut self, now: i64) {
        self.sequence = 0;
        self.boot = now;
    }

    /// How many records of a family a datagram holds; 0 where the protocol cannot carry it.
    pub(super) fn most_records(&self, v6: bool) -> usize {
        match self.protocol {
            Protocol::NetflowV5 if v6 => 0,
            Protocol::NetflowV5 => (MTU - 24) / V5_RECORD,
            _ => {
                let fields = if v6 { &self.fields_v6 } else { &self.fields_v4 };
                let length: usize = fields.iter().map(|field| usize::from(field.1)).sum();
                (MTU - 24) / length.max(1)
            }
        }
    }

    /// A datagram with templates and, where rates are stated by options, these; `None` for v5.
    pub(super) fn templates(&mut self, now: i64) -> Option<&[u8]> {
        if self.protocol == Protocol::NetflowV5 {
            return None;
        }
        let ipfix = self.protocol == Protocol::Ipfix;
        self.header(now);
        let set = self.begin_set(if ipfix { 2 } else { 0 });
        for (template, fields) in [
            (TEMPLATE_V4, self.fields_v4.clone()),
            (TEMPLATE_V6, self.fields_v6.clone()),
        ] {
            self.u16(template);
            self.u16(fields.len() as u16);
            self.list(&fields);
        }
        self.end_set(set);
        let (mut count, mut data) = (2, 0);
        if self.statement == Statement::Options {
            count += 1 + self.options();
            data = self.rates.len() as u16;
        }
        self.finish(count, data);
        Some(&self.octets)
    }

    /// A datagram with records of one family, each with the number of its sampler; at most [`most_records`](Self::most_records).
    pub(super) fn flows(&mut self, now: i64, v6: bool, rows: &[(Row, u8)]) -> &[u8] {
        self.header(now);
        let count = rows.len() as u16;
        if self.protocol == Protocol::NetflowV5 {
            for (row, _) in rows {
                self.v5_record(row);
            }
        } else {
            let set = self.begin_set(if v6 { TEMPLATE_V6 } else { TEMPLATE_V4 });
            let fields = std::mem::take(if v6 {
                &mut self.fields_v6
            } else {
                &mut self.fields_v4
            });
            for (row, sampler) in rows {
                for &(element, length) in &fields {
                    self.field(element, length, now, row, *sampler);
                }
            }
            *(if v6 {
                &mut self.fields_v6
            } else {
                &mut self.fields_v4
            }) = fields;
            self.end_set(set);
        }
        self.finish(count, count);
        &self.octets
    }

    fn header(&mut self, now: i64) {
        self.octets.clear();
        let clock = now + self.skew;
        let seconds = clock.div_euclid(SECOND) as u32;
        match self.protocol {
            Protocol::Ipfix => {
                self.u16(10);
                self.u16(0);
                self.u32(seconds);
            }
            _ => {
                let v5 = self.protocol == Protocol::NetflowV5;
                self.u16(if v5 { 5 } else { 9 });
                self.u16(0);
                self.u32(self.uptime(now));
                self.u32(seconds);
                if v5 {
                    self.u32(clock.rem_euclid(SECOND) as u32);
                }
            }
        }
        self.u32(self.sequence);
        if self.protocol == Protocol::NetflowV5 {
            self.u16(self.domain as u16);
            let rate = self.rates.first().copied().unwrap_or(0).min(0x3fff) as u16;
            let stated = self.statement == Statement::Options;
            self.u16(if stated { 0x4000 | rate } else { 0 });
        } else {
            self.u32(self.domain);
        }
    }

    /// `count`: records of any kind, for v9 and v5; `data`: data records, for IPFIX's and v5's sequence.
    fn finish(&mut self, count: u16, data: u16) {
        let (place, step) = match self.protocol {
            Protocol::Ipfix => (self.octets.len() as u16, u32::from(data)),
            Protocol::NetflowV5 => (count, u32::from(data)),
            _ => (count, 1),
        };
        self.patch(2, place);
        self.sequence = self.sequence.wrapping_add(step);
    }

    /// Returns how many options records it wrote.
    fn options(&mut self) -> u16 {
        let ipfix = self.protocol == Protocol::Ipfix;
        let several = self.rates.len() > 1;
        let rates = self.rates.clone();
        if ipfix {
            // RFC 5476: selectorId; selectorAlgorithm, samplingPacketInterval, samplingPacketSpace.
            let set = self.begin_set(3);
            for word in [OPTIONS, 4, 1] {
                self.u16(word);
            }
            self.list(&[(302, 4), (304, 2), (305, 4), (306, 4)]);
            self.end_set(set);
        } else {
            let set = self.begin_set(1);
            self.u16(OPTIONS);
            self.u16(4);
            self.u16(if several { 12 } else { 8 });
            self.list(&[(1, 4)]);
            if several {
                self.list(&[(48, 1), (49, 1), (50, 4)]);
            } else {
                self.list(&[(34, 4), (35, 1)]);
            }
            self.end_set(set);
        }
        let set = self.begin_set(OPTIONS);
        for (id, rate) in (1_u32..).zip(&rates) {
            if ipfix {
                self.u32(id);
                self.u16(3);
                self.u32(1);
                self.u32(rate - 1);
            } else {
                self.u32(self.domain);
                if several {
                    self.octets.extend_from_slice(&[id as u8, 2]);
                    self.u32(*rate);
                } else {
                    self.u32(*rate);
                    self.octets.push(2);
                }
            }
        }
        self.end_set(set);
        rates.len() as u16
    }

    fn field(&mut self, element: u16, length: u16, now: i64, row: &Row, sampler: u8) {
        let clock = |at: i64| at + self.skew;
        let fraction = |at: i64| (now - at).max(0) / 1000;
        let icmp = matches!(row.protocol, 1 | 58);
        let value: u64 = match element {
            8 | 12 | 27 | 28 => {
                let address = match element {
                    8 | 27 => row.source_address,
                    _ => row.destination_address,
                };
                let skipped = 16 - usize::from(length);
                self.octets.extend_from_slice(&address.octets()[skipped..]);
                return;
            }
            1 => row.octets,
            2 => row.packets,
            4 => row.protocol.into(),
            5 => 0,
            6 => row.tcp_flags.into(),
            7 => {
                if icmp {
                    0
                } else {
                    row.source_port.into()
                }
            }
            11 => row.destination_port.into(),
            9 | 13 => 24,
            29 | 30 => 48,
            10 => row.input_interface.into(),
            14 => row.output_interface.into(),
            16 | 17 => 64_500,
            21 => self.uptime(row.flow_end).into(),
            22 => self.uptime(row.flow_start).into(),
            34 | 50 => self.rate(sampler).into(),
            35 => 2,
            48 | 302 => u64::from(sampler) + 1,
            61 => row.direction.into(),
            88 => {
                if row.fragment == FragmentKind::NotFirst {
                    185
                } else {
                    0
                }
            }
            89 => row.forwarding_status.into(),
            136 => 2,
            150 => clock(row.flow_start).div_euclid(SECOND).cast_unsigned(),
            151 => clock(row.flow_end).div_euclid(SECOND).cast_unsigned(),
            152 => clock(row.flow_start)
                .div_euclid(MILLISECOND)
                .cast_unsigned(),
            153 => clock(row.flow_end).div_euclid(MILLISECOND).cast_unsigned(),
            158 => fraction(row.flow_start).cast_unsigned(),
            159 => fraction(row.flow_end).cast_unsigned(),
            // minimumTTL, maximumTTL and whatever else only fills a record.
            _ => 57,
        };
        let cut = match length {
            8 => value,
            length => value.min((1_u64 << (8 * u32::from(length))) - 1),
        };
        // Flags of one octet lose NS, times of four wrap: both are cut, not capped.
        let cut = if matches!(element, 6 | 21 | 22 | 150 | 151) {
            value
        } else {
            cut
        };
        let skipped = 8 - usize::from(length.min(8));
        self.octets.extend_from_slice(&cut.to_be_bytes()[skipped..]);
    }

    fn v5_record(&mut self, row: &Row) {
        let cut = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        for address in [row.source_address, row.destination_address] {
            self.octets.extend_from_slice(&address.octets()[12..]);
        }
        self.u32(0);
        self.u16(row.input_interface as u16);
        self.u16(row.output_interface as u16);
        self.u32(cut(row.packets));
        self.u32(cut(row.octets));
        self.u32(self.uptime(row.flow_start));
        self.u32(self.uptime(row.flow_end));
        self.u16(row.source_port);
        self.u16(row.destination_port);
        let [_, flags] = row.tcp_flags.to_be_bytes();
        self.octets.extend_from_slice(&[
            0,
            flags,
            row.protocol,
            0,
            0xfb,
            0xf4,
            0xfb,
            0xf5,
            24,
            24,
            0,
            0,
        ]);
    }

    fn rate(&self, sampler: u8) -> u32 {
        self.rates.get(usize::from(sampler)).copied().unwrap_or(1)
    }

    /// Milliseconds since the start, modulo 2³².
    fn uptime(&self, at: i64) -> u32 {
        (at - self.boot).div_euclid(MILLISECOND) as u32
    }

    fn list(&mut self, fields: &[Field]) {
        for &(element, length) in fields {
            self.u16(element);
            self.u16(length);
        }
    }

    fn begin_set(&mut self, id: u16) -> usize {
        let start = self.octets.len();
        self.u16(id);
        self.u16(0);
        start
    }

    /// Fills up to four octets, as RFC 3954 §5.2 wishes, and writes the length.
    fn end_set(&mut self, start: usize) {
        let whole = (self.octets.len() - start).next_multiple_of(4);
        self.octets.resize(start + whole, 0);
        self.patch(start + 2, whole as u16);
    }

    fn patch(&mut self, at: usize, value: u16) {
        if let Some(place) = self.octets.get_mut(at..at + 2) {
            place.copy_from_slice(&value.to_be_bytes());
        }
    }

    fn u16(&mut self, value: u16) {
        self.octets.extend_from_slice(&value.to_be_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.octets.extend_from_slice(&value.to_be_bytes());
    }
}

/// The fields of a style.
fn fields(manner: &Manner<'_>, v6: bool, named: bool) -> Vec<Field> {
    let ipfix = manner.protocol == Protocol::Ipfix;
    let addresses = if v6 {
        [(27, 16), (28, 16)]
    } else {
        [(8, 4), (12, 4)]
    };
    let mut fields = addresses.to_vec();
    fields.extend([(7, 2), (11, 2), (4, 1), (10, 4), (14, 4)]);
    let classic = manner.style == Style::Classic;
    let counter = if classic { 4 } else { 8 };
    fields.extend([(1, counter), (2, counter)]);
    let uptimes: [Field; 2] = [(22, 4), (21, 4)];
    match manner.style {
        Style::Full if ipfix => fields.extend([(152, 8), (153, 8)]),
        Style::Seconds if ipfix => fields.extend([(150, 4), (151, 4)]),
        Style::Delta if ipfix => fields.extend([(158, 4), (159, 4)]),
        Style::Timeless => {}
        _ => fields.extend(uptimes),
    }
    match manner.style {
        Style::Full => fields.extend([(6, 2), (61, 1), (88, 2), (89, 1), (52, 1), (53, 1)]),
        Style::Classic => {
            let masks = if v6 {
                [(29, 1), (30, 1)]
            } else {
                [(9, 1), (13, 1)]
            };
            fields.extend(masks);
            fields.extend([(6, 1), (5, 1), (61, 1), (16, 4), (17, 4)]);
        }
        _ => fields.extend([(6, 1), (5, 1), (136, 1)]),
    }
    if named {
        fields.push(if ipfix { (302, 4) } else { (48, 1) });
    }
    if manner.statement == Statement::Record {
        fields.extend([(34, 4), (35, 1)]);
    }
    fields
}
