//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;
use weir_flow_record::Period;
use weir_flow_record::Quantity;

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

#[derive(Subcommand, Debug)]
pub(crate) enum StateCommand {
    /// Lists the stages with their versions and rows; of the running daemon, else of its file.
    Show(StateShowArguments),
    /// Writes all of the state to a new file, also while the daemon runs.
    Backup(StateBackupArguments),
    /// Puts a backup in the place of the state. The daemon must be stopped; what was there is kept beside it.
    ///
    /// A backup of an older weir is brought to today's form; a damaged one, or one of a newer weir, is refused. Of a pair, stop
    /// both, restore one and start it first: the other follows it.
    Restore(StateRestoreArguments),
}

#[derive(Args, Debug)]
pub(crate) struct StateShowArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArgument,
    /// Prints JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct StateBackupArguments {
    /// Where to; a file that is there is not replaced.
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) config: ConfigArgument,
}

#[derive(Args, Debug)]
pub(crate) struct StateRestoreArguments {
    /// What `weir state backup` wrote, or a state file.
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) config: ConfigArgument,
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

#[derive(Subcommand, Debug)]
pub(crate) enum AttacksCommand {
    /// Lists open attacks, then those that ended, the newest first; and muted prefixes.
    List(ListAttacksArguments),
    /// Shows an attack with its evidence, in words.
    Show(ShowAttackArguments),
    /// Says that there is an attack, whatever the figures say: it is told, and help is asked for as policy has it.
    Start(StartAttackArguments),
    /// Says that an attack is over, or never was one: it is not told again before its target has been quiet.
    End(EndAttackArguments),
    /// Tells nothing of attacks inside a prefix, and ends those that are open.
    Mute(MuteArguments),
    /// Tells of attacks inside a muted prefix again.
    Unmute(UnmuteArguments),
    /// Says what an attack really was: labels are kept, and teach models.
    Label(LabelArguments),
    /// Prints all labels as CSV, in the layout of `weir score --labels` and `weir train --labels`, with sources and who says so:
    /// those of operators, and what clients of the DOTS server report.
    Labels(LabelsArguments),
}

#[derive(Args, Debug)]
pub(crate) struct ListAttacksArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArgument,
    /// Lists all that ended and are remembered, not the newest 20 only.
    #[arg(long)]
    pub(crate) all: bool,
    /// Prints JSON: the newest event of each.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ShowAttackArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArgument,
    /// The attack, as `list` names it; the beginning of its name is enough.
    #[arg(value_name = "ATTACK")]
    pub(crate) attack: String,
    /// Prints JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct StartAttackArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArgument,
    /// An address or a prefix inside a zone.
    #[arg(value_name = "TARGET")]
    pub(crate) target: String,
    /// The attack comes from inside.
    #[arg(long)]
    pub(crate) outbound: bool,
    /// What it is, such as udp-flood, until traffic says more.
    #[arg(long, value_name = "NAME", default_value = "total")]
    pub(crate) vector: String,
    /// How long it lasts at least, such as 30m; until `weir attacks end` by default.
    #[arg(long = "for", value_name = "TIME")]
    pub(crate) lifetime: Option<Period>,
    /// Why; told with the attack.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) note: String,
}

#[derive(Args, Debug)]
pub(crate) struct EndAttackArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArgument,
    /// The attack, as `list` names it; the beginning of its name is enough.
    #[arg(value_name = "ATTACK")]
    pub(crate) attack: String,
    /// Why; told with its end.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) note: String,
}

#[derive(Args, Debug)]
pub(crate) struct MuteArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArgument,
    /// An address or a prefix.
    #[arg(value_name = "PREFIX")]
    pub(crate) prefix: String,
    /// How long, such as 1h; until `weir attacks unmute` by default.
    #[arg(long = "for", value_name = "TIME")]
    pub(crate) time: Option<Period>,
    /// Why.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) note: String,
}

#[derive(Args, Debug)]
pub(crate) struct UnmuteArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArgument,
    /// The prefix, as it was muted.
    #[arg(value_name = "PREFIX")]
    pub(crate) prefix: String,
}

#[derive(Args, Debug)]
pub(crate) struct LabelArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArgument,
    /// The attack, as `list` names it; the beginning of its name is enough.
    #[arg(value_name = "ATTACK")]
    pub(crate) attack: String,
    /// A name of the catalogue such as dns-amplification, one of your own, or false-alarm.
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Who says so; the user by default.
    #[arg(long, value_name = "WHO")]
    pub(crate) by: Option<String>,
    /// Why.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) note: String,
}

#[derive(Args, Debug)]
pub(crate) struct LabelsArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArgument,
    /// Prints JSON: with who said so, when and why.
    #[arg(long)]
    pub(crate) json: bool,
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

#[derive(Subcommand, Debug)]
pub(crate) enum BaselineCommand {
    /// Shows what is normal: all targets, or one with its hours of the week (UTC).
    Show(BaselineShowArguments),
    /// Prints the body of an RFC 9244 telemetry setup: baselines of inbound traffic, zones first, then the busiest targets.
    Export(BaselineExportArguments),
    /// Takes in such a body, of a mitigation system or another Weir; it counts like `import_weight` of our own learning.
    Import(BaselineImportArguments),
}

#[derive(Args, Debug)]
pub(crate) struct BaselineShowArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArgument,
    /// A zone's, exporter's or link's name, a prefix or an address.
    #[arg(value_name = "TARGET")]
    pub(crate) target: Option<String>,
    /// Outbound traffic instead of inbound.
    #[arg(long)]
    pub(crate) out: bool,
    /// Targets listed: zones first, then the busiest prefixes and hosts; at most 1000.
    #[arg(long, default_value_t = 50, value_name = "NUMBER")]
    pub(crate) most: usize,
    /// Prints JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct BaselineExportArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArgument,
    /// Targets told: zones first, then the busiest prefixes and hosts; at most 1000.
    #[arg(long, default_value_t = 16, value_name = "NUMBER")]
    pub(crate) targets: usize,
    /// Where to write; standard output by default.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct BaselineImportArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArgument,
    /// The JSON body of a telemetry setup with baselines.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

#[derive(Subcommand, Debug)]
pub(crate) enum DotsCommand {
    /// Makes a lab CA with certificates for a server and a client.
    Keys(KeysArguments),
    /// Runs the DOTS server of `[dots_server]` alone.
    Serve(ConfigArgument),
    /// Asks an upstream for mitigation: the panic button. Exit status: 0 accepted, 3 refused, 4 unreachable, 1 anything else.
    Request(RequestArguments),
    /// Shows what we see beside what upstreams do: sessions, attacks, requests, what is dropped.
    Status(StatusArguments),
    /// Withdraws a mitigation.
    Withdraw(WithdrawArguments),
    /// Tells an upstream how well its mitigation works (RFC 9132 §4.4.3); the daemon tells what it sees by itself.
    Efficacy(EfficacyArguments),
    /// Lets help be asked for about an attack that waits for it (`request = "confirm"`).
    Confirm(ConfirmArguments),
    /// The stop switch: nothing new is asked of any upstream, over restarts too, until it is released.
    Hold(HoldArguments),
    /// Makes a harmless request at each upstream (for the loss of the signal only, and withdrawn at once), and says how long it took.
    Drill(DrillArguments),
    /// Prints the audit log: what was asked for or not, and why.
    Audit(AuditArguments),
    /// Shows the filters that an upstream's data channel holds, and proposes some against an attack.
    Filters(FiltersArguments),
}

#[derive(Args, Debug)]
pub(crate) struct FiltersArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArgument,
    /// Which upstream; the first that has a data channel by default.
    #[arg(long)]
    pub(crate) upstream: Option<String>,
    /// Prints filters against this attack, from its kinds of traffic and its top talkers.
    #[arg(long, value_name = "ATTACK")]
    pub(crate) propose: Option<String>,
    /// Installs them: they apply while a mitigation is active.
    #[arg(long, requires = "propose")]
    pub(crate) install: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ConfirmArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArgument,
    /// The attack, as `weir dots status` names it.
    #[arg(value_name = "ATTACK")]
    pub(crate) attack: String,
}

#[derive(Args, Debug)]
pub(crate) struct HoldArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArgument,
    /// Releases the switch: open attacks are considered anew.
    #[arg(long, conflicts_with = "withdraw")]
    pub(crate) release: bool,
    /// Withdraws what was asked for as well; an operator's own mitigations stay.
    #[arg(long)]
    pub(crate) withdraw: bool,
}

#[derive(Args, Debug)]
pub(crate) struct DrillArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArgument,
    /// Which upstream; all by default.
    #[arg(long)]
    pub(crate) upstream: Option<String>,
    /// The address to name; by default the first of the upstream's prefixes, or of a zone.
    #[arg(long, value_name = "PREFIX")]
    pub(crate) target: Option<String>,
    /// Prints JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct AuditArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArgument,
    /// Lines from the end; all by default.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) last: Option<usize>,
}

#[derive(Args, Debug)]
pub(crate) struct KeysArguments {
    /// Folder for ca.pem, server.pem, server.key, client.pem, client.key.
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// Names and addresses of the server, besides localhost.
    #[arg(long, value_name = "NAME")]
    pub(crate) server: Vec<String>,
    /// Name of the client.
    #[arg(long, value_name = "NAME", default_value = "weir-lab")]
    pub(crate) client: String,
}

#[derive(Args, Debug)]
pub(crate) struct RequestArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArgument,
    /// Prefixes or addresses to protect.
    #[arg(required = true, value_name = "PREFIX")]
    pub(crate) targets: Vec<String>,
    /// Which upstream; the first of the configuration by default.
    #[arg(long)]
    pub(crate) upstream: Option<String>,
    /// IP protocol numbers; all by default.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) protocol: Vec<u8>,
    /// Ports or ranges such as 80 or 8000-8100; all by default.
    #[arg(long, value_name = "PORTS")]
    pub(crate) port: Vec<String>,
    /// How long it is to last, such as 30m.
    #[arg(long, default_value = "1h")]
    pub(crate) lifetime: String,
    /// Preconfigures it: the upstream begins to mitigate only when it has lost this client (`trigger-mitigation` false).
    #[arg(long)]
    pub(crate) on_signal_loss: bool,
    /// Refreshes it before its lifetime ends, until `weir dots withdraw`; the daemon does, so one must run.
    #[arg(long)]
    pub(crate) keep: bool,
}

#[derive(Args, Debug)]
pub(crate) struct StatusArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArgument,
    /// Which upstream; the first of the configuration by default.
    #[arg(long)]
    pub(crate) upstream: Option<String>,
    /// Prints JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct WithdrawArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArgument,
    /// The mitigation's mid, as `status` shows it.
    #[arg(value_name = "MID")]
    pub(crate) mid: u32,
    /// Which upstream; the first of the configuration by default.
    #[arg(long)]
    pub(crate) upstream: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct EfficacyArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArgument,
    /// The mitigation's mid, as `status` shows it.
    #[arg(value_name = "MID")]
    pub(crate) mid: u32,
    /// How it goes.
    #[arg(value_enum)]
    pub(crate) status: EfficacyStatus,
    /// Attack traffic that still arrives, in bits per second, such as 200M.
    #[arg(long, value_name = "RATE")]
    pub(crate) arriving: Option<Quantity>,
    /// Which upstream; the first of the configuration by default.
    #[arg(long)]
    pub(crate) upstream: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum EfficacyStatus {
    /// The attack still arrives.
    UnderAttack,
    /// It arrives no more.
    Mitigated,
}

/// A prefix, or an address as a host prefix.
pub(crate) fn prefix(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>()
        .map(|prefix| prefix.trunc())
        .or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from))
        .map_err(|_| format!("`{text}` is neither an address nor a prefix"))
}

/// A port or a range of ports.
pub(crate) fn ports(text: &str) -> Result<(u16, Option<u16>), String> {
    let wrong = || format!("`{text}` is neither a port nor a range such as 8000-8100");
    match text.split_once('-') {
        None => Ok((text.parse().map_err(|_| wrong())?, None)),
        Some((lower, upper)) => {
            let (lower, upper) = (
                lower.parse().map_err(|_| wrong())?,
                upper.parse().map_err(|_| wrong())?,
            );
            if lower > upper {
                Err(wrong())
            } else {
                Ok((lower, Some(upper)))
            }
        }
    }
}
