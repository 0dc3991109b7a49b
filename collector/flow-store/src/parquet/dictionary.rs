use hashbrown::HashMap;
use polars_arrow::array::{DictionaryArray, MutableBinaryViewArray, PrimitiveArray, Utf8ViewArray};
use weir_flow_format::text;
use weir_flow_record::Address;

/// A value that a file holds as text.
pub(crate) trait Text: Copy + Eq + std::hash::Hash {
    /// Appends the text: ASCII only.
    fn push(self, out: &mut Vec<u8>);
}

/// A column of text as numbers of its distinct values: each value is made text once per row group, and Parquet's own
/// dictionary encoding takes the numbers as they are, so that no text is ever hashed.
pub(crate) struct Dictionary<V> {
    keys: Vec<u32>,
    values: Vec<V>,
    numbers: HashMap<V, u32, foldhash::fast::FixedState>,
    /// Most columns repeat their last value.
    last: Option<(V, u32)>,
}

impl<V> Default for Dictionary<V> {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            values: Vec::new(),
            numbers: HashMap::default(),
            last: None,
        }
    }
}

impl<V: Text> Dictionary<V> {
    #[inline]
    pub(crate) fn push(&mut self, value: V) {
        let number = self.number(value);
        self.keys.push(number);
    }

    /// Appends a value for each of `rows` rows.
    pub(crate) fn push_times(&mut self, value: V, rows: usize) {
        let number = self.number(value);
        self.keys.resize(self.keys.len() + rows, number);
    }

    /// The column so far, which it forgets; the table's memory is kept.
    pub(crate) fn take(&mut self) -> polars::error::PolarsResult<DictionaryArray<u32>> {
        let mut texts = MutableBinaryViewArray::<str>::with_capacity(self.values.len());
        let mut buffer = Vec::new();
        for value in self.values.drain(..) {
            buffer.clear();
            value.push(&mut buffer);
            texts.push_value(String::from_utf8_lossy(&buffer));
        }
        self.numbers.clear();
        self.last = None;
        let rows = self.keys.len();
        let keys = std::mem::replace(&mut self.keys, Vec::with_capacity(rows));
        let values: Utf8ViewArray = texts.into();
        DictionaryArray::try_from_keys(PrimitiveArray::from_vec(keys), values.boxed(), false)
    }

    #[inline]
    fn number(&mut self, value: V) -> u32 {
        if let Some((last, number)) = self.last
            && last == value
        {
            return number;
        }
        let values = &mut self.values;
        let number = *self.numbers.entry(value).or_insert_with(|| {
            values.push(value);
            // A row group has far fewer rows than 2³².
            (values.len() - 1) as u32
        });
        self.last = Some((value, number));
        number
    }
}

impl Text for &'static str {
    fn push(self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }
}

impl Text for Address {
    fn push(self, out: &mut Vec<u8>) {
        text::push_address(out, self);
    }
}

/// An address that a record may lack.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct NextHop(pub(crate) Address);

impl Text for NextHop {
    fn push(self, out: &mut Vec<u8>) {
        text::push_next_hop(out, self.0);
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Mac(pub(crate) [u8; 6]);

impl Text for Mac {
    fn push(self, out: &mut Vec<u8>) {
        text::push_mac(out, self.0);
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Protocol(pub(crate) u8);

impl Text for Protocol {
    fn push(self, out: &mut Vec<u8>) {
        text::push_protocol(out, self.0);
    }
}

/// A prefix by its first address.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Net(Address, u8);

impl Net {
    /// The prefix of `length` bits that holds `address`; a longer length is cut to the host's.
    #[inline]
    pub(crate) fn of(address: Address, length: u8) -> Self {
        let (unused, most) = if address.is_v4() { (96, 32) } else { (0, 128) };
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
}
