//! From a domain to addresses: NAPTR (RFC 3958), PTR (RFC 6763), SRV (RFC 2782), and A or AAAA at their ends.

use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::rdata::{NAPTR, SRV};
use hickory_resolver::proto::rr::{Name, RData, RecordType};

use super::lookup::Lookups;
use super::weigh::weighed;
use super::{Channel, Endpoint};

/// NAPTR records that lead to NAPTR records, one after the other.
const MAX_DEPTH: u32 = 5;
/// Instances of a service that are looked at.
const MAX_INSTANCES: usize = 16;
/// Ways that are kept.
const MAX_ENDPOINTS: usize = 32;
/// Application service tag (RFC 8973 §9.4.1).
const SERVICE: &str = "DOTS";

/// A step of a walk.
#[derive(Clone, PartialEq, Debug)]
struct Step {
    lead: Lead,
    to: Name,
    channels: Vec<Channel>,
    depth: u32,
}

/// What is to be looked up next, by the flags of a NAPTR record (RFC 3958 §6.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Lead {
    /// `""`: more NAPTR records.
    Rules,
    /// `"s"`: SRV records.
    Services,
    /// `"a"`: addresses.
    Host,
}

/// What a walk through the DNS has found.
pub(super) struct Walk<'l> {
    lookups: &'l Lookups,
    endpoints: Vec<Endpoint>,
    /// Ranks given, by channel.
    ranks: [u16; Channel::ALL.len()],
}

impl<'l> Walk<'l> {
    pub(super) fn new(lookups: &'l Lookups) -> Self {
        Self {
            lookups,
            endpoints: Vec::new(),
            ranks: [0; Channel::ALL.len()],
        }
    }

    pub(super) fn into_endpoints(self) -> Vec<Endpoint> {
        self.endpoints
    }

    /// RFC 8973 §6: all that the domain's NAPTR records lead to, in their order.
    pub(super) async fn s_naptr(&mut self, domain: &Name) -> Result<(), NetError> {
        // The next step is the last one.
        let mut steps = vec![Step {
            lead: Lead::Rules,
            to: domain.clone(),
            channels: Channel::ALL.to_vec(),
            depth: 0,
        }];
        while let Some(step) = steps.pop() {
            match step.lead {
                Lead::Rules if step.depth > MAX_DEPTH => {
                    tracing::warn!(%domain, "NAPTR records without end");
                }
                Lead::Rules => {
                    let records = if step.depth == 0 {
                        self.lookups.records(&step.to, RecordType::NAPTR).await?
                    } else {
                        let records = self.lookups.records_if_any(&step.to, RecordType::NAPTR);
                        records.await
                    };
                    steps.extend(rules(records, &step).into_iter().rev());
                }
                Lead::Services => self.services(&step.to, &step.channels).await,
                Lead::Host => self.host(&step.to, &step.channels).await,
            }
        }
        Ok(())
    }

    /// RFC 8973 §7: all instances of each service.
    pub(super) async fn dns_sd(&mut self, domain: &Name) -> Result<(), NetError> {
        let mut answered = false;
        for channel in Channel::ALL {
            let Ok(service) = Name::from_ascii(channel.service())
                .and_then(|service| service.append_domain(domain))
            else {
                continue;
            };
            let records = if answered {
                self.lookups.records_if_any(&service, RecordType::PTR).await
            } else {
                self.lookups.records(&service, RecordType::PTR).await?
            };
            answered = true;
            let mut instances: Vec<Name> = records
                .into_iter()
                .filter_map(|data| match data {
                    RData::PTR(to) => Some(to.0),
                    _ => None,
                })
                .filter(|instance| service.zone_of(instance) && *instance != service)
                .collect();
            instances.sort();
            instances.dedup();
            let mut services = Vec::new();
            for instance in instances.iter().take(MAX_INSTANCES) {
                let records = self.lookups.records_if_any(instance, RecordType::SRV);
                services.extend(records.await.into_iter().filter_map(as_service));
            }
            self.servers(services, channel).await;
        }
        Ok(())
    }

    async fn services(&mut self, name: &Name, channels: &[Channel]) {
        for channel in channels {
            let records = self.lookups.records_if_any(name, RecordType::SRV).await;
            let services = records.into_iter().filter_map(as_service).collect();
            self.servers(services, *channel).await;
        }
    }

    async fn host(&mut self, host: &Name, channels: &[Channel]) {
        for channel in channels {
            let rank = self.next_rank(*channel);
            self.keep(host, *channel, channel.port(), rank).await;
        }
    }

    /// Hosts of SRV records: by priority, and among equals by weight and lot.
    async fn servers(&mut self, services: Vec<SRV>, channel: Channel) {
        let mut priority = None;
        let mut rank = 0;
        for service in weighed(services) {
            if priority.replace(service.priority) != Some(service.priority) {
                rank = self.next_rank(channel);
            }
            self.keep(&service.target, channel, service.port, rank)
                .await;
        }
    }

    async fn keep(&mut self, host: &Name, channel: Channel, port: u16, rank: u16) {
        if self.endpoints.len() >= MAX_ENDPOINTS {
            return;
        }
        for address in self.lookups.addresses(host).await {
            let endpoint = Endpoint {
                channel,
                host: text(host),
                address: (address, port).into(),
                rank,
            };
            let known =
                |other: &Endpoint| other.channel == channel && other.address == endpoint.address;
            if !self.endpoints.iter().any(known) && self.endpoints.len() < MAX_ENDPOINTS {
                self.endpoints.push(endpoint);
            }
        }
    }

    fn next_rank(&mut self, channel: Channel) -> u16 {
        let rank = self.ranks.get_mut(channel as usize);
        rank.map_or(u16::MAX, |rank| {
            let given = *rank;
            *rank = rank.saturating_add(1);
            given
        })
    }
}

/// The steps to which NAPTR records lead, in their order: those for channels that are wanted, and without a regular expression
/// (RFC 3958 §2.2.1).
fn rules(records: Vec<RData>, from: &Step) -> Vec<Step> {
    let mut records: Vec<NAPTR> = records
        .into_iter()
        .filter_map(|data| match data {
            RData::NAPTR(record) => Some(record),
            _ => None,
        })
        .collect();
    records.sort_by_key(|record| (record.order, record.preference));
    let step = |record: NAPTR| {
        let lead = match &*record.flags {
            b"" => Lead::Rules,
            b"s" | b"S" => Lead::Services,
            b"a" | b"A" => Lead::Host,
            _ => return None,
        };
        let mut channels = channels(&record.services);
        channels.retain(|channel| from.channels.contains(channel));
        let usable =
            !channels.is_empty() && record.regexp.is_empty() && !record.replacement.is_root();
        usable.then_some(Step {
            lead,
            to: record.replacement,
            channels,
            depth: from.depth + 1,
        })
    };
    records.into_iter().filter_map(step).collect()
}

/// The channels of a NAPTR record's services, such as `DOTS:signal.udp:signal.tcp`.
fn channels(services: &[u8]) -> Vec<Channel> {
    let Ok(services) = str::from_utf8(services) else {
        return Vec::new();
    };
    let mut parts = services.split(':');
    if !parts
        .next()
        .is_some_and(|service| service.eq_ignore_ascii_case(SERVICE))
    {
        return Vec::new();
    }
    let mut channels = Vec::new();
    for part in parts {
        let named = |channel: &Channel| channel.tag().eq_ignore_ascii_case(part);
        let channel = Channel::ALL.into_iter().find(named);
        channels.extend(channel.filter(|channel| !channels.contains(channel)));
    }
    channels
}

/// A service that there is: RFC 2782 has the root stand for one that there is not.
fn as_service(data: RData) -> Option<SRV> {
    match data {
        RData::SRV(service) if service.port != 0 && !service.target.is_root() => Some(service),
        _ => None,
    }
}

fn text(host: &Name) -> String {
    host.to_lowercase()
        .to_ascii()
        .trim_end_matches('.')
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_name_the_channels_that_they_are_for() {
        use Channel::{DataTcp, SignalTcp, SignalUdp};
        assert_eq!(channels(b"DOTS:signal.udp"), [SignalUdp]);
        assert_eq!(channels(b"dots:Signal.TCP:data.tcp"), [SignalTcp, DataTcp]);
        assert_eq!(
            channels(b"DOTS:signal.udp:signal.udp:signal.quic"),
            [SignalUdp]
        );
        for others in [
            &b"DOTS-CALL-HOME:signal.udp"[..],
            b"DOTS",
            b"",
            b"DOTS:",
            b"SIP+D2U",
            b"\xffDOTS:signal.udp",
        ] {
            assert_eq!(channels(others), [], "{others:?}");
        }
    }
}
