//! The admin socket: the panic button goes through the running daemon, which owns sessions and mids.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, mpsc, oneshot};
use weir_attack_event::{AttackId, MitigationReport};
use weir_collector::wall_clock;
use weir_detector::{Overridden, Override};
use weir_dots_export::{
    Action, ClientCommand, ClientNotice, Decision, Efficacy, OPERATOR_KEPT_PREFIX, OPERATOR_PREFIX,
};
use weir_dots_proto::body::{AttackStatus, Gauges, Lifetime, PortRange, Scope, Traffic};
use weir_flow_record::Timestamp;

use crate::baseline::BaselineOrder;
use crate::daemon::{Input, Order};
use crate::journal::Journal;
use crate::kafka::Announcer;
use crate::overview::Overview;
use crate::views::Views;

/// Name of the socket in the state directory.
pub(crate) const SOCKET: &str = "weir.sock";
/// How long an upstream may take to answer the operator.
const PATIENCE: Duration = Duration::from_secs(30);

/// What an operator asks for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MitigationRequest {
    /// Name of the upstream; the first of the configuration by default.
    pub(crate) upstream: Option<String>,
    /// What to protect.
    pub(crate) targets: Vec<IpNet>,
    /// IP protocol numbers; empty = all.
    pub(crate) protocols: Vec<u8>,
    /// Ports or ranges; empty = all.
    pub(crate) ports: Vec<(u16, Option<u16>)>,
    /// Seconds.
    pub(crate) lifetime: u32,
    /// Whether it is refreshed until it is withdrawn.
    #[serde(default)]
    pub(crate) keep: bool,
    /// Whether it is a drill: for the loss of the signal only, and withdrawn at once.
    #[serde(default)]
    pub(crate) drill: bool,
    /// Whether it is for the loss of the signal only.
    #[serde(default)]
    pub(crate) on_signal_loss: bool,
}

/// Why an operator's request came to nothing.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Declined {
    /// By the upstream, or by a guard rail here.
    #[error("{0}")]
    Refused(String),
    /// There was no answer.
    #[error("the upstream does not answer; {0}")]
    Unreachable(&'static str),
}

impl Declined {
    /// Exit status of a command that met it.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Refused(_) => 3,
            Self::Unreachable(_) => 4,
        }
    }

    /// HTTP status that stands for it.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Refused(_) => StatusCode::CONFLICT,
            Self::Unreachable(_) => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    fn of(status: StatusCode, text: &[u8]) -> Option<Self> {
        match status {
            StatusCode::CONFLICT => Some(Self::Refused(String::from_utf8_lossy(text).into_owned())),
            StatusCode::GATEWAY_TIMEOUT => Some(Self::Unreachable("the daemon goes on trying")),
            _ => None,
        }
    }
}

/// An operator's word on the stop switch.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Hold {
    /// Thrown or released.
    pub(crate) hold: bool,
    /// Whether what policy has asked for ends too.
    pub(crate) withdraw: bool,
}

/// An operator's word that help may be asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Confirmation {
    /// The attack's identifier.
    pub(crate) attack: String,
}

/// What an operator ends.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Withdrawal {
    /// Name of the upstream; the first of the configuration by default.
    pub(crate) upstream: Option<String>,
    /// Mitigation identifier.
    pub(crate) mid: u32,
}

/// An operator's word on how well a mitigation works.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct EfficacyWord {
    /// Name of the upstream; the first of the configuration by default.
    pub(crate) upstream: Option<String>,
    /// Mitigation identifier.
    pub(crate) mid: u32,
    /// Whether the attack arrives no more.
    pub(crate) mitigated: bool,
    /// What still arrives of it, bits per second.
    pub(crate) arriving: Option<u64>,
}

impl EfficacyWord {
    /// What the upstream is told (RFC 9132 §4.4.3, RFC 9244 §9.1).
    fn efficacy(&self) -> Efficacy {
        let traffic = self.arriving.map(|rate| {
            Traffic::in_bits(&Gauges {
                current_g: Some(rate),
                ..Gauges::default()
            })
        });
        Efficacy {
            status: if self.mitigated {
                AttackStatus::AttackSuccessfullyMitigated
            } else {
                AttackStatus::UnderAttack
            },
            total_attack_traffic: traffic.into_iter().collect(),
        }
    }
}

impl MitigationRequest {
    /// The scope of the request (RFC 9132 §4.4.1).
    pub(crate) fn scope(&self) -> Scope {
        Scope {
            target_prefix: self.targets.clone(),
            target_protocol: self.protocols.clone(),
            target_port_range: self
                .ports
                .iter()
                .map(|(lower_port, upper_port)| PortRange {
                    lower_port: *lower_port,
                    upper_port: *upper_port,
                })
                .collect(),
            trigger_mitigation: (self.drill || self.on_signal_loss).then_some(false),
            ..Scope::default()
        }
    }

    /// The command, and the name under which its answers come back.
    pub(crate) fn command(&self) -> (AttackId, ClientCommand) {
        let prefix = if self.keep {
            OPERATOR_KEPT_PREFIX
        } else {
            OPERATOR_PREFIX
        };
        let attack = AttackId(format!("{prefix}{:x}", wall_clock()).into());
        let command = ClientCommand::Request {
            attack: attack.clone(),
            scope: Box::new(self.scope()),
            lifetime: Lifetime::Seconds(self.lifetime),
        };
        (attack, command)
    }
}

/// The operator's hand on the upstream clients.
pub(crate) struct Admin {
    commands: BTreeMap<Arc<str>, mpsc::Sender<ClientCommand>>,
    /// The first upstream of the configuration.
    first: Option<Arc<str>>,
    heard: broadcast::Sender<ClientNotice>,
    views: Arc<Views>,
    judge: SyncSender<Input>,
    journal: Arc<Journal>,
    announcer: Announcer,
}

impl Admin {
    /// Commands go to the clients, answers come from `heard`.
    pub(crate) fn new(
        commands: BTreeMap<Arc<str>, mpsc::Sender<ClientCommand>>,
        first: Option<Arc<str>>,
        heard: broadcast::Sender<ClientNotice>,
        views: Arc<Views>,
        judge: SyncSender<Input>,
        journal: Arc<Journal>,
        announcer: Announcer,
    ) -> Self {
        Self {
            commands,
            first,
            heard,
            views,
            judge,
            journal,
            announcer,
        }
    }

    /// Asks an upstream, and waits for its answer.
    pub(crate) async fn request(
        &self,
        wanted: MitigationRequest,
    ) -> anyhow::Result<MitigationReport> {
        let (upstream, client) = self.client(wanted.upstream.as_deref())?;
        if self.views.policy().on_hold && !wanted.drill {
            let why = "the stop switch is thrown (weir dots hold --release)".to_owned();
            return Err(Declined::Refused(why).into());
        }
        let mut heard = self.heard.subscribe();
        let (attack, command) = wanted.command();
        self.note(Action::Ask, &attack, upstream, &wanted.targets);
        client
            .send(command)
            .await
            .context("the upstream's client has ended")?;
        tokio::time::timeout(PATIENCE, async {
            loop {
                if let Some(answer) = answer_to(&attack, &heard.recv().await?) {
                    return answer;
                }
            }
        })
        .await
        .map_err(|_| Declined::Unreachable("the request stands and is repeated"))?
    }

    /// Ends a mitigation, and waits until the upstream says so.
    pub(crate) async fn withdraw(&self, wanted: Withdrawal) -> anyhow::Result<()> {
        let (upstream, client) = self.client(wanted.upstream.as_deref())?;
        let report = self
            .views
            .mitigations()
            .into_iter()
            .find(|report| report.mid == wanted.mid && report.upstream == *upstream);
        let Some(report) = report else {
            bail!("no mitigation has mid {}", wanted.mid)
        };
        let mut heard = self.heard.subscribe();
        self.note(Action::Withdraw, &report.attack, upstream, &[]);
        client
            .send(ClientCommand::Withdraw {
                attack: report.attack.clone(),
            })
            .await
            .context("the upstream's client has ended")?;
        tokio::time::timeout(PATIENCE, async {
            loop {
                if is_withdrawn(&report.attack, &heard.recv().await?) {
                    return Ok(());
                }
            }
        })
        .await
        .map_err(|_| Declined::Unreachable("the withdrawal is repeated"))?
    }

    /// Has an upstream told how well its mitigation works, as soon as its session allows.
    pub(crate) async fn efficacy(&self, wanted: EfficacyWord) -> anyhow::Result<()> {
        let (upstream, client) = self.client(wanted.upstream.as_deref())?;
        let mut reports = self.views.mitigations().into_iter();
        let report = reports
            .find(|report| report.mid == wanted.mid && report.upstream == *upstream)
            .with_context(|| format!("no mitigation has mid {}", wanted.mid))?;
        let command = ClientCommand::Efficacy {
            attack: report.attack,
            efficacy: wanted.efficacy(),
        };
        let sent = client.send(command).await;
        sent.context("the upstream's client has ended")
    }

    /// Tells the policy what an operator says; whether anything came of it.
    pub(crate) async fn order(&self, order: Order) -> anyhow::Result<bool> {
        let (answer, answered) = oneshot::channel();
        self.judge
            .try_send(Input::Operator(order, answer))
            .map_err(|_| anyhow::anyhow!("the daemon is too busy, or ends"))?;
        answered.await.context("the daemon ends")
    }

    /// Asks about baselines, or has some imported.
    pub(crate) async fn baselines(
        &self,
        order: BaselineOrder,
    ) -> anyhow::Result<Result<serde_json::Value, String>> {
        let (answer, answered) = oneshot::channel();
        self.judge
            .try_send(Input::Baselines(order, answer))
            .map_err(|_| anyhow::anyhow!("the daemon is too busy, or ends"))?;
        answered.await.context("the daemon ends")
    }

    /// Tells the detector what an operator says of attacks.
    pub(crate) async fn word(&self, word: Override) -> anyhow::Result<Overridden> {
        let (answer, answered) = oneshot::channel();
        self.judge
            .try_send(Input::Override(word, answer))
            .map_err(|_| anyhow::anyhow!("the daemon is too busy, or ends"))?;
        Ok(answered.await.context("the daemon ends")??)
    }

    /// What the daemon shows.
    pub(crate) fn views(&self) -> &Views {
        &self.views
    }

    /// What survives a restart.
    pub(crate) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// What tells Kafka.
    pub(crate) fn announcer(&self) -> &Announcer {
        &self.announcer
    }

    /// How all that concerns the upstreams stands.
    pub(crate) fn overview(&self) -> Overview {
        let upstreams = self.commands.keys().map(|name| name.to_string());
        Overview::new(&self.views, upstreams.collect())
    }

    /// Adds a line to the audit log.
    fn note(&self, action: Action, attack: &AttackId, upstream: &Arc<str>, targets: &[IpNet]) {
        let decision = Decision {
            time: Timestamp::from_nanos(wall_clock()),
            action,
            attack: Some(attack.clone()),
            upstream: Some(Arc::clone(upstream)),
            targets: targets.to_vec(),
            why: "an operator".to_owned(),
        };
        if self
            .judge
            .try_send(Input::Decision(Box::new(decision)))
            .is_err()
        {
            tracing::error!(%attack, "the operator's order is not in the audit log");
        }
    }

    fn client(
        &self,
        upstream: Option<&str>,
    ) -> anyhow::Result<(&Arc<str>, &mpsc::Sender<ClientCommand>)> {
        let name = upstream
            .or(self.first.as_deref())
            .context("the configuration has no [[upstream]]")?;
        self.commands
            .get_key_value(name)
            .with_context(|| format!("there is no upstream `{name}`"))
    }
}

/// The upstream's answer to a request, if this is one.
pub(crate) fn answer_to(
    wanted: &AttackId,
    notice: &ClientNotice,
) -> Option<anyhow::Result<MitigationReport>> {
    match notice {
        ClientNotice::Granted(report) if report.attack == *wanted => Some(Ok(report.clone())),
        ClientNotice::Refused {
            attack,
            code,
            diagnostic,
            ..
        } if attack == wanted => {
            let why = format!("the upstream refuses: {code} {diagnostic}");
            Some(Err(Declined::Refused(why).into()))
        }
        _ => None,
    }
}

/// Whether the upstream has answered the withdrawal of that attack's mitigation.
pub(crate) fn is_withdrawn(wanted: &AttackId, notice: &ClientNotice) -> bool {
    matches!(notice, ClientNotice::Withdrawn { attack, .. } if attack == wanted)
}

/// Asks the running daemon; `None` where none runs on this state directory.
pub(crate) async fn ask<B: Serialize>(
    state_dir: &Path,
    method: Method,
    path: &str,
    body: Option<&B>,
) -> anyhow::Result<Option<Bytes>> {
    let socket = state_dir.join(SOCKET);
    let Ok(stream) = tokio::net::UnixStream::connect(&socket).await else {
        return Ok(None);
    };
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let octets = body
        .map(serde_json::to_vec)
        .transpose()?
        .unwrap_or_default();
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "weir")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(octets)))?;
    let response = sender
        .send_request(request)
        .await
        .context("the daemon does not answer")?;
    let status = response.status();
    let octets = response.into_body().collect().await?.to_bytes();
    if let Some(declined) = Declined::of(status, &octets) {
        return Err(declined.into());
    }
    if !status.is_success() {
        bail!("{}", String::from_utf8_lossy(&octets));
    }
    Ok(Some(octets))
}
