#!/usr/bin/env python3
"""Prints a CycloneDX 1.5 list of what the binary is built from: every crate of Cargo.lock that is linked into it.

    config/kubernetes/sbom.py BINARY
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def crates() -> list[tuple[str, str]]:
    """Name and version of every crate that is linked into the binary."""
    tree = subprocess.run(
        ["cargo", "tree", "--locked", "--edges", "normal", "--prefix", "none", "--format", "{p}"],
        cwd=ROOT, check=True, capture_output=True, text=True).stdout
    found = {tuple(line.split(" ")[:2]) for line in tree.splitlines() if line}
    return sorted((name, version.removeprefix("v")) for name, version in found)


def facts() -> dict[tuple[str, str], dict[str, str]]:
    """Checksum and licence of each crate."""
    metadata = json.loads(subprocess.run(
        ["cargo", "metadata", "--locked", "--format-version", "1"],
        cwd=ROOT, check=True, capture_output=True, text=True).stdout)
    licences = {(it["name"], it["version"]): it.get("license") or "" for it in metadata["packages"]}
    sums: dict[tuple[str, str], str] = {}
    for block in (ROOT / "Cargo.lock").read_text(encoding="utf-8").split("[[package]]")[1:]:
        fields = dict(line.split(" = ", 1) for line in block.splitlines() if " = " in line)
        key = (fields["name"].strip('"'), fields["version"].strip('"'))
        sums[key] = fields.get("checksum", "").strip('"')
    return {key: {"licence": licence, "checksum": sums.get(key, "")} for key, licence in licences.items()}


def component(name: str, version: str, known: dict[str, str]) -> dict[str, object]:
    """One entry of the list."""
    entry: dict[str, object] = {
        "type": "library", "bom-ref": f"pkg:cargo/{name}@{version}", "name": name, "version": version,
        "purl": f"pkg:cargo/{name}@{version}"}
    if known.get("licence"):
        entry["licenses"] = [{"expression": known["licence"].replace("/", " OR ")}]
    if known.get("checksum"):
        entry["hashes"] = [{"alg": "SHA-256", "content": known["checksum"]}]
    return entry


def main(words: list[str]) -> int:
    """Print the list."""
    binary = Path(words[0])
    known = facts()
    linked = [(name, version) for name, version in crates() if name != "countersign"]
    own = next(version for name, version in crates() if name == "countersign")
    document = {
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "metadata": {"component": {
            "type": "application", "bom-ref": "countersign", "name": "countersign", "version": own,
            "licenses": [{"expression": "Apache-2.0 OR MIT"}],
            "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(binary.read_bytes()).hexdigest()}]}},
        "components": [component(name, version, known.get((name, version), {})) for name, version in linked],
    }
    print(json.dumps(document, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
