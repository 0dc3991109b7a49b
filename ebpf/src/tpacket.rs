use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::clock;
use crate::layout::{HEADERS, Sample};
use crate::sampler::FRAMES;
use crate::user_side::UserSide;

/// Octets of a block, which the kernel hands over when it is full or after [`RETIRE`].
const BLOCK: usize = 1 << 18;
/// Milliseconds after which a block that is not full is handed over.
const RETIRE: u32 = 5;
/// Octets of a frame that are copied to user space.
const SNAP: u32 = HEADERS as u32;
const VLAN: u16 = 0x8100;

/// A ring of packets that the kernel fills (`TPACKET_V3`, packet(7) and Documentation/networking/packet_mmap.rst).
pub(crate) struct PacketRing {
    socket: OwnedFd,
    memory: NonNull<u8>,
    blocks: usize,
    block: usize,
    /// Packets of the block that are left, and where the next is.
    left: u32,
    at: usize,
    /// Packets that the kernel dropped, not yet counted as lost samples.
    dropped: u64,
}

// SAFETY: the memory belongs to this value alone.
unsafe impl Send for PacketRing {}

impl PacketRing {
    /// Opens a ring of about `octets` on an interface; it needs `CAP_NET_RAW`.
    pub(crate) fn open(index: u32, octets: u32, promiscuous: bool) -> io::Result<Self> {
        let socket = packet_socket()?;
        option(&socket, libc::PACKET_VERSION, &2_i32)?;
        // Kernels before 4.20 lack it: what leaves the interface is sampled too, then.
        let _ = option(&socket, libc::PACKET_IGNORE_OUTGOING, &1_i32);
        cut_frames(&socket)?;
        let blocks = (octets as usize / BLOCK).max(4);
        let request = libc::tpacket_req3 {
            tp_block_size: BLOCK as u32,
            tp_block_nr: blocks as u32,
            tp_frame_size: 2048,
            tp_frame_nr: (blocks * BLOCK / 2048) as u32,
            tp_retire_blk_tov: RETIRE,
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        };
        option(&socket, libc::PACKET_RX_RING, &request)?;
        let memory = map(&socket, blocks * BLOCK)?;
        let ring = Self {
            socket,
            memory,
            blocks,
            block: 0,
            left: 0,
            at: 0,
            dropped: 0,
        };
        if promiscuous {
            join_promiscuous(&ring.socket, index)?;
        }
        bind(&ring.socket, index)?;
        Ok(ring)
    }

    /// Hands frames to `side` until it has given `limit` samples, at most [`FRAMES`](crate::sampler::FRAMES).
    pub(crate) fn take(
        &mut self,
        limit: usize,
        side: &mut UserSide,
        each: &mut impl FnMut(&Sample, &[u8]),
    ) {
        let skew = clock::wall() - clock::monotonic();
        let (mut samples, mut frames) = (0, 0);
        while samples < limit && frames < FRAMES && (self.left > 0 || self.next_block()) {
            let Some(packet) = self.packet() else {
                self.release();
                continue;
            };
            let time = u64::try_from(packet.wall - skew).unwrap_or(0);
            let sampled = side.handle_frame(time, packet.frame_octets, packet.octets(), each);
            samples += usize::from(sampled);
            frames += 1;
            self.left -= 1;
            match packet.next {
                0 => self.left = 0,
                next => self.at += next,
            }
            if self.left == 0 {
                self.release();
            }
        }
    }

    /// Counts what the kernel dropped since the last call.
    pub(crate) fn count_drops(&mut self, side: &mut UserSide, one_in: u32) {
        // SAFETY: three integers; zeros are good.
        let mut statistics: libc::tpacket_stats_v3 = unsafe { std::mem::zeroed() };
        let mut length = size_of::<libc::tpacket_stats_v3>() as libc::socklen_t;
        // SAFETY: the option writes at most `length` octets to `statistics`.
        let result = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut statistics).cast(),
                &raw mut length,
            )
        };
        if result == 0 {
            let drops = u64::from(statistics.tp_drops);
            side.totals.packets += drops;
            self.dropped += drops;
            let one_in = u64::from(one_in.max(1));
            side.totals.ring_full += self.dropped / one_in;
            self.dropped %= one_in;
        }
    }

    fn block_start(&self) -> NonNull<u8> {
        // SAFETY: `block` is below `blocks`, so this stays within the mapping.
        unsafe { self.memory.add(self.block * BLOCK) }
    }

    fn status(&self) -> &AtomicU32 {
        let description = self.block_start().cast::<libc::tpacket_block_desc>();
        // SAFETY: a block starts with its description, in memory that lives as long as `self`; the kernel changes the status as an
        // aligned word, as we do.
        unsafe {
            let status = &raw mut (*description.as_ptr()).hdr.bh1.block_status;
            AtomicU32::from_ptr(status)
        }
    }

    /// Whether the next block is ours; then it is begun.
    fn next_block(&mut self) -> bool {
        if self.status().load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
            return false;
        }
        let description = self.block_start().cast::<libc::tpacket_block_desc>();
        // SAFETY: the block is ours, so the kernel does not write it.
        let header = unsafe { (*description.as_ptr()).hdr.bh1 };
        self.left = header.num_pkts;
        self.at = header.offset_to_first_pkt as usize;
        if self.left == 0 {
            self.release();
        }
        true
    }

    /// Gives the block back.
    fn release(&mut self) {
        self.left = 0;
        self.status()
            .store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.block = (self.block + 1) % self.blocks;
    }

    /// The packet at hand; `None` if it is not wholly within the block.
    fn packet(&self) -> Option<Packet> {
        // SAFETY: the block is ours until it is released, and it lies within the mapping.
        let block = unsafe { slice::from_raw_parts(self.block_start().as_ptr(), BLOCK) };
        let octets = block.get(self.at..)?;
        if octets.len() < size_of::<libc::tpacket3_hdr>() {
            return None;
        }
        // SAFETY: there are as many octets; the header is plain integers.
        let header = unsafe {
            octets
                .as_ptr()
                .cast::<libc::tpacket3_hdr>()
                .read_unaligned()
        };
        let start = usize::from(header.tp_mac);
        let frame = octets.get(start..start.checked_add(header.tp_snaplen as usize)?)?;
        let tag = (header.tp_status & libc::TP_STATUS_VLAN_VALID != 0).then(|| {
            let has_type = header.tp_status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
            let kind = if has_type {
                header.hv1.tp_vlan_tpid
            } else {
                VLAN
            };
            (kind, header.hv1.tp_vlan_tci as u16)
        });
        let wall = i64::from(header.tp_sec) * 1_000_000_000 + i64::from(header.tp_nsec);
        Some(Packet::new(
            frame,
            tag,
            header.tp_len,
            wall,
            header.tp_next_offset as usize,
        ))
    }
}

impl Drop for PacketRing {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, of this length, and nothing refers to it any more.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), self.blocks * BLOCK) };
    }
}

/// A packet's first octets, with the VLAN tag that the kernel took off.
struct Packet {
    buffer: [u8; HEADERS],
    length: usize,
    frame_octets: u32,
    wall: i64,
    next: usize,
}

impl Packet {
    fn new(frame: &[u8], tag: Option<(u16, u16)>, octets: u32, wall: i64, next: usize) -> Self {
        let mut packet = Self {
            buffer: [0; HEADERS],
            length: 0,
            frame_octets: octets,
            wall,
            next,
        };
        match (tag, frame.split_at_checked(12)) {
            (Some((kind, control)), Some((addresses, rest))) => {
                packet.push(addresses);
                packet.push(&kind.to_be_bytes());
                packet.push(&control.to_be_bytes());
                packet.push(rest);
                packet.frame_octets = octets.saturating_add(4);
            }
            _ => packet.push(frame),
        }
        packet
    }

    fn push(&mut self, octets: &[u8]) {
        let room = &mut self.buffer[self.length..];
        let length = octets.len().min(room.len());
        room[..length].copy_from_slice(&octets[..length]);
        self.length += length;
    }

    fn octets(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

/// A packet socket that gets nothing yet.
pub(crate) fn packet_socket() -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was just opened, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(socket) })
}

/// Lets the interface take in everything as long as the socket lives.
pub(crate) fn join_promiscuous(socket: &OwnedFd, index: u32) -> io::Result<()> {
    let membership = libc::packet_mreq {
        mr_ifindex: index.cast_signed(),
        mr_type: libc::PACKET_MR_PROMISC as libc::c_ushort,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    option(socket, libc::PACKET_ADD_MEMBERSHIP, &membership)
}

/// A classic BPF program of one instruction: accept [`SNAP`] octets of every frame.
fn cut_frames(socket: &OwnedFd) -> io::Result<()> {
    let accept = libc::sock_filter {
        code: (libc::BPF_RET | libc::BPF_K) as u16,
        jt: 0,
        jf: 0,
        k: SNAP,
    };
    let program = libc::sock_fprog {
        len: 1,
        filter: (&raw const accept).cast_mut(),
    };
    set(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

fn bind(socket: &OwnedFd, index: u32) -> io::Result<()> {
    // SAFETY: plain integers; zeros are good.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = index.cast_signed();
    // SAFETY: the address is a `sockaddr_ll` of this length.
    let result = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    done(result)
}

fn map(socket: &OwnedFd, octets: usize) -> io::Result<NonNull<u8>> {
    // SAFETY: a new mapping of the socket's ring, which has this length.
    let memory = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            octets,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            socket.as_fd().as_raw_fd(),
            0,
        )
    };
    if memory == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(memory.cast()).ok_or_else(|| io::Error::other("mapped at address zero"))
}

fn option<T>(socket: &OwnedFd, name: libc::c_int, value: &T) -> io::Result<()> {
    set(socket, libc::SOL_PACKET, name, value)
}

fn set<T>(socket: &OwnedFd, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: `value` is what this option takes, of its own size, and outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    done(result)
}

fn done(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
