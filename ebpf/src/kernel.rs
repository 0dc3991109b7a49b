use std::error::Error;
use std::io;
use std::time::Duration;

use aya::maps::{Map, MapData, PerCpuArray, RingBuf};
use aya::programs::links::FdLink;
use aya::programs::{TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};

use crate::attach;
use crate::error::Refusal;
use crate::exact::KernelFlows;
use crate::kernel_log::KernelLog;
use crate::layout::{Flow, FlowKey, Sample, Totals};
use crate::settings::Method;

static OBJECT: &[u8] = aya::include_bytes_aligned!("bpf/sampler.bpf.o");

/// What the program is set to when it is loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KernelSettings {
    /// One in how many packets goes to the ring; 0 = none.
    pub sample_one_in: u32,
    /// Samples carry the frame's first octets.
    pub headers: bool,
    /// All packets are counted by flow.
    pub exact: bool,
    /// A power of two.
    pub ring_octets: u32,
    /// Bound of the flow table.
    pub max_flows: u32,
}

/// The program in the kernel, attached to an interface or not. When it is dropped, or the process dies in whatever way, nothing
/// of it stays.
pub struct Program {
    ebpf: Ebpf,
    ring: RingBuf<MapData>,
    totals: PerCpuArray<MapData, Totals>,
    flows: KernelFlows,
    log: Option<KernelLog>,
    link: Option<FdLink>,
}

impl Program {
    /// Loads it; it needs `CAP_BPF`, `CAP_PERFMON` and `CAP_NET_ADMIN`.
    pub fn load(settings: &KernelSettings) -> io::Result<Self> {
        let (headers, exact) = (u8::from(settings.headers), u8::from(settings.exact));
        let mut ebpf = EbpfLoader::new()
            .override_global("sample_one_in", &settings.sample_one_in, true)
            .override_global("with_headers", &headers, true)
            .override_global("exact", &exact, true)
            .map_max_entries("SAMPLES", settings.ring_octets)
            .map_max_entries(
                "FLOWS",
                if settings.exact {
                    settings.max_flows
                } else {
                    1
                },
            )
            .load(OBJECT)
            .map_err(flat)?;
        for name in ["sampler", "empty"] {
            program(&mut ebpf, name)?.load().map_err(flat)?;
        }
        let flows = KernelFlows::new(map(&mut ebpf, "FLOWS")?)?;
        Ok(Self {
            ring: RingBuf::try_from(map(&mut ebpf, "SAMPLES")?).map_err(flat)?,
            totals: PerCpuArray::try_from(map(&mut ebpf, "TOTALS")?).map_err(flat)?,
            flows,
            log: KernelLog::open(&mut ebpf),
            ebpf,
            link: None,
        })
    }

    /// Attaches it to the interface of this index, in the driver or in the stack.
    pub(crate) fn attach(&mut self, index: u32, method: Method) -> Result<(), Refusal> {
        self.link = Some(attach::attach(
            program(&mut self.ebpf, "sampler")?,
            index,
            method,
        )?);
        Ok(())
    }

    /// Hands over up to `limit` samples, each with the frame's first octets if those are wanted; how many.
    pub fn take(&mut self, limit: usize, mut each: impl FnMut(&Sample, &[u8])) -> usize {
        let mut taken = 0;
        while taken < limit
            && let Some(item) = self.ring.next()
        {
            taken += 1;
            if let Some((head, headers)) = item.split_first_chunk::<{ size_of::<Sample>() }>() {
                let sample: Sample = bytemuck::pod_read_unaligned(head);
                let headers = headers
                    .get(..usize::from(sample.headers))
                    .unwrap_or(headers);
                each(&sample, headers);
            }
        }
        taken
    }

    /// Empties the flow table.
    pub fn take_flows(&mut self, each: impl FnMut(&FlowKey, &Flow)) -> io::Result<()> {
        self.flows.drain(each)
    }

    /// What was counted, over all CPUs; also brings the program's log lines to ours.
    pub fn totals(&mut self) -> Totals {
        if let Some(log) = &mut self.log {
            log.flush();
        }
        let Ok(values) = self.totals.get(&0, 0) else {
            return Totals::default();
        };
        values
            .iter()
            .fold(Totals::default(), |sum, part| sum.plus(part))
    }

    /// Runs it `repeat` times over one frame of at least 14 octets without any interface; the mean time of one run. `name`:
    /// `sampler`, or `empty` to compare with.
    pub fn test_run(&mut self, name: &str, frame: &[u8], repeat: u32) -> io::Result<Duration> {
        let options = TestRunOptions {
            data_in: Some(frame),
            repeat,
            ..TestRunOptions::default()
        };
        let result = program(&mut self.ebpf, name)?
            .test_run(options)
            .map_err(flat)?;
        Ok(result.duration)
    }
}

fn program<'e>(ebpf: &'e mut Ebpf, name: &str) -> io::Result<&'e mut Xdp> {
    let program = ebpf.program_mut(name);
    let program = program.ok_or_else(|| io::Error::other("the object lacks a program"))?;
    program.try_into().map_err(flat)
}

fn map(ebpf: &mut Ebpf, name: &str) -> io::Result<Map> {
    let map = ebpf.take_map(name);
    map.ok_or_else(|| io::Error::other("the object lacks a map"))
}

/// An error as the system's, if one is at the bottom of it; a verifier's log is many lines and goes to the debug log.
pub(crate) fn flat(error: impl Error + Send + Sync + 'static) -> io::Error {
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(this) = cause {
        if let Some(code) = this
            .downcast_ref::<io::Error>()
            .and_then(io::Error::raw_os_error)
        {
            tracing::debug!(%error, "the kernel refused");
            return io::Error::from_raw_os_error(code);
        }
        cause = this.source();
    }
    io::Error::other(error.to_string())
}
