use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};

use weir_flow_record::Timestamp;

/// Nanosecond time stamps, little-endian.
const MAGIC: u32 = 0xa1b2_3c4d;
const ETHERNET: u32 = 1;
const SNAP_LENGTH: u32 = 262_144;
const UDP: u8 = 17;
/// Locally administered addresses of the exporter and the collector.
const MACS: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];

/// Writes UDP datagrams as a capture file that `weir replay`, `weir decode` and Wireshark read.
pub struct PcapWriter<W> {
    out: W,
    frame: Vec<u8>,
}

impl<W: Write> PcapWriter<W> {
    /// Writes the file's header to `out`.
    pub fn new(mut out: W) -> io::Result<Self> {
        out.write_all(&MAGIC.to_le_bytes())?;
        for version in [2_u16, 4] {
            out.write_all(&version.to_le_bytes())?;
        }
        for field in [0, 0, SNAP_LENGTH, ETHERNET] {
            out.write_all(&field.to_le_bytes())?;
        }
        Ok(Self {
            out,
            frame: Vec::new(),
        })
    }

    /// Appends a datagram; both addresses are of one family, the payload is at most 65,507 octets (IPv6: 65,527), the time
    /// lies between 1970 and 2106.
    pub fn write(
        &mut self,
        at: Timestamp,
        from: SocketAddr,
        to: SocketAddr,
        payload: &[u8],
    ) -> io::Result<()> {
        self.frame.clear();
        match (from.ip(), to.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                self.ethernet(0x0800);
                let length = narrow(20 + 8 + payload.len())?;
                let [high, low] = length.to_be_bytes();
                let mut header = [
                    0x45, 0, high, low, 0, 0, 0x40, 0, 64, UDP, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                ];
                header[12..16].copy_from_slice(&source.octets());
                header[16..].copy_from_slice(&destination.octets());
                let sum = checksum(&[&header]);
                header[10..12].copy_from_slice(&sum.to_be_bytes());
                self.frame.extend_from_slice(&header);
                self.udp(
                    [&source.octets(), &destination.octets()],
                    from.port(),
                    to.port(),
                    payload,
                )?;
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                self.ethernet(0x86dd);
                let length = narrow(8 + payload.len())?;
                self.frame.extend_from_slice(&[0x60, 0, 0, 0]);
                self.frame.extend_from_slice(&length.to_be_bytes());
                self.frame.extend_from_slice(&[UDP, 64]);
                self.frame.extend_from_slice(&source.octets());
                self.frame.extend_from_slice(&destination.octets());
                self.udp(
                    [&source.octets(), &destination.octets()],
                    from.port(),
                    to.port(),
                    payload,
                )?;
            }
            _ => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "addresses of two families",
                ));
            }
        }
        self.record(at)
    }

    /// Flushes and gives the file back.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }

    fn ethernet(&mut self, ether_type: u16) {
        self.frame.extend_from_slice(&MACS);
        self.frame.extend_from_slice(&ether_type.to_be_bytes());
    }

    fn udp(&mut self, addresses: [&[u8]; 2], from: u16, to: u16, payload: &[u8]) -> io::Result<()> {
        let length = narrow(8 + payload.len())?.to_be_bytes();
        let ports = [from.to_be_bytes(), to.to_be_bytes()].concat();
        let sum = match checksum(&[
            addresses[0],
            addresses[1],
            &[0, UDP],
            &length,
            &ports,
            &length,
            &[0, 0],
            payload,
        ]) {
            0 => 0xffff,
            sum => sum,
        };
        for part in [&ports, length.as_slice(), &sum.to_be_bytes(), payload] {
            self.frame.extend_from_slice(part);
        }
        Ok(())
    }

    fn record(&mut self, at: Timestamp) -> io::Result<()> {
        let out_of_range = |_| io::Error::new(io::ErrorKind::InvalidInput, "time out of range");
        let seconds = u32::try_from(at.second()).map_err(out_of_range)?;
        let nanos = at.nanos().rem_euclid(1_000_000_000) as u32;
        let length = self.frame.len() as u32;
        for field in [seconds, nanos, length, length] {
            self.out.write_all(&field.to_le_bytes())?;
        }
        self.out.write_all(&self.frame)
    }
}

fn narrow(length: usize) -> io::Result<u16> {
    u16::try_from(length)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "datagram too long"))
}

/// RFC 1071, over parts of which all but the last have an even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u32;
    for part in parts {
        for pair in part.chunks(2) {
            let low = pair.get(1).copied().unwrap_or(0);
            sum += u32::from(u16::from_be_bytes([pair[0], low]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_carry_right_checksums() {
        for (from, to, ip_header) in [
            ("192.0.2.1:4000", "192.0.2.2:4739", 20),
            ("[2001:db8::1]:1", "[2001:db8::2]:2", 40),
        ] {
            let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
            let at = Timestamp::from_nanos(1_700_000_000_000_000_007);
            let mut writer = PcapWriter::new(Vec::new()).unwrap();
            writer.write(at, from, to, b"odd").unwrap();
            let file = writer.finish().unwrap();
            let (record, frame) = file[24..].split_at(16);
            assert_eq!(record[4..8], 7_u32.to_le_bytes());
            assert_eq!(frame.len(), 14 + ip_header + 8 + 3);
            let (ip, udp) = frame[14..].split_at(ip_header);
            let addresses = if ip_header == 20 {
                assert_eq!(checksum(&[ip]), 0);
                &ip[12..]
            } else {
                &ip[8..]
            };
            assert_eq!(checksum(&[addresses, &[0, UDP, 0, 11], udp]), 0);
            assert!(frame.ends_with(b"odd"));
        }
    }

    #[test]
    fn two_families_do_not_mix() {
        let mut writer = PcapWriter::new(Vec::new()).unwrap();
        let refused = writer.write(
            Timestamp::from_seconds(0),
            "192.0.2.1:1".parse().unwrap(),
            "[2001:db8::1]:1".parse().unwrap(),
            b"",
        );
        assert!(refused.is_err());
    }
}
