//! `weir demo`: the whole way on one machine, told as it happens.

mod lab;
mod story;

use std::io;
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use weir_datasets::LabMitigator;
use weir_dtls::lab::{LabNames, write_keys};
use weir_flow_record::ColumnSet;

use crate::arguments::DemoArguments;
use crate::config;
use crate::daemon::{Daemon, Hooks, Story};
use crate::dots::runtime;
use crate::views::Views;
use lab::{LabFilter, Traffic};
use story::{Step, Teller};

/// The demo gives up after this.
const LIMIT: Duration = Duration::from_secs(58);
/// How long the attack lasts.
const ATTACK: Duration = Duration::from_secs(15);
/// Normal traffic before it.
const PEACE: Duration = Duration::from_secs(4);

/// Runs the command.
pub(crate) fn run(arguments: &DemoArguments) -> anyhow::Result<()> {
    if arguments.show_config {
        print!("{}", configuration(4646));
        return Ok(());
    }
    let folder = tempfile::Builder::new()
        .prefix("weir-demo-")
        .tempdir()
        .context("cannot make a folder")?;
    write_keys(folder.path(), &LabNames::default())?;
    let path = folder.path().join("weir.toml");
    std::fs::write(&path, configuration(free_port()?)).context("cannot write the configuration")?;
    let told = play(&path, arguments.seed)?;
    if told.is_empty() {
        Ok(())
    } else {
        bail!("the demo did not see: {told:?}")
    }
}

/// The demo's configuration, read like any other.
fn configuration(port: u16) -> String {
    include_str!("demo.toml").replace("4646", &port.to_string())
}

/// A port for the DOTS server that is free now, for UDP and for TCP.
fn free_port() -> anyhow::Result<u16> {
    for _ in 0..64 {
        let socket = UdpSocket::bind("127.0.0.1:0").context("there is no loopback")?;
        let address = socket.local_addr()?;
        if TcpListener::bind(address).is_ok() {
            return Ok(address.port());
        }
    }
    bail!("no port is free on loopback")
}

/// Runs daemon and traffic, and returns the steps that were not seen.
fn play(path: &Path, seed: u64) -> anyhow::Result<Vec<Step>> {
    let settings = config::load(path, ColumnSet::NONE)?;
    let runtime = runtime()?;
    let mitigator = LabMitigator::new();
    let (tell, stories) = channel();
    let hooks = Hooks {
        mitigator: Some(Box::new(LabFilter::new(mitigator.clone()))),
        story: Some(tell),
    };
    let mut teller = Teller::new(io::stdout().lock(), Instant::now());
    teller.say(
        Instant::now(),
        "weir demo: everything on loopback; simulated hosts, real protocols",
    );
    let daemon = Daemon::start(
        runtime.handle(),
        &settings,
        hooks,
        None,
        Arc::new(Views::default()),
    )?;
    let collector = *daemon
        .collector
        .first()
        .context("the collector has no socket")?;
    let now = Instant::now();
    teller.say(
        now,
        &format!(
            "collector on {collector}/udp, HTTP on http://{}, DOTS server on loopback",
            daemon.http
        ),
    );
    let traffic = Traffic::start(seed, collector, mitigator)?;
    teller.say(
        now,
        "a router samples 1:100 and exports IPFIX of 32 hosts' normal traffic",
    );
    listen(&mut teller, &stories, &traffic);
    traffic.stop();
    let missing = teller.missing();
    teller.finish(Instant::now());
    daemon.stop(runtime.handle());
    Ok(missing)
}

/// Tells until all is told, or time is over; starts the attack once there is something normal to compare with.
fn listen(teller: &mut Teller<impl io::Write>, stories: &Receiver<Story>, traffic: &Traffic) {
    let begin = Instant::now();
    let mut attacked = false;
    while !teller.is_over() && begin.elapsed() < LIMIT {
        match stories.recv_timeout(Duration::from_millis(50)) {
            Ok(story) => teller.handle(Instant::now(), &story),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if !attacked && teller.is_ready() && begin.elapsed() >= PEACE {
            attacked = true;
            let text = traffic.attack(ATTACK);
            teller.handle_attack(Instant::now(), &text);
        }
    }
}
