//! Collectors under test, each a process of its own with a receive buffer of 32 MiB.

use std::fmt;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clap::ValueEnum;

use weir_benches::metrics::Metrics;
use weir_benches::process;

/// A collector.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// `weir run` with a number of shards: receive, decode, aggregate, detect.
    Weir(u16),
    /// The same with one shard, writing Parquet.
    WeirParquet,
    /// The same with one shard, publishing to Kafka in a form.
    WeirKafka(&'static str),
    /// nfdump's collector: stores.
    Nfcapd,
    /// pmacct's collector: sums by destination host in memory.
    Nfacctd,
    /// FastNetMon: totals per host, thresholds.
    Fastnetmon,
}

impl ValueEnum for Kind {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Nfcapd, Self::Nfacctd, Self::Fastnetmon]
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(clap::builder::PossibleValue::new(match self {
            Self::Nfcapd => "nfcapd",
            Self::Nfacctd => "nfacctd",
            Self::Fastnetmon => "fastnetmon",
            Self::Weir(_) | Self::WeirParquet | Self::WeirKafka(_) => return None,
        }))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Weir(shards) => write!(
                f,
                "weir, {shards} shard{}",
                if *shards == 1 { "" } else { "s" }
            ),
            Self::WeirParquet => f.write_str("weir, Parquet"),
            Self::WeirKafka(format) => write!(f, "weir, Kafka, {format}"),
            Self::Nfcapd => f.write_str("nfcapd"),
            Self::Nfacctd => f.write_str("nfacctd"),
            Self::Fastnetmon => f.write_str("fastnetmon"),
        }
    }
}

/// A running collector.
pub(crate) struct Collector {
    child: Child,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Collector {
    /// Starts it on `cpus`; `broker` is where Kafka is, for a kind that publishes.
    pub(crate) fn start(
        kind: Kind,
        weir: &Path,
        cpus: &[String],
        broker: Option<&str>,
    ) -> io::Result<Self> {
        let folder = if Path::new("/dev/shm").is_dir() {
            tempfile::tempdir_in("/dev/shm")?
        } else {
            tempfile::tempdir()?
        };
        let address = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
        let command = match kind {
            Kind::Weir(shards) => run_weir(weir, folder.path(), address, shards, "")?,
            Kind::WeirParquet => {
                let parquet = "[store]\nparquet_dir = \"parquet\"\n";
                run_weir(weir, folder.path(), address, 1, parquet)?
            }
            Kind::WeirKafka(format) => {
                let kafka = format!(
                    "[kafka]\nbrokers = [\"{}\"]\nflow_format = \"{format}\"\npartitions = 4\n\
                     [kafka.topics]\nflows = \"{format}\"\n",
                    broker.unwrap_or_default()
                );
                run_weir(weir, folder.path(), address, 1, &kafka)?
            }
            Kind::Nfcapd => run_nfcapd(folder.path(), address),
            Kind::Nfacctd => run_nfacctd(folder.path(), address)?,
            Kind::Fastnetmon => run_fastnetmon(folder.path(), address)?,
        };
        let child = on_cpus(&command, cpus)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let collector = Self {
            child,
            address,
            folder,
        };
        std::thread::sleep(Duration::from_secs(1));
        Ok(collector)
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Datagrams dropped on its port so far.
    pub(crate) fn drops(&self) -> io::Result<u64> {
        process::drops(self.address.port())
    }

    /// The share of its records that Kafka has acknowledged; waits a little for the last of them.
    pub(crate) fn published(&self) -> io::Result<f64> {
        let mut share = 0.0;
        for _ in 0..50 {
            // The topic is the only one.
            let metrics = Metrics::of(&self.folder.path().join("state"))?;
            let all = metrics.sum("weir_kafka_records_total")
                + metrics.sum("weir_kafka_behind_records_total");
            share = metrics.sum("weir_kafka_acknowledged_records_total") / all.max(1.0);
            if share >= 1.0 {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(share)
    }

    /// Ends it.
    pub(crate) fn stop(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run_weir(
    weir: &Path,
    folder: &Path,
    address: SocketAddr,
    shards: u16,
    more: &str,
) -> io::Result<Command> {
    let config = folder.join("weir.toml");
    std::fs::write(
        &config,
        format!(
            "state_dir = \"state\"\n[log]\nlevel = \"error\"\n[http]\nlisten = \"127.0.0.1:0\"\n\
             [collector]\nnetflow = [\"{address}\"]\nsflow = []\nshards = {shards}\n\
             {more}[[zone]]\nname = \"targets\"\nprefixes = [\"10.0.0.0/8\"]\n"
        ),
    )?;
    let mut command = Command::new(weir);
    command.arg("run").arg("--config").arg(config);
    Ok(command)
}

fn run_nfcapd(folder: &Path, address: SocketAddr) -> Command {
    let mut command = Command::new("nfcapd");
    command.args(["-b", "127.0.0.1", "-B", "33554432", "-p"]);
    command
        .arg(address.port().to_string())
        .arg("-w")
        .arg(folder);
    command
}

fn run_nfacctd(folder: &Path, address: SocketAddr) -> io::Result<Command> {
    let config = folder.join("nfacctd.conf");
    let pipe = folder.join("pipe");
    std::fs::write(
        &config,
        format!(
            "daemonize: false\nnfacctd_ip: 127.0.0.1\nnfacctd_port: {}\nnfacctd_pipe_size: 33554432\n\
             plugins: memory[hosts]\naggregate[hosts]: dst_host\nimt_path[hosts]: {}\n\
             plugin_pipe_size: 268435456\nplugin_buffer_size: 262144\n",
            address.port(),
            pipe.display()
        ),
    )?;
    let mut command = Command::new("nfacctd");
    command.arg("-f").arg(config);
    Ok(command)
}

/// Its counters are there for every address of its networks from the start: so these are no larger than the stream's targets
/// need.
fn run_fastnetmon(folder: &Path, address: SocketAddr) -> io::Result<Command> {
    let file = |name: &str| folder.join(name);
    std::fs::write(file("networks"), "10.0.0.0/15\n")?;
    std::fs::write(file("allowed"), "")?;
    std::fs::write(
        file("fastnetmon.conf"),
        format!(
            "logging_level = info\ndisable_usage_report = on\nnetworks_list_path = {}\nwhite_list_path = {}\n\
             process_incoming_traffic = on\nprocess_outgoing_traffic = off\nenable_ban = on\nban_for_pps = on\n\
             ban_for_bandwidth = on\nban_for_flows = on\nthreshold_pps = 100000\nthreshold_mbps = 1000\n\
             threshold_flows = 20000\nenable_connection_tracking = off\nnotify_script_path = /bin/true\nnetflow = on\n\
             netflow_host = 127.0.0.1\nnetflow_port = {}\nenable_api = off\nmonitor_local_ip_addresses = off\n\
             cli_stats_file_path = {}\ncli_stats_ipv6_file_path = {}\n",
            file("networks").display(),
            file("allowed").display(),
            address.port(),
            file("stats").display(),
            file("stats6").display(),
        ),
    )?;
    let mut command = Command::new("fastnetmon");
    command
        .arg("--configuration_file")
        .arg(file("fastnetmon.conf"));
    command.arg("--log_file").arg(file("log"));
    command.arg("--disable_pid_logic");
    Ok(command)
}

/// The same command on some CPUs.
fn on_cpus(command: &Command, cpus: &[String]) -> Command {
    let mut pinned = Command::new("taskset");
    pinned.arg("-c").arg(cpus.join(","));
    pinned.arg(command.get_program()).args(command.get_args());
    pinned
}
