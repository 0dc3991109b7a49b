//! Addresses on loopback for servers that open them later, mostly in another process.
//!
//! A port that the kernel chose and that was closed again is soon some other socket's: of a client of Kafka, of another test. So these
//! ports lie below those that the kernel gives to clients (32768 and up), and below those of `kafka/broker` (20000 and up), which
//! brokers leave free while they are down. Test binaries of other crates take this file in by `#[path = "…/cli/tests/support/ports.rs"]`.
#![allow(unreachable_pub, reason = "shared by several test binaries")]

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

const FIRST: u16 = 10_000;
const COUNT: u32 = 10_000;

/// An address whose port is free for UDP and TCP, and that no other call gives. Test binaries that run at the same time begin at
/// different places, by their process ids.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let begin = std::process::id() % COUNT * 97;
    for _ in 0..COUNT {
        let number = (begin + NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let address = SocketAddr::from(([127, 0, 0, 1], FIRST + number as u16));
        if UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no port is free");
}
