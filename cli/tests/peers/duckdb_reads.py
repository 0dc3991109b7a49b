"""Prints what DuckDB makes of the Parquet files under a store, as one JSON object: duckdb_reads.py STORE."""

import json
import sys

import duckdb

files = f"{sys.argv[1]}/flows/date=*/hour=*/*.parquet"
flows = f"read_parquet('{files}', hive_partitioning = true)"
totals = duckdb.sql(f"SELECT count(*), sum(bytes), sum(packets), sum(bytes * sampling_rate) FROM {flows}")
records, octets, packets, scaled = totals.fetchall()[0]
by_address = duckdb.sql(
    f"SELECT dst_addr, count(*), sum(bytes) AS octets FROM {flows} GROUP BY 1 ORDER BY octets DESC, 1 LIMIT 5"
)
first = duckdb.sql(f"SELECT epoch_ns(min(time_received_ns)), epoch_ns(max(time_flow_end_ns)) FROM {flows}")
print(
    json.dumps(
        {
            "records": records,
            "octets": int(octets),
            "packets": int(packets),
            "scaled": int(scaled),
            "top": [[address, count, int(octets)] for address, count, octets in by_address.fetchall()],
            "times": list(first.fetchall()[0]),
        }
    )
)
