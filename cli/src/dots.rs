//! `weir dots …`: the panic button, and the lab.

mod drill;
mod filters;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use hyper::Method;
use tokio::sync::{mpsc, watch};
use weir_attack_event::MitigationReport;
use weir_dots_export::{ClientCommand, ClientNotice, HeldMitigation};
use weir_dtls::lab;
use weir_flow_record::{ColumnSet, Period};
use weir_state::State;

use crate::admin::{
    self, Confirmation, Declined, EfficacyWord, Hold, MitigationRequest, Withdrawal,
};
use crate::arguments::{
    self, AuditArguments, ConfirmArguments, DotsCommand, EfficacyArguments, EfficacyStatus,
    HoldArguments, KeysArguments, RequestArguments, StatusArguments, WithdrawArguments,
};
use crate::config::{self, Settings};
use crate::data_channel;
use crate::journal::Journal;
use crate::log;
use crate::overview::{MitigationRow, Overview};
use crate::upstreams;

/// How long an upstream may take to answer where no daemon owns the session.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a command.
pub(crate) fn run(command: DotsCommand) -> anyhow::Result<()> {
    match command {
        DotsCommand::Keys(arguments) => keys(&arguments),
        DotsCommand::Serve(arguments) => serve(&arguments),
        DotsCommand::Request(arguments) => request(&arguments),
        DotsCommand::Status(arguments) => status(&arguments),
        DotsCommand::Withdraw(arguments) => withdraw(&arguments),
        DotsCommand::Efficacy(arguments) => efficacy(&arguments),
        DotsCommand::Confirm(arguments) => confirm(&arguments),
        DotsCommand::Hold(arguments) => hold(&arguments),
        DotsCommand::Drill(arguments) => drill::run(&arguments),
        DotsCommand::Audit(arguments) => audit(&arguments),
        DotsCommand::Filters(arguments) => filters::run(&arguments),
    }
}

/// A runtime for one command.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

fn keys(arguments: &KeysArguments) -> anyhow::Result<()> {
    let names = lab::LabNames {
        server: arguments.server.clone(),
        client: arguments.client.clone(),
    };
    lab::write_keys(&arguments.folder, &names)?;
    println!(
        "{}: ca.pem, server.pem, server.key, client.pem, client.key",
        arguments.folder.display()
    );
    Ok(())
}

fn serve(arguments: &arguments::ConfigArgument) -> anyhow::Result<()> {
    let settings = config::load(&arguments.config, ColumnSet::NONE)?;
    log::start(&settings.log);
    let server = settings
        .dots_server
        .as_ref()
        .context("the configuration has no [dots_server]")?;
    let runtime = runtime()?;
    let _guard = runtime.enter();
    let (stop, stopped) = watch::channel(false);
    let data = runtime.block_on(data_channel::open_server(&settings))?;
    let (task, _) = upstreams::start_server(
        server,
        None,
        data,
        Arc::new(State::open(&settings.state_dir)?),
        upstreams::Ears::default(),
        stopped,
    )?;
    runtime.block_on(async {
        let mut terminate =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        let _ = stop.send(true);
        task.await.context("the server ended badly")
    })
}

fn request(arguments: &RequestArguments) -> anyhow::Result<()> {
    let settings = config::load(&arguments.config.config, ColumnSet::NONE)?;
    let lifetime: Period = arguments.lifetime.parse()?;
    let wanted = MitigationRequest {
        upstream: arguments.upstream.clone(),
        targets: each(&arguments.targets, arguments::prefix)?,
        protocols: arguments.protocol.clone(),
        ports: each(&arguments.port, arguments::ports)?,
        lifetime: u32::try_from(lifetime.0.as_secs()).context("the lifetime is too long")?,
        keep: arguments.keep,
        drill: false,
        on_signal_loss: arguments.on_signal_loss,
    };
    if wanted.lifetime == 0 {
        bail!("the lifetime must be at least a second");
    }
    let report = runtime()?.block_on(async {
        let path = "/api/v1/dots/request";
        match admin::ask(&settings.state_dir, Method::POST, path, Some(&wanted)).await? {
            Some(octets) => Ok::<MitigationReport, anyhow::Error>(serde_json::from_slice(&octets)?),
            None if wanted.keep => bail!("no daemon runs, and none else keeps a mitigation"),
            None => {
                let mut session = OwnSession::open(&settings, wanted.upstream.as_deref())?;
                let (attack, command) = wanted.command();
                session.send(command).await?;
                let answer = session
                    .wait(|notice| admin::answer_to(&attack, notice))
                    .await?;
                session.close().await;
                answer
            }
        }
    })?;
    println!("{}", MitigationRow::new(&report));
    Ok(())
}

fn status(arguments: &StatusArguments) -> anyhow::Result<()> {
    let settings = config::load(&arguments.config.config, ColumnSet::NONE)?;
    let wanted = arguments.upstream.as_deref();
    let mut overview = runtime()?.block_on(async {
        let path = "/api/v1/dots";
        match admin::ask::<()>(&settings.state_dir, Method::GET, path, None).await? {
            Some(octets) => Ok::<Overview, anyhow::Error>(serde_json::from_slice(&octets)?),
            None => own_overview(&settings, wanted).await,
        }
    })?;
    if let Some(name) = wanted {
        overview.keep_upstream(name);
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&overview)?);
    } else {
        print!("{overview}");
    }
    Ok(())
}

/// Without a daemon: what the upstream says of the mitigations that the journal holds.
async fn own_overview(settings: &Settings, upstream: Option<&str>) -> anyhow::Result<Overview> {
    let mut session = OwnSession::open(settings, upstream)?;
    let name = session.name.to_string();
    let reports = session.mitigations().await?;
    session.close().await;
    Ok(Overview::of_reports(&name, &reports))
}

fn confirm(arguments: &ConfirmArguments) -> anyhow::Result<()> {
    let settings = config::load(&arguments.config.config, ColumnSet::NONE)?;
    let wanted = Confirmation {
        attack: arguments.attack.clone(),
    };
    tell_daemon(&settings, "/api/v1/dots/confirm", &wanted)?;
    println!("{}: confirmed", arguments.attack);
    Ok(())
}

fn hold(arguments: &HoldArguments) -> anyhow::Result<()> {
    let settings = config::load(&arguments.config.config, ColumnSet::NONE)?;
    let wanted = Hold {
        hold: !arguments.release,
        withdraw: arguments.withdraw,
    };
    tell_daemon(&settings, "/api/v1/dots/hold", &wanted)?;
    println!(
        "{}",
        match (wanted.hold, wanted.withdraw) {
            (true, true) =>
                "on hold: nothing new is asked for, and what was asked for is withdrawn",
            (true, false) => "on hold: nothing new is asked for; what was asked for stays",
            (false, _) => "released",
        }
    );
    Ok(())
}

fn tell_daemon<B: serde::Serialize>(
    settings: &Settings,
    path: &str,
    body: &B,
) -> anyhow::Result<()> {
    let answer = runtime()?.block_on(admin::ask(
        &settings.state_dir,
        Method::POST,
        path,
        Some(body),
    ))?;
    answer
        .map(|_| ())
        .context("no daemon runs on this state directory")
}

fn audit(arguments: &AuditArguments) -> anyhow::Result<()> {
    let settings = config::load(&arguments.config.config, ColumnSet::NONE)?;
    let path = settings.state_dir.join(crate::audit::FILE);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", path.display()));
        }
    };
    let lines: Vec<&str> = text.lines().collect();
    let first = arguments
        .last
        .map_or(0, |last| lines.len().saturating_sub(last));
    for line in lines.iter().skip(first) {
        println!("{line}");
    }
    Ok(())
}

fn withdraw(arguments: &WithdrawArguments) -> anyhow::Result<()> {
    let settings = config::load(&arguments.config.config, ColumnSet::NONE)?;
    let wanted = Withdrawal {
        upstream: arguments.upstream.clone(),
        mid: arguments.mid,
    };
    runtime()?.block_on(async {
        if admin::ask(
            &settings.state_dir,
            Method::POST,
            "/api/v1/dots/withdraw",
            Some(&wanted),
        )
        .await?
        .is_some()
        {
            return Ok(());
        }
        let mut session = OwnSession::open(&settings, wanted.upstream.as_deref())?;
        let reports = session.mitigations().await?;
        let report = reports.into_iter().find(|report| report.mid == wanted.mid);
        let Some(report) = report else {
            bail!("no mitigation has mid {}", wanted.mid)
        };
        session
            .send(ClientCommand::Withdraw {
                attack: report.attack.clone(),
            })
            .await?;
        session
            .wait(|notice| admin::is_withdrawn(&report.attack, notice).then_some(()))
            .await?;
        session.close().await;
        Ok::<(), anyhow::Error>(())
    })?;
    println!("mitigation {} withdrawn", arguments.mid);
    Ok(())
}

fn efficacy(arguments: &EfficacyArguments) -> anyhow::Result<()> {
    let settings = config::load(&arguments.config.config, ColumnSet::NONE)?;
    let wanted = EfficacyWord {
        upstream: arguments.upstream.clone(),
        mid: arguments.mid,
        mitigated: arguments.status == EfficacyStatus::Mitigated,
        arriving: arguments.arriving.map(|rate| rate.0),
    };
    tell_daemon(&settings, "/api/v1/dots/efficacy", &wanted)?;
    println!("mitigation {}: the upstream will be told", arguments.mid);
    Ok(())
}

fn each<T>(texts: &[String], read: impl Fn(&str) -> Result<T, String>) -> anyhow::Result<Vec<T>> {
    texts
        .iter()
        .map(|text| read(text).map_err(anyhow::Error::msg))
        .collect()
}

/// A session of this command's own, where no daemon runs; the lock on the state file keeps a daemon from starting meanwhile.
struct OwnSession {
    name: Arc<str>,
    commands: mpsc::Sender<ClientCommand>,
    notices: mpsc::Receiver<ClientNotice>,
    held: Vec<HeldMitigation>,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl OwnSession {
    fn open(settings: &Settings, upstream: Option<&str>) -> anyhow::Result<Self> {
        let journal = Arc::new(Journal::new(Arc::new(State::open(&settings.state_dir)?)));
        let (stop, stopped) = watch::channel(false);
        let (notice, notices) = mpsc::channel(64);
        let started = upstreams::start_one(settings, upstream, &journal, &notice, &stopped)?;
        Ok(Self {
            name: started.name,
            commands: started.commands,
            notices,
            held: started.held,
            stop,
            task: started.task,
        })
    }

    async fn send(&self, command: ClientCommand) -> anyhow::Result<()> {
        self.commands
            .send(command)
            .await
            .context("the client has ended")
    }

    /// The upstream's word on every mitigation that the journal holds.
    async fn mitigations(&mut self) -> anyhow::Result<Vec<MitigationReport>> {
        let mut reports: Vec<MitigationReport> = Vec::new();
        let held = self.held.clone();
        while reports.len() < held.len() {
            let report = self
                .wait(|notice| match notice {
                    ClientNotice::Status(report) => Some(Some(report.clone())),
                    ClientNotice::Refused { .. } | ClientNotice::Withdrawn { .. } => Some(None),
                    _ => None,
                })
                .await?;
            let Some(report) = report else { break };
            reports.retain(|other| other.mid != report.mid);
            reports.push(report);
        }
        Ok(reports)
    }

    async fn wait<T>(&mut self, wanted: impl Fn(&ClientNotice) -> Option<T>) -> anyhow::Result<T> {
        tokio::time::timeout(PATIENCE, async {
            while let Some(notice) = self.notices.recv().await {
                if let Some(found) = wanted(&notice) {
                    return Ok(found);
                }
            }
            bail!("the client has ended")
        })
        .await
        .map_err(|_| Declined::Unreachable("nobody goes on trying"))?
    }

    async fn close(self) {
        let _ = self.stop.send(true);
        let _ = tokio::time::timeout(Duration::from_secs(5), self.task).await;
    }
}
