use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Where the sequence of a sub-agent stood: what is lost while nobody listens is told after a restart.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SequenceState {
    /// The UDP source.
    pub source: IpAddr,
    /// The agent's address.
    pub agent: IpAddr,
    /// Its sub-agent.
    pub sub_agent: u32,
    /// The newest datagram's number.
    pub number: u32,
    /// The agent's uptime with it, in ms.
    pub uptime: u32,
    /// Datagrams seen, and flow samples in them: how many a lost one would have held.
    pub datagrams: u64,
    /// Flow samples seen.
    pub records: u64,
}

impl SequenceState {
    /// What the state is about, as text that sorts by source. A later one with the same key replaces this one.
    pub fn key(&self) -> Vec<u8> {
        format!("{}/sflow/{}/{}", self.source, self.agent, self.sub_agent).into_bytes()
    }
}
