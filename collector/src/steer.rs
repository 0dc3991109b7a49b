//! Which shard hears an exporter: decided by its address alone, so that one exporter's templates, rates and sequences are in
//! one place. (The kernel's own hash takes the port in, and spreads one exporter over all sockets.)

use std::net::IpAddr;
use std::os::fd::AsFd;

use nix::libc::{sock_filter, sock_fprog};
use nix::sys::socket::{setsockopt, sockopt};

/// Addresses relative to the network header (`SKF_NET_OFF` of `linux/filter.h`).
const NETWORK: u32 = -0x10_0000_i32 as u32;
/// 2³² divided by the golden ratio: neighbouring addresses go to different shards.
const MIX: u32 = 0x9e37_79b1;

/// Instructions of classic BPF (`linux/bpf_common.h`).
mod code {
    pub(super) const LOAD_OCTET: u16 = 0x30;
    pub(super) const LOAD_WORD: u16 = 0x20;
    pub(super) const TO_INDEX: u16 = 0x07;
    pub(super) const XOR_INDEX: u16 = 0xac;
    pub(super) const SHIFT_RIGHT: u16 = 0x74;
    pub(super) const MULTIPLY: u16 = 0x24;
    pub(super) const MODULO: u16 = 0x94;
    pub(super) const JUMP: u16 = 0x05;
    pub(super) const JUMP_IF_EQUAL: u16 = 0x15;
    pub(super) const RETURN: u16 = 0x16;
}

/// The shard, below `shards`, that hears an exporter.
pub fn shard_of(exporter: IpAddr, shards: u16) -> u16 {
    let word = match exporter.to_canonical() {
        IpAddr::V4(v4) => u32::from(v4),
        IpAddr::V6(v6) => {
            let octets = u128::from(v6);
            (0..4).fold(0, |word, index| word ^ (octets >> (32 * index)) as u32)
        }
    };
    ((word.wrapping_mul(MIX) >> 16) % u32::from(shards.max(1))) as u16
}

/// Makes the kernel do the same for a group of sockets that are bound to one address with `SO_REUSEPORT`, in the order of
/// their shards.
pub(crate) fn attach(socket: &impl AsFd, shards: u16) -> nix::Result<()> {
    let mut program = program(shards);
    let program = sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    setsockopt(socket, sockopt::AttachReusePortCbpf, &program)
}

/// [`shard_of`] as a program; a packet too short for it goes to the first shard.
fn program(shards: u16) -> [sock_filter; 19] {
    let step = |code, k| sock_filter {
        code,
        jt: 0,
        jf: 0,
        k,
    };
    let word = |offset: u32| step(code::LOAD_WORD, NETWORK.wrapping_add(offset));
    let is_v6 = sock_filter {
        jt: 2,
        ..step(code::JUMP_IF_EQUAL, 6)
    };
    [
        step(code::LOAD_OCTET, NETWORK),
        step(code::SHIFT_RIGHT, 4),
        is_v6,
        // IPv4: the source address.
        word(12),
        step(code::JUMP, 10),
        // IPv6: its four words.
        word(8),
        step(code::TO_INDEX, 0),
        word(12),
        step(code::XOR_INDEX, 0),
        step(code::TO_INDEX, 0),
        word(16),
        step(code::XOR_INDEX, 0),
        step(code::TO_INDEX, 0),
        word(20),
        step(code::XOR_INDEX, 0),
        // Both.
        step(code::MULTIPLY, MIX),
        step(code::SHIFT_RIGHT, 16),
        step(code::MODULO, u32::from(shards.max(1))),
        step(code::RETURN, 0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_exporters_are_spread_and_mapped_addresses_are_ipv4() {
        let mut load = [0; 4];
        for last in 0..=255_u8 {
            load[usize::from(shard_of([192, 0, 2, last].into(), 4))] += 1;
        }
        assert!(load.iter().all(|load| (48..=80).contains(load)), "{load:?}");
        let mapped: IpAddr = "::ffff:192.0.2.7".parse().unwrap();
        assert_eq!(shard_of(mapped, 7), shard_of([192, 0, 2, 7].into(), 7));
        assert_eq!(shard_of(mapped, 0), 0);
    }
}
