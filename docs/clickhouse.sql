-- Weir's flow records in ClickHouse: from its Parquet files, and from its Kafka topics.
--
-- `cli/tests/parquet_peers.rs` runs all of this file with chdb 4.4 (ClickHouse 26.9 as a library) on files that `weir run`
-- and `weir decode` wrote, and compares counts and sums with `weir query`. chdb parses the Kafka tables, but has no consumers:
-- there the views are fed with the octets that the topics carry (`weir decode --format ndjson | protobuf`) through tables of
-- the same columns. That a ClickHouse server takes them from a broker is not checked.
--
-- Paths, brokers and the group are examples. Times are UTC.

-- 1. The Parquet files where they are; the server reads below its user_files_path only, a cluster by s3().
--    `date` and `hour` are of the folders' names: a condition on them skips whole folders.
SELECT date, count() AS records, sum(bytes * sampling_rate) AS octets
FROM file('/var/lib/weir/store/flows/date=*/hour=*/*.parquet', 'Parquet')
GROUP BY date
ORDER BY date
SETTINGS use_hive_partitioning = 1;

-- 2. A table. Names are those of the Parquet files and of goflow2.
CREATE TABLE flows
(
    type LowCardinality(String),
    time_received_ns DateTime64(9, 'UTC') CODEC(DoubleDelta, ZSTD),
    sequence_num UInt32,
    sampling_rate UInt32,
    sampler_address LowCardinality(String),
    observation_domain_id UInt32,
    time_flow_start_ns DateTime64(9, 'UTC') CODEC(DoubleDelta, ZSTD),
    time_flow_end_ns DateTime64(9, 'UTC') CODEC(DoubleDelta, ZSTD),
    bytes UInt64,
    packets UInt64,
    src_addr String,
    dst_addr String,
    etype LowCardinality(String),
    proto LowCardinality(String),
    src_port UInt16,
    dst_port UInt16,
    in_if UInt32,
    out_if UInt32,
    src_mac LowCardinality(String),
    dst_mac LowCardinality(String),
    vlan_id UInt16,
    ip_tos UInt8,
    ip_ttl UInt8,
    tcp_flags UInt16,
    icmp_type UInt8,
    icmp_code UInt8,
    ipv6_flow_label UInt32,
    src_as UInt32,
    dst_as UInt32,
    next_hop LowCardinality(String),
    src_net LowCardinality(String),
    dst_net LowCardinality(String)
)
ENGINE = MergeTree
PARTITION BY toDate(time_received_ns)
ORDER BY (toStartOfHour(time_received_ns), dst_addr, time_received_ns)
TTL toDateTime(time_received_ns) + INTERVAL 30 DAY;

-- Parquet has five columns more, which this leaves out.
INSERT INTO flows
SELECT * EXCEPT (export_time_ns, flow_direction, forwarding_status, fragment, present_columns)
FROM file('/var/lib/weir/store/flows/date=*/hour=*/*.parquet', 'Parquet')
SETTINGS use_hive_partitioning = 0;

-- 3. Kafka, flow_format = "json".
CREATE TABLE flows_json
(
    type String,
    time_received_ns Int64,
    sequence_num UInt32,
    sampling_rate UInt32,
    sampler_address String,
    observation_domain_id UInt32,
    time_flow_start_ns Int64,
    time_flow_end_ns Int64,
    bytes UInt64,
    packets UInt64,
    src_addr String,
    dst_addr String,
    etype String,
    proto String,
    src_port UInt16,
    dst_port UInt16,
    in_if UInt32,
    out_if UInt32,
    src_mac String,
    dst_mac String,
    vlan_id UInt16,
    ip_tos UInt8,
    ip_ttl UInt8,
    tcp_flags UInt16,
    icmp_type UInt8,
    icmp_code UInt8,
    ipv6_flow_label UInt32,
    src_as UInt32,
    dst_as UInt32,
    next_hop String,
    src_net String,
    dst_net String
)
ENGINE = Kafka
SETTINGS kafka_broker_list = 'kafka1:9092,kafka2:9092',
         kafka_topic_list = 'weir.flows',
         kafka_group_name = 'clickhouse',
         kafka_format = 'JSONEachRow';

CREATE MATERIALIZED VIEW flows_json_view TO flows AS
SELECT * REPLACE (
    fromUnixTimestamp64Nano(time_received_ns, 'UTC') AS time_received_ns,
    fromUnixTimestamp64Nano(time_flow_start_ns, 'UTC') AS time_flow_start_ns,
    fromUnixTimestamp64Nano(time_flow_end_ns, 'UTC') AS time_flow_end_ns)
FROM flows_json;

-- 4. Kafka, flow_format = "protobuf". The server's format_schema_path holds kafka/flow.proto of this repository as flow.proto;
--    goflow2's own messages are read by it too. Addresses are 4 or 16 octets there, or none.
CREATE TABLE flows_protobuf
(
    type String,
    time_received_ns UInt64,
    sequence_num UInt32,
    sampling_rate UInt64,
    sampler_address String,
    observation_domain_id UInt32,
    time_flow_start_ns UInt64,
    time_flow_end_ns UInt64,
    bytes UInt64,
    packets UInt64,
    src_addr String,
    dst_addr String,
    etype UInt32,
    proto UInt32,
    src_port UInt32,
    dst_port UInt32,
    in_if UInt32,
    out_if UInt32,
    src_mac UInt64,
    dst_mac UInt64,
    vlan_id UInt32,
    ip_tos UInt32,
    ip_ttl UInt32,
    tcp_flags UInt32,
    icmp_type UInt32,
    icmp_code UInt32,
    ipv6_flow_label UInt32,
    src_as UInt32,
    dst_as UInt32,
    next_hop String
)
ENGINE = Kafka
SETTINGS kafka_broker_list = 'kafka1:9092,kafka2:9092',
         kafka_topic_list = 'weir.flows',
         kafka_group_name = 'clickhouse',
         kafka_format = 'Protobuf',
         kafka_schema = 'flow.proto:FlowMessage';

CREATE FUNCTION weir_address AS octets -> multiIf(
    length(octets) = 4, IPv4NumToString(reinterpretAsUInt32(reverse(octets))),
    length(octets) = 16, IPv6NumToString(toFixedString(leftPad(octets, 16, '\0'), 16)),
    '');

CREATE MATERIALIZED VIEW flows_protobuf_view TO flows AS
SELECT * REPLACE (
    fromUnixTimestamp64Nano(toInt64(time_received_ns), 'UTC') AS time_received_ns,
    fromUnixTimestamp64Nano(toInt64(time_flow_start_ns), 'UTC') AS time_flow_start_ns,
    fromUnixTimestamp64Nano(toInt64(time_flow_end_ns), 'UTC') AS time_flow_end_ns,
    weir_address(sampler_address) AS sampler_address,
    weir_address(src_addr) AS src_addr,
    weir_address(dst_addr) AS dst_addr,
    weir_address(next_hop) AS next_hop,
    transform(etype, [0x0800, 0x86dd], ['IPv4', 'IPv6'], '') AS etype,
    transform(proto, [0, 1, 2, 4, 6, 17, 41, 46, 47, 50, 51, 58, 88, 89, 94, 103, 112, 115, 132, 136],
        ['HOPOPT', 'ICMP', 'IGMP', 'IPv4', 'TCP', 'UDP', 'IPv6', 'RSVP', 'GRE', 'ESP', 'AH', 'IPv6-ICMP', 'EIGRP', 'OSPFIGP',
         'IPIP', 'PIM', 'VRRP', 'L2TP', 'SCTP', 'UDPLite'],
        toString(proto)) AS proto,
    MACNumToString(src_mac) AS src_mac,
    MACNumToString(dst_mac) AS dst_mac)
FROM flows_protobuf;
