//! The whole loop of RFC 9387 §3.3: a mitigation system reports two attacks over DOTS to a daemon that collects their flows; a model
//! learns from both, passes the gate, and names the third attack of that family right.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/command.rs"]
mod command;
mod support;

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use command::done;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use support::ports::free_address;
use support::{Daemon, eventually};
use tokio::sync::{mpsc, watch};
use weir_attack_event::AttackId;
use weir_datasets::PcapWriter;
use weir_dots_export::{
    Client, ClientCommand, ClientNotice, ClientParameters, Journal, PolicyConfig, StateChange,
    UpstreamConfig, check, run_upstream,
};
use weir_dots_proto::Cuid;
use weir_dots_proto::body::{
    AttackDetail, Baseline, Gauges, PreOrOngoingMitigation, Talker, Target, Telemetry,
    TelemetrySettings, TopTalkers, Traffic,
};
use weir_dtls::lab::{LabNames, write_keys};
use weir_flow_record::{Address, ExportTime, ObservationDomainId, Row, Timestamp};
use weir_netflow::encode::{Encoder, Format};

const SECOND: i64 = 1_000_000_000;
const PATIENCE: Duration = Duration::from_secs(20);

/// Peace of five web servers, and DNS amplification of one of them, as a router that looks at each packet exports it.
struct Router {
    encoder: Encoder,
    random: ChaCha8Rng,
}

impl Router {
    fn new(seed: u64) -> Self {
        Self {
            encoder: Encoder::new(Format::Ipfix, ObservationDomainId(1)).with_sampling_rate(1),
            random: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    /// The datagrams of the second before `now`.
    fn second(&mut self, now: i64, attacked: Option<u8>) -> Vec<Vec<u8>> {
        let mut rows = Vec::new();
        for host in 1..=5 {
            for _ in 0..self.random.random_range(2..6) {
                let client = [192, 0, 2, self.random.random_range(1..250)];
                let mut row = self.row(client, host, now);
                (row.protocol, row.tcp_flags) = (6, 0x1b);
                (row.source_port, row.destination_port) =
                    (self.random.random_range(20_000..60_000), 443);
                row.packets = self.random.random_range(4..60);
                row.octets = row.packets * self.random.random_range(60..500);
                rows.push(row);
            }
        }
        for reflector in 0..attacked.map_or(0, |_| 50_u8) {
            let mut row = self.row([198, 51, 100, reflector], attacked.unwrap_or(0), now);
            row.protocol = 17;
            (row.source_port, row.destination_port) = (53, self.random.random_range(1024..60_000));
            row.packets = self.random.random_range(2..5);
            row.octets = row.packets * self.random.random_range(1300..1500);
            rows.push(row);
        }
        let mut datagrams = Vec::new();
        let export = ExportTime::from_nanos(now);
        self.encoder.encode_templates(export, &mut datagrams);
        self.encoder.encode_flows(export, &rows, &mut datagrams);
        datagrams
    }

    fn row(&mut self, source: [u8; 4], host: u8, now: i64) -> Row {
        let end = now - self.random.random_range(0..SECOND / 2);
        Row {
            source_address: Address::from_v4(source),
            destination_address: Address::from_v4([203, 0, 113, host]),
            flow_start: end - self.random.random_range(0..SECOND / 4),
            flow_end: end,
            sampling_rate: 1,
            ..Row::default()
        }
    }
}

fn clock() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    i64::try_from(since.unwrap().as_nanos()).unwrap()
}

/// So many seconds of live traffic; of `attacks` each has a host and its seconds. Gives when the first second began.
fn live(
    router: &mut Router,
    to: SocketAddr,
    seconds: i64,
    attacks: &[(u8, std::ops::Range<i64>)],
) -> i64 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    // Labels are told in whole seconds.
    sleep(Duration::from_nanos((SECOND - clock() % SECOND) as u64));
    let (began, first) = (Instant::now(), clock());
    for second in 0..seconds {
        let due = began + Duration::from_secs(second as u64 + 1);
        sleep(due.saturating_duration_since(Instant::now()));
        let attacked = attacks.iter().find(|(_, during)| during.contains(&second));
        for datagram in router.second(clock(), attacked.map(|one| one.0)) {
            socket.send_to(&datagram, to).unwrap();
        }
    }
    first / SECOND
}

/// A mitigation system: a DOTS client over DTLS.
struct Dms {
    runtime: tokio::runtime::Runtime,
    commands: mpsc::Sender<ClientCommand>,
    notices: mpsc::Receiver<ClientNotice>,
    _stop: watch::Sender<bool>,
}

struct NoJournal;

impl Journal for NoJournal {
    fn write(&self, _: &StateChange) -> std::io::Result<()> {
        Ok(())
    }
}

impl Dms {
    fn connect(server: SocketAddr, keys: &Path) -> Self {
        let mut config = UpstreamConfig {
            name: "weir".to_owned(),
            server: "localhost".to_owned(),
            addresses: vec![server.to_string()],
            ca: "ca.pem".into(),
            certificate: "client.pem".into(),
            key: "client.key".into(),
            ..UpstreamConfig::default()
        };
        config.resolve(keys);
        let settings = check(&[config], &[PolicyConfig::default()], &[]).unwrap();
        let settings = settings.upstreams()[0].clone();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let cuid = Cuid::new("dms-of-the-test").unwrap();
        let client = Client::new(ClientParameters::new("weir".into(), cuid, 7));
        let credentials = settings.open_credentials().unwrap();
        let (commands, orders) = mpsc::channel(64);
        let (said, notices) = mpsc::channel(64);
        let (stop, stopped) = watch::channel(false);
        let journal = Arc::new(NoJournal);
        runtime.spawn(run_upstream(
            settings,
            credentials,
            client,
            orders,
            said,
            journal,
            stopped,
        ));
        Self {
            runtime,
            commands,
            notices,
            _stop: stop,
        }
    }

    fn send(&self, command: ClientCommand) {
        self.commands.blocking_send(command).unwrap();
    }

    /// Says what is normal for the whole network: all is at peace but for what it reports.
    fn say_normal(&self, megabits: u64) {
        let baseline = Baseline {
            id: 1,
            target_prefix: vec!["203.0.113.0/24".parse().unwrap()],
            total_traffic_normal: vec![Traffic::in_bits(&Gauges {
                mid_percentile_g: Some(megabits * 1_000_000),
                ..Gauges::default()
            })],
            ..Baseline::default()
        };
        let settings = TelemetrySettings {
            baseline: vec![baseline],
            ..TelemetrySettings::default()
        };
        let plan = [("baseline".to_owned(), settings)].into();
        self.send(ClientCommand::Setup { plan });
    }

    /// Reports an attack that is over, and waits until it was taken in.
    fn report(&mut self, host: u8, start: i64, end: i64) {
        let detail = AttackDetail {
            vendor_id: 32473,
            attack_id: 16,
            description_lang: None,
            attack_description: Some("large answers of open resolvers".to_owned()),
            attack_severity: None,
            start_time: Some(start as u64),
            end_time: Some(end as u64),
            source_count: None,
            top_talker: Some(TopTalkers {
                talker: vec![Talker::new("198.51.100.0/24".parse().unwrap())],
            }),
        };
        let item = PreOrOngoingMitigation {
            target: Some(Target {
                target_prefix: vec![format!("203.0.113.{host}/32").parse().unwrap()],
                ..Target::default()
            }),
            attack_detail: vec![detail],
            ..PreOrOngoingMitigation::default()
        };
        self.send(ClientCommand::Telemetry {
            attack: AttackId(format!("attack-{host}").into()),
            body: Box::new(Telemetry {
                pre_or_ongoing_mitigation: vec![item],
            }),
            ended: true,
        });
        let notices = &mut self.notices;
        let told = async {
            while let Some(notice) = notices.recv().await {
                if matches!(notice, ClientNotice::Told { .. }) {
                    return true;
                }
            }
            false
        };
        let told = self
            .runtime
            .block_on(async { tokio::time::timeout(PATIENCE, told).await });
        assert_eq!(told, Ok(true), "the report is not taken in");
    }
}

const CONFIG: &str = r#"state_dir = "state"
[log]
format = "text"
[http]
listen = "127.0.0.1:0"
[collector]
netflow = ["COLLECTOR"]
sflow = []
receive_buffer = "1MiB"
[events]
file = "events.ndjson"
[store]
parquet_dir = "store"
parquet_interval = "1s"
# Two minutes make no model surer.
[models]
raise_confidence = 0.9
[[zone]]
name = "lab"
prefixes = ["203.0.113.0/24"]
[dots_server]
listen = ["DOTS"]
ca = "ca.pem"
certificate = "server.pem"
key = "server.key"
[[dots_server.client]]
name = "weir-lab"
prefixes = ["203.0.113.0/24"]
"#;

/// Another day's traffic, with three attacks, as a capture with its truth: clean data that no model learned from.
fn held_back(folder: &Path) {
    let file = fs::File::create(folder.join("later.pcap")).unwrap();
    let mut pcap = PcapWriter::new(file).unwrap();
    let mut router = Router::new(2);
    let (from, to) = (
        SocketAddr::from(([192, 0, 2, 251], 50_000)),
        SocketAddr::from(([192, 0, 2, 250], 4739)),
    );
    let began = 1_772_409_600;
    let mut labels = String::from("start,end,target,attack\n");
    for second in 0..240_i64 {
        let host = match second {
            30..50 => Some(1),
            100..115 => Some(4),
            180..200 => Some(2),
            _ => None,
        };
        let now = Timestamp::from_seconds(began + second + 1);
        for datagram in router.second(now.nanos(), host) {
            pcap.write(now, from, to, &datagram).unwrap();
        }
    }
    for (host, from, to) in [(1, 30, 50), (4, 100, 115), (2, 180, 200)] {
        let [from, to] = [from, to].map(|second| Timestamp::from_seconds(began + second));
        labels += &format!("{from},{to},203.0.113.{host}/32,dns-amplification\n");
    }
    pcap.finish().unwrap();
    fs::write(folder.join("later.csv"), labels).unwrap();
}

#[test]
fn two_reported_attacks_teach_the_name_of_the_third() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write_keys(path, &LabNames::default()).unwrap();
    let (collector, dots) = (free_address(), free_address());
    let config = CONFIG
        .replace("COLLECTOR", &collector.to_string())
        .replace("DOTS", &dots.to_string());
    fs::write(path.join("weir.toml"), config).unwrap();

    // A mitigation system says what is normal, and reports two attacks after they were over.
    let daemon = Daemon::start(&path.join("weir.toml"));
    let mut dms = Dms::connect(dots, path);
    dms.say_normal(100);
    let labels = || done(path, &["attacks", "labels", "--config", "weir.toml"]);
    assert!(eventually(PATIENCE, || labels()
        .contains(",203.0.113.0/24,,,dots:weir-lab")));
    let mut router = Router::new(1);
    // A forest is rated minute by minute, by trees that have not seen it: each of the two minutes has an attack.
    let until = (29 + 60 - clock() / SECOND % 60) % 60;
    sleep(Duration::from_secs(until as u64));
    // Longer than a window of ten seconds, so that all of its ways to look are learned.
    let attacks = [(1, 8..24), (2, 34..50)];
    let began = live(&mut router, collector, 56, &attacks);
    for (host, during) in attacks {
        dms.report(host, began + during.start, began + during.end + 1);
    }
    // It still holds.
    dms.say_normal(120);
    assert!(eventually(PATIENCE, || {
        let peace = labels();
        let line = peace.lines().find(|line| line.contains(",,,dots")).unwrap();
        let end: jiff::Timestamp = line.split(',').nth(1).unwrap().parse().unwrap();
        end.as_second() >= began + 55
    }));
    sleep(Duration::from_secs(2));
    assert_eq!(daemon.terminate(), Some(0));
    drop(dms);

    // What was said outlives the daemon, and is what the flows are joined with.
    let said = labels();
    let attacks = said
        .lines()
        .filter(|line| line.contains(",dns-amplification,198.51.100.0/24,dots:weir-lab"));
    assert_eq!(attacks.count(), 2, "{said}");
    fs::write(path.join("labels.csv"), &said).unwrap();
    let card = done(
        path,
        &[
            "train",
            "store",
            "--labels",
            "labels.csv",
            "-o",
            "loop.weirmodel",
            "--thin",
            "1",
            "--trees",
            "20",
        ],
    );
    assert!(card.contains("dns-amplification"), "{card}");

    // Evaluated, in shadow, and through the gate.
    held_back(path);
    let report = done(
        path,
        &[
            "evaluate",
            "loop.weirmodel",
            "later.pcap",
            "--labels",
            "later.csv",
        ],
    );
    let report: Value = serde_json::from_str(&report).unwrap();
    let f1 = report["classes"]["dns-amplification"]["f1"].as_f64();
    assert!(f1.unwrap() > 0.9, "{report:#}");
    let models = |more: &[&str]| {
        let mut arguments = vec!["models", more[0], "--config", "weir.toml"];
        arguments.extend(&more[1..]);
        done(path, &arguments)
    };
    models(&["add", "loop.weirmodel"]);
    let state = |text: &str| models(&["list"]).contains(text);
    assert!(state("shadow"));
    models(&[
        "promote",
        "loop.weirmodel",
        "--on",
        "later.pcap",
        "--labels",
        "later.csv",
    ]);
    assert!(state("active"));

    // The third attack, far below every limit, is named.
    let daemon = Daemon::start(&path.join("weir.toml"));
    let began = live(&mut router, collector, 34, &[(3, 8..34)]);
    let verdicts = || -> Vec<Value> {
        let text = fs::read_to_string(path.join("state/models/verdicts.ndjson"));
        let text = text.unwrap_or_default();
        let lines = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        // The shipped model watches too, in shadow.
        lines.filter(|line| line["shadow"] == false).collect()
    };
    let third = "203.0.113.3/32";
    let told = || verdicts().into_iter().find(|line| line["target"] == third);
    assert!(
        eventually(PATIENCE, || told().is_some()),
        "{:?}",
        verdicts()
    );
    let told = told().unwrap();
    assert_eq!(told["vectors"][0]["name"], "dns-amplification", "{told:#}");
    let start: jiff::Timestamp = told["start_time"].as_str().unwrap().parse().unwrap();
    assert!(
        (0..=12).contains(&(start.as_second() - began - 6)),
        "{told:#}"
    );
    // The model acts: what no limit would have found is an attack of the detector's, under that name.
    let event = || {
        let text = fs::read_to_string(path.join("events.ndjson")).unwrap_or_default();
        let mut lines = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.find(|line| line["target"] == third)
    };
    assert!(eventually(PATIENCE, || event().is_some()), "no event");
    let event = event().unwrap();
    assert_eq!(event["event"], "attack-start");
    assert_eq!(
        event["vectors"][0]["name"], "dns-amplification",
        "{event:#}"
    );
    let others = verdicts();
    assert!(
        others.iter().all(|line| line["target"] == third),
        "a false alarm: {others:?}"
    );
    assert_eq!(daemon.terminate(), Some(0));
}
