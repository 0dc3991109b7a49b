//! Whether a MaxMind database can be read without end and without panic. `maxminddb` trusts its file: a search tree longer
//! than the file, a record that points into the separator, or values that point in a circle end it. So a file is walked
//! here first, in time linear in its size (MaxMind DB File Format Specification 2.0).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hashbrown::{HashMap, HashSet};

use crate::DatabaseError;

const MARKER: &[u8] = b"\xab\xcd\xefMaxMind.com";
const SEPARATOR: usize = 16;
/// Values of one record, those behind pointers included. The largest of MaxMind's have a few hundred.
const MOST_VALUES: u32 = 4_096;
/// How deep values nest, pointers included.
const MOST_DEPTH: u32 = 32;

const POINTER: u8 = 1;
const STRING: u8 = 2;
const MAP: u8 = 7;

/// IPv4 ranges of a database, at most: several times those of the largest.
const MOST_RANGES: usize = 1 << 22;

/// What a walk through a whole database finds.
pub(crate) struct Examined {
    /// For each data record an address that leads to it.
    pub(crate) addresses: Vec<IpAddr>,
    /// Where ranges of IPv4 addresses begin; `None` if they are too many.
    pub(crate) v4_starts: Option<Vec<u32>>,
}

/// Walks the whole of a database.
pub(crate) fn examine(octets: &[u8]) -> Result<Examined, DatabaseError> {
    let marker = octets
        .windows(MARKER.len())
        .rposition(|window| window == MARKER)
        .ok_or(DatabaseError::NoDatabase)?;
    let metadata = octets.get(marker + MARKER.len()..).unwrap_or_default();
    let mut values = Values::new(metadata);
    values.check(0).ok_or(DatabaseError::Metadata)?;
    let tree = Tree::of(octets, marker, &values).ok_or(DatabaseError::Metadata)?;
    let mut values = Values::new(tree.data);
    for value in tree.records() {
        match tree.meaning(value) {
            Meaning::Node(_) | Meaning::Nothing => {}
            Meaning::Record(offset) => values
                .check(offset)
                .ok_or(DatabaseError::Record { offset })?,
            Meaning::Broken => return Err(DatabaseError::Tree),
        }
    }
    Ok(Examined {
        addresses: tree.addresses(),
        v4_starts: tree.v4_starts(),
    })
}

/// The search tree of a database.
struct Tree<'a> {
    octets: &'a [u8],
    data: &'a [u8],
    nodes: u32,
    record_bits: u32,
    v6: bool,
}

/// What a record of a node says.
enum Meaning {
    Node(u32),
    Nothing,
    /// The offset of a value in the data section.
    Record(u32),
    Broken,
}

impl<'a> Tree<'a> {
    fn of(octets: &'a [u8], marker: usize, metadata: &Values<'_>) -> Option<Self> {
        let nodes = metadata.number("node_count")?;
        let record_bits = metadata.number("record_size")?;
        let version = metadata.number("ip_version")?;
        if !matches!(record_bits, 24 | 28 | 32) || !matches!(version, 4 | 6) {
            return None;
        }
        let size = (nodes as usize).checked_mul(record_bits as usize / 4)?;
        Some(Self {
            octets: octets.get(..size)?,
            data: octets.get(size.checked_add(SEPARATOR)?..marker)?,
            nodes,
            record_bits,
            v6: version == 6,
        })
    }

    /// Both records of a node.
    fn node(&self, node: u32) -> Option<[u32; 2]> {
        let width = self.record_bits as usize / 4;
        let at = (node as usize).checked_mul(width)?;
        Some(match *self.octets.get(at..at.checked_add(width)?)? {
            [a, b, c, d, e, f] => [
                u32::from_be_bytes([0, a, b, c]),
                u32::from_be_bytes([0, d, e, f]),
            ],
            [a, b, c, middle, d, e, f] => [
                u32::from_be_bytes([middle >> 4, a, b, c]),
                u32::from_be_bytes([middle & 0x0f, d, e, f]),
            ],
            [a, b, c, d, e, f, g, h] => [
                u32::from_be_bytes([a, b, c, d]),
                u32::from_be_bytes([e, f, g, h]),
            ],
            _ => return None,
        })
    }

    fn records(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.nodes).flat_map(|node| self.node(node)).flatten()
    }

    fn meaning(&self, record: u32) -> Meaning {
        match record.checked_sub(self.nodes) {
            None => Meaning::Node(record),
            Some(0) => Meaning::Nothing,
            Some(beyond) => match beyond.checked_sub(SEPARATOR as u32) {
                Some(offset) if (offset as usize) < self.data.len() => Meaning::Record(offset),
                _ => Meaning::Broken,
            },
        }
    }

    /// An address for each data record. Each node is entered once, whatever points to it, so this ends in a circle too.
    fn addresses(&self) -> Vec<IpAddr> {
        let bits = if self.v6 { 128 } else { 32 };
        let mut entered = vec![false; self.nodes as usize];
        let mut known = HashSet::new();
        let mut addresses = Vec::new();
        let mut stack = vec![(0u32, 0u128, 0u32)];
        while let Some((node, address, depth)) = stack.pop() {
            match entered.get_mut(node as usize) {
                Some(entered) if !*entered && depth < bits => *entered = true,
                _ => continue,
            }
            let Some(records) = self.node(node) else {
                continue;
            };
            for (bit, record) in (0u128..).zip(records) {
                let address = address | bit << (bits - 1 - depth);
                match self.meaning(record) {
                    Meaning::Node(child) => stack.push((child, address, depth + 1)),
                    Meaning::Record(offset) if known.insert(offset) => {
                        addresses.push(self.address(address));
                    }
                    _ => {}
                }
            }
        }
        addresses
    }

    /// Where the leaves for IPv4 begin; in a tree for both families they hang on 96 zeros.
    fn v4_starts(&self) -> Option<Vec<u32>> {
        let mut root = 0;
        for _ in 0..if self.v6 { 96 } else { 0 } {
            let Meaning::Node(node) = self.meaning(root) else {
                break;
            };
            [root, _] = self.node(node)?;
        }
        let mut starts = Vec::new();
        let mut stack = vec![(root, 0u32, 0u32)];
        while let Some((record, start, depth)) = stack.pop() {
            match self.meaning(record) {
                Meaning::Node(node) if depth < 32 => {
                    let [left, right] = self.node(node)?;
                    stack.push((right, start | 1 << (31 - depth), depth + 1));
                    stack.push((left, start, depth + 1));
                }
                _ if starts.len() == MOST_RANGES => return None,
                _ => starts.push(start),
            }
        }
        Some(starts)
    }

    fn address(&self, bits: u128) -> IpAddr {
        if self.v6 {
            Ipv6Addr::from_bits(bits).into()
        } else {
            Ipv4Addr::from_bits(bits as u32).into()
        }
    }
}

/// The values of a data section.
struct Values<'a> {
    octets: &'a [u8],
    /// What hangs on the targets of pointers and on records.
    known: HashMap<u32, Extent>,
    /// Values still read before the file is given up: overlapping ones could be read again and again.
    patience: usize,
}

/// Of a value, with all that it holds or points to.
#[derive(Clone, Copy)]
struct Extent {
    values: u32,
    depth: u32,
}

/// A value's type and size, and where its content begins.
#[derive(Clone, Copy)]
struct Head {
    kind: u8,
    size: usize,
    content: usize,
}

impl<'a> Values<'a> {
    fn new(octets: &'a [u8]) -> Self {
        Self {
            octets,
            known: HashMap::new(),
            patience: octets.len().saturating_mul(16),
        }
    }

    /// `None` if the value at `offset` is broken, too large, too deep, or in a circle.
    fn check(&mut self, offset: u32) -> Option<()> {
        self.target(offset, 0).map(drop)
    }

    fn target(&mut self, offset: u32, depth: u32) -> Option<Extent> {
        if let Some(extent) = self.known.get(&offset) {
            return (depth + extent.depth <= MOST_DEPTH).then_some(*extent);
        }
        let (_, extent) = self.value(offset as usize, depth)?;
        self.known.insert(offset, extent);
        Some(extent)
    }

    /// The end of the value at `at`, and its extent.
    fn value(&mut self, at: usize, depth: u32) -> Option<(usize, Extent)> {
        self.patience = self.patience.checked_sub(1)?;
        if depth > MOST_DEPTH {
            return None;
        }
        let head = self.head(at)?;
        let mut extent = Extent {
            values: 1,
            depth: 0,
        };
        let entries = match head.kind {
            POINTER => {
                let (target, end) = self.pointer(&head)?;
                // A pointer to a pointer is forbidden.
                if self.head(target as usize)?.kind == POINTER {
                    return None;
                }
                return Some((end, self.target(target, depth + 1)?.below(extent)?));
            }
            MAP => head.size.checked_mul(2)?,
            11 => head.size,
            kind => {
                let size = content_size(kind, head.size)?;
                let end = head.content.checked_add(size)?;
                return (end <= self.octets.len()).then_some((end, extent));
            }
        };
        let mut end = head.content;
        for entry in 0..entries {
            if head.kind == MAP && entry % 2 == 0 {
                self.key(end)?;
            }
            let (next, inner) = self.value(end, depth + 1)?;
            (end, extent) = (next, inner.below(extent)?);
        }
        Some((end, extent))
    }

    /// Keys of maps are strings, or point to one.
    fn key(&self, at: usize) -> Option<&'a [u8]> {
        let mut head = self.head(at)?;
        if head.kind == POINTER {
            let (target, _) = self.pointer(&head)?;
            head = self.head(target as usize)?;
        }
        let end = head.content.checked_add(head.size)?;
        (head.kind == STRING).then(|| self.octets.get(head.content..end))?
    }

    fn head(&self, at: usize) -> Option<Head> {
        let control = *self.octets.get(at)?;
        let mut content = at.checked_add(1)?;
        let mut kind = control >> 5;
        if kind == 0 {
            kind = self.octets.get(content)?.checked_add(7)?;
            content += 1;
        }
        let size = usize::from(control & 0x1f);
        if kind == POINTER {
            return Some(Head {
                kind,
                size,
                content,
            });
        }
        let (more, base) = match size {
            29 => (1, 29),
            30 => (2, 285),
            31 => (3, 65_821),
            size => (0, size),
        };
        Some(Head {
            kind,
            size: base + self.unsigned(content, more)?,
            content: content + more,
        })
    }

    /// Where a pointer leads, and where it ends itself.
    fn pointer(&self, head: &Head) -> Option<(u32, usize)> {
        let width = (head.size >> 3) + 1;
        let high = if width == 4 { 0 } else { head.size & 7 };
        let base = [2_048, 526_336].get(width.wrapping_sub(2)).copied();
        let base = if width == 4 { 0 } else { base.unwrap_or(0) };
        let low = self.unsigned(head.content, width)?;
        let target = (high << (8 * width)).checked_add(low)?.checked_add(base)?;
        Some((u32::try_from(target).ok()?, head.content + width))
    }

    fn unsigned(&self, at: usize, width: usize) -> Option<usize> {
        let octets = self.octets.get(at..at.checked_add(width)?)?;
        let unsigned = |value: usize, octet: &u8| (value << 8) | usize::from(*octet);
        Some(octets.iter().fold(0, unsigned))
    }

    /// The number under `key` in the map at the front of a checked section, where no pointer leads to it.
    fn number(&self, key: &str) -> Option<u32> {
        let map = self.head(0).filter(|head| head.kind == MAP)?;
        let mut walker = Values::new(self.octets);
        let mut at = map.content;
        for _ in 0..map.size {
            let name = self.key(at)?;
            let (value, _) = walker.value(at, 0)?;
            if name == key.as_bytes() {
                let head = self
                    .head(value)
                    .filter(|head| matches!(head.kind, 5 | 6 | 9))?;
                return u32::try_from(self.unsigned(head.content, head.size)?).ok();
            }
            (at, _) = walker.value(value, 0)?;
        }
        None
    }
}

impl Extent {
    /// That of the value that holds this one.
    fn below(self, outer: Self) -> Option<Self> {
        let values = outer.values.saturating_add(self.values);
        (values <= MOST_VALUES).then_some(Self {
            values,
            depth: outer.depth.max(self.depth + 1),
        })
    }
}

/// Octets of content; `None` where the type does not have such a size, or is none.
fn content_size(kind: u8, size: usize) -> Option<usize> {
    let most = match kind {
        STRING | 4 => usize::MAX,
        3 if size == 8 => 8,
        15 if size == 4 => 4,
        5 => 2,
        6 | 8 => 4,
        9 => 8,
        10 => 16,
        14 => return (size <= 1).then_some(0),
        _ => return None,
    };
    (size <= most).then_some(size)
}
