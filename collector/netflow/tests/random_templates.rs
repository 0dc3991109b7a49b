//! Random templates of any order, widths and padding: what is encoded is what is decoded, compared with a reader that goes
//! record by record and field by field.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Bytes, NOW, decode, decoder, ipfix, template, template_of, v9};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use weir_flow_record::{Address, FragmentKind, Row};

/// What the row's fields come from: enterprise, element, widths. Integers come in any width up to their own (RFC 7011 §6.2).
const USEFUL: [(u32, u16, &[u16]); 18] = [
    (0, 8, &[4]),
    (0, 12, &[4]),
    (0, 7, &[1, 2]),
    (0, 11, &[1, 2]),
    (0, 4, &[1]),
    (0, 6, &[1, 2]),
    (0, 1, &[1, 2, 3, 4, 5, 6, 7, 8]),
    (0, 2, &[1, 2, 3, 4, 5, 6, 7, 8]),
    (0, 152, &[8]),
    (0, 153, &[8]),
    (0, 10, &[1, 2, 3, 4]),
    (0, 14, &[1, 2, 3, 4]),
    (0, 61, &[1]),
    (0, 89, &[1, 4]),
    (0, 34, &[1, 2, 4]),
    (0, 5, &[1]),
    (0, 58, &[2]),
    (0, 16, &[2, 4]),
];
/// What is only skipped: names, lists (RFC 6313), elements of enterprises, padding. The reader has to get over them.
const USELESS: [(u32, u16, &[u16]); 9] = [
    (0, 82, &[16, 65_535]),
    (0, 291, &[65_535]),
    (0, 292, &[65_535]),
    (0, 293, &[65_535, 20]),
    (0, 210, &[1, 3, 7]),
    (9, 12_232, &[4, 65_535]),
    (25_461, 56_701, &[32]),
    (35_632, 1, &[65_535]),
    (29_305, 61, &[1]),
];

type Field = (u32, u16, u16);

fn random_fields(random: &mut ChaCha8Rng, netflow_v9: bool) -> Vec<Field> {
    let mut fields: Vec<Field> = Vec::new();
    for (enterprise, element, widths) in USEFUL.into_iter().chain(USELESS) {
        let often = if enterprise == 0 && element < 200 {
            3
        } else {
            1
        };
        if random.random_range(0..4) < often {
            let width = widths[random.random_range(0..widths.len())];
            fields.push((enterprise, element, width));
        }
    }
    if netflow_v9 {
        fields.retain(|&(enterprise, _, width)| enterprise == 0 && width != 65_535);
    }
    if fields.is_empty() {
        fields.push((0, 4, 1));
    }
    for index in (1..fields.len()).rev() {
        fields.swap(index, random.random_range(0..=index));
    }
    fields
}

/// Appends a random record; returns the row it stands for.
fn record(random: &mut ChaCha8Rng, fields: &[Field], out: &mut Vec<u8>) -> (Row, u64) {
    let mut row = Row {
        direction: 255,
        flow_start: 0,
        flow_end: 0,
        fragment: FragmentKind::None,
        sampling_rate: 0,
        ..Row::default()
    };
    let (mut start, mut end, mut extras) = (None, None, 0);
    for &(enterprise, element, width) in fields {
        if width == 65_535 {
            let length = [0, 1, 40, 254, 255, 300][random.random_range(0..6)];
            match u8::try_from(length) {
                Ok(short) if short < 255 => out.push(short),
                _ => {
                    out.push(255);
                    out.extend((length as u16).to_be_bytes());
                }
            }
            let mut content = vec![0; length];
            random.fill_bytes(&mut content);
            out.extend(content);
            continue;
        }
        let mut octets = vec![0; usize::from(width)];
        random.fill_bytes(&mut octets);
        if matches!(element, 152 | 153) && enterprise == 0 {
            let at = 1_600_000_000_000u64 + u64::from(random.random::<u32>());
            octets = at.to_be_bytes().to_vec();
        } else if element <= 2 && width == 8 {
            octets[0] = 0;
        }
        let value = octets
            .iter()
            .fold(0u64, |sum, &octet| sum << 8 | u64::from(octet));
        let v4 = || Address::from_v4(octets[..4].try_into().unwrap());
        let small = |most: u64| value.min(most);
        match (enterprise, element) {
            (0, 8) => row.source_address = v4(),
            (0, 12) => row.destination_address = v4(),
            (0, 7) => row.source_port = value as u16,
            (0, 11) => row.destination_port = value as u16,
            (0, 4) => row.protocol = value as u8,
            (0, 6) => row.tcp_flags = value as u16,
            (0, 1) => row.octets = value,
            (0, 2) => row.packets = value,
            (0, 152) => start = Some(value as i64 * 1_000_000),
            (0, 153) => end = Some(value as i64 * 1_000_000),
            (0, 10) => row.input_interface = value as u32,
            (0, 14) => row.output_interface = value as u32,
            (0, 61) => row.direction = value as u8,
            (0, 89) => row.forwarding_status = small(255) as u8,
            (0, 34) => row.sampling_rate = value as u32,
            (0, 5 | 58 | 16) => extras += value,
            _ => {}
        }
        out.extend(octets);
    }
    (row.flow_start, row.flow_end) = match (start, end) {
        (Some(start), Some(end)) => (start, end),
        (Some(start), None) => (start, start.max(NOW)),
        (None, Some(end)) => (end, end),
        (None, None) => (NOW, NOW),
    };
    (row, extras)
}

/// Octets of the shortest record.
fn shortest(fields: &[Field]) -> usize {
    let lengths = fields.iter().map(|&(_, _, width)| match width {
        65_535 => 1,
        width => usize::from(width),
    });
    lengths.sum()
}

fn round(random: &mut ChaCha8Rng, netflow_v9: bool) {
    let (mut templates, mut sets, mut expected) = (Bytes::default(), Bytes::default(), Vec::new());
    for number in 0..random.random_range(1..4u16) {
        let fields = random_fields(random, netflow_v9);
        let id = 256 + number;
        let defined = if netflow_v9 {
            let plain: Vec<(u16, u16)> = fields.iter().map(|field| (field.1, field.2)).collect();
            template(id, &plain)
        } else {
            template_of(id, &fields)
        };
        templates = templates.raw(&defined.0);
        for _ in 0..random.random_range(1..3) {
            let mut content = Vec::new();
            for _ in 0..random.random_range(1..6) {
                expected.push(record(random, &fields, &mut content));
            }
            // RFC 7011 §3.3.1: padding is zeros, and shorter than any record.
            let padding = random.random_range(0..shortest(&fields).min(8));
            content.extend(std::iter::repeat_n(0, padding));
            sets = sets.set(id, &Bytes(content));
        }
    }
    let template_set = if netflow_v9 { 0 } else { 2 };
    let all = Bytes::default().set(template_set, &templates).raw(&sets.0);
    let message = if netflow_v9 {
        v9(1, 0, &all)
    } else {
        ipfix(1, 0, &all)
    };
    let (outcome, batch) = decode(&mut decoder(), 0, 1, &message);
    assert_eq!(outcome.undecodable_sets, 0);
    assert_eq!(outcome.records as usize, expected.len());
    for (index, (row, extras)) in expected.into_iter().enumerate() {
        assert_eq!(batch.row(index), row);
        let extra = &batch.extra;
        let sum = u64::from(extra.tos[index])
            + u64::from(extra.vlan_id[index])
            + u64::from(extra.source_as[index]);
        assert_eq!(sum, extras);
    }
}

#[test]
fn random_ipfix_templates_round_trip() {
    let mut random = ChaCha8Rng::seed_from_u64(11);
    for _ in 0..600 {
        round(&mut random, false);
    }
}

#[test]
fn random_v9_templates_round_trip() {
    let mut random = ChaCha8Rng::seed_from_u64(12);
    for _ in 0..600 {
        round(&mut random, true);
    }
}

#[test]
fn options_are_read_whatever_stands_around_the_rate() {
    let mut random = ChaCha8Rng::seed_from_u64(13);
    for _ in 0..300 {
        let mut fields: Vec<Field> = USELESS
            .into_iter()
            .filter(|_| random.random_bool(0.4))
            .map(|(enterprise, element, widths)| (enterprise, element, widths[0]))
            .collect();
        let scope = fields.len() as u16;
        fields.insert(random.random_range(0..=fields.len()), (0, 302, 2));
        fields.push((0, 305, 4));
        fields.push((0, 306, 4));
        let mut said = Vec::new();
        for &field in &fields {
            match field.1 {
                302 => said.extend([0, 9]),
                305 => said.extend(2u32.to_be_bytes()),
                306 => said.extend(398u32.to_be_bytes()),
                _ => drop(record(&mut random, &[field], &mut said)),
            }
        }
        let sets = Bytes::default()
            .set(3, &common::options_template_of(500, scope + 1, &fields))
            .set(500, &Bytes(said))
            .set(2, &template(256, &[(1, 4), (302, 2)]))
            .set(256, &Bytes::default().u32(1).u16(9));
        let (outcome, batch) = decode(&mut decoder(), 0, 1, &ipfix(1, 0, &sets));
        assert_eq!((outcome.options_records, outcome.undecodable_sets), (1, 0));
        assert_eq!(batch.sampling_rate, [200]);
    }
}
