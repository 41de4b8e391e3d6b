"""Kills a process that stores deliveries, again and again, and looks for what it had said was stored.

The process is the unit test `control::inbox::kill_tests`, built with optimisation off: it writes groups of deliveries of
2 KB and 100 KB into a real directory, half of them ordered, and attempts them. Half of the kills come while it opens its
files. Another test changes a sector of a file between kill and start. The exit code is that of the tests.
"""

from __future__ import annotations

import argparse
import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS = "control::inbox::kill_tests::"


def main(options: list[str]) -> int:
    """0 when nothing was lost, came back, or was damaged."""
    parser = argparse.ArgumentParser(prog="tests/live/run inbox-crash")
    parser.add_argument("--kills", type=int, default=500, help="how often the process is killed (500)")
    parser.add_argument("--flips", type=int, default=200, help="how often a sector is changed as well (200)")
    given = parser.parse_args(options)
    command = ["cargo", "test", "--lib", "--", "--nocapture", TESTS]
    environment = {**os.environ, "COUNTERSIGN_KILLS": str(given.kills), "COUNTERSIGN_FLIPS": str(given.flips)}
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
