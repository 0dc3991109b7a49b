use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::arguments::ConfigArgument;

#[derive(Args, Debug)]
pub(crate) struct DataArguments {
    /// Labelled flows: CSV in a known layout (gzip or not; common, CICFlowMeter, UNSW-NB15, Zeek/IoT-23, CTU-13), or, with
    /// --labels, nfdump's or Weir's CSV, Parquet files and folders of `[store]`, captures of export datagrams.
    #[arg(required = true, value_name = "DATA")]
    pub(crate) data: Vec<PathBuf>,
    /// Labels for flows that have none: CSV with the header start,end,target,attack (RFC 3339, prefix), and sources and by if known,
    /// as `weir attacks labels` prints it.
    #[arg(long, value_name = "FILE")]
    pub(crate) labels: Option<PathBuf>,
    /// How far a flow may lie outside a label's time, in seconds.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 2.0,
        requires = "labels"
    )]
    pub(crate) tolerance: f64,
}

/// Whose labels are learned from.
#[derive(Args, Debug, Default)]
pub(crate) struct TrustArguments {
    /// Learns from labels of these sources alone, such as dots:dms-1, operator:ann, or all of a kind: dots, operator.
    #[arg(long, value_name = "SOURCE", value_delimiter = ',')]
    pub(crate) trust: Vec<String>,
    /// Leaves labels of these sources out: what they call attacks is neither attack nor peace.
    #[arg(long, value_name = "SOURCE", value_delimiter = ',')]
    pub(crate) distrust: Vec<String>,
    /// Leaves out sources whose labels a model of all others contradicts; without it they are only named.
    #[arg(long)]
    pub(crate) distrust_contradicted: bool,
    /// Takes as peace whatever no label calls an attack. Labels that say who they are by need a declared peace otherwise: a line
    /// without an attack, such as a mitigation system's baseline makes.
    #[arg(long)]
    pub(crate) assume_peace: bool,
}

impl TrustArguments {
    /// Whether labels of a source are learned from.
    pub(crate) fn trusts(&self, by: &str) -> bool {
        let named = |list: &[String]| {
            let kind = by.split(':').next().unwrap_or(by);
            list.iter().any(|one| one == by || one == kind)
        };
        (self.trust.is_empty() || named(&self.trust)) && !named(&self.distrust)
    }
}

#[derive(Args, Debug)]
pub(crate) struct TrainArguments {
    #[command(flatten)]
    pub(crate) data: DataArguments,
    #[command(flatten)]
    pub(crate) trust: TrustArguments,
    /// Where to write the model.
    #[arg(short, long, value_name = "MODEL")]
    pub(crate) output: PathBuf,
    /// The seed of all chance: the same data and seed give the same file, octet by octet.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Trees of the forest.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) trees: u16,
    /// The share of windows of peace that may be called attacks so that kinds never learned are found, in percent: by trees that had
    /// not seen the minute, thinned windows among them, so the whole forest makes fewer.
    #[arg(long, value_name = "PERCENT", default_value_t = 0.3)]
    pub(crate) false_alarms: f32,
    /// Keeps one in so many windows of peace, by chance, where there are many.
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) peace_one_in: u32,
    /// The share of a target's records, packets or octets within ten seconds that an attack needs to be their label, in percent.
    #[arg(long, value_name = "PERCENT", default_value_t = 20, value_parser = clap::value_parser!(u8).range(..=100))]
    pub(crate) least_share: u8,
    /// What is told apart.
    #[arg(long, value_enum, default_value = "family")]
    pub(crate) classes: Classes,
    /// Sampling to be robust to: the data are learned once for each of these, thinned to one packet in so many.
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "1,4,16,64,256,1024"
    )]
    pub(crate) thin: Vec<u32>,
    /// The model's name, for its card.
    #[arg(long, default_value = "")]
    pub(crate) name: String,
    /// The licence of the data, for the card; may be given several times.
    #[arg(long, value_name = "TEXT")]
    pub(crate) licence: Vec<String>,
    /// A known weakness, for the card; may be given several times.
    #[arg(long, value_name = "TEXT")]
    pub(crate) weakness: Vec<String>,
}

/// What a model tells apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Classes {
    /// Families of attacks, by the catalogue's names where it has them: they mean the same in all data sets.
    Family,
    /// The attacks as the data name them.
    AsIs,
    /// Attack and peace alone.
    Binary,
}

#[derive(Args, Debug)]
pub(crate) struct EvaluateArguments {
    /// The model.
    #[arg(value_name = "MODEL")]
    pub(crate) model: PathBuf,
    #[command(flatten)]
    pub(crate) data: DataArguments,
    /// Learns anew, by the model's parameters, from one part of the data, and tells the other. Without it the model itself
    /// tells all of the data.
    #[arg(long, value_enum)]
    pub(crate) split: Option<Split>,
    /// Also replays the data (captures of exports, or stored flows, with --labels) by the configuration, with the model acting and
    /// without, and scores the events.
    #[arg(long, requires = "labels")]
    pub(crate) replay: bool,
    #[command(flatten)]
    pub(crate) config: ConfigArgument,
    /// Tells the data as sampling one packet in so many would have left them.
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) thin: u32,
}

/// How data are divided.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Split {
    /// The last 30 % of each attack's time in each capture are told.
    Time,
    /// Each family of attacks in turn is told without having been learned, beside later peace.
    Family,
    /// Each capture in turn is told without having been learned.
    Capture,
}

#[derive(Subcommand, Debug)]
pub(crate) enum ModelsCommand {
    /// Lists models: which is active, which are in shadow.
    List(ListArguments),
    /// Prints a model's card: classes, data, how it did, weaknesses.
    Show(ShowArguments),
    /// Takes a model up, in shadow: its verdicts are logged and not acted on.
    Add(AddArguments),
    /// Makes a model the active one, if labelled data are told better with it than with the one it replaces. A running daemon
    /// lets it act within seconds.
    Promote(PromoteArguments),
    /// Makes the model before the active one active again; without one before, none is active.
    Rollback(RollbackArguments),
}

#[derive(Args, Debug)]
pub(crate) struct ListArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArgument,
    /// Prints JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ShowArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArgument,
    /// A model's file, the id of one taken up, or `default` for the one that ships with Weir; the active one by default.
    #[arg(value_name = "MODEL")]
    pub(crate) model: Option<String>,
    /// Prints the whole card as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct AddArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArgument,
    /// The model's file.
    #[arg(value_name = "MODEL")]
    pub(crate) model: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct PromoteArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArgument,
    /// A model's file, or the id of one taken up.
    #[arg(value_name = "MODEL")]
    pub(crate) model: String,
    /// Clean, labelled data that neither model learned from. Captures of exports and stored flows with --labels are replayed by the
    /// configuration, with the candidate acting, with the active model, and with none: the candidate must find as many attacks as
    /// either, as early, with no more false alarms, and be better than the active one in one of these or in naming. By windows it
    /// may then fall behind only a little. Where events are alike, and for data that cannot be replayed, windows decide: no worse
    /// in F1 of attacks, false alarms and macro F1, and better in one of them; without an active model F1 above 0.5 at 1 % of false
    /// alarms.
    #[arg(long, value_name = "DATA", num_args = 1.., required_unless_present_any = ["force", "scenarios"])]
    pub(crate) on: Vec<PathBuf>,
    /// Labels of data that have none.
    #[arg(long, value_name = "FILE", requires = "on")]
    pub(crate) labels: Option<PathBuf>,
    /// Scenarios that are generated and replayed too, by their own configuration: files in TOML, or names of `weir generate --list`.
    #[arg(long = "scenario", value_name = "SCENARIO", num_args = 1..)]
    pub(crate) scenarios: Vec<PathBuf>,
    /// Replaces the scenarios' seeds.
    #[arg(long, requires = "scenarios")]
    pub(crate) seed: Option<u64>,
    /// Promotes it whatever the score; the audit log says so.
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Args, Debug)]
pub(crate) struct RollbackArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArgument,
}
