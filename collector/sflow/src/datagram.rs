use weir_flow_record::Address;

use crate::cursor::Cursor;
use crate::outcome::DatagramError;

/// sFlow's version 5.
const VERSION: u32 = 5;

/// A datagram's header (`sample_datagram_v5`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    /// `UNSPECIFIED` where the agent does not say.
    pub(crate) agent: Address,
    pub(crate) sub_agent: u32,
    pub(crate) sequence: u32,
    /// Milliseconds since the agent started.
    pub(crate) uptime: u32,
    pub(crate) samples: u32,
}

impl Header {
    /// Reads a header; the cursor is at the first sample afterwards.
    #[inline]
    pub(crate) fn read(cursor: &mut Cursor<'_>) -> Result<Self, DatagramError> {
        let length = u16::try_from(cursor.rest().len()).unwrap_or(u16::MAX);
        match cursor.u32() {
            Some(VERSION) => Self::read_v5(cursor).ok_or(DatagramError::Header { length }),
            Some(version) => Err(DatagramError::Version { version }),
            None => Err(DatagramError::Header { length }),
        }
    }

    #[inline]
    fn read_v5(cursor: &mut Cursor<'_>) -> Option<Self> {
        let agent = cursor.address()?;
        let [sub_agent, sequence, uptime, samples] = cursor.words()?;
        Some(Self {
            agent,
            sub_agent,
            sequence,
            uptime,
            samples,
        })
    }
}
