"""Does what the Medusa image's entrypoint does, in a pod that shares its network with the whole machine.

MEDUSA_MODE=GRPC runs medusa.service.grpc.server and ends when medusa.ini changes, so that the container restarts with
the new one. MEDUSA_MODE=RESTORE restores BACKUP_NAME once per RESTORE_KEY, by medusa.service.grpc.restore, and keeps the key
in the data volume. Medusa itself is unmodified; three things that a pod's
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
    """Logs what the image's own script logs: who decides by the log must find the same here."""
    print("Running Medusa in restore mode")
    for name in ("BACKUP_NAME", "RESTORE_KEY"):
        if not os.environ.get(name):
            print(f"{name} env var not set, skipping restore operation")
            return
    backup, key, last = os.environ["BACKUP_NAME"], os.environ["RESTORE_KEY"], ""
    if LAST_RESTORE.exists():
        last = LAST_RESTORE.read_text().strip()
        print(f"Last restore is {last}")
    if last == key:
        print("Skipping restore operation")
        return
    print(f"Restoring backup {backup}")
    sys.argv = ["medusa.service.grpc.restore", INI, key]
    try:
        runpy.run_module("medusa.service.grpc.restore", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        # The image's script goes on only after exit code 0, and Medusa also ends so when there is nothing to restore.
        if end.code not in (None, 0):
            raise
    LAST_RESTORE.write_text(key + "\n")


mode = os.environ.get("MEDUSA_MODE", "")
print(f"MEDUSA_MODE = {mode}")
if mode not in ("GRPC", "RESTORE"):
    sys.exit("MEDUSA_MODE env var must be set to either RESTORE or GRPC")
redirect_localhost()
use_cluster_dns()
if mode == "RESTORE":
    restore()
else:
    serve()
