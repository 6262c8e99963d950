"""Runs CQL against one node: cql.py ADDRESS load ROWS | count | execute STATEMENT…

load makes keyspace shop and table shop.orders where they are missing and writes ROWS rows; count counts them. execute
prints each row as a line of JSON.
"""
import json
import sys

from cassandra import ConsistencyLevel
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
from cassandra.concurrent import execute_concurrent_with_args
from cassandra.policies import WhiteListRoundRobinPolicy

KEYSPACE = "CREATE KEYSPACE IF NOT EXISTS shop WITH replication = {'class': 'NetworkTopologyStrategy', '%s': %d}"
TABLE = "CREATE TABLE IF NOT EXISTS shop.orders (id int PRIMARY KEY, note text)"


def connect(address):
    profile = ExecutionProfile(
        load_balancing_policy=WhiteListRoundRobinPolicy([address]),
        consistency_level=ConsistencyLevel.ALL,
        request_timeout=60,
    )
    cluster = Cluster([address], execution_profiles={EXEC_PROFILE_DEFAULT: profile})
    return cluster, cluster.connect()


def load(cluster, session, rows):
    local = session.execute("SELECT data_center FROM system.local").one()
    nodes = sum(host.datacenter == local.data_center for host in cluster.metadata.all_hosts())
    session.execute(KEYSPACE % (local.data_center, min(3, nodes)))
    session.execute(TABLE)
    insert = session.prepare("INSERT INTO shop.orders (id, note) VALUES (?, ?)")
    values = [(number, f"order {number} of datacenter {local.data_center}") for number in range(rows)]
    execute_concurrent_with_args(session, insert, values, concurrency=50)


def main():
    address, verb, *rest = sys.argv[1:]
    cluster, session = connect(address)
    if verb == "load":
        load(cluster, session, int(rest[0]))
    if verb in ("load", "count"):
        print(session.execute("SELECT count(*) FROM shop.orders").one()[0])
    if verb == "execute":
        for statement in rest:
            for row in session.execute(statement):
                print(json.dumps(row._asdict(), default=str))
    cluster.shutdown()


main()
