"""Runs docs/clickhouse.sql with chdb on files of Weir, and prints what became of them as one JSON object.

clickhouse_reads.py CLICKHOUSE.SQL STORE FLOW.PROTO FLOWS.NDJSON FLOWS.PROTOBUF

chdb has no Kafka consumers. The Kafka tables are parsed as they are, and made without an engine that keeps anything: what is
inserted into them goes through their views, as messages do.
"""

import json
import os
import re
import shutil
import sys
import tempfile

from chdb.session import Session

sql, store, schema, ndjson, protobuf = (os.path.abspath(path) for path in sys.argv[1:])
folder = tempfile.mkdtemp()
shutil.copy(schema, os.path.join(folder, "flow.proto"))
os.chdir(folder)
session = Session()


def ask(statement):
    return str(session.query(statement, "TSV")).rstrip("\n")


def totals(table):
    row = ask(f"SELECT count(), sum(bytes), sum(packets), sum(bytes * sampling_rate) FROM {table}").split("\t")
    return [int(value) for value in row]


text = "\n".join(line for line in open(sql).read().split("\n") if not line.startswith("--"))
statements = [statement.strip() for statement in text.split(";\n") if statement.strip()]
found = {"statements": len(statements), "kafka": 0}
for statement in statements:
    statement = statement.replace("/var/lib/weir/store", store)
    # The records of a test may be older than what is kept of real ones.
    statement = re.sub(r"\nTTL .*", "", statement)
    if "ENGINE = Kafka" in statement:
        ask(f"EXPLAIN AST {statement}")
        found["kafka"] += 1
        statement = re.sub(r"ENGINE = Kafka.*", "ENGINE = Null", statement, flags=re.DOTALL)
    answer = ask(statement)
    if statement.startswith("SELECT"):
        found["files"] = [line.split("\t") for line in answer.split("\n")]
found["parquet"] = totals("flows")
columns = (
    "SELECT type, toUnixTimestamp64Nano(time_received_ns), toUnixTimestamp64Nano(time_flow_start_ns), "
    "toUnixTimestamp64Nano(time_flow_end_ns), sampler_address, src_addr, dst_addr, etype, proto, src_port, dst_port, bytes, "
    "packets, sampling_rate, tcp_flags, in_if, out_if, src_mac, next_hop FROM flows ORDER BY ALL"
)
wanted = ask(columns)
for table, file, form in [("flows_json", ndjson, "JSONEachRow"), ("flows_protobuf", protobuf, "Protobuf")]:
    ask("TRUNCATE TABLE flows")
    described = ask(f"DESCRIBE TABLE {table}").split("\n")
    structure = ", ".join(" ".join(column.split("\t")[:2]) for column in described)
    ask(
        f"INSERT INTO {table} SELECT * FROM file('{file}', '{form}', '{structure}') "
        "SETTINGS format_schema = 'flow.proto:FlowMessage'"
    )
    found[table] = totals("flows")
    found[f"{table}_equal"] = ask(columns) == wanted
session.close()
print(json.dumps(found))
