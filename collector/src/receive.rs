use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, Socket, Type};
use weir_flow_record::ReceivedAt;

use crate::steer;

/// Datagrams taken by one `recvmmsg` call; more per call gained nothing when measured.
const BATCH: usize = 32;
/// Calls per socket before the others and the timers have their turn, so that no work between two ticks takes long.
const CALLS: usize = 8;
/// Largest UDP datagram.
const LARGEST: usize = 65_536;

/// A set of UDP sockets that one shard reads, with kernel time stamps and drop counters.
pub struct Receiver {
    sockets: Vec<ReceiveSocket>,
}

/// Room for the datagrams of one system call. It stays on the thread that reads.
pub struct ReceiveBuffers {
    buffers: Vec<Vec<u8>>,
}

impl Default for ReceiveBuffers {
    fn default() -> Self {
        Self {
            buffers: (0..BATCH).map(|_| vec![0; LARGEST]).collect(),
        }
    }
}

struct ReceiveSocket {
    socket: UdpSocket,
    address: SocketAddr,
    granted_buffer: usize,
    drops_seen: u32,
    drops: u64,
}

/// What a socket is and what it lost.
#[derive(Clone, Copy, Debug)]
pub struct SocketView {
    /// Where it listens.
    pub address: SocketAddr,
    /// Receive buffer that the kernel granted, in octets.
    pub granted_buffer: usize,
    /// Datagrams that the kernel dropped because the buffer was full (`SO_RXQ_OVFL`).
    pub drops: u64,
}

impl Receiver {
    /// Opens a socket on each address and asks the kernel for `receive_buffer` octets each.
    pub fn bind(addresses: &[SocketAddr], receive_buffer: u64) -> Result<Self, BindError> {
        let group = Self::bind_group(addresses, 1, receive_buffer)?;
        Ok(group.into_iter().next().unwrap_or(Self {
            sockets: Vec::new(),
        }))
    }

    /// Opens sockets for `shards` shards (at least one): each hears the exporters that [`shard_of`](crate::shard_of) gives it,
    /// on all addresses.
    pub fn bind_group(
        addresses: &[SocketAddr],
        shards: u16,
        receive_buffer: u64,
    ) -> Result<Vec<Self>, BindError> {
        let mut group: Vec<Self> = Vec::new();
        for _ in 0..shards.max(1) {
            let mut sockets = Vec::new();
            for (index, address) in addresses.iter().enumerate() {
                // The first shard may have been given a port.
                let first = group.first().and_then(|first| first.sockets.get(index));
                let address = first.map_or(*address, |first| first.address);
                let opened = open(address, receive_buffer, shards > 1);
                sockets.push(opened.map_err(|source| BindError { address, source })?);
            }
            group.push(Self { sockets });
        }
        if shards > 1 {
            for socket in group.iter().take(1).flat_map(|first| &first.sockets) {
                steer::attach(&socket.socket, shards).map_err(|errno| BindError {
                    address: socket.address,
                    source: errno.into(),
                })?;
            }
        }
        Ok(group)
    }

    /// The sockets, in the order of their addresses.
    pub fn sockets(&self) -> impl Iterator<Item = SocketView> + '_ {
        self.sockets.iter().map(|socket| SocketView {
            address: socket.address,
            granted_buffer: socket.granted_buffer,
            drops: socket.drops,
        })
    }

    /// So many datagrams at least are handed over where more may be waiting: whoever sleeps between two drains should not now.
    pub const TURN: usize = BATCH * CALLS;

    /// Waits at most `patience` for datagrams and hands over what is there: time stamp, sender, payload. Returns the
    /// number handed over. A call handles a bounded number of datagrams; what is left stays in the kernel's buffer.
    pub fn receive(
        &mut self,
        buffers: &mut ReceiveBuffers,
        patience: Duration,
        mut handle: impl FnMut(ReceivedAt, SocketAddr, &[u8]),
    ) -> io::Result<usize> {
        let mut waiting: Vec<PollFd<'_>> = self
            .sockets
            .iter()
            .map(|s| PollFd::new(s.socket.as_fd(), PollFlags::POLLIN))
            .collect();
        let patience = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        match poll(&mut waiting, patience) {
            Ok(0) | Err(Errno::EINTR) => return Ok(0),
            Ok(_) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ready: Vec<bool> = waiting.iter().map(|w| w.any().unwrap_or(false)).collect();
        let mut total = 0;
        for (socket, _) in self
            .sockets
            .iter_mut()
            .zip(ready)
            .filter(|(_, ready)| *ready)
        {
            for _ in 0..CALLS {
                let count = socket.drain(buffers, &mut handle)?;
                total += count;
                if count < BATCH {
                    break;
                }
            }
        }
        Ok(total)
    }
}

/// A socket that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// Why.
    pub source: io::Error,
}

fn open(address: SocketAddr, receive_buffer: u64, shared: bool) -> io::Result<ReceiveSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_port(shared)?;
    let wanted = usize::try_from(receive_buffer).unwrap_or(usize::MAX);
    // With CAP_NET_ADMIN the limit of net.core.rmem_max can be passed; without, the kernel grants what it may.
    if setsockopt(&socket, sockopt::RcvBufForce, &wanted).is_err() {
        socket.set_recv_buffer_size(wanted)?;
    }
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
    setsockopt(&socket, sockopt::RxqOvfl, &1)?;
    // Datagrams of one exporter that arrive together come as one: an old kernel does without.
    let _ = setsockopt(&socket, sockopt::UdpGroSegment, &true);
    socket.bind(&address.into())?;
    // Linux reports twice what it grants to payload: half is for its own book-keeping.
    let granted_buffer = socket.recv_buffer_size()? / 2;
    let socket = UdpSocket::from(socket);
    Ok(ReceiveSocket {
        address: socket.local_addr()?,
        socket,
        granted_buffer,
        drops_seen: 0,
        drops: 0,
    })
}

impl ReceiveSocket {
    fn drain(
        &mut self,
        ReceiveBuffers { buffers }: &mut ReceiveBuffers,
        handle: &mut impl FnMut(ReceivedAt, SocketAddr, &[u8]),
    ) -> io::Result<usize> {
        let mut slices: [[IoSliceMut<'_>; 1]; BATCH] = {
            let mut buffers = buffers.iter_mut();
            std::array::from_fn(|_| {
                [IoSliceMut::new(
                    buffers.next().map_or(&mut [], |b| b.as_mut_slice()),
                )]
            })
        };
        // Fresh headers for each call: the kernel writes the lengths of address and control data into them, and nix does not
        // reset them, so that reused ones would cut a later drop counter or a longer address.
        let control = nix::cmsg_space!(nix::sys::time::TimeSpec, u32, i32);
        let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(BATCH, Some(control));
        let received = match recvmmsg(
            self.socket.as_raw_fd(),
            &mut headers,
            slices.iter_mut(),
            MsgFlags::MSG_DONTWAIT,
            None,
        ) {
            Ok(received) => received,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(0),
            Err(errno) => return Err(errno.into()),
        };
        let mut count = 0;
        for message in received {
            count += 1;
            let mut at = None;
            let mut segment = LARGEST;
            for control in message.cmsgs().into_iter().flatten() {
                match control {
                    ControlMessageOwned::ScmTimestampns(stamp) => at = Some(stamp_nanos(stamp)),
                    ControlMessageOwned::RxqOvfl(drops) => {
                        self.drops += u64::from(drops.wrapping_sub(self.drops_seen));
                        self.drops_seen = drops;
                    }
                    ControlMessageOwned::UdpGroSegments(octets) => {
                        segment = usize::try_from(octets).unwrap_or(LARGEST).max(1);
                    }
                    _ => {}
                }
            }
            let Some(from) = message.address.as_ref().and_then(socket_address) else {
                continue;
            };
            let at = ReceivedAt::from_nanos(at.unwrap_or_else(wall_clock));
            let payload = message.iovs().next().unwrap_or_default();
            // An empty datagram is one, too.
            handle(at, from, &payload[..payload.len().min(segment)]);
            for datagram in payload.chunks(segment).skip(1) {
                handle(at, from, datagram);
            }
        }
        Ok(count)
    }
}

fn stamp_nanos(stamp: nix::sys::time::TimeSpec) -> i64 {
    stamp
        .tv_sec()
        .saturating_mul(1_000_000_000)
        .saturating_add(stamp.tv_nsec())
}

/// The wall clock, in ns since the epoch: for datagrams that the kernel has not stamped, and for ticks.
pub fn wall_clock() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
        })
}

/// The sender; IPv4 in IPv6 form becomes IPv4.
fn socket_address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = storage.as_sockaddr_in() {
        Some(SocketAddr::new(v4.ip().into(), v4.port()))
    } else {
        let v6 = storage.as_sockaddr_in6()?;
        Some(SocketAddr::new(v6.ip().to_canonical(), v6.port()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_come_with_sender_and_kernel_time() {
        let mut receiver = Receiver::bind(&["127.0.0.1:0".parse().unwrap()], 1 << 20).unwrap();
        let view = receiver.sockets().next().unwrap();
        assert!(view.granted_buffer > 0);
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let before = wall_clock();
        for octet in 0..40_u8 {
            sender.send_to(&[octet], view.address).unwrap();
        }
        let mut seen = Vec::new();
        let mut buffers = ReceiveBuffers::default();
        while seen.len() < 40 {
            let count = receiver
                .receive(&mut buffers, Duration::from_secs(2), |at, from, payload| {
                    assert_eq!(from, sender.local_addr().unwrap());
                    assert!(at.nanos() >= before - 1_000_000_000 && at.nanos() <= wall_clock());
                    seen.push(payload[0]);
                })
                .unwrap();
            assert!(count > 0, "only {} datagrams came", seen.len());
        }
        assert_eq!(seen, (0..40).collect::<Vec<_>>());
    }

    #[test]
    fn segments_that_arrive_as_one_are_datagrams() {
        use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrIn, sendmsg};
        let mut receiver = Receiver::bind(&["127.0.0.1:0".parse().unwrap()], 1 << 20).unwrap();
        let SocketAddr::V4(address) = receiver.sockets().next().unwrap().address else {
            panic!("not IPv4");
        };
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let payload: Vec<u8> = (0..250).collect();
        let sent = sendmsg(
            sender.as_raw_fd(),
            &[io::IoSlice::new(&payload)],
            &[ControlMessage::UdpGsoSegments(&100)],
            MsgFlags::empty(),
            Some(&SockaddrIn::from(address)),
        );
        assert_eq!(sent, Ok(250));
        let (mut seen, mut buffers) = (Vec::new(), ReceiveBuffers::default());
        let patience = Duration::from_secs(1);
        receiver
            .receive(&mut buffers, patience, |_, _, payload| {
                seen.push(payload.to_vec())
            })
            .unwrap();
        assert_eq!(seen, [&payload[..100], &payload[100..200], &payload[200..]]);
    }

    #[test]
    fn each_shard_hears_its_exporters_in_both_families() {
        let addresses = ["127.0.0.1:0".parse().unwrap(), "[::]:0".parse().unwrap()];
        let mut group = Receiver::bind_group(&addresses, 3, 1 << 20).unwrap();
        let [v4, v6] = [0, 1].map(|index| group[0].sockets[index].address.port());
        let mut expected = [0; 3];
        for host in 1..=60_u8 {
            let from = [127, 0, 0, host];
            for (port, count) in [(v4, 3), (v6, 2)] {
                // Many ports of one exporter: they stay together.
                for _ in 0..count {
                    let sender = UdpSocket::bind((std::net::IpAddr::from(from), 0)).unwrap();
                    sender.send_to(&[host], ("127.0.0.1", port)).unwrap();
                    expected[usize::from(crate::shard_of(from.into(), 3))] += 1;
                }
            }
        }
        if let Ok(sender) = UdpSocket::bind("[::1]:0") {
            sender.send_to(&[0], ("::1", v6)).unwrap();
            expected[usize::from(crate::shard_of("::1".parse().unwrap(), 3))] += 1;
        }
        let mut buffers = ReceiveBuffers::default();
        let patience = Duration::from_millis(20);
        for (shard, receiver) in group.iter_mut().enumerate() {
            let mut seen = 0;
            while receiver
                .receive(&mut buffers, patience, |_, from, _| {
                    assert_eq!(usize::from(crate::shard_of(from.ip(), 3)), shard);
                    seen += 1;
                })
                .unwrap()
                > 0
            {}
            assert_eq!(seen, expected[shard], "shard {shard}");
        }
    }

    #[test]
    fn the_kernels_drops_are_counted() {
        let mut receiver = Receiver::bind(&["127.0.0.1:0".parse().unwrap()], 4096).unwrap();
        let address = receiver.sockets().next().unwrap().address;
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut seen = 0;
        let mut buffers = ReceiveBuffers::default();
        for _ in 0..2 {
            for _ in 0..500 {
                sender.send_to(&[0; 1400], address).unwrap();
            }
            while receiver
                .receive(&mut buffers, Duration::from_millis(20), |_, _, _| seen += 1)
                .unwrap()
                > 0
            {}
        }
        // The counter travels with a datagram: one more brings the newest value.
        sender.send_to(&[0], address).unwrap();
        receiver
            .receive(&mut buffers, Duration::from_secs(1), |_, _, _| seen += 1)
            .unwrap();
        let drops = receiver.sockets().next().unwrap().drops;
        assert!(drops > 0);
        assert_eq!(seen + drops, 1001);
    }
}
