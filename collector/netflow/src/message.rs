//! Message headers: what the five versions say before their records.

use weir_flow_record::ExportProtocol;

use crate::DatagramError;
use crate::cursor::Cursor;

/// A header and what follows it.
pub(crate) struct Message<'a> {
    pub(crate) header: Header,
    /// Records (v1, v5, v7) or Sets.
    pub(crate) body: &'a [u8],
    /// The message is cut: its body ends early.
    pub(crate) cut: Option<DatagramError>,
}

/// What all versions state, in one form.
#[derive(Clone, Copy)]
pub(crate) struct Header {
    pub(crate) protocol: ExportProtocol,
    /// Exporter's clock, ns since 1970.
    pub(crate) export_time: i64,
    /// sysUpTime in ms; none with IPFIX.
    pub(crate) uptime: Option<u32>,
    pub(crate) sequence: u32,
    pub(crate) domain: u32,
    /// v5: one in how many; 0 = not stated.
    pub(crate) sampling_rate: u32,
    /// v1, v5, v7: number of records.
    pub(crate) count: u16,
}

const V1_RECORD: usize = 48;
const V5_RECORD: usize = 48;
const V7_RECORD: usize = 52;
const IPFIX_HEADER: u16 = 16;

impl<'a> Message<'a> {
    /// Reads the header of any version.
    pub(crate) fn parse(octets: &'a [u8]) -> Result<Self, DatagramError> {
        let mut cursor = Cursor::new(octets);
        let short = |needed| DatagramError::Header {
            needed,
            length: length_of(octets),
        };
        let version = cursor.u16().ok_or(short(2))?;
        match version {
            1 => legacy(
                octets,
                cursor,
                ExportProtocol::NetflowV1,
                V1_RECORD,
                Legacy::v1,
            )
            .ok_or(short(16))?,
            5 => legacy(
                octets,
                cursor,
                ExportProtocol::NetflowV5,
                V5_RECORD,
                Legacy::v5,
            )
            .ok_or(short(24))?,
            7 => legacy(
                octets,
                cursor,
                ExportProtocol::NetflowV7,
                V7_RECORD,
                Legacy::v7,
            )
            .ok_or(short(24))?,
            9 => v9(cursor).ok_or(short(20)),
            10 => {
                let (stated, message) = ipfix(cursor).ok_or(short(IPFIX_HEADER))?;
                limit_ipfix(octets, stated, message)
            }
            version => Err(DatagramError::Version { version }),
        }
    }
}

/// The length of the IPFIX message at the front of a stream of octets (RFC 7011 §10.4.2.3: messages follow each other
/// without anything between them); `None` while fewer than four octets are there. At least 16, at most 65,535.
///
/// # Errors
///
/// What is there is no IPFIX message, so where the next one begins cannot be known: the session is to be closed.
pub fn message_length(octets: &[u8]) -> Result<Option<usize>, DatagramError> {
    let mut cursor = Cursor::new(octets);
    let (Some(version), Some(stated)) = (cursor.u16(), cursor.u16()) else {
        return Ok(None);
    };
    if version != 10 {
        return Err(DatagramError::Version { version });
    }
    if stated < IPFIX_HEADER {
        let length = length_of(octets);
        return Err(DatagramError::Length { stated, length });
    }
    Ok(Some(usize::from(stated)))
}

/// The fields in which v1, v5 and v7 differ.
struct Legacy {
    sequence: u32,
    domain: u32,
    sampling_rate: u32,
}

impl Legacy {
    fn v1(_: &mut Cursor<'_>) -> Option<Self> {
        Some(Self {
            sequence: 0,
            domain: 0,
            sampling_rate: 0,
        })
    }

    fn v5(cursor: &mut Cursor<'_>) -> Option<Self> {
        Some(Self {
            sequence: cursor.u32()?,
            domain: u32::from(cursor.u16()?),
            sampling_rate: v5_rate(cursor.u16()?),
        })
    }

    fn v7(cursor: &mut Cursor<'_>) -> Option<Self> {
        let sequence = cursor.u32()?;
        cursor.u32()?;
        Some(Self {
            sequence,
            domain: 0,
            sampling_rate: 0,
        })
    }
}

/// Two bits of mode, 14 of interval. Many exporters state an interval and leave the mode at 0; what samples nothing says 0.
fn v5_rate(word: u16) -> u32 {
    u32::from(word & 0x3fff)
}

/// `None`: too short for the header.
fn legacy<'a>(
    octets: &'a [u8],
    mut cursor: Cursor<'a>,
    protocol: ExportProtocol,
    record: usize,
    own: fn(&mut Cursor<'a>) -> Option<Legacy>,
) -> Option<Result<Message<'a>, DatagramError>> {
    let count = cursor.u16()?;
    let uptime = cursor.u32()?;
    let seconds = cursor.u32()?;
    let nanos = cursor.u32()?;
    let Legacy {
        sequence,
        domain,
        sampling_rate,
    } = own(&mut cursor)?;
    let Some(body) = cursor.take(usize::from(count) * record) else {
        return Some(Err(DatagramError::Count {
            count,
            length: length_of(octets),
        }));
    };
    Some(Ok(Message {
        header: Header {
            protocol,
            export_time: i64::from(seconds) * 1_000_000_000 + i64::from(nanos.min(999_999_999)),
            uptime: Some(uptime),
            sequence,
            domain,
            sampling_rate,
            count,
        },
        body,
        cut: None,
    }))
}

/// RFC 3954 §5.1. Count is not used: exporters disagree whether it counts records or FlowSets, and some state too few.
fn v9(mut cursor: Cursor<'_>) -> Option<Message<'_>> {
    let count = cursor.u16()?;
    let uptime = cursor.u32()?;
    let seconds = cursor.u32()?;
    let sequence = cursor.u32()?;
    let domain = cursor.u32()?;
    Some(Message {
        header: Header {
            protocol: ExportProtocol::NetflowV9,
            export_time: i64::from(seconds) * 1_000_000_000,
            uptime: Some(uptime),
            sequence,
            domain,
            sampling_rate: 0,
            count,
        },
        body: cursor.rest(),
        cut: None,
    })
}

/// RFC 7011 §3.1.
fn ipfix(mut cursor: Cursor<'_>) -> Option<(u16, Message<'_>)> {
    let stated = cursor.u16()?;
    let seconds = cursor.u32()?;
    let sequence = cursor.u32()?;
    let domain = cursor.u32()?;
    let header = Header {
        protocol: ExportProtocol::Ipfix,
        export_time: i64::from(seconds) * 1_000_000_000,
        uptime: None,
        sequence,
        domain,
        sampling_rate: 0,
        count: 0,
    };
    Some((
        stated,
        Message {
            header,
            body: cursor.rest(),
            cut: None,
        },
    ))
}

/// The message ends at its Length, whatever follows in the datagram.
fn limit_ipfix<'a>(
    octets: &[u8],
    stated: u16,
    mut message: Message<'a>,
) -> Result<Message<'a>, DatagramError> {
    let error = DatagramError::Length {
        stated,
        length: length_of(octets),
    };
    let body = stated.checked_sub(IPFIX_HEADER).ok_or(error)?;
    match message.body.get(..usize::from(body)) {
        Some(body) => message.body = body,
        None => message.cut = Some(error),
    }
    Ok(message)
}

fn length_of(octets: &[u8]) -> u16 {
    u16::try_from(octets.len()).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_must_fit() {
        assert!(matches!(
            Message::parse(&[]),
            Err(DatagramError::Header { .. })
        ));
        assert!(matches!(
            Message::parse(&[0, 9, 0, 1]),
            Err(DatagramError::Header { needed: 20, .. })
        ));
        assert!(matches!(
            Message::parse(&[0, 8, 0, 1]),
            Err(DatagramError::Version { version: 8 })
        ));
    }

    #[test]
    fn a_count_beyond_the_datagram_is_refused() {
        let mut octets = [0; 24 + 48];
        octets[1] = 5;
        octets[3] = 1;
        assert!(Message::parse(&octets).is_ok());
        octets[3] = 2;
        assert!(matches!(
            Message::parse(&octets),
            Err(DatagramError::Count { count: 2, .. })
        ));
    }

    #[test]
    fn v5_states_a_rate_with_or_without_a_mode() {
        assert_eq!(v5_rate(0x0064), 100);
        assert_eq!(v5_rate(0x4064), 100);
        assert_eq!(v5_rate(0x8000), 0);
    }

    #[test]
    fn a_stream_is_cut_where_messages_end() {
        assert_eq!(message_length(&[0, 10, 1]), Ok(None));
        assert_eq!(message_length(&[0, 10, 1, 0, 9]), Ok(Some(256)));
        assert!(message_length(&[0, 10, 0, 15]).is_err());
        assert!(message_length(&[0, 9, 0, 20]).is_err());
    }

    #[test]
    fn an_ipfix_message_ends_at_its_length() {
        let mut octets = [0; 24];
        octets[1] = 10;
        octets[3] = 20;
        assert_eq!(Message::parse(&octets).unwrap().body.len(), 4);
        octets[3] = 15;
        assert!(Message::parse(&octets).is_err());
        octets[3] = 30;
        let cut = Message::parse(&octets).unwrap();
        assert!(cut.cut.is_some());
        assert_eq!(cut.body.len(), 8);
    }
}
