use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use polars_arrow::array::{DictionaryArray, MutableBinaryViewArray, PrimitiveArray, Utf8ViewArray};
use weir_flow_format::text;
use weir_flow_record::Address;

/// A value that a file holds as text.
pub(crate) trait Text: Copy + Eq {
    /// Appends the text: ASCII only.
    fn push(self, out: &mut Vec<u8>);

    /// What tells values apart in a hash table.
    fn words(self) -> (u64, u64);
}

/// A column of text as numbers of its distinct values: each value is made text once per row group, and Parquet's own
/// dictionary encoding takes the numbers as they are, so that no text is ever hashed.
pub(crate) struct Dictionary<V> {
    keys: Vec<u32>,
    values: Vec<V>,
    /// Places in `values`.
    numbers: HashTable<u32>,
    /// Seeded by chance: whoever sends records cannot choose values that collide.
    hasher: RandomState,
    /// Most columns repeat their last value.
    last: Option<(V, u32)>,
}

impl<V> Default for Dictionary<V> {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            values: Vec::new(),
            numbers: HashTable::new(),
            hasher: RandomState::default(),
            last: None,
        }
    }
}

impl<V: Text> Dictionary<V> {
    /// Appends a value for each of `rows` rows.
    pub(crate) fn push_times(&mut self, value: V, rows: usize) {
        let number = self.number(value);
        self.keys.resize(self.keys.len() + rows, number);
    }

    /// Appends a value for each row.
    pub(crate) fn extend(&mut self, values: impl ExactSizeIterator<Item = V>) {
        self.keys.reserve(values.len());
        for value in values {
            let number = self.number(value);
            self.keys.push(number);
        }
    }

    /// The column so far, which it forgets; the table's memory is kept. `zeros` are keys for a column of one value.
    pub(crate) fn take(
        &mut self,
        zeros: &PrimitiveArray<u32>,
    ) -> polars::error::PolarsResult<DictionaryArray<u32>> {
        let mut texts = MutableBinaryViewArray::<str>::with_capacity(self.values.len());
        let mut buffer = Vec::new();
        for value in self.values.drain(..) {
            buffer.clear();
            value.push(&mut buffer);
            texts.push_value(String::from_utf8_lossy(&buffer));
        }
        self.numbers.clear();
        self.last = None;
        let keys = if texts.len() == 1 {
            self.keys.clear();
            zeros.clone()
        } else {
            let rows = self.keys.len();
            let keys = std::mem::replace(&mut self.keys, Vec::with_capacity(rows));
            PrimitiveArray::from_vec(keys)
        };
        let values: Utf8ViewArray = texts.into();
        DictionaryArray::try_from_keys(keys, values.boxed(), false)
    }

    #[inline(always)]
    fn number(&mut self, value: V) -> u32 {
        match self.last {
            Some((last, number)) if last == value => number,
            _ => self.look_up(value),
        }
    }

    #[inline]
    fn look_up(&mut self, value: V) -> u32 {
        let (values, hasher) = (&mut self.values, &self.hasher);
        let entry = self.numbers.entry(
            hasher.hash_one(value.words()),
            |number| values[*number as usize] == value,
            |number| hasher.hash_one(values[*number as usize].words()),
        );
        let number = match entry {
            hashbrown::hash_table::Entry::Occupied(number) => *number.get(),
            hashbrown::hash_table::Entry::Vacant(free) => {
                // A row group has far fewer rows than 2³².
                let number = values.len() as u32;
                free.insert(number);
                values.push(value);
                number
            }
        };
        self.last = Some((value, number));
        number
    }
}

impl Text for &'static str {
    fn push(self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }

    fn words(self) -> (u64, u64) {
        (self.as_ptr() as u64, self.len() as u64)
    }
}

impl Text for Address {
    fn push(self, out: &mut Vec<u8>) {
        text::push_address(out, self);
    }

    fn words(self) -> (u64, u64) {
        Self::words(self)
    }
}

/// An address that a record may lack.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct NextHop(pub(crate) Address);

impl Text for NextHop {
    fn push(self, out: &mut Vec<u8>) {
        text::push_next_hop(out, self.0);
    }

    fn words(self) -> (u64, u64) {
        self.0.words()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mac(pub(crate) [u8; 6]);

impl Text for Mac {
    fn push(self, out: &mut Vec<u8>) {
        text::push_mac(out, self.0);
    }

    fn words(self) -> (u64, u64) {
        let [a, b, c, d, e, f] = self.0;
        (0, u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Protocol(pub(crate) u8);

impl Text for Protocol {
    fn push(self, out: &mut Vec<u8>) {
        text::push_protocol(out, self.0);
    }

    fn words(self) -> (u64, u64) {
        (0, u64::from(self.0))
    }
}

/// A prefix by its first address.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Net(Address, u8);

impl Net {
    /// The prefix of `length` bits that holds `address`; a longer length is cut to the host's.
    #[inline]
    pub(crate) fn of(address: Address, length: u8) -> Self {
        let is_v4 = address.is_v4();
        if length == 0 {
            // Nearly all records of most exporters.
            return Self(
                if is_v4 {
                    Address::from_v4([0; 4])
                } else {
                    Address::UNSPECIFIED
                },
                0,
            );
        }
        let (unused, most) = if is_v4 { (96, 32) } else { (0, 128) };
        let length = length.min(most);
        let kept = unused + u32::from(length);
        let mask = u128::MAX.checked_shl(128 - kept).unwrap_or(0);
        let network = u128::from_be_bytes(address.octets()) & mask;
        Self(Address::from_octets(network.to_be_bytes()), length)
    }
}

impl Text for Net {
    fn push(self, out: &mut Vec<u8>) {
        text::push_net(out, self.0, self.1);
    }

    fn words(self) -> (u64, u64) {
        let (high, low) = self.0.words();
        (high ^ u64::from(self.1), low)
    }
}
