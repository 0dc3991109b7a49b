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
        let sockets = addresses
            .iter()
            .map(|address| {
                open(*address, receive_buffer).map_err(|source| BindError {
                    address: *address,
                    source,
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { sockets })
    }

    /// The sockets, in the order of their addresses.
    pub fn sockets(&self) -> impl Iterator<Item = SocketView> + '_ {
        self.sockets.iter().map(|socket| SocketView {
            address: socket.address,
            granted_buffer: socket.granted_buffer,
            drops: socket.drops,
        })
    }

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

fn open(address: SocketAddr, receive_buffer: u64) -> io::Result<ReceiveSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    let wanted = usize::try_from(receive_buffer).unwrap_or(usize::MAX);
    // With CAP_NET_ADMIN the limit of net.core.rmem_max can be passed; without, the kernel grants what it may.
    if setsockopt(&socket, sockopt::RcvBufForce, &wanted).is_err() {
        socket.set_recv_buffer_size(wanted)?;
    }
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
    setsockopt(&socket, sockopt::RxqOvfl, &1)?;
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
        let control = nix::cmsg_space!(nix::sys::time::TimeSpec, u32);
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
            for control in message.cmsgs().into_iter().flatten() {
                match control {
                    ControlMessageOwned::ScmTimestampns(stamp) => at = Some(stamp_nanos(stamp)),
                    ControlMessageOwned::RxqOvfl(drops) => {
                        self.drops += u64::from(drops.wrapping_sub(self.drops_seen));
                        self.drops_seen = drops;
                    }
                    _ => {}
                }
            }
            let Some(from) = message.address.as_ref().and_then(socket_address) else {
                continue;
            };
            let at = ReceivedAt::from_nanos(at.unwrap_or_else(wall_clock));
            if let Some(payload) = message.iovs().next() {
                handle(at, from, payload);
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
