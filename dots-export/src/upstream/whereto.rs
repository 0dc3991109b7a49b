//! Which server the driver goes to: the configured one, one that the DNS names, or one that a server has redirected to.

use std::sync::Arc;
use std::time::Instant;

use super::Driver;
use super::connect::{Destination, Tickets};
use super::probe::Probe;
use super::search::Found;
use crate::client::Alternate;
use crate::config::UpstreamSettings;
use crate::discovery::Discovery;

impl Destination {
    /// The upstream's server, or another one. That one's port is the same: a redirection states none.
    pub(super) fn of(settings: &UpstreamSettings, alternate: Option<&Alternate>) -> Self {
        let with_port = |alternate: &Alternate| {
            let addresses = alternate.addresses.iter();
            addresses.map(|one| (*one, settings.port).into()).collect()
        };
        Self {
            host: alternate.map_or_else(|| settings.host.clone(), |other| other.server.clone()),
            port: settings.port,
            addresses: alternate.map_or_else(|| settings.addresses.clone(), with_port),
            source: settings.source_address,
            interface: settings.interface.clone(),
        }
    }
}

impl Driver {
    /// Where the DNS said that the servers are, if that is where to go.
    pub(super) fn discovered(&self) -> Option<&Discovery> {
        let discovery = self.settings.discovery.as_ref();
        let discovery = discovery.filter(|_| self.alternate.is_none())?;
        self.client.discovered(&discovery.name())
    }

    /// Whether there is a server to connect to.
    pub(super) fn has_destination(&self) -> bool {
        self.search.is_none() || self.alternate.is_some() || self.discovered().is_some()
    }

    /// Whether the session is with another server than it is to be with.
    pub(super) fn is_elsewhere(&self) -> bool {
        self.link.is_some() && self.linked_to != self.destination.host
    }

    /// Turns to another server where the client is redirected, and back.
    pub(super) fn follow_redirect(&mut self) {
        if self.client.alternate() == self.alternate.as_ref() {
            return;
        }
        self.alternate = self.client.alternate().cloned();
        self.destination = Arc::new(Destination::of(&self.settings, self.alternate.as_ref()));
        tracing::warn!(
            upstream = &*self.settings.name,
            server = self.destination.host,
            redirected = self.alternate.is_some(),
            "another server is used"
        );
        if let Some(attempt) = self.attempt.take() {
            attempt.abort();
        }
        self.probing = false;
        self.probe = Probe::default();
        // Neither tickets nor addresses are any other server's.
        self.tickets = Tickets::default();
        self.known = Arc::default();
        self.failures = 0;
        self.retry_at = Instant::now();
    }

    /// Nothing leads to the server: it is looked for anew.
    pub(super) fn handle_unreachable(&mut self, now: Instant) {
        self.client.handle_alternate_failed(now);
        let under_attack = self.client.is_under_attack();
        if let Some(search) = &mut self.search {
            search.handle_unreachable(now, under_attack);
        }
    }

    /// The DNS has answered, or not.
    pub(super) fn handle_found(&mut self, found: Found) {
        let now = Instant::now();
        let under_attack = self.client.is_under_attack();
        if let Some(search) = &mut self.search {
            search.handle_found(now, &found, under_attack);
        }
        let upstream = &*self.settings.name;
        match found {
            Ok(discovery) => {
                let ways = discovery.endpoints.len();
                tracing::info!(upstream, mechanism = ?discovery.mechanism, ways, "servers discovered");
                let known = self.discovered();
                if known.is_none_or(|known| !known.is_as(&discovery)) && self.link.is_none() {
                    self.failures = 0;
                    self.retry_at = now;
                }
                self.client.handle_discovered(&discovery);
            }
            Err(error) if self.discovered().is_some() => {
                tracing::warn!(upstream, %error, "the servers of before are taken");
            }
            Err(error) => {
                tracing::warn!(upstream, %error, "no server is discovered");
                self.client.handle_connect_failed(&error.to_string());
            }
        }
    }

    pub(super) fn search_if_due(&mut self) {
        let now = Instant::now();
        if let Some(search) = &mut self.search
            && search.due().is_some_and(|at| at <= now)
        {
            search.begin();
        }
    }
}
