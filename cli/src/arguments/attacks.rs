//! `weir attacks`.

use clap::{Args, Subcommand};
use weir_flow_record::Period;

use super::ConfigArgument;
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
