#!/usr/bin/env python3
"""Writes what the program is made of as CycloneDX 1.5, from `cargo metadata` on standard input: sbom.py TARGET

Only what is linked in: normal dependencies for the target, not those of tests and build scripts. The same input gives
the same output, byte for byte.
"""

import json
import sys

ROOT = "medusa-fleet"


def linked(metadata):
    """The packages reached from the root by normal dependencies, root first."""
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    open_ids, found = [metadata["resolve"]["root"]], []
    while open_ids:
        package = open_ids.pop()
        if package in found:
            continue
        found.append(package)
        for dependency in nodes[package]["deps"]:
            if any(kind["kind"] is None for kind in dependency["dep_kinds"]):
                open_ids.append(dependency["pkg"])
    return found


def component(package, kind):
    """One component; its licence as Cargo.toml spells it."""
    name, version = package["name"], package["version"]
    made = {
        "type": kind,
        "name": name,
        "version": version,
        "purl": f"pkg:cargo/{name}@{version}",
        "bom-ref": f"pkg:cargo/{name}@{version}",
    }
    if package["license"]:
        made["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    return made


def main():
    target = sys.argv[1]
    metadata = json.load(sys.stdin)
    packages = {package["id"]: package for package in metadata["packages"]}
    root, *others = (packages[package] for package in linked(metadata))
    assert root["name"] == ROOT, root["name"]
    others.sort(key=lambda package: (package["name"], package["version"]))
    sbom = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": component(root, "application"),
            "properties": [{"name": "cargo:target", "value": target}],
        },
        "components": [component(package, "library") for package in others],
    }
    json.dump(sbom, sys.stdout, indent=1)
    print()


main()
