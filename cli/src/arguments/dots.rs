//! `weir dots`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use weir_flow_record::Quantity;

use super::ConfigArgument;
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
