//! SQL over the files that the store writes, over events and labels.
#![allow(clippy::unwrap_used, reason = "a test may stop")]

use std::path::Path;
use std::time::Duration;

use weir_flow_record::{
    Address, ColumnSet, DatagramInfo, ExportProtocol, ExportTime, ExporterId, FlowBatch,
    ObservationDomainId, ReceivedAt, Row, Timestamp,
};
use weir_flow_store::{ParquetSettings, ParquetStore, Query, QueryError};

/// Ten flows in each of two hours on both sides of midnight, from 10.0.0.0 to 10.0.9.0, of 100 octets and more; and one
/// each in IPv6.
fn store(folder: &Path) {
    let settings = ParquetSettings {
        folder: folder.to_owned(),
        rows_per_group: 1024,
        retain: Duration::ZERO,
        max_size: 0,
        interval: Duration::from_secs(60),
    };
    let first: Timestamp = "2026-11-20T23:30:00Z".parse().unwrap();
    let mut store = ParquetStore::open(settings, 0).unwrap();
    for received in [first, first.plus(Duration::from_secs(3600))] {
        let batch = batch(received);
        store.handle_batch(received, &batch);
    }
    store.finish_all(first.plus(Duration::from_secs(7200)));
}

fn batch(received: Timestamp) -> FlowBatch {
    let mut batch = FlowBatch::default();
    for network in 0..10 {
        batch.push(&Row {
            source_address: Address::from_v4([10, 0, network, 1]),
            destination_address: Address::from_v4([203, 0, 113, 5]),
            protocol: 17,
            octets: 100 + u64::from(network),
            packets: 1,
            ..Row::default()
        });
    }
    batch.push(&Row {
        source_address: "2001:db8:1:2::3"
            .parse::<std::net::IpAddr>()
            .unwrap()
            .into(),
        octets: 1,
        ..Row::default()
    });
    batch.datagrams.push(DatagramInfo {
        rows: 0..11,
        exporter: ExporterId(0),
        exporter_address: Address::from_v4([198, 51, 100, 1]),
        domain: ObservationDomainId(7),
        protocol: ExportProtocol::Ipfix,
        sequence: 1,
        received_at: ReceivedAt(received),
        export_time: ExportTime(received),
        present: ColumnSet::NONE,
    });
    batch
}

fn csv(query: Query, statement: &str) -> String {
    let mut out = Vec::new();
    query.run(statement).unwrap().write_csv(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn flows_are_asked_by_day_and_by_prefix() {
    let folder = tempfile::tempdir().unwrap();
    store(folder.path());
    let flows = || Query::default().with_flows(folder.path()).unwrap();
    assert_eq!(
        csv(
            flows(),
            "SELECT date, hour, COUNT(*) AS flows, SUM(bytes) AS octets FROM flows GROUP BY date, hour ORDER BY date"
        ),
        "date,hour,flows,octets\n2026-11-20,23,11,1046\n2026-11-21,0,11,1046\n"
    );
    assert_eq!(
        csv(
            flows(),
            "SELECT prefix(src_addr, 23, 48) AS source, SUM(bytes) AS octets FROM flows \
             WHERE date = '2026-11-21' AND in_prefix(dst_addr, '203.0.113.0/24') \
             GROUP BY source ORDER BY octets DESC LIMIT 2"
        ),
        "source,octets\n10.0.8.0/23,217\n10.0.6.0/23,213\n"
    );
    assert_eq!(
        csv(
            flows(),
            "SELECT DISTINCT prefix(src_addr, 24, 48) AS source FROM flows WHERE in_prefix(src_addr, '2001:db8::/32')"
        ),
        "source\n2001:db8:1::/48\n"
    );
    let mut table = Vec::new();
    let answer = flows()
        .run("SELECT proto, COUNT(*) AS flows FROM flows GROUP BY proto ORDER BY flows DESC")
        .unwrap();
    answer.write_table(&mut table).unwrap();
    let table = String::from_utf8(table).unwrap();
    assert_eq!(table.lines().next(), Some("proto   flows"), "{table}");
    assert!(table.contains("UDP        20"), "{table}");
}

#[test]
fn statements_that_make_no_sense_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(
        Query::default().with_flows(folder.path()),
        Err(QueryError::NoFlows(_))
    ));
    store(folder.path());
    for (statement, message) in [
        ("SELEC 1", "sql parser error"),
        ("SELECT nothing FROM flows", "nothing"),
        (
            "SELECT in_prefix(src_addr, 'x') FROM flows",
            "`x` is no prefix",
        ),
        ("SELECT in_prefix(bytes, '::/0') FROM flows", "u64"),
        ("SELECT prefix(src_addr, 33, 48) FROM flows", "0 to 32"),
        (
            "SELECT prefix(src_addr) FROM flows",
            "prefix takes an address",
        ),
        ("SELECT * FROM elsewhere", "elsewhere"),
    ] {
        let query = Query::default().with_flows(folder.path()).unwrap();
        let error = query.run(statement).err().map(|error| error.to_string());
        assert!(
            error.as_ref().is_some_and(|error| error.contains(message)),
            "{statement}: {error:?}"
        );
    }
}

const GAUGE: &str = r#"{"low":1,"mid":2,"high":3,"peak":4,"current":3,"interval":[2,null]}"#;

fn event(kind: &str, id: &str, end: &str) -> String {
    format!(
        r#"{{"event":"{kind}","id":"{id}","time":"2026-11-21T00:00:10Z","detected_at":"2026-11-21T00:00:01Z",
        "start_time":"2026-11-21T00:00:00Z","end_time":{end},"target":"203.0.113.5/32","zone":"a","direction":"in",
        "vectors":[{{"vendor_id":32473,"attack_id":2,"name":"udp-flood","share":1.0,"confidence":0.9}}],"severity":"high",
        "traffic":{{"bits_per_second":{GAUGE},"packets_per_second":{GAUGE},"flows_per_second":{GAUGE}}},
        "baseline":null,"why":["much"],"top_talkers":[],"ports":[],"protocols":[],"source_count":null,"coverage":1.0,
        "mitigation":null}}"#
    )
    .replace('\n', " ")
}

#[test]
fn attacks_are_as_their_newest_events_tell_them() {
    let lines = [
        event("attack-start", "1", "null"),
        "no event".to_owned(),
        event("attack-start", "2", "null"),
        event("attack-end", "1", "\"2026-11-21T00:01:00Z\""),
    ]
    .join("\n");
    let (query, skipped) = Query::default().with_attacks(lines.as_bytes()).unwrap();
    assert_eq!(skipped, 1);
    assert_eq!(
        csv(
            query,
            "SELECT id, vectors, severity, over, peak_packets_per_second AS peak FROM attacks ORDER BY id"
        ),
        "id,vectors,severity,over,peak\n1,udp-flood,high,true,4\n2,udp-flood,high,false,4\n"
    );
}

#[test]
fn labels_are_a_table_too() {
    let lines = "start,end,target,attack\n\
        2026-11-21T00:00:00Z,2026-11-21T00:01:00Z,203.0.113.5/32,udp-flood\n\
        yesterday,today,203.0.113.5/32,udp-flood\n\
        2026-11-21T00:00:00Z,2026-11-21T00:01:00Z,203.0.113.9,\n";
    let (query, skipped) = Query::default().with_labels(lines.as_bytes()).unwrap();
    assert_eq!(skipped, 1);
    assert_eq!(
        csv(
            query,
            "SELECT target, attack FROM labels WHERE \"end\" > TIMESTAMP '2026-11-21 00:00:30'"
        ),
        "target,attack\n203.0.113.5/32,udp-flood\n203.0.113.9,\"\"\n"
    );
}
