use weir_flow_record::{Address, ColumnSet, FlowBatch, ReceivedAt};

use crate::error::{Declined, OpenError, Refusal};
use crate::headers::SampledHeaders;
use crate::kernel::{KernelSettings, Program};
use crate::layout::{Flow, FlowKey, Sample, Totals};
use crate::pnet::Datalink;
use crate::promiscuous::Promiscuous;
use crate::rows::{Observation, Skew, push_flow, push_sample};
use crate::settings::{Method, SamplerSettings};
use crate::tpacket::PacketRing;
use crate::user_side::UserSide;
use crate::{address, clock, interface};

/// Rows that one call appends at most: what a shard flushes at once.
const ROWS: usize = 1024;
/// Frames that one call takes in at most where they come whole.
pub(crate) const FRAMES: usize = 65_536;
/// Time between two drains of the flow table, in ns.
const DRAIN: i64 = 1_000_000_000;
const LARGEST_RATE: u32 = 1 << 30;

/// An interface whose packets are sampled. Dropping it, or the end of the process in whatever way, detaches it.
pub struct Sampler {
    settings: SamplerSettings,
    index: u32,
    address: Address,
    backend: Backend,
    declined: Vec<Declined>,
    _promiscuous: Option<Promiscuous>,
    /// Flows of the last drain that are not told yet.
    flows: Vec<(FlowKey, Flow)>,
    drained: i64,
    flow_rows: u64,
    flow_packets: u64,
}

enum Backend {
    Kernel(Method, Box<Program>),
    Ring(PacketRing, UserSide),
    Datalink(Datalink, UserSide),
}

impl Sampler {
    /// How many records one [`read`](Self::read) appends at most.
    pub const MOST_RECORDS: usize = ROWS;

    /// Opens an interface by the best method that works and is allowed.
    pub fn open(settings: &SamplerSettings) -> Result<Self, OpenError> {
        check(settings)?;
        let index = interface::index(&settings.interface)?;
        let mut declined = Vec::new();
        let mut permitted = false;
        for method in Method::ALL
            .into_iter()
            .filter(|method| settings.mode.allows(*method))
        {
            match Backend::open(method, index, settings) {
                Ok(backend) => return Ok(Self::new(settings, index, backend, declined)),
                Err(Refusal::Busy) if matches!(method, Method::Native | Method::Generic) => {
                    return Err(OpenError::Busy(settings.interface.clone()));
                }
                Err(refusal) => {
                    permitted |= !matches!(refusal, Refusal::NotPermitted);
                    let why = refusal.why().to_owned();
                    declined.push(Declined { method, why });
                }
            }
        }
        let interface = settings.interface.clone();
        if !permitted {
            return Err(OpenError::NotPermitted(interface));
        }
        let why: Vec<String> = declined.iter().map(Declined::told).collect();
        let why = why.join("; ");
        Err(OpenError::Nothing { interface, why })
    }

    fn new(
        settings: &SamplerSettings,
        index: u32,
        backend: Backend,
        declined: Vec<Declined>,
    ) -> Self {
        let by_xdp = matches!(backend, Backend::Kernel(..));
        let promiscuous = (by_xdp && settings.promiscuous).then(|| Promiscuous::join(index));
        let promiscuous = promiscuous.and_then(|joined| {
            joined
                .inspect_err(|error| {
                    tracing::warn!(interface = settings.interface, %error, "not promiscuous: frames for others are not seen");
                })
                .ok()
        });
        Self {
            index,
            address: address::of_interface(&settings.interface),
            backend,
            declined,
            _promiscuous: promiscuous,
            flows: Vec::new(),
            drained: i64::MIN,
            flow_rows: 0,
            flow_packets: 0,
            settings: settings.clone(),
        }
    }

    /// How packets are got at.
    pub fn method(&self) -> Method {
        match &self.backend {
            Backend::Kernel(method, _) => *method,
            Backend::Ring(..) => Method::Tpacket,
            Backend::Datalink(..) => Method::Pnet,
        }
    }

    /// Better methods, and why they did not work.
    pub fn declined(&self) -> &[Declined] {
        &self.declined
    }

    /// In one line: which interface, how, and why not better.
    pub fn story(&self) -> String {
        let what = if self.settings.exact {
            "all packets, by flow".to_owned()
        } else {
            format!("1 in {} packets", self.settings.sample_one_in)
        };
        let mut text = format!("{}: {}, {what}", self.settings.interface, self.method());
        for declined in &self.declined {
            text.push_str("; not ");
            text.push_str(&declined.told());
        }
        text
    }

    /// What it was opened by.
    pub fn settings(&self) -> &SamplerSettings {
        &self.settings
    }

    /// The interface's name.
    pub fn interface(&self) -> &str {
        &self.settings.interface
    }

    /// The interface's index.
    pub fn interface_index(&self) -> u32 {
        self.index
    }

    /// This host's address.
    pub fn address(&self) -> Address {
        self.address
    }

    /// What records carry: one in how many.
    pub fn sampling_rate(&self) -> u32 {
        if self.settings.exact {
            1
        } else {
            self.settings.sample_one_in
        }
    }

    /// Appends what was sampled since the last call, as one datagram of up to 1,024 records; how many. As long as it is so many,
    /// there may be more. `headers` gets the samples' first octets. Does not wait.
    pub fn read(
        &mut self,
        now: ReceivedAt,
        observation: &mut Observation,
        out: &mut FlowBatch,
        mut headers: Option<&mut SampledHeaders>,
    ) -> usize {
        let (first, skew) = (out.len(), Skew::now(now));
        let mut present = ColumnSet::NONE;
        let exact = self.settings.exact;
        self.backend.take(ROWS, |sample, octets| {
            let time = skew.wall(sample.time);
            if let Some(headers) = &mut headers {
                headers.push(time, sample.frame_octets, octets);
            }
            if !exact {
                present = present.with(push_sample(sample, octets, time, observation, out));
            }
        });
        if exact {
            present = present.with(self.read_flows(now, observation, skew, out));
        }
        observation.finish(now, first, present, out);
        out.len() - first
    }

    /// What was counted exactly.
    pub fn totals(&mut self) -> Totals {
        match &mut self.backend {
            Backend::Kernel(_, program) => program.totals(),
            Backend::Ring(ring, side) => {
                ring.count_drops(side, self.settings.sample_one_in);
                side.totals
            }
            Backend::Datalink(_, side) => side.totals,
        }
    }

    /// Records that should have come and did not, by what `totals` say: samples that the ring had no room for; in exact mode the
    /// flows that refused packets stand for, an estimate.
    pub fn lost_records(&self, totals: &Totals) -> u64 {
        if !self.settings.exact {
            return totals.ring_full;
        }
        let mean = self.flow_packets / self.flow_rows.max(1);
        totals.refused_packets.div_ceil(mean.max(1))
    }

    fn read_flows(
        &mut self,
        now: ReceivedAt,
        observation: &Observation,
        skew: Skew,
        out: &mut FlowBatch,
    ) -> ColumnSet {
        if self.flows.is_empty() && now.nanos() >= self.drained.saturating_add(DRAIN) {
            self.drained = now.nanos();
            let flows = &mut self.flows;
            if let Err(error) = self
                .backend
                .take_flows(|key, flow| flows.push((*key, *flow)))
            {
                tracing::warn!(%error, interface = self.settings.interface, "the flow table cannot be read");
            }
        }
        let mut present = ColumnSet::NONE;
        let rest = self.flows.len().saturating_sub(ROWS);
        for (key, flow) in self.flows.drain(rest..) {
            self.flow_rows += 1;
            self.flow_packets = self.flow_packets.saturating_add(flow.packets);
            present = present.with(push_flow(&key, &flow, skew, observation, out));
        }
        present
    }
}

impl Backend {
    fn open(method: Method, index: u32, settings: &SamplerSettings) -> Result<Self, Refusal> {
        let seed = || clock::monotonic().cast_unsigned();
        match method {
            Method::Native | Method::Generic => {
                let mut program = Program::load(&KernelSettings {
                    // In exact mode samples serve for their headers alone.
                    sample_one_in: if settings.exact && !settings.headers {
                        0
                    } else {
                        settings.sample_one_in
                    },
                    headers: settings.headers,
                    exact: settings.exact,
                    ring_octets: settings.ring_octets,
                    max_flows: settings.max_flows,
                })?;
                program.attach(index, method)?;
                Ok(Self::Kernel(method, Box::new(program)))
            }
            Method::Tpacket => {
                let ring = PacketRing::open(index, settings.ring_octets, settings.promiscuous)?;
                Ok(Self::Ring(ring, UserSide::new(settings, seed())))
            }
            Method::Pnet => {
                let datalink = Datalink::open(&settings.interface, settings.promiscuous)?;
                Ok(Self::Datalink(datalink, UserSide::new(settings, seed())))
            }
        }
    }

    /// Hands over up to `limit` samples.
    fn take(&mut self, limit: usize, mut each: impl FnMut(&Sample, &[u8])) {
        match self {
            Self::Kernel(_, program) => {
                program.take(limit, each);
            }
            Self::Ring(ring, side) => ring.take(limit, side, &mut each),
            Self::Datalink(datalink, side) => datalink.take(limit, side, &mut each),
        }
    }

    fn take_flows(&mut self, each: impl FnMut(&FlowKey, &Flow)) -> std::io::Result<()> {
        match self {
            Self::Kernel(_, program) => program.take_flows(each),
            Self::Ring(_, side) | Self::Datalink(_, side) => {
                side.take_flows(each);
                Ok(())
            }
        }
    }
}

impl Declined {
    fn told(&self) -> String {
        format!("{}: {}", self.method, self.why)
    }
}

fn check(settings: &SamplerSettings) -> Result<(), OpenError> {
    if !(1..=LARGEST_RATE).contains(&settings.sample_one_in) {
        return Err(OpenError::Settings(
            "one packet in 1 to 2^30 can be sampled",
        ));
    }
    if settings.ring_octets < 4096 || !settings.ring_octets.is_power_of_two() {
        return Err(OpenError::Settings(
            "the ring has a power of two of octets, at least 4096",
        ));
    }
    if settings.max_flows == 0 {
        return Err(OpenError::Settings(
            "the flow table has room for one flow at least",
        ));
    }
    Ok(())
}
