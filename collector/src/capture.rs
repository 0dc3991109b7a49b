use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use etherparse::defrag::IpDefragPool;
use etherparse::{EtherType, LaxNetSlice, LaxSlicedPacket, SlicedPacket, TransportSlice};
use pcap_parser::traits::{PcapNGPacketBlock, PcapReaderIterator};
use pcap_parser::{Block, Linktype, PcapBlockOwned, PcapError, create_reader};
use weir_flow_record::{ReceivedAt, Timestamp};
use weir_packet::LinkType;

/// Octets held of a file at once; also the largest block that can be read.
const BUFFER: usize = 4 << 20;
/// Reassembly forgets fragments older than this.
const FRAGMENT_LIFE: std::time::Duration = std::time::Duration::from_secs(30);

/// A UDP datagram of a capture.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CapturedDatagram {
    /// The capture's time stamp.
    pub at: ReceivedAt,
    /// Sender.
    pub from: SocketAddr,
    /// Receiver.
    pub to: SocketAddr,
    /// UDP payload; cut where the capture's snapshot length cut it.
    pub payload: Vec<u8>,
}

/// A frame of a capture.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CapturedFrame {
    /// The capture's time stamp.
    pub at: ReceivedAt,
    /// How it begins: at its Ethernet header, or, for other link types, at the IP packet.
    pub link: LinkType,
    /// Its octets, as far as they were captured.
    pub octets: Vec<u8>,
    /// How many octets there were.
    pub length: u32,
}

/// A packet as the file has it.
struct RawFrame {
    nanos: i64,
    linktype: Linktype,
    octets: Vec<u8>,
    length: u32,
}

/// Why a capture cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// It cannot be opened.
    #[error("{path}: {source}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is neither pcap nor pcapng.
    #[error("{path}: neither pcap nor pcapng")]
    Format {
        /// The file.
        path: PathBuf,
    },
}

/// The UDP datagrams of a pcap or pcapng file, in the order of the file; IP fragments are reassembled. A file that ends in
/// the middle of a packet gives what came before: see [`Capture::truncated`].
pub struct Capture {
    reader: Box<dyn PcapReaderIterator>,
    interfaces: Vec<Interface>,
    nanoseconds: bool,
    fragments: IpDefragPool<Timestamp, ()>,
    ready: VecDeque<CapturedDatagram>,
    octets_read: u64,
    frames: u64,
    truncated: bool,
    ended: bool,
}

#[derive(Clone, Copy)]
struct Interface {
    linktype: Linktype,
    ticks_per_second: u64,
    offset_seconds: i64,
}

impl Capture {
    /// Opens a file and reads its first block; `-` is standard input.
    pub fn open(path: &Path) -> Result<Self, CaptureError> {
        if path == Path::new("-") {
            return Self::read(std::io::stdin(), path);
        }
        let file = File::open(path).map_err(|source| CaptureError::Open {
            path: path.to_owned(),
            source,
        })?;
        Self::read(file, path)
    }

    fn read(file: impl Read + Send + 'static, path: &Path) -> Result<Self, CaptureError> {
        let reader = create_reader(BUFFER, file).map_err(|_| CaptureError::Format {
            path: path.to_owned(),
        })?;
        Ok(Self {
            reader,
            interfaces: Vec::new(),
            nanoseconds: false,
            fragments: IpDefragPool::new(),
            ready: VecDeque::new(),
            octets_read: 0,
            frames: 0,
            truncated: false,
            ended: false,
        })
    }

    /// Whether the file ended in the middle of a block, or a block was malformed: what follows it was not read.
    pub fn truncated(&self) -> bool {
        self.truncated
    }

    /// Octets of the file that were read so far, for progress.
    pub fn octets_read(&self) -> u64 {
        self.octets_read
    }

    /// Captured frames so far, of any protocol.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// The next frame of a link type that carries IP, whatever it holds. A capture gives either frames or datagrams: what one
    /// has taken, the other does not see.
    pub fn next_frame(&mut self) -> Option<CapturedFrame> {
        while !self.ended {
            if let Some(frame) = self.read_block().and_then(RawFrame::captured) {
                return Some(frame);
            }
        }
        None
    }

    /// Reads a block; the frame in it.
    fn read_block(&mut self) -> Option<RawFrame> {
        let mut frame = None;
        match self.reader.next() {
            Ok((length, block)) => {
                match block {
                    PcapBlockOwned::LegacyHeader(header) => {
                        self.nanoseconds = header.is_nanosecond_precision();
                        self.interfaces = vec![Interface {
                            linktype: header.network,
                            ticks_per_second: 1,
                            offset_seconds: 0,
                        }];
                    }
                    PcapBlockOwned::Legacy(packet) => {
                        let unit = if self.nanoseconds { 1 } else { 1_000 };
                        let nanos = i64::from(packet.ts_sec) * 1_000_000_000
                            + i64::from(packet.ts_usec) * unit;
                        let linktype = self.interfaces.first().map(|i| i.linktype);
                        frame = linktype.map(|linktype| RawFrame {
                            nanos,
                            linktype,
                            octets: packet.data.to_vec(),
                            length: packet.origlen,
                        });
                    }
                    PcapBlockOwned::NG(block) => {
                        frame = next_generation(&mut self.interfaces, &block)
                    }
                }
                self.octets_read += length as u64;
                self.reader.consume(length);
            }
            Err(PcapError::Eof) => self.ended = true,
            Err(PcapError::Incomplete(_)) => {
                if self.reader.refill().is_err()
                    || self.reader.reader_exhausted() && self.is_stuck()
                {
                    self.stop();
                }
            }
            Err(_) => self.stop(),
        }
        self.frames += u64::from(frame.is_some());
        frame
    }

    /// Whether the rest of the file is not a whole block.
    fn is_stuck(&mut self) -> bool {
        matches!(self.reader.next(), Err(PcapError::Incomplete(_)))
    }

    fn stop(&mut self) {
        self.truncated = true;
        self.ended = true;
    }

    fn handle_frame(&mut self, at: Timestamp, linktype: Linktype, frame: &[u8]) {
        let Some((ether_type, packet)) = network_layer(linktype, frame) else {
            return;
        };
        let sliced = LaxSlicedPacket::from_ether_type(ether_type, packet);
        let Some(net) = &sliced.net else { return };
        let Some((source, destination, fragmented)) = addresses(net) else {
            return;
        };
        if fragmented {
            self.handle_fragment(at, ether_type, packet, source, destination);
        } else if let Some(TransportSlice::Udp(udp)) = &sliced.transport {
            self.ready.push_back(CapturedDatagram {
                at: ReceivedAt(at),
                from: SocketAddr::new(source, udp.source_port()),
                to: SocketAddr::new(destination, udp.destination_port()),
                payload: udp.payload().to_vec(),
            });
        }
    }

    fn handle_fragment(
        &mut self,
        at: Timestamp,
        ether_type: EtherType,
        packet: &[u8],
        source: IpAddr,
        destination: IpAddr,
    ) {
        let Ok(sliced) = SlicedPacket::from_ether_type(ether_type, packet) else {
            return;
        };
        self.fragments
            .retain(|seen| at.since(*seen) < FRAGMENT_LIFE);
        let Ok(Some(whole)) = self.fragments.process_sliced_packet(&sliced, at, ()) else {
            return;
        };
        if whole.ip_number == etherparse::IpNumber::UDP
            && let Ok(udp) = etherparse::UdpSlice::from_slice(&whole.payload)
        {
            self.ready.push_back(CapturedDatagram {
                at: ReceivedAt(at),
                from: SocketAddr::new(source, udp.source_port()),
                to: SocketAddr::new(destination, udp.destination_port()),
                payload: udp.payload().to_vec(),
            });
        }
        self.fragments.return_buf(whole);
    }
}

impl Iterator for Capture {
    type Item = CapturedDatagram;

    fn next(&mut self) -> Option<CapturedDatagram> {
        while self.ready.is_empty() && !self.ended {
            if let Some(frame) = self.read_block() {
                let at = Timestamp::from_nanos(frame.nanos);
                self.handle_frame(at, frame.linktype, &frame.octets);
            }
        }
        self.ready.pop_front()
    }
}

impl RawFrame {
    fn captured(self) -> Option<CapturedFrame> {
        let at = ReceivedAt::from_nanos(self.nanos);
        // Files have been seen that state less than they hold.
        let length = self
            .length
            .max(u32::try_from(self.octets.len()).unwrap_or(u32::MAX));
        if self.linktype == Linktype::ETHERNET {
            return Some(CapturedFrame {
                at,
                link: LinkType::Ethernet,
                octets: self.octets,
                length,
            });
        }
        let (ether_type, packet) = network_layer(self.linktype, &self.octets)?;
        let before = u32::try_from(self.octets.len() - packet.len()).ok()?;
        matches!(ether_type, EtherType::IPV4 | EtherType::IPV6).then(|| CapturedFrame {
            at,
            link: LinkType::Ip,
            octets: packet.to_vec(),
            length: length.saturating_sub(before),
        })
    }
}

/// Takes in a pcapng block; returns the packet in it.
fn next_generation(interfaces: &mut Vec<Interface>, block: &Block<'_>) -> Option<RawFrame> {
    match block {
        Block::SectionHeader(_) => {
            interfaces.clear();
            None
        }
        Block::InterfaceDescription(description) => {
            interfaces.push(Interface {
                linktype: description.linktype,
                ticks_per_second: description.ts_resolution().unwrap_or(1_000_000).max(1),
                offset_seconds: description.ts_offset(),
            });
            None
        }
        Block::EnhancedPacket(packet) => {
            let interface = interfaces.get(usize::try_from(packet.if_id).ok()?)?;
            let ticks = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
            let nanos = u128::from(ticks) * 1_000_000_000 / u128::from(interface.ticks_per_second);
            let nanos = i64::try_from(nanos).ok()?;
            let offset = interface.offset_seconds.checked_mul(1_000_000_000)?;
            Some(RawFrame {
                nanos: nanos.checked_add(offset)?,
                linktype: interface.linktype,
                octets: packet.packet_data().to_vec(),
                length: packet.origlen,
            })
        }
        _ => None,
    }
}

/// The network layer's type and packet in a frame; `None` for link types that carry no IP.
fn network_layer(linktype: Linktype, frame: &[u8]) -> Option<(EtherType, &[u8])> {
    match linktype {
        Linktype::ETHERNET => beyond_tags(
            EtherType(u16::from_be_bytes([*frame.get(12)?, *frame.get(13)?])),
            frame.get(14..)?,
        ),
        // tcpdump's "cooked" captures: the protocol stands at the end of 16 octets, in the second form at the start of 20.
        Linktype::LINUX_SLL => beyond_tags(
            EtherType(u16::from_be_bytes([*frame.get(14)?, *frame.get(15)?])),
            frame.get(16..)?,
        ),
        Linktype(276) => beyond_tags(
            EtherType(u16::from_be_bytes([*frame.first()?, *frame.get(1)?])),
            frame.get(20..)?,
        ),
        Linktype(0 | 108) => bare_ip(frame.get(4..)?),
        Linktype(12 | 14 | 101 | 228 | 229) => bare_ip(frame),
        _ => None,
    }
}

/// Skips VLAN tags and MPLS labels.
fn beyond_tags(mut ether_type: EtherType, mut packet: &[u8]) -> Option<(EtherType, &[u8])> {
    while matches!(ether_type.0, 0x8100 | 0x88a8 | 0x9100) {
        ether_type = EtherType(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
        packet = packet.get(4..)?;
    }
    if matches!(ether_type.0, 0x8847 | 0x8848) {
        loop {
            let label = packet.first_chunk::<4>()?;
            packet = &packet[4..];
            if label[2] & 1 == 1 {
                return bare_ip(packet);
            }
        }
    }
    Some((ether_type, packet))
}

fn bare_ip(packet: &[u8]) -> Option<(EtherType, &[u8])> {
    match packet.first()? >> 4 {
        4 => Some((EtherType::IPV4, packet)),
        6 => Some((EtherType::IPV6, packet)),
        _ => None,
    }
}

/// Source, destination, and whether the packet is a fragment.
fn addresses(net: &LaxNetSlice<'_>) -> Option<(IpAddr, IpAddr, bool)> {
    match net {
        LaxNetSlice::Ipv4(v4) => {
            let header = v4.header();
            Some((
                header.source_addr().into(),
                header.destination_addr().into(),
                v4.payload().fragmented,
            ))
        }
        LaxNetSlice::Ipv6(v6) => Some((
            v6.header().source_addr().into(),
            v6.header().destination_addr().into(),
            v6.payload().fragmented,
        )),
        _ => None,
    }
}
