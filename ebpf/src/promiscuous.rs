use std::io;
use std::os::fd::OwnedFd;

use crate::tpacket::{join_promiscuous, packet_socket};

/// Lets an interface take in frames for others as long as this lives; XDP programs do not do that by themselves.
pub(crate) struct Promiscuous {
    _socket: OwnedFd,
}

impl Promiscuous {
    pub(crate) fn join(index: u32) -> io::Result<Self> {
        let socket = packet_socket()?;
        join_promiscuous(&socket, index)?;
        Ok(Self { _socket: socket })
    }
}
