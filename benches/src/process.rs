//! What a process used, from `/proc`.

use std::io;
use std::time::Duration;

/// CPU time of all its threads, and its resident memory in octets.
pub struct Usage {
    /// CPU time.
    pub cpu: Duration,
    /// Resident memory in octets.
    pub resident: u64,
}

/// `/proc/PID/stat` counts in these.
const TICKS_PER_SECOND: f64 = 100.0;

impl Usage {
    /// The use so far.
    pub fn of(process: u32) -> io::Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
        // The name, in brackets, may hold anything.
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let fields: Vec<u64> = fields
            .split_whitespace()
            .map(|field| field.parse().unwrap_or(0))
            .collect();
        let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0);
        Ok(Self {
            cpu: Duration::from_secs_f64((field(14) + field(15)) as f64 / TICKS_PER_SECOND),
            resident: field(24) * 4096,
        })
    }
}

/// Datagrams that the kernel dropped on all sockets of a UDP port, in both families.
pub fn drops(port: u16) -> io::Result<u64> {
    let mut sum = 0;
    for table in ["/proc/net/udp", "/proc/net/udp6"] {
        let text = std::fs::read_to_string(table).unwrap_or_default();
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let local = fields.get(1).and_then(|local| local.rsplit_once(':'));
            let is_it = local.is_some_and(|(_, hex)| u16::from_str_radix(hex, 16) == Ok(port));
            if let Some(drops) = fields.last().filter(|_| is_it) {
                sum += drops.parse::<u64>().unwrap_or(0);
            }
        }
    }
    Ok(sum)
}
