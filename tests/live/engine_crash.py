"""Kills replicas and the engine that keeps their deliveries, again and again under load, and looks for what was acknowledged.

The replicas are real processes with `engine = "redis"`, the engine is a real Redis with `appendfsync always`, and the whole is the
test `crash` of `tests/engine_inbox`. The exit code is that of the test; 77 where there is no `redis-server`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEST = "crash::nothing_that_was_acknowledged_is_lost_when_processes_and_the_engine_are_killed"
LEFT_OUT = 77


def main(options: list[str]) -> int:
    """0 when nothing was lost, came back, or was out of order."""
    parser = argparse.ArgumentParser(prog="tests/live/run engine-crash")
    parser.add_argument("--kills", type=int, default=20, help="how often something is killed (20)")
    given = parser.parse_args(options)
    if shutil.which("redis-server") is None:
        print("left out: redis-server is not installed", file=sys.stderr)
        return LEFT_OUT
    command = ["cargo", "test", "--test", "engine_inbox", "--", "--nocapture", "--exact", TEST]
    environment = {**os.environ, "COUNTERSIGN_KILLS": str(given.kills)}
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
