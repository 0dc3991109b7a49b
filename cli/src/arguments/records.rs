//! Records and packets: `weir decode`, `replay`, `query`, `sample` and `exporters`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ipnet::IpNet;

use super::ConfigArgument;
#[derive(Args, Debug)]
pub(crate) struct DecodeArguments {
    /// Captures with export datagrams.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// How records are written.
    #[arg(long, value_enum, default_value = "ndjson")]
    pub(crate) format: RecordFormat,
    /// Where to write; standard output by default.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Adds names and networks (countries, sites, interfaces …) that the tables `enrichment` and `exporter` of this
    /// configuration know, and AS numbers where the exporter states none; to ndjson and csv.
    #[arg(long, value_name = "CONFIG", conflicts_with_all = ["summary", "all_fields"])]
    pub(crate) enrich: Option<PathBuf>,
    /// Makes the addresses in records anonymous with this key of Crypto-PAn, a file of 32 octets that nobody but its owner may
    /// read: two addresses of one network stay of one network, and with the same key each address always becomes the same.
    /// MAC addresses are left out.
    #[arg(long, value_name = "KEY", conflicts_with_all = ["summary", "all_fields", "enrich"])]
    pub(crate) anonymise: Option<PathBuf>,
    /// Makes the addresses in records anonymous: of IPv4 and IPv6 addresses, only so many bits stay. MAC addresses are left
    /// out.
    #[arg(long, value_name = "V4,V6", value_delimiter = ',', num_args = 1, conflicts_with_all = ["summary", "all_fields", "enrich", "anonymise"])]
    pub(crate) truncate: Vec<u8>,
    /// Addresses in this prefix stay as they are, such as one's own; can be repeated.
    #[arg(long, value_name = "PREFIX")]
    pub(crate) keep: Vec<IpNet>,
    /// Prints one JSON object of figures for each file instead of records.
    #[arg(long, conflicts_with_all = ["all_fields", "format"])]
    pub(crate) summary: bool,
    /// Prints every information element by its name, decoded by another decoder (netflow_parser): the second opinion.
    #[arg(long, conflicts_with = "format")]
    pub(crate) all_fields: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum RecordFormat {
    /// One JSON object a line, with goflow2's field names.
    Ndjson,
    /// The same fields with a header line.
    Csv,
    /// The same columns and a few more, for polars, DuckDB and `weir replay`.
    Parquet,
    /// goflow2's protobuf messages, each behind its length.
    Protobuf,
}

#[derive(Args, Debug)]
pub(crate) struct ReplayArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArgument,
    /// What captures hold; by default exports where a UDP payload parses as an export datagram, else packets.
    #[arg(long = "as", value_enum, value_name = "WHAT")]
    pub(crate) read_as: Option<ReplayAs>,
    /// Captures with export datagrams, several merged by time stamp; or Parquet files, and folders of such. - reads a
    /// capture from standard input.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Writes attack events to this file, one JSON object a line; standard output by default.
    #[arg(long, value_name = "FILE")]
    pub(crate) events: Option<PathBuf>,
    /// Writes the bodies of the DOTS requests that would have been sent to this folder, with index.ndjson.
    #[arg(long, value_name = "DIR")]
    pub(crate) telemetry: Option<PathBuf>,
    /// Takes what is normal from this file, if it is there, and leaves in it what is known at the end: history teaches a replay.
    #[arg(long, value_name = "FILE")]
    pub(crate) baselines: Option<PathBuf>,
    /// Keeps flows and events of each attack in a folder of its own under this one, as the daemon does.
    #[arg(long, value_name = "DIR")]
    pub(crate) evidence: Option<PathBuf>,
    /// Runs the pipeline with this number of shards, each for its own exporters; the events are the same, a tick apart at most.
    #[arg(long, default_value_t = 1, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) shards: u16,
    /// Lets this model act, as the active one does in `weir run`: it names attacks, and raises those that no limit shows. A model's
    /// file, the id of one taken up, or `active`. Without it no model acts.
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: Option<String>,
    /// Lets the model judge in shadow only: its verdicts change nothing and go to this file, one JSON object a line in the shape of
    /// attack events, for `weir score`.
    #[arg(long, value_name = "FILE", requires = "model")]
    pub(crate) shadow: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct QueryArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArgument,
    /// The statement.
    #[arg(value_name = "SQL")]
    pub(crate) statement: String,
    /// Where the flows are; `parquet_dir` of the configuration by default.
    #[arg(long, value_name = "DIR")]
    pub(crate) store: Option<PathBuf>,
    /// A file of attack events; `file` of the configuration's `[events]` by default.
    #[arg(long, value_name = "FILE")]
    pub(crate) events: Option<PathBuf>,
    /// A file of labels, as `score` takes them.
    #[arg(long, value_name = "FILE")]
    pub(crate) labels: Option<PathBuf>,
    /// How the answer is written.
    #[arg(long, value_enum, default_value = "table")]
    pub(crate) format: AnswerFormat,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum AnswerFormat {
    /// For people.
    Table,
    /// With a header line.
    Csv,
    /// One object a line.
    Json,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum ReplayAs {
    /// Export datagrams: NetFlow, IPFIX, sFlow.
    Exports,
    /// Packets themselves, each as the packet sampler would tell it.
    Packets,
}

#[derive(Args, Debug)]
pub(crate) struct SampleArguments {
    /// Interfaces.
    #[arg(required = true, value_name = "IF")]
    pub(crate) interfaces: Vec<String>,
    /// Samples one in this many packets.
    #[arg(long, default_value_t = 100, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=1 << 30))]
    pub(crate) one_in: u32,
    /// How packets are got at: auto, native, generic, tpacket, pnet.
    #[arg(long, default_value = "auto", value_name = "MODE")]
    pub(crate) mode: weir_ebpf::Mode,
    /// Counts all packets by flow instead, and tells the flows each second.
    #[arg(long)]
    pub(crate) exact: bool,
    /// How records are written.
    #[arg(long, value_enum, default_value = "ndjson")]
    pub(crate) format: RecordFormat,
    /// Sends flows as IPFIX to a collector, such as udp://192.0.2.1:4739, instead of printing them.
    #[arg(long, value_name = "URL", conflicts_with = "format")]
    pub(crate) export: Option<String>,
    /// Ends after this many records.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) count: Option<u64>,
    /// Ends after this time, such as 30s.
    #[arg(long, value_name = "TIME")]
    duration: Option<String>,
    /// Leaves the interface as it is: frames for others are not seen then.
    #[arg(long)]
    pub(crate) no_promiscuous: bool,
}

impl SampleArguments {
    /// How long to sample; `None` until it is stopped.
    pub(crate) fn duration(&self) -> anyhow::Result<Option<std::time::Duration>> {
        let text = self.duration.as_deref();
        let read = text.map(|text| text.parse::<weir_flow_record::Period>());
        let period = read.transpose().map_err(anyhow::Error::msg)?;
        Ok(period.map(|period| period.0))
    }
}

#[derive(Args, Debug)]
pub(crate) struct ExportersArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArgument,
    /// Prints JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
