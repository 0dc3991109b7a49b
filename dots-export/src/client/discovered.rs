//! Where the DNS said that the servers are, kept over a restart: an attack on the DNS must not blind us.

use super::Client;
use super::journal::SavedState;
use crate::command::ClientNotice;
use crate::discovery::Discovery;

impl Client {
    /// The last discovery of this domain, from the journal or since.
    pub(crate) fn discovered(&self, domain: &str) -> Option<&Discovery> {
        let known = self.discovered.as_ref();
        known.filter(|known| known.domain == domain)
    }

    /// Takes in what the DNS says.
    pub(crate) fn handle_discovered(&mut self, discovery: &Discovery) {
        let known = self.discovered.as_ref();
        if known.is_some_and(|known| known.is_as(discovery)) {
            return;
        }
        self.discovered = Some(discovery.clone());
        self.persist(SavedState::Discovered {
            discovery: discovery.clone(),
        });
        self.notify_discovered();
    }

    /// Tells where the servers are, as far as that is known.
    pub(crate) fn notify_discovered(&mut self) {
        if let Some(discovery) = self.discovered.clone() {
            self.notify(ClientNotice::Discovered {
                upstream: self.upstream.clone(),
                discovery,
            });
        }
    }
}
