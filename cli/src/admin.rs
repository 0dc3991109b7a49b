//! The admin socket: the panic button goes through the running daemon, which owns sessions and mids.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, mpsc};
use weir_attack_event::{AttackId, MitigationReport};
use weir_collector::wall_clock;
use weir_dots_export::{ClientCommand, ClientNotice, OPERATOR_KEPT_PREFIX, OPERATOR_PREFIX};
use weir_dots_proto::body::{Lifetime, PortRange, Scope};

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
}

/// What an operator ends.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Withdrawal {
    /// Name of the upstream; the first of the configuration by default.
    pub(crate) upstream: Option<String>,
    /// Mitigation identifier.
    pub(crate) mid: u32,
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
}

impl Admin {
    /// Commands go to the clients, answers come from `heard`.
    pub(crate) fn new(
        commands: BTreeMap<Arc<str>, mpsc::Sender<ClientCommand>>,
        first: Option<Arc<str>>,
        heard: broadcast::Sender<ClientNotice>,
        views: Arc<Views>,
    ) -> Self {
        Self {
            commands,
            first,
            heard,
            views,
        }
    }

    /// Asks an upstream, and waits for its answer.
    pub(crate) async fn request(
        &self,
        wanted: MitigationRequest,
    ) -> anyhow::Result<MitigationReport> {
        let client = self.client(wanted.upstream.as_deref())?;
        let mut heard = self.heard.subscribe();
        let (attack, command) = wanted.command();
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
        .context("the upstream does not answer; the request stands and is repeated")?
    }

    /// Ends a mitigation, and waits until the upstream says so.
    pub(crate) async fn withdraw(&self, wanted: Withdrawal) -> anyhow::Result<()> {
        let client = self.client(wanted.upstream.as_deref())?;
        let report = self
            .views
            .mitigations()
            .into_iter()
            .find(|report| report.mid == wanted.mid);
        let Some(report) = report else {
            bail!("no mitigation has mid {}", wanted.mid)
        };
        let mut heard = self.heard.subscribe();
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
        .context("the upstream does not answer; the withdrawal is repeated")?
    }

    fn client(&self, upstream: Option<&str>) -> anyhow::Result<&mpsc::Sender<ClientCommand>> {
        let name = upstream
            .or(self.first.as_deref())
            .context("the configuration has no [[upstream]]")?;
        self.commands
            .get(name)
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
        } if attack == wanted => Some(Err(anyhow::anyhow!(
            "the upstream refuses: {code} {diagnostic}"
        ))),
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
    if !status.is_success() {
        bail!("{}", String::from_utf8_lossy(&octets));
    }
    Ok(Some(octets))
}
