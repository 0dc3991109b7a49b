use std::sync::{Mutex, MutexGuard, PoisonError};

use weir_dtls::{Listener, Validity};

use crate::MitigatorFigures;
use crate::streams::Streams;

/// What a server's transports count.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct TransportFigures {
    /// Until when certificates and revocation lists are good.
    pub validity: Validity,
    /// How often their files were read again.
    pub reloads: u64,
    /// How often that failed, and what was there before was kept.
    pub failed_reloads: u64,
    /// Sessions and handshakes that stand, over UDP.
    pub datagram_sessions: u64,
    /// Connections that stand, over TCP.
    pub stream_sessions: u64,
    /// Sessions that came about.
    pub connected: u64,
    /// Handshakes that failed.
    pub failed: u64,
    /// Handshakes that found no room.
    pub refused: u64,
    /// ClientHellos without a valid cookie, of which a few belong to each session.
    pub unverified: u64,
    /// Telemetry that gave way to newer because its client had too much of it.
    pub forgotten_telemetry: u64,
    /// What clients said of attacks that gave way to newer because there was too much of it.
    pub forgotten_reports: u64,
}

impl TransportFigures {
    /// Takes the counters as they stand.
    pub(crate) fn count<'l>(
        &mut self,
        listeners: impl Iterator<Item = &'l Listener>,
        streams: &Streams,
    ) {
        let over_streams = streams.counters();
        self.stream_sessions = streams.len() as u64;
        self.connected = over_streams.connected;
        self.failed = over_streams.failed;
        self.refused = over_streams.refused;
        self.datagram_sessions = 0;
        self.unverified = 0;
        for listener in listeners {
            let counters = listener.counters();
            self.datagram_sessions += listener.associations() as u64;
            self.connected += counters.connected;
            self.failed += counters.failed;
            self.refused += counters.refused;
            self.unverified += counters.unverified;
        }
    }
}

/// The figures of a server that runs, for others to look at.
#[derive(Debug, Default)]
pub struct TransportView(Mutex<(TransportFigures, Vec<MitigatorFigures>)>);

impl TransportView {
    /// The figures as they stand.
    #[must_use]
    pub fn figures(&self) -> TransportFigures {
        self.lock().0
    }

    /// What the back ends of its mitigator have done, about a second ago at most.
    #[must_use]
    pub fn mitigators(&self) -> Vec<MitigatorFigures> {
        self.lock().1.clone()
    }

    pub(crate) fn set(&self, figures: TransportFigures) {
        self.lock().0 = figures;
    }

    pub(crate) fn set_mitigators(&self, mitigators: Vec<MitigatorFigures>) {
        self.lock().1 = mitigators;
    }

    fn lock(&self) -> MutexGuard<'_, (TransportFigures, Vec<MitigatorFigures>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
