use weir_flow_record::{
    Address, ColumnSet, DatagramInfo, ExportProtocol, ExportTime, ExporterId, FlowBatch,
    ObservationDomainId, ReceivedAt,
};

use super::columns::{Column, with_columns};
use super::{EACH, MAGIC, MAX_ROWS, NANOS_OF_MS, SAME, SHORT, VERSION};

/// Why octets are no block.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlockError {
    /// Something else altogether.
    #[error("not a block of flow records")]
    Magic,
    /// A version that this program does not know.
    #[error("a block of version {0}, where version {VERSION} is known")]
    Version(u8),
    /// The end comes too early.
    #[error("the block ends at octet {offset}, in the middle")]
    Truncated {
        /// Where.
        offset: usize,
    },
    /// A value that cannot be.
    #[error("no {what} can have the value at octet {offset}")]
    Value {
        /// Of what.
        what: &'static str,
        /// Where.
        offset: usize,
    },
    /// Something follows the last column.
    #[error("{0} octets follow the block")]
    Trailing(usize),
}

/// Reads a block into a batch, whose earlier rows are forgotten; its memory is used again. `ExporterId` is 0 in all datagrams,
/// since it means something within one process only. After an error the batch is empty.
pub fn decode(block: &[u8], batch: &mut FlowBatch) -> Result<(), BlockError> {
    let read = read(block, batch);
    if read.is_err() {
        batch.clear();
    }
    read
}

fn read(block: &[u8], batch: &mut FlowBatch) -> Result<(), BlockError> {
    batch.clear();
    let mut reader = Reader {
        rest: block,
        length: block.len(),
    };
    if reader.array().map_err(|_| BlockError::Magic)? != MAGIC {
        return Err(BlockError::Magic);
    }
    match reader.array()? {
        [VERSION] => {}
        [version] => return Err(BlockError::Version(version)),
    }
    let rows = reader.count("number of rows", 1..=MAX_ROWS)?;
    let datagrams = reader.count("number of datagrams", 1..=rows)?;
    batch.projection = reader.columns()?;
    let exporter_address = Address::from_octets(reader.array()?);
    let domain = ObservationDomainId(reader.number()?);
    let (mut start, mut received) = (0_usize, 0_i64);
    for left in (0..datagrams).rev() {
        let offset = reader.offset();
        let most = rows - start - left;
        let count = reader.count("number of a datagram's rows", 1..=most)?;
        if left == 0 && count != most {
            let what = "number of a datagram's rows";
            return Err(BlockError::Value { what, offset });
        }
        let protocol = reader.protocol()?;
        let sequence = reader.number()?;
        received = received.wrapping_add(reader.signed()?);
        let export_time = received.wrapping_add(reader.signed()?);
        batch.datagrams.push(DatagramInfo {
            // Both are below `MAX_ROWS`.
            rows: start as u32..(start + count) as u32,
            exporter: ExporterId(0),
            exporter_address,
            domain,
            protocol,
            sequence,
            received_at: ReceivedAt::from_nanos(received),
            export_time: ExportTime::from_nanos(export_time),
            present: reader.columns()?,
        });
        start += count;
    }
    macro_rules! read {
        ($($column:ident),*; $($set:ident: $($extra:ident),+;)*) => {
            $( Column::read(&mut reader, rows, &mut batch.$column)?; )*
            read_times(&mut reader, rows, batch)?;
            $( if batch.projection.has(ColumnSet::$set) {
                $( Column::read(&mut reader, rows, &mut batch.extra.$extra)?; )+
            } )*
        };
    }
    with_columns!(read);
    match reader.rest.len() {
        0 => Ok(()),
        octets => Err(BlockError::Trailing(octets)),
    }
}

fn read_times(
    reader: &mut Reader<'_>,
    rows: usize,
    batch: &mut FlowBatch,
) -> Result<(), BlockError> {
    let mut end = 0_i64;
    reader.differences(rows, |difference| {
        end = end.wrapping_add(difference);
        batch.flow_end.push(end);
    })?;
    let mut row = 0;
    let (ends, starts) = (&batch.flow_end, &mut batch.flow_start);
    reader.differences(rows, |difference| {
        let end = ends.get(row).copied().unwrap_or_default();
        starts.push(end.wrapping_add(difference));
        row += 1;
    })
}

/// Where reading has come to.
pub(super) struct Reader<'b> {
    rest: &'b [u8],
    length: usize,
}

impl Reader<'_> {
    fn offset(&self) -> usize {
        self.length - self.rest.len()
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], BlockError> {
        let Some((array, rest)) = self.rest.split_first_chunk() else {
            return Err(BlockError::Truncated {
                offset: self.length,
            });
        };
        self.rest = rest;
        Ok(*array)
    }

    fn unsigned(&mut self) -> Result<u64, BlockError> {
        let offset = self.offset();
        let what = "number";
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let [octet] = self.array()?;
            let bits = u64::from(octet & 0x7f);
            // The tenth octet has room for one bit.
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if octet < 0x80 {
                return Ok(value);
            }
        }
        Err(BlockError::Value { what, offset })
    }

    fn signed(&mut self) -> Result<i64, BlockError> {
        let value = self.unsigned()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    pub(super) fn number<T: TryFrom<u64>>(&mut self) -> Result<T, BlockError> {
        let offset = self.offset();
        let what = "field";
        T::try_from(self.unsigned()?).map_err(|_| BlockError::Value { what, offset })
    }

    fn count(
        &mut self,
        what: &'static str,
        bounds: std::ops::RangeInclusive<usize>,
    ) -> Result<usize, BlockError> {
        let offset = self.offset();
        let count = usize::try_from(self.unsigned()?).ok();
        count
            .filter(|count| bounds.contains(count))
            .ok_or(BlockError::Value { what, offset })
    }

    fn columns(&mut self) -> Result<ColumnSet, BlockError> {
        let offset = self.offset();
        let what = "set of columns";
        let set = ColumnSet(self.number()?);
        if ColumnSet::ALL.has(set) {
            Ok(set)
        } else {
            Err(BlockError::Value { what, offset })
        }
    }

    fn protocol(&mut self) -> Result<ExportProtocol, BlockError> {
        let offset = self.offset();
        let [number] = self.array()?;
        Ok(match number {
            1 => ExportProtocol::NetflowV1,
            5 => ExportProtocol::NetflowV5,
            7 => ExportProtocol::NetflowV7,
            9 => ExportProtocol::NetflowV9,
            10 => ExportProtocol::Ipfix,
            105 => ExportProtocol::SflowV5,
            200 => ExportProtocol::Xdp,
            _ => {
                let what = "protocol";
                return Err(BlockError::Value { what, offset });
            }
        })
    }

    fn tag(&mut self) -> Result<(u8, BlockError), BlockError> {
        let (offset, what) = (self.offset(), "tag of a column");
        let [tag] = self.array()?;
        Ok((tag, BlockError::Value { what, offset }))
    }

    /// Appends `rows` values, each of which `each` reads.
    pub(super) fn values<T: Clone>(
        &mut self,
        rows: usize,
        column: &mut Vec<T>,
        each: impl Fn(&mut Self) -> Result<T, BlockError>,
    ) -> Result<(), BlockError> {
        match self.tag()? {
            (SAME, _) => {
                let value = each(self)?;
                column.resize(rows, value);
            }
            (EACH, _) => {
                column.reserve(rows);
                for _ in 0..rows {
                    column.push(each(self)?);
                }
            }
            (_, error) => return Err(error),
        }
        Ok(())
    }

    /// Appends `rows` addresses.
    pub(super) fn addresses(
        &mut self,
        rows: usize,
        column: &mut Vec<Address>,
    ) -> Result<(), BlockError> {
        if self.rest.first() != Some(&SHORT) {
            return self.values(rows, column, |reader| {
                reader.array().map(Address::from_octets)
            });
        }
        let [_tag] = self.array()?;
        column.reserve(rows);
        for _ in 0..rows {
            column.push(Address::from_v4(self.array()?));
        }
        Ok(())
    }

    /// Gives `rows` differences of time in ns to `take`.
    fn differences(&mut self, rows: usize, mut take: impl FnMut(i64)) -> Result<(), BlockError> {
        let unit = match self.tag()? {
            (EACH, _) => 1,
            (SHORT, _) => NANOS_OF_MS,
            (_, error) => return Err(error),
        };
        for _ in 0..rows {
            take(self.signed()?.wrapping_mul(unit));
        }
        Ok(())
    }
}
