use std::collections::BTreeMap;

use polars::prelude::{
    DataFrame, Expr, IntoLazy, LazyFrame, PolarsResult, SortMultipleOptions, UInt64Chunked, col,
    lit,
};
use weir_attack_event::{
    CountryShare, DrillDown, Evidence, Findings, HostRate, Origin, PortShare, PortSide, PrefixRate,
    ProtocolShare, SystemShare, TopTalker,
};
use weir_flow_record::Address;

use crate::forged::{ForgedHint, is_impossible};
use crate::frame::{
    DESTINATION_PORT, DIRECT, NETWORK_HIGH, NETWORK_LOW, NETWORK_V4, NETWORK_V6, OCTETS, PACKETS,
    PROTOCOL, Rows, SOURCE_HIGH, SOURCE_LOW, SOURCE_PORT, SYSTEM, Selection, address,
};
use crate::segment::Segment;

/// Rows that polars is given at most.
const MOST_ROWS: usize = 1_000_000;
/// Ports named at most, both sides together.
const MOST_PORTS: usize = 10;
/// A port with a smaller share is no service's, but one client's.
const LEAST_PORT_SHARE: f64 = 0.01;
/// Hosts are named where those at the top send so much; else their networks.
const HOSTS_DOMINATE: f64 = 0.5;

/// Sources that are looked up in databases at most, the largest first: what a quarter of the time for an answer allows.
const MOST_LOOKUPS: usize = 16_384;
/// Autonomous systems, countries and destinations named at most.
const MOST_NAMED: usize = 10;
/// Inside hosts named at most: a list for the help desk.
const MOST_INSIDE: usize = 100;

const SOURCES: &str = "sources";
const HOST_KEY: [&str; 4] = [SOURCE_HIGH, SOURCE_LOW, NETWORK_HIGH, NETWORK_LOW];

/// Answers `question` from segments, newest first.
pub(crate) fn drill_down<'a>(
    question: &DrillDown,
    segments: impl Iterator<Item = &'a Segment>,
    origin: &dyn Fn(Address) -> Origin,
) -> Findings {
    let selection = Selection::new(question);
    let (rows, complete) = select(&selection, segments);
    let count = rows.len() as u64;
    let mut findings = Findings {
        attack: question.attack.clone(),
        top_talkers: Vec::new(),
        ports: Vec::new(),
        protocols: Vec::new(),
        source_count: 0,
        rows: count,
        complete,
        evidence: Evidence::default(),
    };
    if count == 0 {
        return findings;
    }
    if let Err(error) = group(rows, question.top, &selection, origin, &mut findings) {
        tracing::error!(%error, "a drill-down failed");
        findings.complete = false;
    }
    findings
}

/// The newest rows asked for, and whether these are all.
fn select<'a>(selection: &Selection, segments: impl Iterator<Item = &'a Segment>) -> (Rows, bool) {
    let mut rows = Rows::default();
    for segment in segments.filter(|segment| selection.may_hold(segment)) {
        for row in (0..segment.len())
            .rev()
            .filter(|row| selection.holds(segment, *row))
        {
            if rows.len() == MOST_ROWS {
                return (rows, false);
            }
            selection.append(&segment.row(row), &mut rows);
        }
    }
    (rows, true)
}

fn group(
    mut rows: Rows,
    top: usize,
    selection: &Selection,
    origin: &dyn Fn(Address) -> Origin,
    findings: &mut Findings,
) -> PolarsResult<()> {
    let rates = Rates {
        seconds: selection.seconds(),
        total: rows.mix.packets().max(1) as f64,
    };
    rows.mix.tell(&mut findings.evidence);
    if let Some(destinations) = rows.destinations()? {
        tell_destinations(destinations, &rates, &mut findings.evidence)?;
    }
    let frame = rows.into_frame()?;
    let protocols = largest(
        frame.clone().lazy().group_by([col(PROTOCOL)]).agg(sums()),
        &[PROTOCOL],
    )
    .collect()?;
    let total = rates.total;
    findings.protocols = protocol_shares(&protocols, total)?;
    findings.ports = port_shares(&frame, total)?;

    let hosts = frame.lazy().group_by(HOST_KEY.map(col)).agg([
        col(OCTETS).sum(),
        col(PACKETS).sum(),
        col(DIRECT).sum(),
        col(SYSTEM).max(),
    ]);
    let hosts = largest(hosts, &HOST_KEY[..2]).collect()?;
    findings.source_count = hosts.height() as u64;
    let spoofed = forged_hint(&hosts, findings.rows)?;
    if spoofed != Some(true) {
        tell_origins(&hosts, origin, total, &mut findings.evidence)?;
    }
    if selection.is_outbound() {
        let inside = host_talkers(&hosts, MOST_INSIDE)?.into_iter();
        findings.evidence.inside_sources = inside.map(|host| rates.host(&host)).collect();
    }
    findings.top_talkers = dominating(hosts, top, total)?
        .into_iter()
        .map(|talker| TopTalker {
            source_prefix: talker.prefix,
            bits_per_second: rates.bits(&talker),
            packets_per_second: rates.packets(&talker),
            share: share(talker.packets, total),
            spoofed: if is_impossible(&talker.prefix) {
                Some(true)
            } else {
                spoofed
            },
            origin: Origin::default(),
        })
        .collect();
    Ok(())
}

/// Hosts where those at the top send so much, else their networks.
fn dominating(hosts: DataFrame, top: usize, total: f64) -> PolarsResult<Vec<Talker>> {
    let talkers = host_talkers(&hosts, top)?;
    let sent: u64 = talkers.iter().map(|talker| talker.packets).sum();
    if (sent as f64) < HOSTS_DOMINATE * total {
        network_talkers(hosts, top)
    } else {
        Ok(talkers)
    }
}

/// Who is hit; the frame has destinations where others have sources.
fn tell_destinations(frame: DataFrame, rates: &Rates, evidence: &mut Evidence) -> PolarsResult<()> {
    let hosts = frame.lazy().group_by(HOST_KEY.map(col)).agg(sums());
    let hosts = largest(hosts, &HOST_KEY[..2]).collect()?;
    evidence.destination_count = Some(hosts.height() as u64);
    let hit = dominating(hosts, MOST_NAMED, rates.total)?.into_iter();
    evidence.destinations = hit.map(|prefix| rates.prefix(&prefix)).collect();
    Ok(())
}

/// Where sources are: the system that the exporter states, else what databases say, of the largest sources.
fn tell_origins(
    hosts: &DataFrame,
    origin: &dyn Fn(Address) -> Origin,
    total: f64,
    evidence: &mut Evidence,
) -> PolarsResult<()> {
    let largest = hosts.head(Some(MOST_LOOKUPS));
    let mut systems = BTreeMap::<u32, (u64, Option<String>)>::new();
    let mut countries = BTreeMap::<String, u64>::new();
    let stated = largest.column(SYSTEM)?.u32()?.into_no_null_iter();
    let packets = values(&largest, PACKETS)?.into_no_null_iter();
    let sources = addresses(&largest, SOURCE_HIGH, SOURCE_LOW)?;
    for ((source, stated), packets) in sources.zip(stated).zip(packets) {
        let found = origin(source);
        let system = Some(stated).filter(|system| *system != 0).or(found.asn);
        if let Some(system) = system.filter(|system| *system != 0) {
            let entry = systems.entry(system).or_default();
            entry.0 = entry.0.saturating_add(packets);
            if entry.1.is_none() && found.asn == Some(system) {
                entry.1 = found.as_name;
            }
        }
        if let Some(country) = found.country {
            let sum = countries.entry(country).or_default();
            *sum = sum.saturating_add(packets);
        }
    }
    evidence.source_as = named(systems, |entry| entry.0)
        .map(|(asn, (packets, name))| SystemShare {
            asn,
            name,
            share: share(packets, total),
        })
        .collect();
    evidence.source_countries = named(countries, |packets| *packets)
        .map(|(country, packets)| CountryShare {
            country,
            share: share(packets, total),
        })
        .collect();
    Ok(())
}

/// The largest, those of equal size in the order of their keys.
fn named<K, V>(sums: BTreeMap<K, V>, size: impl Fn(&V) -> u64) -> impl Iterator<Item = (K, V)> {
    let mut sums: Vec<(K, V)> = sums.into_iter().collect();
    sums.sort_by_key(|(_, value)| std::cmp::Reverse(size(value)));
    sums.into_iter().take(MOST_NAMED)
}

/// What counts become.
struct Rates {
    /// Time that was asked for.
    seconds: f64,
    /// All packets.
    total: f64,
}

impl Rates {
    fn bits(&self, talker: &Talker) -> u64 {
        (talker.octets as f64 * 8.0 / self.seconds).round() as u64
    }

    fn packets(&self, talker: &Talker) -> u64 {
        (talker.packets as f64 / self.seconds).round() as u64
    }

    fn host(&self, talker: &Talker) -> HostRate {
        HostRate {
            address: talker.prefix.addr(),
            bits_per_second: self.bits(talker),
            packets_per_second: self.packets(talker),
            share: share(talker.packets, self.total),
        }
    }

    fn prefix(&self, talker: &Talker) -> PrefixRate {
        PrefixRate {
            prefix: talker.prefix,
            bits_per_second: self.bits(talker),
            packets_per_second: self.packets(talker),
            share: share(talker.packets, self.total),
        }
    }
}

struct Talker {
    prefix: ipnet::IpNet,
    octets: u64,
    packets: u64,
}

fn sums() -> [Expr; 2] {
    [col(OCTETS).sum(), col(PACKETS).sum()]
}

/// Groups by packets, then octets, largest first; ties by their key, so that the order is always the same.
fn largest(groups: LazyFrame, key: &[&'static str]) -> LazyFrame {
    let by: Vec<&str> = [PACKETS, OCTETS]
        .into_iter()
        .chain(key.iter().copied())
        .collect();
    let descending: Vec<bool> = (0..by.len()).map(|place| place < 2).collect();
    groups.sort(
        by,
        SortMultipleOptions::default().with_order_descending_multi(descending),
    )
}

fn protocol_shares(protocols: &DataFrame, total: f64) -> PolarsResult<Vec<ProtocolShare>> {
    let keys = protocols.column(PROTOCOL)?.u8()?;
    let counts = values(protocols, PACKETS)?;
    let shares = keys.into_no_null_iter().zip(counts.into_no_null_iter());
    Ok(shares
        .map(|(protocol, packets)| ProtocolShare {
            protocol,
            share: share(packets, total),
        })
        .collect())
}

/// Ports of both sides (0 is none); clients' own are left out by their share.
fn port_shares(frame: &DataFrame, total: f64) -> PolarsResult<Vec<PortShare>> {
    let mut ports = Vec::new();
    for (side, column) in [
        (PortSide::Source, SOURCE_PORT),
        (PortSide::Destination, DESTINATION_PORT),
    ] {
        let groups = frame
            .clone()
            .lazy()
            .filter(col(column).gt(lit(0_u16)))
            .group_by([col(PROTOCOL), col(column)])
            .agg(sums());
        let groups = largest(groups, &[PROTOCOL, column])
            .limit(MOST_PORTS as u32)
            .collect()?;
        let keys = groups.column(column)?.u16()?.into_no_null_iter();
        let protocols = groups.column(PROTOCOL)?.u8()?.into_no_null_iter();
        let counts = values(&groups, PACKETS)?.into_no_null_iter();
        for ((port, protocol), packets) in keys.zip(protocols).zip(counts) {
            ports.push(PortShare {
                port,
                side,
                protocol,
                share: share(packets, total),
            });
        }
    }
    ports.retain(|port| port.share >= LEAST_PORT_SHARE);
    ports.sort_by(|a, b| {
        let key = |port: &PortShare| (port.side, port.protocol, port.port);
        b.share
            .total_cmp(&a.share)
            .then_with(|| key(a).cmp(&key(b)))
    });
    ports.truncate(MOST_PORTS);
    Ok(ports)
}

/// The verdict on sources, where most rows could be forged at all.
fn forged_hint(hosts: &DataFrame, rows: u64) -> PolarsResult<Option<bool>> {
    let mut hint = ForgedHint::new();
    let mut direct_rows = 0;
    for (source, direct) in
        addresses(hosts, SOURCE_HIGH, SOURCE_LOW)?.zip(values(hosts, DIRECT)?.into_no_null_iter())
    {
        if direct > 0 {
            hint.add(source, direct);
            direct_rows += direct;
        }
    }
    Ok(if direct_rows * 2 > rows {
        hint.verdict()
    } else {
        None
    })
}

fn host_talkers(hosts: &DataFrame, top: usize) -> PolarsResult<Vec<Talker>> {
    let top = hosts.head(Some(top));
    let counts = values(&top, OCTETS)?
        .into_no_null_iter()
        .zip(values(&top, PACKETS)?.into_no_null_iter());
    let talkers = addresses(&top, SOURCE_HIGH, SOURCE_LOW)?.zip(counts);
    Ok(talkers
        .map(|(source, (octets, packets))| Talker {
            prefix: source.host(),
            octets,
            packets,
        })
        .collect())
}

/// Networks, but where only one host of a network sends, that host.
fn network_talkers(hosts: DataFrame, top: usize) -> PolarsResult<Vec<Talker>> {
    let key = [NETWORK_HIGH, NETWORK_LOW];
    let [octets, packets] = sums();
    let groups = hosts.lazy().group_by(key.map(col)).agg([
        octets,
        packets,
        // One host's address if there is one host; else of no use.
        col(SOURCE_HIGH).min(),
        col(SOURCE_LOW).min(),
        col(SOURCE_LOW).count().alias(SOURCES),
    ]);
    let groups = largest(groups, &key)
        .limit(u32::try_from(top).unwrap_or(u32::MAX))
        .collect()?;
    let counts = values(&groups, OCTETS)?
        .into_no_null_iter()
        .zip(values(&groups, PACKETS)?.into_no_null_iter());
    let sources = groups.column(SOURCES)?.u32()?.into_no_null_iter();
    let named = addresses(&groups, NETWORK_HIGH, NETWORK_LOW)?.zip(addresses(
        &groups,
        SOURCE_HIGH,
        SOURCE_LOW,
    )?);
    let talkers = named.zip(sources).zip(counts);
    let talker = |(((network, host), sources), (octets, packets)): (
        ((Address, Address), u32),
        (u64, u64),
    )| {
        let prefix = if sources == 1 {
            host.host()
        } else {
            network.prefix(NETWORK_V4, NETWORK_V6)
        };
        Talker {
            prefix,
            octets,
            packets,
        }
    };
    Ok(talkers.map(talker).collect())
}

fn addresses<'a>(
    frame: &'a DataFrame,
    high: &str,
    low: &str,
) -> PolarsResult<impl Iterator<Item = Address> + 'a> {
    let (high, low) = (values(frame, high)?, values(frame, low)?);
    Ok(high
        .into_no_null_iter()
        .zip(low.into_no_null_iter())
        .map(|(high, low)| address(high, low)))
}

fn values<'a>(frame: &'a DataFrame, name: &str) -> PolarsResult<&'a UInt64Chunked> {
    frame.column(name)?.u64()
}

fn share(packets: u64, total: f64) -> f64 {
    packets as f64 / total
}
