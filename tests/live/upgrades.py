"""Upgrades under load, as systemd makes them with countersign.socket: one audit trail, one admin port, no failed delivery.

README.md says what is measured and how to read it.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import restart
import rig

CONFIG = """[server]
workers = 2
driver = "{driver}"
drain_delay = "{drain_delay}"
drain_grace = "25s"
[[listener]]
address = "127.0.0.1:{port}"
[upstream]
address = "127.0.0.1:{upstream}"
[admin]
address = "127.0.0.1:{admin}"
[access_log]
output = "off"
[audit]
file = "audit.jsonl"
key = {{ id = "bench", file = "secret" }}
rotate_size = "1MiB"
seal_every = "1s"
[[route]]
path = "{route}"
scheme = "github"
secrets = [{{ id = "bench", file = "secret" }}]
replay = {{ mode = "off" }}
"""
# The sockets get the places 3 and 4, as sd_listen_fds(3) has it. The process keeps the number of the shell.
SCRIPT = 'exec 3<&0 4<&1 0</dev/null 1>/dev/null; LISTEN_PID=$$ LISTEN_FDS=2 exec "$0" run --config "$1"'
SETTLE_SECONDS = 0.3
PATIENCE = 60.0


@dataclass
class Replaced:
    """One replacement, in seconds: until the old process had ended, and until the new one was ready."""

    ended: float
    ready: float


class Manager:
    """What systemd does: it holds the sockets, starts the process with them, and is told what it does."""

    def __init__(self, binary: Path, folder: Path, backlog: int) -> None:
        self._binary, self._folder = binary, folder
        self._sockets = [socket.create_server(("127.0.0.1", 0), backlog=backlog) for _ in range(2)]
        self.port, self.admin = (it.getsockname()[1] for it in self._sockets)
        self._ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._ear.bind(str(folder / "notify"))
        self._ear.settimeout(PATIENCE)
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it says that it is ready."""
        environment = {**os.environ, "NOTIFY_SOCKET": str(self._folder / "notify")}
        with (self._folder / "countersign.log").open("ab") as log:
            self._child = subprocess.Popen(
                ["sh", "-c", SCRIPT, str(self._binary), str(self._folder / "upgrades.toml")], cwd=self._folder,
                stdin=self._sockets[0], stdout=self._sockets[1], stderr=log, env=environment)
        self._await("READY=1")

    def stop(self) -> None:
        """SIGTERM, as `systemctl restart` sends it; it must say so and end with 0."""
        assert self._child is not None
        self._child.terminate()
        self._await("STOPPING=1")
        code = self._child.wait(PATIENCE)
        if code != 0:
            raise rig.RigError(f"the process ended with {code}\n{self.log()}")
        self._child = None

    def end(self) -> None:
        """End what is left."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
        for it in (*self._sockets, self._ear):
            it.close()

    def log(self) -> str:
        """The end of what all processes have said."""
        return (self._folder / "countersign.log").read_text(encoding="utf-8", errors="replace")[-2000:]

    def _await(self, word: str) -> None:
        """What it says of its phases comes in order; statuses between them are passed over."""
        while True:
            try:
                said = self._ear.recv(4096).decode()
            except TimeoutError as error:
                raise rig.RigError(f"it does not say {word}\n{self.log()}") from error
            if said.startswith(word):
                return


@dataclass
class Prober(threading.Thread):
    """Asks the admin port whether the process lives, again and again, as a probe does."""

    port: int
    answered: int = 0
    failures: list[str] = field(default_factory=list)
    stopping: bool = False

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    __hash__ = threading.Thread.__hash__

    def run(self) -> None:
        """Ask until told to stop."""
        while not self.stopping:
            way = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
            try:
                way.request("GET", "/live")
                status = way.getresponse().status
                if status == 200:
                    self.answered += 1
                else:
                    self.failures.append(f"status {status}")
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(type(error).__name__)
            finally:
                way.close()
            time.sleep(0.05)


def replace(manager: Manager) -> Replaced:
    """The old process ends, the new one starts with the same sockets."""
    begun = time.monotonic()
    manager.stop()
    ended = time.monotonic() - begun
    manager.start()
    return Replaced(ended, time.monotonic() - begun)


def measure(bench: rig.Rig, binary: Path, arguments: argparse.Namespace) -> dict[str, object]:
    """Load, upgrades, and what came of both."""
    upstream = bench.start_upstream()
    manager = Manager(binary, bench.folder, backlog=4096)
    (bench.folder / "upgrades.toml").write_text(CONFIG.format(
        port=manager.port, admin=manager.admin, upstream=upstream.port, route=rig.ROUTE,
        driver="epoll" if arguments.epoll else "auto", drain_delay=arguments.drain_delay), encoding="utf-8")
    context = multiprocessing.get_context("fork")
    stop, results = context.Event(), context.Queue()
    kinds = [kind for kind in restart.KINDS for _ in range(getattr(arguments, kind))]
    request = restart.request_bytes(bench, manager.port, arguments.body)
    clients = [context.Process(target=restart.send, daemon=True, args=(kind, manager.port, request, False, stop, results))
               for kind in kinds]
    prober = Prober(manager.admin)
    replaced = []
    try:
        manager.start()
        before = rig.upstream_count(upstream)
        begun = time.monotonic()
        for client in (*clients, prober):
            client.start()
        try:
            for number in range(1, arguments.upgrades + 1):
                time.sleep(SETTLE_SECONDS)
                replaced.append(replace(manager))
                if number % 10 == 0:
                    rig.say(f"upgrade {number} of {arguments.upgrades}")
            time.sleep(SETTLE_SECONDS)
        finally:
            prober.stopping = True
            stop.set()
        tallies = [results.get(timeout=PATIENCE) for _ in clients]
        prober.join(PATIENCE)
        seconds = time.monotonic() - begun
        reached = rig.upstream_count(upstream).since(before).requests
        manager.stop()
    finally:
        manager.end()
    return {"seconds": seconds, "took": [it.ended for it in replaced], "ready": [it.ready for it in replaced],
            "reached": reached, "tallies": [asdict(tally) for tally in tallies],
            "probes": prober.answered, "probes_failed": prober.failures}


def trail(binary: Path, folder: Path) -> dict[str, int]:
    """What `audit verify` says of the trail, and what its records count."""
    files = sorted(folder.glob("audit.jsonl?*")) + [folder / "audit.jsonl"]
    done = subprocess.run([binary, "audit", "verify", "--key-file", folder / "secret", "--key-id", "bench", *files],
                          capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise rig.RigError(f"the trail is not whole:\n{done.stdout}{done.stderr}")
    print(f"\n`audit verify`: {done.stdout.strip().splitlines()[-1]}")
    count = {"files": len(files), "starts": 0, "forwarded": 0}
    for file in files:
        with file.open(encoding="ascii") as lines:
            for line in lines:
                record = json.loads(line)
                count["starts"] += record.get("event") == "start"
                count["forwarded"] += record.get("reason") == "forwarded"
    return count


def report(outcome: dict[str, object], records: dict[str, int], arguments: argparse.Namespace) -> bool:
    """Print the figures; whether everything held."""
    held = restart.report(outcome, arguments, "upgrades")
    ready = sorted(outcome["ready"]) or [0.0]
    answered = sum(tally["answered"] for tally in outcome["tallies"])
    failed = outcome["probes_failed"]
    print(f"from SIGTERM to the new process ready: {ready[len(ready) // 2]:.2f} s (median), {ready[-1]:.2f} s (longest)")
    print(f"questions to the admin port: {outcome['probes']} answered, {len(failed)} failed {sorted(set(failed)) or ''}")
    print(f"the trail, in {records['files']} files: {records['starts']} starts, {records['forwarded']} deliveries forwarded")
    return held and not failed and records["starts"] == arguments.upgrades + 1 and records["forwarded"] == answered


def main(words: list[str]) -> int:
    """Read the arguments, measure, report."""
    parser = argparse.ArgumentParser("tests/live/run upgrades", description=__doc__.partition("\n")[0])
    parser.add_argument("--upgrades", type=int, default=50)
    parser.add_argument("--drain-delay", default="0s")
    parser.add_argument("--fresh", type=int, default=4, help="clients with a connection per delivery")
    parser.add_argument("--kept", type=int, default=4, help="clients that keep their connection")
    parser.add_argument("--pausing", type=int, default=8, help="the same with pauses up to 1.5 s")
    parser.add_argument("--body", type=int, default=1024)
    parser.add_argument("--epoll", action="store_true", help="on epoll instead of io_uring")
    parser.add_argument("--binary", help="measure this one instead of building")
    parser.add_argument("--json", type=Path, help="keep the figures here")
    arguments = parser.parse_args(words)
    arguments.tls, arguments.restarts = False, arguments.upgrades
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    try:
        rig.install_programs(["nginx", "taskset"])
        rig.raise_file_limit()
        binary = Path(str(rig.countersign_binary(arguments.binary, ["countersign"]))).resolve()
        with rig.Rig(binary) as bench:
            outcome = measure(bench, binary, arguments)
            records = trail(binary, bench.folder)
    except (rig.RigError, OSError) as error:
        rig.say(f"tests/live/run upgrades: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    if arguments.json:
        arguments.json.write_text(json.dumps(outcome), encoding="utf-8")
    return 0 if report(outcome, records, arguments) else 1
