"""Says what Medusa understands of the medusa.ini files of a directory.

Each file goes through Medusa's own loader, then through the constructor of its own storage driver, with the variables
that `environments.json` has for the file. Credentials and the volume of `local` storage, which are mounts in a pod, are
put below the same directory.
"""

import json
import os
import pathlib
import sys
from collections import defaultdict

import medusa.config
from medusa.storage import Storage
from medusa.storage.s3_base_storage import S3BaseStorage

CREDENTIALS = {
    "azure_blobs": json.dumps({"storage_account": "account", "key": "a2V5"}),
    "google_storage": json.dumps({"type": "service_account"}),
}
AWS = "[default]\naws_access_key_id = id\naws_secret_access_key = key\n[other]\naws_access_key_id = o\naws_secret_access_key = k\n"


def client(chosen, config):
    """Where the S3 client of a driver sends its requests, when the file names a host."""
    if not isinstance(chosen, S3BaseStorage) or not config.host:
        return None
    if chosen.credentials.access_key_id is None:
        # The pods' own identity.
        os.environ.update(AWS_ACCESS_KEY_ID="pod", AWS_SECRET_ACCESS_KEY="pod")
    chosen.connect()
    s3 = chosen.s3_client
    found = {
        "endpoint": s3.meta.endpoint_url,
        "bucket": s3.generate_presigned_url("head_bucket", Params={"Bucket": "bucket"}).partition("?")[0],
    }
    chosen.disconnect()
    return found


def driver(config, directory):
    """The storage driver Medusa chooses, and where it would connect."""
    provider = config.storage_provider
    mounted = {}
    if config.key_file:
        file = directory / f"credentials-{provider}"
        file.write_text(CREDENTIALS.get(provider, AWS))
        mounted["key_file"] = str(file)
    if config.base_path:
        mounted["base_path"] = str(directory / "volume")
    storage = Storage(config=config._replace(**mounted))
    chosen = storage.storage_driver
    return {
        "class": type(chosen).__name__,
        "prefix_path": storage.prefix_path,
        "connection": getattr(chosen, "connection_extra_args", None),
        "client": client(chosen, config),
        "url": getattr(chosen, "azure_blob_service_url", None),
        "max_bandwidth": getattr(getattr(chosen, "transfer_config", None), "max_bandwidth", None),
        "region": getattr(getattr(chosen, "credentials", None), "region", None),
        "access_key": getattr(getattr(chosen, "credentials", None), "access_key_id", None),
    }


def main():
    directory = pathlib.Path(sys.argv[1])
    environments = json.loads((directory / "environments.json").read_text())
    understood = {}
    outside = dict(os.environ)
    for file in sorted(directory.glob("*.ini")):
        os.environ.clear()
        os.environ.update(outside | environments.get(file.stem, {}))
        config = medusa.config.load_config(defaultdict(lambda: None), file)
        sections = {name: getattr(config, name)._asdict() for name in config._fields if name != "file_path"}
        understood[file.stem] = {"sections": sections, "driver": driver(config.storage, directory)}
    json.dump(understood, sys.stdout)


main()
