"""Fills, freezes and breaks the disk of an inbox, and looks whether it refuses, loses nothing, and recovers.

Root is needed: in a mount namespace of its own a tmpfs and an ext4 file system of 64 MiB each are mounted, and filled, freed and
remounted by the unit tests `control::inbox::disk_tests`. With strace, calls of fdatasync fail or wait.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODULE = "control::inbox::disk_tests::"
SKIPPED = 77


def test_binary() -> str:
    """The unit tests of the library, built."""
    command = ["cargo", "test", "--lib", "--no-run", "--message-format", "json"]
    built = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True)
    artifacts = [json.loads(line) for line in built.stdout.splitlines() if line.startswith("{")]
    found = [it["executable"] for it in artifacts if it.get("executable") and it["target"]["name"] == "countersign"]
    return found[-1]


def run(binary: str, mount: str, test: str, inject: str | None = None) -> int:
    """One test on a disk that is mounted for it alone."""
    with tempfile.TemporaryDirectory(prefix="inbox-disk-") as folder:
        image, disk = f"{folder}/image", f"{folder}/disk"
        os.mkdir(disk)
        if mount == "ext4":
            with open(image, "wb") as file:
                file.truncate(64 << 20)
            subprocess.run(["mkfs.ext4", "-q", image], check=True)
            prepare = f"mount -o loop {image} {disk}"
        else:
            prepare = f"mount -t tmpfs -o size=64m tmpfs {disk}"
        # One injection is one rule: which calls, and what becomes of them.
        trace = f"strace -f -qq -o /dev/null -e trace=fdatasync -e inject=fdatasync:{inject}" if inject else ""
        script = f"{prepare} && {trace} {binary} --exact --ignored --nocapture {MODULE}{test}; end=$?; umount {disk}; exit $end"
        environment = {**os.environ, "COUNTERSIGN_INBOX_DISK": disk}
        print(f"-- {mount}: {test} {inject or ''}", flush=True)
        return subprocess.run(["unshare", "-m", "sh", "-c", script], env=environment, check=False).returncode


def main(options: list[str]) -> int:
    """0 when every disk was survived."""
    parser = argparse.ArgumentParser(prog="tests/live/run inbox-disk")
    parser.parse_args(options)
    missing = [name for name in ("unshare", "mkfs.ext4", "strace") if shutil.which(name) is None]
    if os.geteuid() != 0 or missing:
        print(f"left out: it needs root, and {' '.join(missing) or 'nothing else'}")
        return SKIPPED
    binary = test_binary()
    ends = []
    for mount in ("tmpfs", "ext4"):
        ends.append(run(binary, mount, "a_disk_that_is_filled_and_freed"))
        ends.append(run(binary, mount, "a_disk_that_is_read_only_at_the_start"))
    failing = "a_disk_whose_sync_fails_or_waits"
    ends.append(run(binary, "ext4", failing, "error=EIO:when=40..60"))
    ends.append(run(binary, "ext4", failing, "error=ENOSPC:when=41+37"))
    ends.append(run(binary, "ext4", failing, "delay_enter=200ms"))
    return 1 if any(ends) else 0
