"""Does what the Medusa image's entrypoint does, in a pod that shares its network with the whole machine.

MEDUSA_MODE=GRPC runs medusa.service.grpc.server and ends when medusa.ini changes, so that the container restarts with
the new one. MEDUSA_MODE=RESTORE restores once per RESTORE_KEY. Medusa itself is unmodified; three things that a pod's
own network would do are done here:

- the gRPC server listens on the pod's address (TESTBED_ADDRESS) where it asks for every interface,
- the pod's own localhost is that address, for the ports of the containers beside it,
- names come from the testbed's cluster DNS (TESTBED_DNS_HOST, TESTBED_DNS_PORT), which listens on no privileged port.
"""
import hashlib
import os
import pathlib
import runpy
import socket
import sys
import tempfile
import threading
import time

INI = "/etc/medusa/medusa.ini"
LAST_RESTORE = pathlib.Path("/var/lib/cassandra/.last-restore")
ADDRESS = os.environ["TESTBED_ADDRESS"]
POD_PORTS = {7000, 7199, 8080, 9042}


def redirect_localhost():
    connect = socket.socket.connect

    def to_pod(self, address):
        if isinstance(address, tuple) and address[0] in ("127.0.0.1", "localhost") and address[1] in POD_PORTS:
            address = (ADDRESS, *address[1:])
        return connect(self, address)

    socket.socket.connect = to_pod


def use_cluster_dns():
    import dns.resolver

    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers = [os.environ["TESTBED_DNS_HOST"]]
    resolver.port = int(os.environ["TESTBED_DNS_PORT"])
    resolver.lifetime = 5
    dns.resolver.default_resolver = resolver


def listen_on_pod_address():
    from grpc.aio import _server

    def rewrite(method):
        return lambda self, address, *rest: method(self, address.replace("[::]", ADDRESS), *rest)

    _server.Server.add_insecure_port = rewrite(_server.Server.add_insecure_port)
    _server.Server.add_secure_port = rewrite(_server.Server.add_secure_port)


def exit_when_changed():
    def digest():
        return hashlib.md5(pathlib.Path(INI).read_bytes()).digest()

    def watch(first):
        marker = pathlib.Path(tempfile.gettempdir()) / "medusa_backup_in_progress"
        while True:
            time.sleep(5)
            if digest() != first and not marker.exists():
                print("medusa.ini has changed, exiting for a restart")
                os._exit(0)

    threading.Thread(target=watch, args=(digest(),), daemon=True).start()


def serve():
    listen_on_pod_address()
    exit_when_changed()
    sys.argv = ["medusa.service.grpc.server", "server.py"]
    runpy.run_module("medusa.service.grpc.server", run_name="__main__", alter_sys=True)


def restore():
    key = os.environ.get("RESTORE_KEY")
    for name in ("BACKUP_NAME", "RESTORE_KEY"):
        if not os.environ.get(name):
            print(f"{name} is not set, skipping the restore")
            return
    if LAST_RESTORE.exists() and LAST_RESTORE.read_text().strip() == key:
        print(f"restore {key} is done already, skipping it")
        return
    print(f"restoring backup {os.environ['BACKUP_NAME']}")
    sys.argv = ["medusa.service.grpc.restore", INI, key]
    runpy.run_module("medusa.service.grpc.restore", run_name="__main__", alter_sys=True)
    LAST_RESTORE.write_text(key + "\n")


redirect_localhost()
use_cluster_dns()
if os.environ.get("MEDUSA_MODE") == "RESTORE":
    restore()
else:
    serve()
