use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use weir_flow_record::{Address, ExportProtocol};

use crate::tables::SessionKey;
use crate::template::Template;

/// A change of what must survive a restart. The owner stores it under [`StateChange::key`], replacing what stood there, and
/// gives all of it back through [`Decoder::restore`](crate::Decoder::restore).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum StateChange {
    /// A template was defined or redefined.
    Template {
        /// Exporter.
        exporter: IpAddr,
        /// Its UDP port.
        port: u16,
        /// Its observation domain.
        domain: u32,
        /// The template's id, at least 256.
        id: u16,
        /// What records of it look like.
        template: TemplateDefinition,
    },
    /// A template is gone: forget what is stored under the same key.
    Withdrawn {
        /// Exporter.
        exporter: IpAddr,
        /// Its UDP port.
        port: u16,
        /// Its observation domain.
        domain: u32,
        /// The template's id.
        id: u16,
        /// Whether it was a template of NetFlow v9.
        netflow_v9: bool,
    },
    /// A sampler's rate was stated or changed, or (rate 0) the sampler gave way to another and is to be forgotten.
    SamplingRate {
        /// Exporter.
        exporter: IpAddr,
        /// Its observation domain.
        domain: u32,
        /// Which sampler; `None`: the rate holds for the whole domain.
        sampler: Option<u64>,
        /// One in how many packets; 0 = forgotten.
        rate: u32,
    },
    /// The exporter stated when it started (IE 160), which relative times of IPFIX records count from.
    SystemInit {
        /// Exporter.
        exporter: IpAddr,
        /// Its observation domain.
        domain: u32,
        /// Milliseconds since 1970-01-01 UTC, by the exporter's clock.
        milliseconds: u64,
    },
    /// Where a session's sequence stood: what is lost while nobody listens is told after a restart. Not polled as a change, but
    /// asked for now and then: see [`Decoder::sequences`](crate::Decoder::sequences).
    Sequence {
        /// Exporter.
        exporter: IpAddr,
        /// Its UDP port.
        port: u16,
        /// Its observation domain.
        domain: u32,
        /// What stood in the newest datagram.
        sequence: SequenceState,
    },
}

/// What the newest datagram of a session said of its place in the sequence.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SequenceState {
    /// The version of its protocol: 1, 5, 7, 9 or 10.
    pub version: u16,
    /// What the exporter was found to count: 0 data records, 1 flow records, 2 datagrams.
    pub counts: u8,
    /// The header's sequence number.
    pub number: u32,
    /// The data records that followed it; `None` where they could not be counted.
    pub records: Option<u32>,
    /// Of those, options data.
    pub options: u32,
    /// sysUpTime in ms.
    pub uptime: Option<u32>,
    /// The exporter's clock, ns.
    pub export_time: i64,
}

/// The wire form of a template.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TemplateDefinition {
    /// Whether it came by NetFlow v9, which has neither enterprise numbers nor variable lengths.
    pub netflow_v9: bool,
    /// How many of the first fields are the scope; `None` for flow records.
    pub scope_fields: Option<u16>,
    /// All fields in their order, the scope first.
    pub fields: Vec<FieldSpecifier>,
}

/// RFC 7011 §3.2.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct FieldSpecifier {
    /// The information element; in the scope of a v9 options template, the scope type.
    pub element: u16,
    /// Octets; 65,535 = variable (IPFIX).
    pub length: u16,
    /// Whose element: 0 = IANA's.
    pub enterprise: u32,
}

impl StateChange {
    /// What the change is about: text that sorts by exporter and domain. A later change with the same key replaces this one.
    pub fn key(&self) -> Vec<u8> {
        let text = match self {
            Self::Template {
                exporter,
                port,
                domain,
                id,
                template: TemplateDefinition { netflow_v9, .. },
            }
            | Self::Withdrawn {
                exporter,
                port,
                domain,
                id,
                netflow_v9,
            } => {
                let version = if *netflow_v9 { 9 } else { 10 };
                format!("{exporter}/{domain}/template/{version}/{port}/{id}")
            }
            Self::SamplingRate {
                exporter,
                domain,
                sampler: Some(sampler),
                ..
            } => format!("{exporter}/{domain}/sampler/{sampler}"),
            Self::SamplingRate {
                exporter, domain, ..
            } => format!("{exporter}/{domain}/sampler"),
            Self::SystemInit {
                exporter, domain, ..
            } => format!("{exporter}/{domain}/system-init"),
            Self::Sequence {
                exporter,
                port,
                domain,
                sequence,
            } => format!("{exporter}/{domain}/sequence/{}/{port}", sequence.version),
        };
        text.into_bytes()
    }

    /// Whose state it is.
    pub fn exporter(&self) -> IpAddr {
        match self {
            Self::Template { exporter, .. }
            | Self::Withdrawn { exporter, .. }
            | Self::SamplingRate { exporter, .. }
            | Self::SystemInit { exporter, .. }
            | Self::Sequence { exporter, .. } => *exporter,
        }
    }

    /// Whether what is stored under [`key`](Self::key) is to be forgotten.
    pub fn is_removal(&self) -> bool {
        matches!(
            self,
            Self::Withdrawn { .. } | Self::SamplingRate { rate: 0, .. }
        )
    }
}

/// Changes that wait to be polled, and the fields they may hold together.
const MOST_CHANGES: usize = 65_536;
const MOST_FIELDS: usize = 1 << 20;

enum Pending {
    Template(SessionKey, u16, Arc<Template>),
    Withdrawn(SessionKey, u16),
    SamplingRate(Address, u32, Option<u64>, u32),
    SystemInit(Address, u32, u64),
}

/// The queue of changes.
#[derive(Default)]
pub(crate) struct Changes {
    queue: VecDeque<Pending>,
    fields: usize,
    pub(crate) dropped: u64,
}

impl Changes {
    pub(crate) fn template(&mut self, key: SessionKey, id: u16, template: &Arc<Template>) {
        let fields = template.definition.fields.len();
        if self.fields + fields > MOST_FIELDS {
            self.dropped += 1;
        } else if self.push(Pending::Template(key, id, Arc::clone(template))) {
            self.fields += fields;
        }
    }

    pub(crate) fn withdrawn(&mut self, key: SessionKey, id: u16) {
        self.push(Pending::Withdrawn(key, id));
    }

    pub(crate) fn sampling_rate(
        &mut self,
        address: Address,
        domain: u32,
        sampler: Option<u64>,
        rate: u32,
    ) {
        self.push(Pending::SamplingRate(address, domain, sampler, rate));
    }

    pub(crate) fn system_init(&mut self, address: Address, domain: u32, milliseconds: u64) {
        self.push(Pending::SystemInit(address, domain, milliseconds));
    }

    fn push(&mut self, change: Pending) -> bool {
        let room = self.queue.len() < MOST_CHANGES;
        if room {
            self.queue.push_back(change);
        } else {
            self.dropped += 1;
        }
        room
    }

    pub(crate) fn poll(&mut self) -> Option<StateChange> {
        Some(match self.queue.pop_front()? {
            Pending::Template(key, id, template) => {
                self.fields -= template.definition.fields.len();
                StateChange::Template {
                    exporter: key.address.ip(),
                    port: key.port,
                    domain: key.domain,
                    id,
                    template: template.definition.clone(),
                }
            }
            Pending::Withdrawn(key, id) => StateChange::Withdrawn {
                exporter: key.address.ip(),
                port: key.port,
                domain: key.domain,
                id,
                netflow_v9: key.protocol == ExportProtocol::NetflowV9,
            },
            Pending::SamplingRate(address, domain, sampler, rate) => StateChange::SamplingRate {
                exporter: address.ip(),
                domain,
                sampler,
                rate,
            },
            Pending::SystemInit(address, domain, milliseconds) => StateChange::SystemInit {
                exporter: address.ip(),
                domain,
                milliseconds,
            },
        })
    }
}
