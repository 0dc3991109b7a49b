//! Writes small MaxMind databases (MaxMind DB File Format Specification 2.0).
#![allow(dead_code, reason = "every test file compiles this module for itself")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use ipnet::IpNet;

/// A value of the data section.
#[derive(Clone)]
pub(crate) enum Value {
    Text(String),
    /// Type 6.
    Number(u32),
    Map(Vec<(&'static str, Self)>),
    /// To an offset of the data section, in the form of four octets.
    Pointer(u32),
}

pub(crate) fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// As GeoLite2-ASN has it.
pub(crate) fn system(number: u32, name: &str) -> Value {
    Value::Map(vec![
        ("autonomous_system_number", Value::Number(number)),
        ("autonomous_system_organization", text(name)),
    ])
}

/// As GeoLite2-Country has it, names and all.
pub(crate) fn country(code: &str) -> Value {
    let names = Value::Map(vec![("en", text("a country")), ("de", text("ein Land"))]);
    let country = vec![
        ("geoname_id", Value::Number(7)),
        ("iso_code", text(code)),
        ("names", names),
    ];
    Value::Map(vec![
        ("continent", Value::Map(vec![("code", text("EU"))])),
        ("country", Value::Map(country)),
    ])
}

#[derive(Clone, Copy)]
enum Slot {
    Nothing,
    Node(usize),
    Record(usize),
}

/// A database of `kind` with records of `bits` (24, 28 or 32), for IPv4 alone or for both families.
pub(crate) fn database(kind: &str, bits: u32, v6: bool, networks: &[(&str, Value)]) -> Vec<u8> {
    let mut nodes = vec![[Slot::Nothing; 2]];
    let mut sorted: Vec<(IpNet, &Value)> = networks
        .iter()
        .map(|(net, value)| (net.parse().unwrap(), value))
        .collect();
    sorted.sort_by_key(|(net, _)| net.prefix_len());
    let mut data = Vec::new();
    for (net, value) in sorted {
        insert(&mut nodes, &path(net, v6), data.len());
        write(&mut data, value);
    }
    let mut octets = tree(&nodes, bits);
    octets.extend([0; 16]);
    octets.extend(&data);
    octets.extend(metadata(kind, bits, v6, nodes.len() as u32));
    octets
}

pub(crate) fn metadata(kind: &str, bits: u32, v6: bool, nodes: u32) -> Vec<u8> {
    let mut octets = b"\xab\xcd\xefMaxMind.com".to_vec();
    let entries = [
        ("binary_format_major_version", Value::Number(2)),
        ("binary_format_minor_version", Value::Number(0)),
        ("build_epoch", Value::Number(1_700_000_000)),
        ("database_type", text(kind)),
        ("description", Value::Map(vec![("en", text("a test"))])),
        ("ip_version", Value::Number(if v6 { 6 } else { 4 })),
        ("node_count", Value::Number(nodes)),
        ("record_size", Value::Number(bits)),
    ];
    octets.push(0xe9);
    for (key, value) in entries {
        write(&mut octets, &text(key));
        write(&mut octets, &value);
    }
    write(&mut octets, &text("languages"));
    octets.extend([0x00, 0x04]);
    octets
}

fn path(net: IpNet, v6: bool) -> Vec<usize> {
    let bits = |octets: &[u8], count: usize| -> Vec<usize> {
        (0..count)
            .map(|bit| usize::from(octets[bit / 8] >> (7 - bit % 8) & 1))
            .collect()
    };
    let length = usize::from(net.prefix_len());
    match net {
        IpNet::V4(net) => {
            let mut path = vec![0; if v6 { 96 } else { 0 }];
            path.extend(bits(&net.addr().octets(), length));
            path
        }
        IpNet::V6(net) => bits(&net.addr().octets(), length),
    }
}

/// Wider prefixes come first: a record on the way is split.
fn insert(nodes: &mut Vec<[Slot; 2]>, path: &[usize], record: usize) {
    let (last, way) = path.split_last().unwrap();
    let mut at = 0;
    for &bit in way {
        at = match nodes[at][bit] {
            Slot::Node(node) => node,
            other => {
                nodes.push([other; 2]);
                let node = nodes.len() - 1;
                nodes[at][bit] = Slot::Node(node);
                node
            }
        };
    }
    nodes[at][*last] = Slot::Record(record);
}

fn tree(nodes: &[[Slot; 2]], bits: u32) -> Vec<u8> {
    let number = |slot: Slot| match slot {
        Slot::Nothing => nodes.len() as u32,
        Slot::Node(node) => node as u32,
        Slot::Record(offset) => (nodes.len() + 16 + offset) as u32,
    };
    let mut octets = Vec::new();
    for [left, right] in nodes.iter().map(|node| node.map(number)) {
        let ([a, b, c, d], [e, f, g, h]) = (left.to_be_bytes(), right.to_be_bytes());
        match bits {
            24 => octets.extend([b, c, d, f, g, h]),
            28 => octets.extend([b, c, d, a << 4 | e, f, g, h]),
            _ => octets.extend([a, b, c, d, e, f, g, h]),
        }
    }
    octets
}

pub(crate) fn write(octets: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Text(text) => {
            assert!(text.len() < 285);
            match u8::try_from(text.len()).ok().filter(|length| *length < 29) {
                Some(length) => octets.push(0x40 | length),
                None => octets.extend([0x5d, (text.len() - 29) as u8]),
            }
            octets.extend(text.as_bytes());
        }
        Value::Number(number) => {
            octets.push(0xc4);
            octets.extend(number.to_be_bytes());
        }
        Value::Map(entries) => {
            octets.push(0xe0 | entries.len() as u8);
            for (key, value) in entries {
                write(octets, &text(key));
                write(octets, value);
            }
        }
        Value::Pointer(target) => {
            octets.push(0x38);
            octets.extend(target.to_be_bytes());
        }
    }
}
