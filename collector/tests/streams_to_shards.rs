//! IPFIX over TCP, from real sockets through the feed into the decoders of two shards.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests, which end with a panic"
)]

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use weir_collector::{
    CloseReason, CollectorConfig, Shard, ShardSettings, StreamEvent, StreamFeed, StreamInlet,
    Streams, Verdict, shard_of, stream_feed,
};
use weir_flow_aggregate::{AggregateSettings, AggregationConfig};
use weir_flow_record::{Address, ColumnSet, ExportTime, ExporterView, ObservationDomainId, Row};
use weir_netflow::encode::{Encoder, Format};

const SHARDS: u16 = 2;

struct Collector {
    streams: Streams,
    feed: StreamFeed,
    shards: Vec<(StreamInlet, Shard)>,
    closed: Vec<(SocketAddr, CloseReason)>,
}

impl Collector {
    fn new(max_exporters: u32) -> Self {
        let config = CollectorConfig {
            ipfix_tcp: vec!["127.0.0.1:0".parse().unwrap()],
            max_exporters,
            ..CollectorConfig::default()
        };
        let settings = config.check(&[], ColumnSet::NONE).unwrap();
        let (feed, inlets) = stream_feed(SHARDS);
        let shards = (0..).zip(inlets).map(|(number, inlet)| {
            let aggregate = AggregateSettings {
                config: AggregationConfig::default(),
                zones: Vec::new(),
                links: Vec::new(),
                shard: number,
                active_timeouts: Vec::new(),
            };
            let collector = settings.clone();
            let settings = ShardSettings {
                collector,
                aggregate,
            };
            (inlet, Shard::new(settings))
        });
        Self {
            feed,
            shards: shards.collect(),
            streams: Streams::bind(settings.streams).unwrap(),
            closed: Vec::new(),
        }
    }

    /// An exporter at an address of its own.
    fn connect(&self, from: [u8; 4]) -> TcpStream {
        let (_, address) = self.streams.addresses().next().unwrap();
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let from = SocketAddr::from((from, 0));
        socket.bind(&from.into()).unwrap();
        socket.connect(&address.into()).unwrap();
        socket.into()
    }

    fn turn(&mut self) {
        let feed = &mut self.feed;
        let turn = self
            .streams
            .turn(Duration::from_millis(5), |event| feed.handle_event(event));
        turn.unwrap();
        for (inlet, shard) in &mut self.shards {
            inlet.take(1_024, |event| match event {
                StreamEvent::Opened { .. } => Verdict::Good,
                StreamEvent::Message {
                    at, peer, octets, ..
                } => match shard.handle_message(at, peer, octets) {
                    Some(outcome) if outcome.is_malformed() => Verdict::Malformed,
                    _ => Verdict::Good,
                },
                StreamEvent::Closed { peer, reason, .. } => {
                    shard.handle_session_closed(peer);
                    self.closed.push((peer, reason));
                    Verdict::Good
                }
            });
        }
        while let Some(peer) = self.feed.poll_fault() {
            self.streams.end(peer);
        }
    }

    fn run_until(&mut self, mut done: impl FnMut(&Self) -> bool) {
        let begin = Instant::now();
        while !done(self) {
            assert!(
                begin.elapsed() < Duration::from_secs(10),
                "{:?} {:?}",
                self.streams.counters(),
                self.closed
            );
            self.turn();
        }
    }

    fn view(&self, from: [u8; 4]) -> Option<ExporterView> {
        let shard = usize::from(shard_of(Ipv4Addr::from(from).into(), SHARDS));
        let mut views = self.shards[shard].1.exporters();
        views.find(|view| view.address == Address::from_v4(from))
    }

    fn records(&self, from: [u8; 4]) -> u64 {
        self.view(from).map_or(0, |view| view.records)
    }
}

fn export(encoder: &mut Encoder, templates: bool, records: u8) -> Vec<u8> {
    let mut messages = Vec::new();
    let time = ExportTime::from_nanos(1_700_000_000_000_000_000);
    if templates {
        encoder.encode_templates(time, &mut messages);
    }
    let rows: Vec<Row> = (0..records)
        .map(|host| Row {
            source_address: Address::from_v4([192, 0, 2, host]),
            destination_address: Address::from_v4([198, 51, 100, 1]),
            octets: 1_000,
            packets: 1,
            ..Row::default()
        })
        .collect();
    encoder.encode_flows(time, &rows, &mut messages);
    messages.concat()
}

fn encoder() -> Encoder {
    Encoder::new(Format::Ipfix, ObservationDomainId(7))
}

#[test]
fn exporters_reach_the_shard_of_their_address_and_templates_end_with_their_session() {
    let mut collector = Collector::new(64);
    let exporters: Vec<[u8; 4]> = (1..=8).map(|host| [127, 0, 0, host]).collect();
    let mut clients: Vec<_> = exporters
        .iter()
        .map(|from| (collector.connect(*from), encoder()))
        .collect();
    for round in 0..20 {
        for (client, encoder) in &mut clients {
            client.write_all(&export(encoder, round == 0, 200)).unwrap();
        }
    }
    collector.run_until(|it| exporters.iter().all(|from| it.records(*from) == 4_000));
    let by_shard = [0, 1].map(|shard| collector.shards[shard].1.exporters().count());
    assert!(by_shard.iter().all(|count| *count > 0) && by_shard.iter().sum::<usize>() == 8);
    for from in &exporters {
        let view = collector.view(*from).unwrap();
        assert_eq!((view.missing_records, view.undecodable_sets), (0, 0));
        assert!(view.templates > 0);
    }
    drop(clients);
    collector.run_until(|it| it.closed.len() == 8);
    assert!(
        collector
            .closed
            .iter()
            .all(|(_, reason)| *reason == CloseReason::Peer)
    );
    // A new session does not inherit them.
    let from = exporters[0];
    assert_eq!(collector.view(from).unwrap().templates, 0);
    let mut client = collector.connect(from);
    client
        .write_all(&export(&mut encoder(), false, 10))
        .unwrap();
    collector.run_until(|it| it.view(from).is_some_and(|view| view.held_back > 0));
    assert_eq!(collector.records(from), 4_000);
}

#[test]
fn what_a_decoder_refuses_ends_its_session_and_no_other() {
    let mut collector = Collector::new(1);
    // Two of one shard, which has room for one.
    let mut of_shard = (1..=255).map(|host| [127, 0, 1, host]);
    let of_shard = of_shard.by_ref();
    let mut pair = of_shard.filter(|from| shard_of(Ipv4Addr::from(*from).into(), SHARDS) == 0);
    let (first, second) = (pair.next().unwrap(), pair.next().unwrap());
    let (mut good, mut encoder_of_good) = (collector.connect(first), encoder());
    good.write_all(&export(&mut encoder_of_good, true, 10))
        .unwrap();
    collector.run_until(|it| it.records(first) == 10);
    let mut refused = collector.connect(second);
    refused
        .write_all(&export(&mut encoder(), true, 10))
        .unwrap();
    collector.run_until(|it| !it.closed.is_empty());
    let expected = (refused.local_addr().unwrap(), CloseReason::Malformed);
    assert_eq!(collector.closed, [expected]);
    good.write_all(&export(&mut encoder_of_good, false, 10))
        .unwrap();
    collector.run_until(|it| it.records(first) == 20);
}
