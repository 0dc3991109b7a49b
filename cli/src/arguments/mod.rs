//! The command line.

mod attacks;
mod baseline;
mod dots;
mod records;
mod state;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use ipnet::IpNet;

pub(crate) use attacks::{
    AttacksCommand, EndAttackArguments, LabelArguments, LabelsArguments, ListAttacksArguments,
    MuteArguments, ShowAttackArguments, StartAttackArguments, UnmuteArguments,
};
pub(crate) use baseline::{
    BaselineCommand, BaselineExportArguments, BaselineImportArguments, BaselineShowArguments,
};
pub(crate) use dots::{
    AuditArguments, ConfirmArguments, DotsCommand, DrillArguments, EfficacyArguments,
    EfficacyStatus, FiltersArguments, HoldArguments, KeysArguments, RequestArguments,
    StatusArguments, WithdrawArguments, ports,
};
pub(crate) use records::{
    AnswerFormat, DecodeArguments, ExportersArguments, QueryArguments, RecordFormat,
    ReplayArguments, ReplayAs, SampleArguments,
};
pub(crate) use state::{
    StateBackupArguments, StateCommand, StateRestoreArguments, StateShowArguments,
};

/// Flow telemetry and DDoS detection with a DOTS client.
///
/// Exit status: 0 done, 1 failed, 2 wrong usage, 78 bad configuration.
#[derive(Parser, Debug)]
#[command(name = "weir", version, disable_help_subcommand = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Shows the whole way on this machine: traffic, attack, detection, mitigation over DOTS, end.
    ///
    /// Needs no privileges and no configuration, uses loopback only, and takes less than a minute. Exit status 0 only if
    /// every step was really seen.
    Demo(DemoArguments),
    /// Runs the daemon: collects flow exports, detects attacks, asks for mitigation.
    ///
    /// SIGHUP reloads the configuration (a bad one is refused and the old one kept), SIGTERM drains and saves.
    ///
    /// More than one machine: some run `--role collect`, to which exporters send, others `--role detect`, which share the zones;
    /// between them is Kafka (the tables `[kafka]` and `[cluster]`). Zones move when a detector goes or comes, with their
    /// open attacks and mitigations.
    ///
    /// One of a pair (`[standby]` in the configuration) waits until it is its turn to work; SIGTERM hands over to the other.
    Run(RunArguments),
    /// Checks a configuration and says every mistake with its line.
    Check(CheckArguments),
    /// Decodes export datagrams in pcap or pcapng files to flow records on standard output.
    Decode(DecodeArguments),
    /// Runs the production pipeline over captures or stored flows in the data's own time, as fast as it goes.
    ///
    /// It opens no socket and reads no credentials; each request that it would have sent counts as accepted with nothing
    /// dropped, so quiet traffic alone ends an attack.
    Replay(ReplayArguments),
    /// Makes synthetic, labelled traffic: a seeded scenario of days or weeks as export datagrams, in a capture or sent live.
    Generate(crate::generate::GenerateArguments),
    /// Compares events with labels: precision and recall per attack, time to detect, false alarms. Prints one JSON object.
    ///
    /// An attack told matches a label if they overlap in time and one's prefix contains the other's; the first one told per
    /// label counts, more are duplicates.
    Score(crate::score::ScoreArguments),
    /// What the daemon sees, and an operator's word on it: list, show, start, end, mute, label.
    #[command(subcommand)]
    Attacks(AttacksCommand),
    /// Samples packets of interfaces, and prints or exports them as flow records, live.
    ///
    /// Takes the best way that works: an XDP program in the driver, then in the network stack, then a packet ring, then pnet's
    /// datalink; and says which, and why not better. Needs root or capabilities (CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON for XDP,
    /// CAP_NET_RAW for the rest and for promiscuous mode), and gives them up once it has begun. Ends with what was counted.
    Sample(SampleArguments),
    /// Lists who exports to the running daemon: protocol, rates, gaps, skew, templates, drops.
    Exporters(ExportersArguments),
    /// Answers SQL on what is stored: the tables `flows` (Parquet files), `attacks` and `labels`.
    ///
    /// The dialect is polars'. Beyond its functions there are in_prefix(src_addr, '203.0.113.0/24') and prefix(src_addr, 24, 48).
    /// Flows also have the columns date and hour (UTC): a condition on them skips whole folders. For example
    ///
    ///   SELECT prefix(src_addr, 24, 48) AS source, SUM(bytes * sampling_rate) AS octets FROM flows
    ///   WHERE date = '2026-11-21' AND dst_addr = '203.0.113.5' GROUP BY source ORDER BY octets DESC LIMIT 10
    #[command(verbatim_doc_comment)]
    Query(QueryArguments),
    /// What is normal: shows what was learned, exports it as DOTS telemetry, imports what others know.
    ///
    /// Asks the running daemon; without one it reads the state file.
    #[command(subcommand)]
    Baseline(BaselineCommand),
    /// What survives a restart: shows it, backs it up, restores it.
    #[command(subcommand)]
    State(StateCommand),
    /// The DOTS panic button and the lab.
    #[command(subcommand)]
    Dots(DotsCommand),
    /// Joins flows with labels: a file of labelled flows that `weir train` takes, and counts of what matched nothing.
    Join(crate::learn::JoinArguments),
    /// Learns a model from labelled flows, and writes it with its card to one file.
    Train(crate::learn::TrainArguments),
    /// Tells how well a model tells labelled flows: per class precision, recall, F1; one JSON object.
    ///
    /// What is told are windows: a target in a second in which a flow to it ended. With --split a model is learned anew by the
    /// same parameters from one part of the data and tells the other; never by random rows, since neighbouring seconds of an
    /// attack are nearly the same.
    Evaluate(crate::learn::EvaluateArguments),
    /// Models taken up: list, show, promote, roll back.
    #[command(subcommand)]
    Models(crate::learn::ModelsCommand),
}

#[derive(Args, Debug)]
pub(crate) struct ConfigArgument {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "/etc/weir/weir.toml")]
    pub(crate) config: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct RunArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArgument,
    /// What this process does of the work.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) role: crate::config::cluster::Role,
}

#[derive(Args, Debug)]
pub(crate) struct DemoArguments {
    /// Prints the configuration that the demo uses, and ends.
    #[arg(long)]
    pub(crate) show_config: bool,
    /// Seed of the simulated traffic.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

#[derive(Args, Debug)]
pub(crate) struct CheckArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArgument,
    /// Prints the effective configuration, defaults and overrides from the environment included.
    #[arg(long)]
    pub(crate) dump: bool,
    /// Proposes thresholds for each zone from a history of flows, as tables for the configuration, and says what they would
    /// have raised on it.
    #[arg(long, requires = "from", conflicts_with = "dump")]
    pub(crate) suggest: bool,
    /// The history: captures with export datagrams; or Parquet files, and folders of such.
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "suggest")]
    pub(crate) from: Vec<PathBuf>,
    /// Which percentile of the busiest target's rates a limit rests on.
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 95.0,
        requires = "suggest"
    )]
    pub(crate) percentile: f64,
    /// The limit is so many times that.
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 5.0,
        requires = "suggest"
    )]
    pub(crate) burst: f64,
}

/// A prefix, or an address as a host prefix.
pub(crate) fn prefix(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>()
        .map(|prefix| prefix.trunc())
        .or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from))
        .map_err(|_| format!("`{text}` is neither an address nor a prefix"))
}
