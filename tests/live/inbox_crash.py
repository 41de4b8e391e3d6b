"""Kills a process that stores deliveries, again and again, and looks for what it had said was stored.

The process is the unit test `control::inbox::kill_tests`, built with optimisation off: it writes groups of deliveries of
2 KB and 100 KB into a real directory. Half of the kills come while it opens its files. The exit code is that of the test.
"""

from __future__ import annotations

import argparse
import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEST = "control::inbox::kill_tests::killed_at_any_moment_it_keeps_what_it_accepted"


def main(options: list[str]) -> int:
    """0 when nothing was lost, came back, or was damaged."""
    parser = argparse.ArgumentParser(prog="tests/live/run inbox-crash")
    parser.add_argument("--kills", type=int, default=500, help="how often the process is killed (500)")
    kills = parser.parse_args(options).kills
    command = ["cargo", "test", "--lib", "--", "--exact", TEST]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, "COUNTERSIGN_KILLS": str(kills)}, check=False).returncode
