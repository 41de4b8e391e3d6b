"""Kill countersign again and again while it writes an audit trail, and prove the trail.

Each round starts the proxy on the same trail, sends deliveries over several
connections, kills the process with SIGKILL after a random fraction of a
second, and proves everything there is with `countersign audit verify`. With
fsync = "each", every delivery that was answered 200 must have its record;
with "interval", the lost ones are counted.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import random
import subprocess
import threading
import time
from pathlib import Path

import rig

CONFIG = """[server]
workers = 2
[[listener]]
address = "127.0.0.1:{port}"
[upstream]
address = "127.0.0.1:{upstream}"
[access_log]
output = "off"
[audit]
file = "audit.jsonl"
key = {{ id = "bench", file = "secret" }}
fsync = "{fsync}"
rotate_size = "1MiB"
seal_every = "1s"
[[route]]
path = "{route}"
scheme = "github"
secrets = [{{ id = "bench", file = "secret" }}]
"""


class Lane(threading.Thread):
    """One connection that delivers until it breaks."""

    def __init__(self, bench: rig.Rig, port: int, name: str) -> None:
        super().__init__(daemon=True)
        self._bench, self._port, self._name = bench, port, name
        self.answered: list[str] = []

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
        number = 0
        while True:
            number += 1
            body = json.dumps({"lane": self._name, "number": number}).encode()
            signed = rig.signature(self._bench.secret, body)
            try:
                connection.request("POST", rig.ROUTE, body, rig.delivery_headers(signed))
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException):
                return
            if answer.status != 200:
                raise rig.RigError(f"a genuine delivery was answered {answer.status}")
            self.answered.append(hashlib.sha256(body).hexdigest())


def prove(binary: Path, bench: rig.Rig) -> list[Path]:
    """The files of the trail, when they are whole."""
    files = sorted(bench.folder.glob("audit.jsonl*"))
    done = subprocess.run(
        [binary, "audit", "verify", "--key-file", bench.folder / "secret",
         "--key-id", "bench", *files], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise rig.RigError(f"the trail is not whole:\n{done.stdout}{done.stderr}")
    return files


def recorded(files: list[Path]) -> set[str]:
    """The digests of all bodies that have a record."""
    digests = set()
    for file in files:
        with file.open(encoding="ascii") as lines:
            for line in lines:
                digests.add(json.loads(line).get("body_sha256"))
    return digests


def start(binary: Path, config: Path) -> subprocess.Popen[str]:
    """Start countersign, and wait until it says that it is ready.

    That its port is open says nothing: the kernel may still be closing the
    sockets of the process that was killed.
    """
    child = subprocess.Popen([binary, "run", "--config", config], text=True,
                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.PIPE)
    said = []
    for line in child.stderr or ():
        said.append(line)
        if " ready: " in line:
            return child
    child.wait()
    raise rig.RigError(f"it does not start:\n{''.join(said)}")


def rounds(binary: Path, bench: rig.Rig, arguments: argparse.Namespace) -> None:
    """Kill, restart and prove as often as was asked for."""
    upstream = bench.start_upstream()
    port = rig.free_port()
    config = bench.folder / "audit.toml"
    config.write_text(CONFIG.format(port=port, upstream=upstream.port, route=rig.ROUTE,
                                    fsync=arguments.fsync), encoding="utf-8")
    answered: list[str] = []
    torn = lost_now = 0
    for number in range(1, arguments.kills + 1):
        child = start(binary, config)
        try:
            lanes = [Lane(bench, port, f"{number}-{lane}") for lane in range(8)]
            for lane in lanes:
                lane.start()
            time.sleep(random.uniform(0.05, arguments.seconds))
        finally:
            child.kill()
            child.wait()
        for lane in lanes:
            lane.join(10)
            answered += lane.answered
        # The last line may be torn; it is the next start that removes it.
        last = (bench.folder / "audit.jsonl").read_bytes()
        torn += bool(last) and not last.endswith(b"\n")
        if number % 20 == 0:
            rig.say(f"{number} kills, {len(answered)} answered, {torn} torn lines")
        child = start(binary, config)
        child.terminate()
        if child.wait(10) != 0:
            raise rig.RigError(f"after round {number}: it does not end well")
        prove(binary, bench)
    files = prove(binary, bench)
    there = recorded(files)
    lost_now = sum(digest not in there for digest in answered)
    print(f"{arguments.kills} kills, fsync = {arguments.fsync}: every trail whole; "
          f"{len(answered)} deliveries answered 200, {lost_now} of them without a record; "
          f"{torn} torn lines removed; {len(files)} files")
    if arguments.fsync == "each" and lost_now:
        raise rig.RigError("an answer was given before its record was there")


def main(words: list[str]) -> int:
    """Run; 0 when everything held."""
    parser = argparse.ArgumentParser("tests/live/run audit-crash", description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=200, metavar="N")
    parser.add_argument("--seconds", type=float, default=0.4, metavar="S",
                        help="the longest that a process lives")
    parser.add_argument("--fsync", choices=("each", "interval"), default="each")
    parser.add_argument("--binary", metavar="PATH",
                        help="a countersign to kill; built from this tree without it")
    arguments = parser.parse_args(words)
    try:
        rig.install_programs(["nginx", "taskset"])
        binary = rig.countersign_binary(arguments.binary, ["countersign"])
        with rig.Rig(binary) as bench:
            rounds(Path(str(binary)), bench, arguments)
    except (rig.RigError, OSError, subprocess.SubprocessError) as error:
        rig.say(f"tests/live/run audit-crash: {error}")
        return 1
    return 0
