//! A second reader of IPFIX, made for these tests: knows only what RFC 7011 says and the few elements it looks at.

#![allow(dead_code, clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use weir_datasets::{Network, TrafficFilter};
use weir_flow_record::Timestamp;

#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Record {
    pub(crate) exported: Timestamp,
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) source_port: u16,
    pub(crate) protocol: u8,
    pub(crate) tcp_flags: u16,
    pub(crate) octets: u64,
    pub(crate) packets: u64,
    pub(crate) start_ms: u64,
    pub(crate) end_ms: u64,
}

#[derive(Default)]
pub(crate) struct Reader {
    templates: BTreeMap<u16, Vec<(u16, usize)>>,
    pub(crate) records: Vec<Record>,
    pub(crate) sampling_rates: Vec<u64>,
    pub(crate) next_sequence: u32,
}

impl Reader {
    pub(crate) fn read(&mut self, at: Timestamp, message: &[u8]) {
        let word = |offset: usize| u16::from_be_bytes([message[offset], message[offset + 1]]);
        assert_eq!((word(0), usize::from(word(2))), (10, message.len()));
        let sequence = u32::from_be_bytes(message[8..12].try_into().unwrap());
        assert_eq!(sequence, self.next_sequence, "a gap");
        let mut offset = 16;
        while offset < message.len() {
            let (id, length) = (word(offset), usize::from(word(offset + 2)));
            self.read_set(at, id, &message[offset + 4..offset + length]);
            offset += length;
        }
    }

    fn read_set(&mut self, at: Timestamp, id: u16, mut set: &[u8]) {
        if id >= 256 {
            let fields = self.templates[&id].clone();
            let length: usize = fields.iter().map(|field| field.1).sum();
            for record in set.chunks_exact(length) {
                self.next_sequence += 1;
                self.read_record(at, &fields, record);
            }
            return;
        }
        while !set.is_empty() {
            let template = take(&mut set);
            let fields = take(&mut set);
            if id == 3 {
                take(&mut set);
            }
            let fields = (0..fields)
                .map(|_| (take(&mut set), usize::from(take(&mut set))))
                .collect();
            self.templates.insert(template, fields);
        }
    }

    fn read_record(&mut self, at: Timestamp, fields: &[(u16, usize)], record: &[u8]) {
        let mut values = BTreeMap::new();
        let mut offset = 0;
        for (element, length) in fields {
            values.insert(*element, &record[offset..offset + length]);
            offset += length;
        }
        let value = |element: u16| values.get(&element).map_or(0, |octets| number(octets));
        if values.contains_key(&305) {
            self.sampling_rates
                .push((value(305) + value(306)) / value(305));
            return;
        }
        let address = |v4: u16, v6: u16| match values.get(&v4) {
            Some(octets) => IpAddr::from(<[u8; 4]>::try_from(*octets).unwrap()),
            None => IpAddr::from(<[u8; 16]>::try_from(values[&v6]).unwrap()),
        };
        self.records.push(Record {
            exported: at,
            source: address(8, 27),
            destination: address(12, 28),
            source_port: value(7) as u16,
            protocol: value(4) as u8,
            tcp_flags: value(6) as u16,
            octets: value(1),
            packets: value(2),
            start_ms: value(152),
            end_ms: value(153),
        });
    }

    /// Sampled octets towards `target`, of records that ended between two points of time.
    pub(crate) fn octets_to(&self, target: IpAddr, from: Timestamp, to: Timestamp) -> u64 {
        let ms = |at: Timestamp| (at.nanos() / 1_000_000) as u64;
        self.records
            .iter()
            .filter(|record| {
                record.destination == target && (ms(from)..ms(to)).contains(&record.end_ms)
            })
            .map(|record| record.octets)
            .sum()
    }
}

fn take(set: &mut &[u8]) -> u16 {
    let (head, tail) = set.split_at(2);
    *set = tail;
    number(head) as u16
}

fn number(octets: &[u8]) -> u64 {
    octets
        .iter()
        .fold(0, |value, octet| value << 8 | u64::from(*octet))
}

/// Simulates `length` more and reads what is exported.
pub(crate) fn run(
    network: &mut Network,
    length: Duration,
    filter: &mut dyn TrafficFilter,
    reader: &mut Reader,
) {
    network.handle_step(network.now().plus(length), filter);
    read(network, reader);
}

pub(crate) fn read(network: &mut Network, reader: &mut Reader) {
    while let Some((at, datagram)) = network.poll_datagram() {
        assert!(datagram.len() <= 1400);
        reader.read(at, &datagram);
    }
}
