use std::io;
use std::os::fd::{AsFd, AsRawFd};

use aya::maps::{Map, MapData};
use bytemuck::{Pod, Zeroable};

use crate::layout::{Flow, FlowKey};

/// Flows that are read and removed by one call: more than any hash bucket holds.
const BATCH: usize = 4096;
const BPF_MAP_LOOKUP_AND_DELETE_BATCH: libc::c_long = 25;

/// The flow table of the kernel program. aya has no batches, and takes nine times as long flow by flow.
pub(crate) struct KernelFlows {
    map: MapData,
    cpus: usize,
    keys: Vec<FlowKey>,
    /// For each key a value per possible CPU.
    values: Vec<Flow>,
}

/// `union bpf_attr` of the batch calls (include/uapi/linux/bpf.h).
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct BatchAttributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

impl KernelFlows {
    pub(crate) fn new(map: Map) -> io::Result<Self> {
        let Map::PerCpuHashMap(map) = map else {
            return Err(io::Error::other("the flow table is no per-CPU hash table"));
        };
        let cpus = aya::util::nr_cpus().map_err(|(_, error)| error)?;
        Ok(Self {
            map,
            cpus,
            keys: Vec::new(),
            values: Vec::new(),
        })
    }

    /// Removes all flows and hands them over, each summed over the CPUs. What another CPU counts for a flow in the instant of its
    /// removal is lost: at most a packet per CPU and flow.
    pub(crate) fn drain(&mut self, mut each: impl FnMut(&FlowKey, &Flow)) -> io::Result<()> {
        self.keys.resize(BATCH, FlowKey::zeroed());
        self.values.resize(BATCH * self.cpus, Flow::default());
        let mut position = None;
        loop {
            let (count, next) = self.take_batch(position)?;
            for (key, values) in self
                .keys
                .iter()
                .zip(self.values.chunks(self.cpus))
                .take(count)
            {
                let mut sum = Flow::default();
                for value in values {
                    sum.add(value);
                }
                if sum.packets > 0 {
                    each(key, &sum);
                }
            }
            match next {
                Some(next) => position = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// One call: how many flows it removed, and where to go on; `None` at the end.
    fn take_batch(&mut self, position: Option<u32>) -> io::Result<(usize, Option<u32>)> {
        let start = position.unwrap_or(0);
        let mut next = 0_u32;
        let mut attributes = BatchAttributes {
            in_batch: position.map_or(0, |_| &raw const start as u64),
            out_batch: &raw mut next as u64,
            keys: self.keys.as_mut_ptr() as u64,
            values: self.values.as_mut_ptr() as u64,
            count: BATCH as u32,
            map_fd: self.map.fd().as_fd().as_raw_fd() as u32,
            ..BatchAttributes::zeroed()
        };
        // SAFETY: the attributes are those of this command, and all pointers in them are good for the call: `keys` has room for
        // BATCH keys, `values` for BATCH × CPUs values of the map's value size (a multiple of 8), both written by the kernel alone.
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                BPF_MAP_LOOKUP_AND_DELETE_BATCH,
                &raw mut attributes,
                size_of::<BatchAttributes>(),
            )
        };
        let count = (attributes.count as usize).min(BATCH);
        if result == 0 {
            return Ok((count, Some(next)));
        }
        match io::Error::last_os_error() {
            // The end; what was read counts.
            error if error.raw_os_error() == Some(libc::ENOENT) => Ok((count, None)),
            error => Err(error),
        }
    }
}
