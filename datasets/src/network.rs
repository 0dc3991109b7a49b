use std::time::Duration;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use weir_flow_record::{Timestamp, Vector};

use crate::assault::Assault;
use crate::crowd::Crowd;
use crate::router::Router;
use crate::{Attack, Label, Scenario, ScenarioError, Traffic, TrafficFilter};

/// The longest step.
const STEP: Duration = Duration::from_millis(100);

/// The simulated network.
pub struct Network {
    scenario: Scenario,
    rng: ChaCha8Rng,
    now: Timestamp,
    crowd: Crowd,
    assaults: Vec<Assault>,
    router: Router,
    traffic: Vec<Traffic>,
    totals: Totals,
}

/// What was simulated so far.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Totals {
    /// Packets sent, both ways.
    pub sent_packets: u64,
    /// Octets sent.
    pub sent_octets: u64,
    /// Packets that the filter let pass.
    pub passed_packets: u64,
    /// Octets that the filter let pass.
    pub passed_octets: u64,
    /// Packets that the router sampled.
    pub sampled_packets: u64,
    /// Octets that the router sampled.
    pub sampled_octets: u64,
    /// Flow records exported.
    pub records: u64,
}

impl Network {
    /// A network at its scenario's start.
    pub fn new(scenario: Scenario) -> Result<Self, ScenarioError> {
        scenario.check()?;
        let mut rng = ChaCha8Rng::seed_from_u64(scenario.seed);
        let mut network = Self {
            now: scenario.start,
            crowd: Crowd::new(&scenario, &mut rng),
            assaults: Vec::new(),
            router: Router::new(&scenario),
            traffic: Vec::new(),
            totals: Totals::default(),
            scenario,
            rng,
        };
        for attack in network.scenario.attacks.clone() {
            network.handle_attack(attack)?;
        }
        Ok(network)
    }

    /// The time up to which it has been simulated.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// What is simulated.
    pub fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// What was simulated so far.
    pub fn totals(&self) -> Totals {
        Totals {
            sampled_packets: self.router.sampled_packets,
            sampled_octets: self.router.sampled_octets,
            records: self.router.records,
            ..self.totals
        }
    }

    /// Adds an attack; what of it lies in the past is not sent.
    pub fn handle_attack(&mut self, mut attack: Attack) -> Result<(), ScenarioError> {
        self.scenario.check_attack(&attack)?;
        let end = attack.end();
        attack.start = attack.start.max(self.now);
        attack.duration = end.since(attack.start);
        self.assaults
            .push(Assault::new(attack, &self.scenario.prefixes, &mut self.rng));
        Ok(())
    }

    /// Ends attacks that run, now.
    pub fn handle_attack_stop(&mut self) {
        for assault in &mut self.assaults {
            let attack = &mut assault.attack;
            attack.duration = attack.duration.min(self.now.since(attack.start));
        }
    }

    /// Simulates until `until`, to within a step; then [`poll_datagram`](Self::poll_datagram).
    pub fn handle_step(&mut self, until: Timestamp, filter: &mut dyn TrafficFilter) {
        loop {
            let to = self.step_end();
            if to > until {
                return;
            }
            self.step(to, filter);
        }
    }

    /// Exports all flows that the router still holds; then [`poll_datagram`](Self::poll_datagram).
    pub fn handle_stop(&mut self) {
        self.router.handle_stop(self.now);
    }

    /// The next export datagram and when the router sends it.
    #[must_use]
    pub fn poll_datagram(&mut self) -> Option<(Timestamp, Vec<u8>)> {
        self.router.poll_datagram()
    }

    /// When the next step ends: wake then.
    pub fn poll_timeout(&self) -> Timestamp {
        self.step_end()
    }

    /// The truth about attacks, those to come included; in order of their start.
    pub fn labels(&self) -> Vec<Label> {
        let mut labels: Vec<Label> = self
            .assaults
            .iter()
            .map(|assault| label(&assault.attack))
            .collect();
        labels.sort_by_key(|label| {
            (
                label.start,
                label.target,
                label.attack.map(Vector::attack_id),
            )
        });
        labels
    }

    /// Steps end at multiples of 100 ms after the start, and where an attack begins or ends.
    fn step_end(&self) -> Timestamp {
        let done = self.now.since(self.scenario.start).as_nanos() / STEP.as_nanos();
        let next = i64::try_from((done + 1) * STEP.as_nanos()).unwrap_or(i64::MAX);
        let grid = Timestamp::from_nanos(self.scenario.start.nanos().saturating_add(next));
        let edges = self
            .assaults
            .iter()
            .flat_map(|assault| [assault.attack.start, assault.attack.end()]);
        edges
            .filter(|edge| *edge > self.now)
            .fold(grid, Timestamp::min)
    }

    fn step(&mut self, to: Timestamp, filter: &mut dyn TrafficFilter) {
        let (from, length) = (self.now, to.since(self.now));
        self.traffic.clear();
        self.crowd
            .generate(&mut self.rng, length, &mut self.traffic);
        for assault in self
            .assaults
            .iter()
            .filter(|assault| assault.is_active(from, to))
        {
            assault.generate(&mut self.rng, length, &mut self.traffic);
        }
        let (packets, octets) = sums(&self.traffic);
        self.totals.sent_packets += packets;
        self.totals.sent_octets += octets;
        filter.filter(to, &mut self.traffic);
        let (packets, octets) = sums(&self.traffic);
        self.totals.passed_packets += packets;
        self.totals.passed_octets += octets;
        self.router.handle_step(from, to, &self.traffic);
        self.now = to;
    }
}

fn label(attack: &Attack) -> Label {
    Label {
        start: attack.start,
        end: attack.end(),
        target: attack.target.host(),
        attack: Some(attack.name()),
    }
}

fn sums(traffic: &[Traffic]) -> (u64, u64) {
    traffic.iter().fold((0, 0), |(packets, octets), one| {
        (packets + one.packets, octets + one.octets)
    })
}
