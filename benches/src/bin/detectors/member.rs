//! Members of a cluster, each a process with a folder of its own.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use weir_benches::Targets;
use weir_benches::metrics::Metrics;
use weir_benches::process::{Usage, drops};
use weir_flow_aggregate::cluster::partition_of;

use crate::Arguments;

/// Name of the consumer group; topics begin with it.
const GROUP: &str = "weir";
/// The topic of summaries.
pub(crate) const SUMMARIES: &str = "weir.summaries";

/// A running `weir`, gone when it is dropped.
pub(crate) struct Member {
    child: Child,
    folder: PathBuf,
    /// Where it hears exporters.
    pub(crate) address: SocketAddr,
}

/// What it used and told up to one time.
pub(crate) struct Snapshot {
    /// Seconds of CPU.
    pub(crate) cpu: f64,
    pub(crate) metrics: Metrics,
    /// Datagrams that found no room in its socket.
    pub(crate) drops: u64,
}

impl Member {
    /// Starts it in a folder of its own below `folder`, and waits until it answers.
    pub(crate) fn start(
        arguments: &Arguments,
        folder: &Path,
        role: &str,
        name: &str,
        broker: Option<&str>,
    ) -> io::Result<Self> {
        let folder = folder.join(name);
        std::fs::create_dir_all(&folder)?;
        let address = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
        let config = folder.join("weir.toml");
        std::fs::write(&config, configuration(arguments, address, name, broker))?;
        let child = Command::new(&arguments.weir)
            .args(["run", "--role", role, "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(folder.join("log"))?)
            .spawn()?;
        let mut member = Self {
            child,
            folder,
            address,
        };
        let give_up = Instant::now() + Duration::from_secs(60);
        while member.metrics().is_err() {
            if member.child.try_wait()?.is_some() || Instant::now() > give_up {
                let log = std::fs::read_to_string(member.folder.join("log"))?;
                return Err(io::Error::other(format!("{name} does not serve: {log}")));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(member)
    }

    /// What it tells now.
    pub(crate) fn metrics(&self) -> io::Result<Metrics> {
        Metrics::of(&self.folder.join("state"))
    }

    /// How it stands now.
    pub(crate) fn snapshot(&self) -> io::Result<Snapshot> {
        Ok(Snapshot {
            cpu: Usage::of(self.child.id())?.cpu.as_secs_f64(),
            metrics: self.metrics()?,
            drops: drops(self.address.port())?,
        })
    }

    /// Asks it to end, so that it leaves its group at once, and waits for that.
    pub(crate) fn stop(mut self) -> io::Result<()> {
        kill(
            Pid::from_raw(self.child.id().cast_signed()),
            Signal::SIGTERM,
        )?;
        let give_up = Instant::now() + Duration::from_secs(30);
        while self.child.try_wait()?.is_none() && Instant::now() < give_up {
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Busy hosts are above the half of their limit, from which on they are told of one by one, and below the whole.
fn configuration(
    arguments: &Arguments,
    address: SocketAddr,
    name: &str,
    broker: Option<&str>,
) -> String {
    let targets = arguments.targets();
    let limit = 1.6 * targets.busy_packets(arguments.rate);
    let mut text = format!(
        "state_dir = \"state\"\n[log]\nlevel = \"warn\"\n[http]\nlisten = \"127.0.0.1:0\"\n\
         [collector]\nnetflow = [\"{address}\"]\nsflow = []\nshards = 1\n\
         [[threshold]]\nscope = \"host\"\ndirection = \"in\"\nvector = \"total\"\n\
         packets_per_second = \"{limit:.0}\"\nfor = \"10s\"\n"
    );
    if let Some(broker) = broker {
        text += &format!(
            "[kafka]\nbrokers = [\"{broker}\"]\n\
             [cluster]\nname = \"{name}\"\ngroup = \"{GROUP}\"\npartitions = {}\ncollectors = 1\n",
            arguments.partitions
        );
    }
    for (name, first) in zones(arguments.partitions, &targets) {
        text += &format!(
            "[[zone]]\nname = \"{name}\"\nprefixes = [\"10.{}.{}.{}/{}\"]\n",
            first >> 16,
            first >> 8 & 255,
            first & 255,
            32 - (targets.addresses / targets.zones).ilog2(),
        );
    }
    text
}

/// Names of zones, as many in each partition, with their first address after 10.0.0.0.
fn zones(partitions: u16, targets: &Targets) -> impl Iterator<Item = (String, u32)> {
    let mut room = vec![targets.zones / u32::from(partitions); usize::from(partitions)];
    let names = (0_u32..).map(|number| format!("zone-{number}"));
    let evenly = names.filter(move |name| {
        let partition = partition_of(name.as_bytes(), u32::from(partitions));
        let room = room.get_mut(partition as usize);
        room.is_some_and(|room| room.checked_sub(1).map(|left| *room = left).is_some())
    });
    let size = targets.addresses / targets.zones;
    // The end comes first: nobody looks for a name that no partition has room for.
    (0..targets.zones)
        .zip(evenly)
        .map(move |(number, name)| (name, number * size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_partition_has_as_many_zones() {
        let targets = Targets {
            addresses: 65_536,
            zones: 32,
            busy: 4,
            ..Targets::UNIFORM
        };
        let mut each = [0; 8];
        for (name, _) in zones(8, &targets) {
            each[partition_of(name.as_bytes(), 8) as usize] += 1;
        }
        assert_eq!(each, [4; 8]);
        let last = zones(8, &targets).last();
        assert_eq!(last.map(|(_, first)| first), Some(65_536 - 2048));
    }
}
