use std::net::{IpAddr, SocketAddr};

const UDP: u8 = 17;
const UDP_HEADER: u16 = 8;
const HOP_LIMIT: u8 = 64;

/// The IP and UDP headers of a datagram, in the room of the longer.
pub(super) struct Headers {
    octets: [u8; 48],
    length: usize,
}

impl AsRef<[u8]> for Headers {
    fn as_ref(&self) -> &[u8] {
        self.octets.get(..self.length).unwrap_or_default()
    }
}

impl Headers {
    /// The headers for `payload` from one address to another of the same family; `None` for two families, and for a payload
    /// that is too long. The kernel fills in IPv4's total length, identification and checksum (raw(7)).
    pub(super) fn new(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Option<Self> {
        let udp_length = u16::try_from(payload.len()).ok()?.checked_add(UDP_HEADER)?;
        let mut headers = Writer::default();
        let sum = match (from.ip().to_canonical(), to.ip().to_canonical()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                udp_length.checked_add(20)?;
                headers.put(&[0x45, 0, 0, 0, 0, 0, 0, 0, HOP_LIMIT, UDP, 0, 0]);
                headers.put(&source.octets());
                headers.put(&destination.octets());
                add(&source.octets(), 0) + add(&destination.octets(), 0)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let [high, low] = udp_length.to_be_bytes();
                headers.put(&[0x60, 0, 0, 0, high, low, UDP, HOP_LIMIT]);
                headers.put(&source.octets());
                headers.put(&destination.octets());
                add(&source.octets(), 0) + add(&destination.octets(), 0)
            }
            _ => return None,
        };
        // The pseudo-header's length and protocol, then the UDP header itself (RFC 768, RFC 8200 §8.1).
        let words = [udp_length, from.port(), to.port(), udp_length];
        let words: u64 = words.into_iter().map(u64::from).sum();
        let checksum = fold(add(payload, sum + u64::from(UDP) + words));
        headers.put(&from.port().to_be_bytes());
        headers.put(&to.port().to_be_bytes());
        headers.put(&udp_length.to_be_bytes());
        headers.put(&checksum.to_be_bytes());
        Some(headers.0)
    }
}

struct Writer(Headers);

impl Default for Writer {
    fn default() -> Self {
        Self(Headers {
            octets: [0; 48],
            length: 0,
        })
    }
}

impl Writer {
    fn put(&mut self, octets: &[u8]) {
        let end = self.0.length + octets.len();
        if let Some(room) = self.0.octets.get_mut(self.0.length..end) {
            room.copy_from_slice(octets);
            self.0.length = end;
        }
    }
}

/// The sum of the octets as 16-bit words, the last one filled with a zero; a datagram's cannot overflow.
fn add(octets: &[u8], sum: u64) -> u64 {
    let (words, rest) = octets.as_chunks::<2>();
    let words = words
        .iter()
        .map(|word| u64::from(u16::from_be_bytes(*word)));
    let rest = rest.first().map_or(0, |last| u64::from(*last) << 8);
    sum + words.sum::<u64>() + rest
}

/// The ones' complement; a checksum of 0 is sent as all ones (RFC 768).
fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // Folded: it fits.
    match !(sum as u16) {
        0 => 0xffff,
        checksum => checksum,
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{NetHeaders, PacketHeaders, TransportHeader};

    use super::*;

    #[test]
    fn a_packet_is_what_another_parser_takes_for_it() {
        let payload: Vec<u8> = (0..=250).collect();
        for (from, to) in [
            ("192.0.2.1:50000", "198.51.100.7:2055"),
            ("[2001:db8::1]:50000", "[2001:db8:1::7]:2055"),
        ] {
            let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
            for payload in [&payload[..], &payload[..250], &[]] {
                let headers = Headers::new(from, to, payload).unwrap();
                let mut packet = [headers.as_ref(), payload].concat();
                if from.is_ipv4() {
                    // As the kernel does.
                    let length = packet.len() as u16;
                    packet[2..4].copy_from_slice(&length.to_be_bytes());
                }
                let parsed = PacketHeaders::from_ip_slice(&packet).unwrap();
                let Some(TransportHeader::Udp(udp)) = parsed.transport else {
                    panic!("no UDP");
                };
                let expected = match parsed.net.unwrap() {
                    NetHeaders::Ipv4(ip, _) => {
                        assert_eq!(IpAddr::from(ip.source), from.ip());
                        udp.calc_checksum_ipv4(&ip, payload)
                    }
                    NetHeaders::Ipv6(ip, _) => {
                        assert_eq!(IpAddr::from(ip.destination), to.ip());
                        udp.calc_checksum_ipv6(&ip, payload)
                    }
                    other => panic!("{other:?}"),
                };
                assert_eq!(udp.checksum, expected.unwrap());
                assert_eq!(
                    (udp.source_port, udp.destination_port),
                    (from.port(), to.port())
                );
                assert_eq!(parsed.payload.slice(), payload);
            }
        }
    }

    #[test]
    fn two_families_and_too_long_a_payload_make_no_packet() {
        let [v4, v6] =
            ["192.0.2.1:1", "[2001:db8::1]:1"].map(|text| text.parse::<SocketAddr>().unwrap());
        assert!(Headers::new(v4, v6, &[]).is_none());
        assert!(Headers::new(v6, v4, &[]).is_none());
        assert!(Headers::new(v4, v4, &[0; 65_507]).is_some());
        assert!(Headers::new(v4, v4, &[0; 65_508]).is_none());
        assert!(Headers::new(v6, v6, &[0; 65_527]).is_some());
        assert!(Headers::new(v6, v6, &[0; 65_528]).is_none());
    }
}
