//! One of a pair: what the process does until it is its turn to work.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::net::TcpListener;
use weir_standby::{Pair, Turn};
use weir_state::State;

use crate::config::cluster::Role;
use crate::config::{ConfigError, Settings};
use crate::daemon::Kept;
use crate::http;
use crate::run::{Next, Signals, signalled};
use crate::views::Views;

/// How often it is asked whether another active has stepped down.
const RIVAL: Duration = Duration::from_millis(500);

/// Opens the state and begins to look for the other daemon; `None` where the configuration has no `[standby]`.
pub(crate) fn start(settings: &Settings) -> anyhow::Result<Option<Pair>> {
    let Some(standby) = &settings.standby else {
        return Ok(None);
    };
    if settings.role == Role::Detect {
        let why =
            "standby: detectors take over from each other by Kafka: leave out [standby], or --role";
        return Err(ConfigError::Mistakes(why.to_owned()).into());
    }
    let state = Arc::new(State::open(&settings.state_dir)?);
    let pair = Pair::start(standby.clone(), state)?;
    tracing::info!(
        name = standby.name,
        peer = standby.peer_name,
        address = %pair.address(),
        "one of a pair"
    );
    Ok(Some(pair))
}

/// What a daemon of the pair is started with, who lacks what another left to it.
pub(crate) fn kept(pair: &Pair, settings: &Settings) -> Kept {
    Kept::of_state(Arc::clone(pair.state()), &settings.state_dir)
}

/// Shows how the pair stands until it is this one's turn, which is `None`, or a signal says something else.
pub(crate) async fn wait(
    pair: &mut Pair,
    settings: &Settings,
    views: &Arc<Views>,
    signals: &mut Signals,
    path: &Path,
) -> anyhow::Result<Option<Next>> {
    let listener = TcpListener::bind(settings.http)
        .await
        .with_context(|| format!("cannot listen on {} for HTTP", settings.http))?;
    let socket = settings.state_dir.join(crate::admin::SOCKET);
    let admin = http::bind_admin(&socket)
        .with_context(|| format!("cannot listen on {}", socket.display()))?;
    let address = listener.local_addr()?;
    tracing::info!(%address, admin = %socket.display(), "HTTP interface; waiting for the turn to work");
    let state = Arc::clone(pair.state());
    tokio::select! {
        served = http::serve_waiting(listener, admin, Arc::clone(views), state) => {
            served.context("the HTTP interface ended")?;
            bail!("the HTTP interface ended")
        }
        next = signalled(signals, (path, settings.role), views) => Ok(Some(next)),
        turn = pair.turned(Turn::Wait) => match turn {
            Turn::Work => Ok(None),
            Turn::Wait | Turn::Stop => bail!("the pair's thread has ended"),
        },
    }
}

/// While this one works: waits until it must not any more, or should ask its upstreams anew.
pub(crate) async fn working(pair: &mut Pair) -> Next {
    loop {
        tokio::select! {
            _ = pair.turned(Turn::Work) => return Next::StepDown,
            () = tokio::time::sleep(RIVAL) => if pair.rival_left() {
                return Next::Again;
            },
        }
    }
}
