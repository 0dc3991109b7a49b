use std::collections::BTreeSet;
use std::net::SocketAddr;

use tokio::sync::watch;
use tokio::task::JoinSet;
use weir_dots_proto::Cuid;

use crate::config::DataChannelSettings;
use crate::enforce::enforce;
use crate::model::{Capabilities, VendorMapping};
use crate::server::{BoundServer, ServerControl, StartError};
use crate::store::SavedClient;
use crate::{DataHandle, Keep};

/// A data channel that has its sockets and waits to be [`run`](Self::run).
#[derive(Debug)]
pub struct DataServer {
    handle: DataHandle,
    server: BoundServer,
    settings: DataChannelSettings,
}

impl DataServer {
    /// Reads the certificates, opens the sockets, takes back the rows of an earlier run. `mapping` is what our attack
    /// numbers mean, for clients to read. Call within a tokio runtime.
    pub async fn bind(
        settings: DataChannelSettings,
        mapping: VendorMapping,
        rows: Vec<SavedClient>,
        keep: Option<Box<dyn Keep>>,
    ) -> Result<Self, StartError> {
        let mut service = settings.service(Capabilities::mandatory());
        service.set_mapping(mapping);
        let handle = DataHandle::new(service, keep);
        for (row, error) in handle.restore(rows) {
            tracing::error!(owner = &*row.owner, %error, "data channel: a client's row is not valid");
        }
        let server = BoundServer::bind(settings.server.clone(), handle.clone()).await?;
        Ok(Self {
            handle,
            server,
            settings,
        })
    }

    /// What the signal channel's server looks up.
    #[must_use]
    pub fn handle(&self) -> DataHandle {
        self.handle.clone()
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.server.addresses()
    }

    /// What can be done while it runs.
    #[must_use]
    pub fn control(&self) -> ServerControl {
        self.server.control()
    }

    /// Serves, and enforces filters where that is configured, until `shutdown` is true. `mitigating` are the clients of whom
    /// a mitigation is active.
    pub async fn run(
        self,
        mitigating: watch::Receiver<BTreeSet<Cuid>>,
        shutdown: watch::Receiver<bool>,
    ) {
        let mut tasks = JoinSet::new();
        if let Some(settings) = self.settings.enforce {
            tasks.spawn(enforce(self.handle, settings, mitigating, shutdown.clone()));
        }
        tasks.spawn(self.server.run(shutdown));
        tasks.join_all().await;
    }
}
