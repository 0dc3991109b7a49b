//! What is written to Parquet is read back as it was, by Weir and by SQL.
#![allow(clippy::unwrap_used, reason = "a test may stop")]

use std::path::{Path, PathBuf};

use polars::prelude::{
    DataFrame, DataType, IntoLazy, ParquetReader, PolarsResult, SerReader, TimeUnit,
};
use polars::sql::SQLContext;
use proptest::prelude::*;
use weir_flow_format::{COLUMNS, Record, records};
use weir_flow_record::{
    Address, ColumnSet, DatagramInfo, ExportProtocol, ExportTime, ExporterId, FlowBatch,
    FragmentKind, ObservationDomainId, ReceivedAt, Row, Timestamp,
};
use weir_flow_store::{FlowReader, ParquetEncoder, is_parquet};

fn write(path: &Path, batches: &[FlowBatch], rows_per_group: usize) {
    let mut encoder = ParquetEncoder::new(rows_per_group).unwrap();
    let mut octets = Vec::new();
    for batch in batches {
        encoder.push(batch).unwrap();
        octets.extend(encoder.take_octets());
    }
    octets.extend(encoder.finish().unwrap());
    std::fs::write(path, octets).unwrap();
}

fn read(paths: &[PathBuf]) -> Vec<FlowBatch> {
    FlowReader::open(paths)
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

/// All that the pipeline uses of a row and its datagram; exporters are numbered anew, so their address stands for them.
type Everything = (Record, ExportTime, ColumnSet, Row);

fn everything(batches: &[FlowBatch]) -> Vec<Everything> {
    let mut all = Vec::new();
    for batch in batches {
        for datagram in &batch.datagrams {
            for row in datagram.rows.clone() {
                let row = row as usize;
                let record = Record::of(batch, datagram, row);
                all.push((
                    record,
                    datagram.export_time,
                    datagram.present,
                    batch.row(row),
                ));
            }
        }
    }
    all
}

fn address() -> impl Strategy<Value = Address> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(Address::from_v4),
        any::<[u8; 16]>().prop_map(Address::from_octets),
        (0u8..4).prop_map(|host| Address::from_v4([192, 0, 2, host])),
        Just(Address::UNSPECIFIED),
    ]
}

fn fragment() -> impl Strategy<Value = FragmentKind> {
    use FragmentKind::{First, None, NotFirst};
    prop_oneof![Just(None), Just(First), Just(NotFirst)]
}

fn row() -> impl Strategy<Value = Row> {
    let numbers = (
        any::<[u16; 3]>(),
        any::<[u32; 3]>(),
        any::<[u64; 2]>(),
        any::<[i64; 2]>(),
    );
    let octets = (any::<u8>(), any::<u8>(), any::<u8>());
    (address(), address(), numbers, octets, fragment()).prop_map(
        |(source, destination, (words, longs, counts, times), octets, fragment)| Row {
            source_address: source,
            destination_address: destination,
            source_port: words[0],
            destination_port: words[1],
            protocol: octets.0,
            tcp_flags: words[2],
            fragment,
            octets: counts[0],
            packets: counts[1],
            flow_start: times[0],
            flow_end: times[1],
            sampling_rate: longs[0],
            input_interface: longs[1],
            output_interface: longs[2],
            direction: octets.1,
            forwarding_status: octets.2,
        },
    )
}

type Extra = (
    [u8; 4],
    u16,
    [u32; 3],
    Address,
    (u8, u8),
    ([u8; 6], [u8; 6]),
);

fn extra() -> impl Strategy<Value = Extra> {
    (
        any::<[u8; 4]>(),
        any::<u16>(),
        any::<[u32; 3]>(),
        address(),
        (0u8..=32, 0u8..=32),
        (any::<[u8; 6]>(), any::<[u8; 6]>()),
    )
}

fn protocol() -> impl Strategy<Value = ExportProtocol> {
    use ExportProtocol::{Ipfix, NetflowV1, NetflowV5, NetflowV7, NetflowV9, SflowV5, Xdp};
    prop::sample::select(vec![
        NetflowV1, NetflowV5, NetflowV7, NetflowV9, Ipfix, SflowV5, Xdp,
    ])
}

fn batch() -> impl Strategy<Value = FlowBatch> {
    let datagram = (
        prop::collection::vec((row(), extra()), 1..6),
        address(),
        any::<[u32; 3]>(),
        protocol(),
        any::<i64>(),
    );
    (prop::collection::vec(datagram, 1..5), any::<bool>()).prop_map(|(datagrams, projected)| {
        let projection = if projected {
            ColumnSet::ALL
        } else {
            ColumnSet::NONE
        };
        let mut batch = FlowBatch::with_projection(projection);
        let mut received = 1_763_697_600_000_000_000;
        for (rows, exporter, numbers, protocol, export_time) in datagrams {
            let start = batch.len() as u32;
            for (row, extra) in rows {
                batch.push(&row);
                if projected {
                    set_extra(&mut batch, extra);
                }
            }
            received += i64::from(numbers[0]);
            batch.datagrams.push(DatagramInfo {
                rows: start..batch.len() as u32,
                exporter: ExporterId(0),
                exporter_address: exporter,
                domain: ObservationDomainId(numbers[1]),
                protocol,
                sequence: numbers[2],
                received_at: ReceivedAt::from_nanos(received),
                export_time: ExportTime::from_nanos(export_time),
                present: ColumnSet(numbers[0] & ColumnSet::ALL.0),
            });
        }
        batch
    })
}

fn set_extra(batch: &mut FlowBatch, (octets, vlan, longs, next_hop, lengths, macs): Extra) {
    let row = batch.len() - 1;
    let extra = &mut batch.extra;
    (extra.tos[row], extra.ttl[row]) = (octets[0], octets[1]);
    (extra.icmp_type[row], extra.icmp_code[row]) = (octets[2], octets[3]);
    extra.vlan_id[row] = vlan;
    (extra.source_as[row], extra.destination_as[row]) = (longs[0], longs[1]);
    extra.flow_label[row] = longs[2];
    extra.next_hop[row] = next_hop;
    (
        extra.source_prefix_length[row],
        extra.destination_prefix_length[row],
    ) = lengths;
    (extra.source_mac[row], extra.destination_mac[row]) = macs;
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]
    #[test]
    fn a_batch_is_read_back_as_it_was(batches in prop::collection::vec(batch(), 1..4), group in 1usize..20) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("flows.parquet");
        // Each batch begins at the same time, and rows are read in the order of receipt: one file each.
        for batch in &batches {
            write(&path, std::slice::from_ref(batch), group);
            prop_assert!(is_parquet(&path));
            let back = read(std::slice::from_ref(&path));
            prop_assert_eq!(everything(&back), everything(std::slice::from_ref(batch)));
        }
    }
}

/// Three datagrams a second apart from `second` on, of ten rows each.
fn simple(second: i64, octets: u64) -> FlowBatch {
    let mut batch = FlowBatch::with_projection(ColumnSet::ALL);
    for step in 0..3 {
        let at = (second + step) * 1_000_000_000;
        let start = batch.len() as u32;
        for row in 0..10u8 {
            batch.push(&Row {
                source_address: Address::from_v4([192, 0, 2, row % 4]),
                destination_address: Address::from_v4([203, 0, 113, 9]),
                protocol: 17,
                octets,
                packets: 1,
                flow_start: at - 500_000_000,
                flow_end: at,
                ..Row::default()
            });
        }
        batch.datagrams.push(DatagramInfo {
            rows: start..batch.len() as u32,
            exporter: ExporterId(3),
            exporter_address: Address::from_v4([198, 51, 100, 1]),
            domain: ObservationDomainId(7),
            protocol: ExportProtocol::Ipfix,
            sequence: step as u32,
            received_at: ReceivedAt::from_nanos(at),
            export_time: ExportTime::from_nanos(at),
            present: ColumnSet::NONE,
        });
    }
    batch
}

#[test]
fn files_that_overlap_are_merged_by_time_of_receipt() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir(path("b")).unwrap();
    write(&path("b/late.parquet"), &[simple(2_000, 1)], 1000);
    write(&path("z.parquet"), &[simple(1_000, 2), simple(1_004, 4)], 7);
    write(&path("a.parquet"), &[simple(1_002, 3)], 1000);
    std::fs::write(path("note.txt"), "not read").unwrap();
    let batches = read(&[folder.path().to_owned()]);
    let received: Vec<i64> = batches
        .iter()
        .flat_map(|batch| &batch.datagrams)
        .flat_map(|datagram| {
            datagram
                .rows
                .clone()
                .map(|_| datagram.received_at.0.second())
        })
        .collect();
    assert_eq!(received.len(), 120);
    assert!(received.is_sorted(), "{received:?}");
    assert!(
        batches
            .iter()
            .flat_map(records)
            .all(|record| record.is_v4())
    );
}

#[test]
fn what_is_no_flow_file_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.parquet");
    std::fs::write(&path, "PAR1 but nothing else").unwrap();
    let error = FlowReader::open(std::slice::from_ref(&path)).err().unwrap();
    assert!(error.to_string().contains("x.parquet"), "{error}");
    let whole = folder.path().join("whole.parquet");
    write(&whole, &[simple(1_000, 2)], 100);
    let octets = std::fs::read(&whole).unwrap();
    std::fs::write(&path, &octets[..octets.len() - 9]).unwrap();
    assert!(FlowReader::open(&[path]).is_err());
}

fn frame(path: &Path) -> PolarsResult<DataFrame> {
    ParquetReader::new(std::fs::File::open(path)?).finish()
}

#[test]
fn sql_sees_goflow2s_names_texts_and_times() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flows.parquet");
    let start: Timestamp = "2026-11-21T04:00:00Z".parse().unwrap();
    write(&path, &[simple(start.second(), 1500)], 1000);
    let frame = frame(&path).unwrap();
    let names: Vec<String> = frame
        .get_column_names()
        .iter()
        .map(|name| name.to_string())
        .collect();
    assert_eq!(&names[..COLUMNS.len()], &COLUMNS);
    assert!(matches!(
        frame.column("time_received_ns").unwrap().dtype(),
        DataType::Datetime(TimeUnit::Nanoseconds, None)
    ));
    let mut context = SQLContext::new();
    context.register("flows", frame.lazy());
    let answer = context
        .execute(
            "SELECT src_addr, proto, SUM(bytes) AS octets FROM flows \
             WHERE time_received_ns >= TIMESTAMP '2026-11-21 04:00:01' AND dst_addr = '203.0.113.9' \
             GROUP BY src_addr, proto ORDER BY octets DESC, src_addr LIMIT 1",
        )
        .and_then(|query| query.collect())
        .unwrap();
    assert_eq!(
        answer.column("src_addr").unwrap().str().unwrap().get(0),
        Some("192.0.2.0")
    );
    assert_eq!(
        answer.column("proto").unwrap().str().unwrap().get(0),
        Some("UDP")
    );
    assert_eq!(
        answer.column("octets").unwrap().u64().unwrap().get(0),
        Some(2 * 3 * 1500)
    );
}
