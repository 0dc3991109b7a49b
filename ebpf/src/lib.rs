//! The packet sampler: packets of an interface in, flow records in a [`FlowBatch`](weir_flow_record::FlowBatch) out.
//!
//! An XDP program ([`src/bpf`](https://docs.kernel.org/bpf/)) counts every packet, hands one in N to user space through a ring,
//! and, in exact mode, counts all packets by flow. Where XDP is not to be had, the same comes from a packet ring
//! (`TPACKET_V3`), and where there is none, from `pnet`'s datalink: see [`Method`].
//!
//! ```no_run
//! use weir_ebpf::{Observation, Sampler, SamplerSettings};
//! use weir_flow_record::{FlowBatch, ReceivedAt};
//!
//! let mut sampler = Sampler::open(&SamplerSettings { interface: "eth0".into(), ..SamplerSettings::default() })?;
//! eprintln!("{}", sampler.story());
//! weir_ebpf::capability::drop_all()?;
//! let mut batch = FlowBatch::default();
//! let mut observation = Observation::of(&sampler);
//! loop {
//!     let now = ReceivedAt::from_nanos(weir_ebpf::clock::wall());
//!     sampler.read(now, &mut observation, &mut batch, None);
//!     // … use the batch …
//!     batch.clear();
//!     std::thread::sleep(std::time::Duration::from_millis(2));
//! }
//! # #[allow(unreachable_code)] Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The kernel program
//!
//! The object is committed, stripped, with its SHA-256: whoever builds Weir needs no clang. `src/bpf/build.sh` makes it with
//! clang 14, the same octets in any folder, and a test does so and compares. It needs Linux 5.19: `bpf_xdp_load_bytes`,
//! and counters that can be read once privileges are given up.
//! It looks at the first 128 octets of a frame.
//!
//! # Parsing
//!
//! The program parses what it samples. [`parse`] does the same in user space, with `weir-packet`, for the other methods and for
//! `weir replay --as packets`; a test holds both together, field by field, on whole captures. `pnet_packet` is not used for
//! that: its views want whole headers (of a TCP header cut after the ports nothing is told), know neither the ninth TCP flag
//! nor MPLS, PPPoE and the chain of IPv6 extension headers, and each layer is chosen by hand. Where it does tell, a test
//! compares it with this parser.
//!
//! # What it does not see
//!
//! Packets that leave the interface. VLAN tags that the network card takes off (`ethtool -K IF rxvlan off` leaves them).
//! In generic mode and behind it, packets that the card or the kernel has merged count as one: octets are right then,
//! packets too few.

pub mod address;
mod attach;
pub mod capability;
pub mod clock;
mod error;
mod exact;
mod headers;
mod interface;
mod kernel;
mod kernel_log;
mod layout;
mod parser;
mod pnet;
mod promiscuous;
mod rows;
mod sampler;
mod settings;
mod tpacket;
mod user_side;

pub use error::{Declined, OpenError};
pub use headers::SampledHeaders;
pub use kernel::{KernelSettings, Program};
pub use layout::{Flow, FlowKey, HEADERS, Sample, Totals};
pub use parser::{parse, parse_link};
pub use rows::{Observation, push_sample};
pub use sampler::Sampler;
pub use settings::{Method, Mode, SamplerSettings};
