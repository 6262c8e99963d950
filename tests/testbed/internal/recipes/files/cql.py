"""Runs CQL against one node, at consistency ALL.

load makes a keyspace (shop) and its table orders where they are missing and writes rows; count counts them. execute
prints each row as a line of JSON.
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
    load.add_argument("--replicas", type=int, help="per row (default: up to 3, as there are nodes)")
    for verb in load, verbs.add_parser("count"):
        verb.add_argument("--keyspace", default="shop")
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


def load(cluster, session, asked):
    local = session.execute("SELECT data_center FROM system.local").one()
    nodes = sum(host.datacenter == local.data_center for host in cluster.metadata.all_hosts())
    session.execute(KEYSPACE % (asked.keyspace, local.data_center, asked.replicas or min(3, nodes)))
    session.execute(TABLE % asked.keyspace)
    insert = session.prepare(f"INSERT INTO {asked.keyspace}.orders (id, note) VALUES (?, ?)")
    values = [(number, f"order {number} of datacenter {local.data_center}") for number in range(asked.rows)]
    execute_concurrent_with_args(session, insert, values, concurrency=50)


def main():
    asked = parse()
    cluster, session = connect(asked.address)
    if asked.verb == "load":
        load(cluster, session, asked)
    if asked.verb in ("load", "count"):
        print(session.execute(f"SELECT count(*) FROM {asked.keyspace}.orders").one()[0])
    if asked.verb == "execute":
        for statement in asked.statements:
            for row in session.execute(statement):
                print(json.dumps(row._asdict(), default=str))
    cluster.shutdown()


main()
