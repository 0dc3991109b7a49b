//! Exporters: the stream in datagrams over loopback, at an even rate.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::{RECORDS, Traffic};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// Sends the datagrams round and round, each exporter in its turn.
pub struct Sender<'t> {
    traffic: &'t Traffic,
    exporters: Vec<(UdpSocket, u32)>,
    buffer: Vec<u8>,
    next: usize,
    sent: u64,
}

impl<'t> Sender<'t> {
    /// Exporters on addresses of their own.
    pub fn new(traffic: &'t Traffic, exporters: u8, to: SocketAddr) -> io::Result<Self> {
        let exporters = (0..exporters.max(1))
            .map(|number| {
                let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 1, 1 + number), 0))?;
                socket.connect(to)?;
                Ok((socket, 0))
            })
            .collect::<io::Result<_>>()?;
        Ok(Self {
            traffic,
            exporters,
            buffer: Vec::new(),
            next: 0,
            sent: 0,
        })
    }

    /// Keeps the sender on one CPU.
    pub fn pin(&self, cpu: usize) -> nix::Result<()> {
        let mut set = CpuSet::new();
        set.set(cpu)?;
        sched_setaffinity(Pid::from_raw(0), &set)
    }

    /// All exporters' templates.
    pub fn send_templates(&self) -> io::Result<()> {
        for (socket, _) in &self.exporters {
            for template in self.traffic.templates() {
                socket.send(template)?;
            }
        }
        Ok(())
    }

    /// Sends at `rate` records a second.
    pub fn run(&mut self, rate: u64, time: Duration) -> io::Result<()> {
        let start = Instant::now();
        let mut sent = 0;
        loop {
            let elapsed = start.elapsed();
            let due = (rate as f64 * elapsed.min(time).as_secs_f64()) as u64 / RECORDS as u64;
            while sent < due {
                self.send()?;
                sent += 1;
            }
            if elapsed >= time {
                return Ok(());
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Records sent so far.
    pub fn records(&self) -> u64 {
        self.sent * RECORDS as u64
    }

    fn send(&mut self) -> io::Result<()> {
        let datagrams = self.traffic.datagrams();
        self.buffer.clear();
        self.buffer.extend_from_slice(&datagrams[self.next]);
        self.next = (self.next + 1) % datagrams.len();
        let exporters = self.exporters.len();
        let (socket, sequence) = &mut self.exporters[self.sent as usize % exporters];
        // RFC 7011 §3.1: records sent before this message, in its observation domain.
        self.buffer[8..12].copy_from_slice(&sequence.to_be_bytes());
        *sequence = sequence.wrapping_add(RECORDS as u32);
        self.sent += 1;
        // Nobody listens any more: the loss will show.
        match socket.send(&self.buffer) {
            Err(error) if error.kind() != io::ErrorKind::ConnectionRefused => Err(error),
            _ => Ok(()),
        }
    }
}
