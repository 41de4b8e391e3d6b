"""The bench of `dos`: its proxies, the application behind them, the traffic, and what a scenario found."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import attacks
import rig

FRESH_EVERY = 4
# The configuration that dos.toml is filled in with: the defaults of countersign.
PROXY = {"rate": 100, "burst": 200, "connections_per_client": 256,
         "requests_per_connection": 10_000, "capacity": 262_144, "when_full": "refuse",
         "over_budget": "queue"}
UNLIMITED = {"rate": 1_000_000, "burst": 1_000_000, "requests_per_connection": 1_000_000_000,
             "when_full": "evict_oldest"}


@dataclass
class Verdict:
    """One expectation: what was wanted, what came, and whether it held."""

    where: str
    wanted: str
    got: str
    met: bool


@dataclass
class Phase:
    """What the probe measured in one phase, and what the proxy spent."""

    probe: dict
    cpu: float  # CPU seconds of the proxy
    stolen: float  # share of all CPUs that the hypervisor gave to others


@dataclass
class Result:
    """One scenario: the probe without and with the attack, and what the proxy did."""

    scenario: str
    does: str
    unit: str
    seconds: float
    quiet: list[Phase] = field(default_factory=list)
    attacked: list[Phase] = field(default_factory=list)
    attack: dict = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    lines_left_out: int = 0
    records: int = 0  # bytes that access log and audit trail grew by
    rss_before: int = 0
    peak: int = 0

    def total(self, phases: list[Phase], key: str) -> int:
        """A count of the probe, over all rounds."""
        return sum(phase.probe[key] for phase in phases)

    def total_of(self, phases: list[Phase], kind: str) -> int:
        """How many deliveries of a kind were answered, over all rounds."""
        return sum(phase.probe[kind]["count"] for phase in phases)

    def latency(self, phases: list[Phase], kind: str, rank: str) -> list[int]:
        """A latency in microseconds: median, least and greatest of the rounds."""
        values = [phase.probe[kind][rank] for phase in phases]
        return [int(median(values)), min(values), max(values)]

    def attacks(self) -> int:
        """How many there were of what the attack is counted by."""
        answers = sum(self.attack["answers"].values())
        return self.attack["opened"] if self.unit == "connection" else answers

    def cost_us(self) -> float:
        """CPU time of the proxy for each, beyond what the genuine deliveries cost."""
        used = sum(phase.cpu for phase in self.attacked) - sum(phase.cpu for phase in self.quiet)
        return used * 1e6 / max(self.attacks(), 1)


class Bench:
    """What all scenarios need: the rig, the traffic program, the application."""

    def __init__(self, bench: rig.Rig, binary: Path, traffic: Path,
                 arguments: argparse.Namespace) -> None:
        self.rig, self.binary, self.traffic = bench, binary, traffic
        self.arguments = arguments
        self.verdicts: list[Verdict] = []
        self.memory: list[str] = []  # what check adds up
        self.first = int(time.time() * 1000) * 1_000_000
        self.priority = {name: priority(name) for name in ("upstream", "probe")}
        self.upstream = self.start_application("application", self.priority["upstream"])
        self.large = self.start_application("large", [])

    def start_application(self, name: str, prefix: list[str]) -> rig.Server:
        """What stands behind the proxy."""
        command = [*prefix, str(self.traffic), "upstream", "--listen", "127.0.0.1:{port}"]
        return self.rig.start_with(name, "dos.toml", command, self.rig.cores.upstream, **PROXY,
                                   upstream=1, large=1, driver="auto", more="")

    def start_proxy(self, name: str, **values: object) -> rig.Server:
        """A countersign of its own for a scenario, with the defaults of `PROXY`."""
        filled = {"upstream": self.upstream.port, "large": self.large.port,
                  "driver": self.arguments.driver, "more": "", **PROXY, **values}
        server = self.rig.start_with(f"countersign-{name}", "dos.toml",
                                     [str(self.binary), "run", "--config", "{config}"],
                                     self.rig.cores.proxy, **filled)
        check(self, server)
        return server

    def bounds(self, server: rig.Server) -> list[str]:
        """What `check` adds up for the configuration of a proxy."""
        config = self.rig.folder / f"{server.name}.toml"
        done = subprocess.run([str(self.binary), "check", "--config", str(config)],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=20, check=False)
        _, _, memory = done.stdout.partition("memory that clients can make this process hold")
        return [" ".join(line.split()) for line in memory.splitlines() if line.strip()]

    def numbers(self, count: int) -> int:
        """The first of so many numbers that no delivery has had yet."""
        first = self.first
        self.first += count
        return first

    def start(self, command: list[str], core: int, nice: list[str]) -> subprocess.Popen:
        """Start a part of the traffic."""
        return subprocess.Popen(
            [rig.program("taskset"), "-c", str(core), *nice, str(self.traffic), *command],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
            preexec_fn=rig.end_with_parent)

    def probe(self, port: int, seconds: float, tls: bool) -> subprocess.Popen:
        """Start the genuine deliveries."""
        rate = self.arguments.rate
        return self.start(
            ["probe", "--target", f"127.0.0.1:{port}", "--direct",
             f"127.0.0.1:{self.upstream.port}", "--secret-file", str(self.rig.folder / "secret"),
             "--source", attacks.PROBE_ADDRESS, "--rate", str(rate), "--seconds", str(seconds),
             "--fresh-every", str(FRESH_EVERY), "--tls", str(tls).lower(),
             "--first", str(self.numbers(int(rate * seconds) + 1))],
            self.rig.cores.load, self.priority["probe"])

    def attack(self, target: str, words: list[str], seconds: float) -> subprocess.Popen:
        """Start an attack."""
        return self.start(["attack", "--target", target, "--seconds", str(seconds), *words],
                          self.rig.cores.load, [])

    def application(self, order: str = "counts") -> dict:
        """Ask the application what it has seen, or tell it what to do."""
        return json.loads(rig.get(self.upstream.port, f"/application/{order}"))

    def expect(self, where: str, wanted: str, got: str, met: bool) -> None:
        """Note an expectation."""
        self.verdicts.append(Verdict(where, wanted, got, met))
        if not met:
            rig.say(f"{where}: MISSED: {wanted}: {got}")


def priority(who: str) -> list[str]:
    """The prefix that lets a program go before the attackers on their CPU."""
    level = "20" if who == "probe" else "10"
    for prefix in (["chrt", "-f", level], ["nice", "-n", "-5"]):
        path = rig.find(prefix[0])
        if path and subprocess.run([path, *prefix[1:], "true"], stderr=subprocess.DEVNULL,
                                   check=False).returncode == 0:
            return [path, *prefix[1:]]
    return []


def finish(child: subprocess.Popen, what: str, seconds: float) -> dict:
    """Wait for a part of the traffic; the last line it said."""
    try:
        said, _ = child.communicate(timeout=seconds + 30)
    except subprocess.TimeoutExpired as error:
        raise rig.RigError(f"{what} did not end in time") from error
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
    if child.returncode != 0 or not said.strip():
        raise rig.RigError(f"{what} failed")
    return json.loads(said.strip().splitlines()[-1])


def check(bench: Bench, server: rig.Server) -> None:
    """Refuse to measure a proxy that does not do its work."""
    body = rig.delivery_body(1024, bench.numbers(1))
    for secret, status in ((bench.rig.secret, 200), (b"not the secret", 401)):
        got = rig.post(server.port, body, rig.delivery_headers(rig.signature(secret, body)))
        if got != status:
            raise rig.RigError(f"{server.name}: answered {got} instead of {status}")


def status(server: rig.Server, key: str) -> int:
    """A line of /proc/PID/status of the proxy, in bytes."""
    text = Path(f"/proc/{server.child.pid}/status").read_text(encoding="ascii")
    return int(re.search(rf"^{key}:\s+(\d+) kB$", text, re.MULTILINE)[1]) * 1024


def reasons(bench: Bench, server: rig.Server) -> tuple[dict[str, int], int]:
    """The reasons in the proxy's log, and how many lines it left out."""
    text = (bench.rig.folder / f"{server.name}.out").read_text(encoding="utf-8", errors="replace")
    left_out = sum(int(count) for count in re.findall(r"(\d+) further lines were left out", text))
    return dict(Counter(re.findall(r" reason=(\w+)", text))), left_out


def added(one: dict, other: dict) -> dict:
    """Counts of two rounds of an attack."""
    if not one:
        return other
    whole = {key: one[key] + other[key] for key in one if key not in ("answers", "open_peak", "latency")}
    answers = Counter(one["answers"]) + Counter(other["answers"])
    return whole | {"answers": dict(answers), "open_peak": max(one["open_peak"], other["open_peak"])}
