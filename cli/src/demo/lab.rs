//! The lab around the daemon: a simulated network whose router exports over loopback, and the filter in it.

use std::collections::{BTreeMap, VecDeque};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use weir_collector::wall_clock;
use weir_datasets::{Attack, LabMitigator, LabReport, LabScope, Network, Scenario};
use weir_dots_proto::body::{MitigationStatus, Scope};
use weir_dots_server::{MitigationId, Mitigator, MitigatorReport};
use weir_flow_record::{Address, Timestamp};

/// Without a drop for this long the attack counts as stopped.
const QUIET: Duration = Duration::from_secs(2);

/// The lab mitigator as a DOTS server knows one: what it says is what the filter in the network measured.
pub(crate) struct LabFilter {
    filter: LabMitigator,
    /// The newest report of each mitigation.
    told: BTreeMap<MitigationId, Option<MitigatorReport>>,
    ready: VecDeque<MitigatorReport>,
}

impl LabFilter {
    /// A server's hand on the filter.
    pub(crate) fn new(filter: LabMitigator) -> Self {
        Self {
            filter,
            told: BTreeMap::new(),
            ready: VecDeque::new(),
        }
    }

    fn measure(&mut self) {
        for (id, told) in &mut self.told {
            let Some(measured) = self.filter.report(id.0) else {
                continue;
            };
            let report = judged(*id, &measured);
            if *told != Some(report) {
                *told = Some(report);
                self.ready.push_back(report);
            }
        }
    }
}

impl Mitigator for LabFilter {
    fn apply(&mut self, id: MitigationId, scope: &Scope) {
        let ranges = scope.target_port_range.iter();
        self.filter.apply(
            id.0,
            LabScope {
                prefixes: scope.target_prefix.clone(),
                port_ranges: ranges
                    .map(|range| range.lower_port..=range.upper_port.unwrap_or(range.lower_port))
                    .collect(),
                protocols: scope.target_protocol.clone(),
            },
        );
        self.told.insert(id, None);
    }

    fn withdraw(&mut self, id: MitigationId) {
        self.filter.withdraw(id.0);
        self.told.remove(&id);
    }

    fn poll_report(&mut self) -> Option<MitigatorReport> {
        if self.ready.is_empty() {
            self.measure();
        }
        self.ready.pop_front()
    }
}

/// Status 1 until something is dropped, 2 while something is, 3 once nothing has been for a while.
fn judged(id: MitigationId, measured: &LabReport) -> MitigatorReport {
    let status = if measured.bytes_dropped == 0 {
        MitigationStatus::AttackMitigationInProgress
    } else if measured.quiet_for < QUIET {
        MitigationStatus::AttackSuccessfullyMitigated
    } else {
        MitigationStatus::AttackStopped
    };
    MitigatorReport {
        id,
        status,
        bytes_dropped: measured.bytes_dropped,
        packets_dropped: measured.packets_dropped,
        bytes_per_second_dropped: measured.bytes_per_second,
        packets_per_second_dropped: measured.packets_per_second,
    }
}

/// The simulated network in real time: a thread that lets it step and sends what its router exports.
pub(crate) struct Traffic {
    network: Arc<Mutex<Network>>,
    target: Address,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Traffic {
    /// Starts normal traffic, exported to `collector`.
    pub(crate) fn start(
        seed: u64,
        collector: SocketAddr,
        mut filter: LabMitigator,
    ) -> anyhow::Result<Self> {
        let scenario = Scenario::lab(seed, Timestamp::from_nanos(wall_clock()));
        let target = scenario
            .host(0, 3)
            .context("the scenario has no host to attack")?;
        let network = Arc::new(Mutex::new(Network::new(scenario)?));
        let socket = UdpSocket::bind(("127.0.0.1", 0)).context("there is no loopback")?;
        socket.connect(collector)?;
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new()
            .name("weir-lab".to_owned())
            .spawn({
                let (network, stop) = (Arc::clone(&network), Arc::clone(&stop));
                move || {
                    while !stop.load(Ordering::Relaxed) {
                        std::thread::sleep(Duration::from_millis(20));
                        let mut network = network.lock().unwrap_or_else(PoisonError::into_inner);
                        network.handle_step(Timestamp::from_nanos(wall_clock()), &mut filter);
                        while let Some((_, datagram)) = network.poll_datagram() {
                            // A refused datagram is one lost on the way.
                            let _ = socket.send(&datagram);
                        }
                    }
                }
            })?;
        Ok(Self {
            network,
            target,
            stop,
            thread,
        })
    }

    /// Begins the lab's attack, and says what it is.
    pub(crate) fn attack(&self, duration: Duration) -> String {
        let attack = Attack::lab(self.target, Timestamp::from_nanos(wall_clock()), duration);
        let vectors: Vec<String> = attack
            .vectors
            .iter()
            .map(|vector| {
                format!(
                    "{} with {} packets/s",
                    vector.vector, vector.packets_per_second
                )
            })
            .collect();
        let mut network = self.network.lock().unwrap_or_else(PoisonError::into_inner);
        match network.handle_attack(attack) {
            Ok(()) => format!(
                "ATTACK on {} for {} s: {}",
                self.target,
                duration.as_secs(),
                vectors.join(", ")
            ),
            Err(error) => format!("the attack does not start: {error}"),
        }
    }

    /// Ends the traffic.
    pub(crate) fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.join();
    }
}
