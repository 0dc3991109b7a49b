use crate::cursor::Cursor;
use crate::interface::Interface;

/// A sample's format, without those of other enterprises than 0 (which are numbers above).
pub(crate) mod format {
    pub(crate) const FLOW: u32 = 1;
    pub(crate) const COUNTERS: u32 = 2;
    pub(crate) const EXPANDED_FLOW: u32 = 3;
    pub(crate) const EXPANDED_COUNTERS: u32 = 4;
    pub(crate) const DISCARDED_PACKET: u32 = 5;
}

/// Where an agent samples: mostly an interface.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct DataSource {
    /// 0: the index is an ifIndex.
    pub(crate) kind: u32,
    pub(crate) index: u32,
}

impl DataSource {
    #[inline]
    fn compact(word: u32) -> Self {
        Self {
            kind: word >> 24,
            index: word & 0x00ff_ffff,
        }
    }
}

/// The fields of a flow sample before its records, compact and expanded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FlowHeader {
    pub(crate) source: DataSource,
    pub(crate) sampling_rate: u32,
    /// Packets that could have been sampled: a total.
    pub(crate) pool: u32,
    /// Samples that the agent lost: a total.
    pub(crate) drops: u32,
    pub(crate) input: Interface,
    pub(crate) output: Interface,
    pub(crate) records: u32,
}

impl FlowHeader {
    #[inline]
    pub(crate) fn compact(cursor: &mut Cursor<'_>) -> Option<Self> {
        let [
            _,
            source,
            sampling_rate,
            pool,
            drops,
            input,
            output,
            records,
        ] = cursor.words()?;
        Some(Self {
            source: DataSource::compact(source),
            sampling_rate,
            pool,
            drops,
            input: Interface::compact(input),
            output: Interface::compact(output),
            records,
        })
    }

    #[inline]
    pub(crate) fn expanded(cursor: &mut Cursor<'_>) -> Option<Self> {
        let [_, kind, index, sampling_rate, pool, drops] = cursor.words()?;
        let [input_format, input, output_format, output, records] = cursor.words()?;
        Some(Self {
            source: DataSource { kind, index },
            sampling_rate,
            pool,
            drops,
            input: Interface::expanded(input_format, input),
            output: Interface::expanded(output_format, output),
            records,
        })
    }

    /// IE 61 flowDirection: whether the packet was seen entering or leaving the interface that is sampled.
    #[inline]
    pub(crate) fn direction(&self) -> u8 {
        match self.source {
            DataSource { kind: 0, index: 0 } => 255,
            DataSource { kind: 0, index } if index == self.input.index => 0,
            DataSource { kind: 0, index } if index == self.output.index => 1,
            _ => 255,
        }
    }
}

/// The number of a counter sample's records, which follow.
#[inline]
pub(crate) fn counter_records(cursor: &mut Cursor<'_>, expanded: bool) -> Option<u32> {
    let words = if expanded { 3 } else { 2 };
    for _ in 0..words {
        cursor.u32()?;
    }
    cursor.u32()
}

/// The data source and drops of a sample of a discarded packet (sflow.org/sflow_drops.txt).
#[inline]
pub(crate) fn discarded_packet(cursor: &mut Cursor<'_>) -> Option<(DataSource, u32)> {
    let [_, kind, index, drops, _input, _output, _reason, _records] = cursor.words()?;
    Some((DataSource { kind, index }, drops))
}

/// The next format and content of a list of samples or records; `None` where it ends too early.
#[inline]
pub(crate) fn next<'a>(cursor: &mut Cursor<'a>) -> Option<(u32, Cursor<'a>)> {
    let [format, length] = cursor.words()?;
    Some((format, cursor.take(length)?))
}
