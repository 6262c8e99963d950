"""Runs CQL against one node, at consistency ALL.

load makes keyspaces and in each a table orders where they are missing, and writes rows; count counts them. The keyspace is
shop if none is named, and has as many replicas, up to 3, as there are nodes if no number is given. execute prints each row
as a line of JSON.
"""
import argparse
import json

from cassandra import ConsistencyLevel
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
from cassandra.concurrent import execute_concurrent_with_args
from cassandra.policies import WhiteListRoundRobinPolicy

KEYSPACE = "CREATE KEYSPACE IF NOT EXISTS %s WITH replication = {'class': 'NetworkTopologyStrategy', '%s': %d}"
TABLE = "CREATE TABLE IF NOT EXISTS %s.orders (id int PRIMARY KEY, note text)"


def parse():
    parser = argparse.ArgumentParser(prog="cql ADDRESS", description=__doc__)
    parser.add_argument("address")
    verbs = parser.add_subparsers(dest="verb", required=True)
    load = verbs.add_parser("load")
    load.add_argument("rows", type=int)
    for verb in load, verbs.add_parser("count"):
        verb.add_argument("keyspaces", nargs="*", default=["shop"], metavar="KEYSPACE[:REPLICAS]")
    verbs.add_parser("execute").add_argument("statements", nargs="+")
    return parser.parse_args()


def connect(address):
    profile = ExecutionProfile(
        load_balancing_policy=WhiteListRoundRobinPolicy([address]),
        consistency_level=ConsistencyLevel.ALL,
        request_timeout=60,
    )
    cluster = Cluster([address], execution_profiles={EXEC_PROFILE_DEFAULT: profile})
    return cluster, cluster.connect()


def load(cluster, session, keyspace, replicas, rows):
    local = session.execute("SELECT data_center FROM system.local").one()
    nodes = sum(host.datacenter == local.data_center for host in cluster.metadata.all_hosts())
    session.execute(KEYSPACE % (keyspace, local.data_center, int(replicas or min(3, nodes))))
    session.execute(TABLE % keyspace)
    insert = session.prepare(f"INSERT INTO {keyspace}.orders (id, note) VALUES (?, ?)")
    values = [(number, f"order {number} of datacenter {local.data_center}") for number in range(rows)]
    execute_concurrent_with_args(session, insert, values, concurrency=50)


def main():
    asked = parse()
    cluster, session = connect(asked.address)
    if asked.verb in ("load", "count"):
        for named in asked.keyspaces:
            keyspace, _, replicas = named.partition(":")
            if asked.verb == "load":
                load(cluster, session, keyspace, replicas, asked.rows)
            print(session.execute(f"SELECT count(*) FROM {keyspace}.orders").one()[0])
    if asked.verb == "execute":
        for statement in asked.statements:
            for row in session.execute(statement):
                print(json.dumps(row._asdict(), default=str))
    cluster.shutdown()


main()
