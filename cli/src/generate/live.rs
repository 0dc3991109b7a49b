//! A scenario sent live: each exporter from a socket of its own.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::Context;
use weir_datasets::generator::{Datagram, Generator};

use super::GenerateArguments;

/// Sends until the scenario or the time is over.
pub(super) fn send(
    generator: &mut Generator,
    to: SocketAddr,
    arguments: &GenerateArguments,
) -> anyhow::Result<()> {
    anyhow::ensure!(
        to.ip().is_loopback() || arguments.remote,
        "{to} is not on this machine; --remote lets it be one that is not"
    );
    let start = generator.scenario().start;
    let begun = Instant::now();
    let mut sockets = BTreeMap::new();
    let mut sent = 0_u64;
    while let Some(datagram) = generator.poll_datagram() {
        let due = match arguments.rate {
            Some(rate) => Duration::try_from_secs_f64(sent as f64 / rate),
            None => Duration::try_from_secs_f64(
                datagram.at.since(start).as_secs_f64() / arguments.speed,
            ),
        };
        let due = due.unwrap_or(Duration::MAX);
        if due > arguments.at_most.0 || begun.elapsed() > arguments.at_most.0 {
            break;
        }
        std::thread::sleep(due.saturating_sub(begun.elapsed()));
        let socket = match sockets.entry(datagram.exporter) {
            std::collections::btree_map::Entry::Occupied(open) => open.into_mut(),
            std::collections::btree_map::Entry::Vacant(place) => place.insert(open(&datagram, to)?),
        };
        // A collector that is not there yet answers with a refusal, which the next datagram reports: it may come.
        match socket.send(&datagram.payload) {
            Err(error) if error.kind() != std::io::ErrorKind::ConnectionRefused => {
                return Err(error).with_context(|| format!("cannot send to {to}"));
            }
            _ => sent += 1,
        }
    }
    tracing::info!(sent, seconds = begun.elapsed().as_secs_f64(), "sent");
    Ok(())
}

/// On loopback each exporter has an address of its own, 127.0.0.11 and up: collectors tell exporters by addresses.
fn open(datagram: &Datagram, to: SocketAddr) -> anyhow::Result<UdpSocket> {
    let own = u8::try_from(datagram.exporter + 11).unwrap_or(254);
    let from: IpAddr = match to.ip() {
        IpAddr::V4(ip) if ip.is_loopback() => Ipv4Addr::new(127, 0, 0, own).into(),
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((from, 0)).with_context(|| format!("cannot bind {from}"))?;
    socket
        .connect(to)
        .with_context(|| format!("cannot send to {to}"))?;
    Ok(socket)
}
