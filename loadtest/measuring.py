"""One target under one load: what it cost. Readings of /proc, perf and strace."""

from __future__ import annotations

import http.client
import re
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import rig
import scenarios
from rig import peers

SYSCALL_SECONDS = 1.0
# The two accounts of CPU time must agree this well, or the coarser one counts.
AGREEMENT_SHARE, AGREEMENT_SECONDS = 0.02, 0.03
# Requests under way when the load stops reach the upstream but not its count.
COUNT_SHARE = 0.001


@dataclass(frozen=True)
class Run:
    """One target under load in one round of a scenario."""

    scenario: str
    round: int
    target: str
    requests: int
    seconds: float
    cpu_seconds: float
    user_share: float
    cpu_seconds_scheduler: float
    cpu_seconds_ticks: float
    core_busy_seconds: float
    upstream_connections: int
    context_switches: int

    @property
    def cpu_us(self) -> float:
        """CPU microseconds of the target per request."""
        return self.cpu_seconds * 1e6 / self.requests

    @property
    def user_us(self) -> float:
        """Of them, those in user space."""
        return self.cpu_us * self.user_share

    @property
    def system_us(self) -> float:
        """Of them, those in the kernel."""
        return self.cpu_us - self.user_us

    @property
    def switches(self) -> float:
        """Context switches per request."""
        return self.context_switches / self.requests

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds


@dataclass(frozen=True)
class Latency:
    """Latencies of one round at a steady rate, in microseconds."""

    scenario: str
    round: int
    target: str
    rate: float
    p50: int
    p99: int
    p999: int


@dataclass(frozen=True)
class Once:
    """What is read once for a target in a scenario."""

    scenario: str
    target: str
    rss_idle: int
    rss_peak: int
    syscalls: float | None  # per request
    syscalls_by: str


def pids_of(target: rig.Server) -> list[int]:
    """The processes that are read. What webhook starts ends at once, and counts when it has."""
    return [target.child.pid] if target.name == "webhook" else target.pids()


def measure(bench: rig.Rig, target: rig.Server, upstream: rig.Server, number: int,
            scenario: scenarios.Scenario, seconds: float) -> Run:
    """Warm the target up, load it, and read what it cost."""
    load = scenarios.load_of(bench, target.port, scenario)
    load.run(peers.PEERS[target.name].warm_up)
    pids = pids_of(target)
    count = rig.upstream_count(upstream)
    busy = rig.core_busy_seconds(bench.cores.proxy)
    switches = context_switches(pids)
    cpu = rig.cpu_reading(pids)
    with Scraping(target.admin):
        counts = load.run(seconds)
    cpu_after = rig.cpu_reading(pids)
    switches = context_switches(pids) - switches
    busy = rig.core_busy_seconds(bench.cores.proxy) - busy
    reached = rig.upstream_count(upstream).since(count)
    where = f"{target.name}, {scenario.name}, round {number}"
    check_counts(where, target, scenario, counts, reached.requests)
    if pids_of(target) != pids:
        raise rig.RigError(f"{where}: processes came or went")
    scheduler = cpu_after.scheduler - cpu.scheduler
    ticks = cpu_after.ticks - cpu.ticks
    agree = abs(scheduler - ticks) <= AGREEMENT_SECONDS + AGREEMENT_SHARE * ticks
    return Run(scenario.name, number, target.name, counts["requests"],
               counts["microseconds"] / 1e6, scheduler if agree else ticks,
               (cpu_after.user - cpu.user) / ticks if ticks else 0.0,
               scheduler, ticks, busy, reached.connections, switches)


def check_counts(where: str, target: rig.Server, scenario: scenarios.Scenario,
                 counts: dict[str, int], reached: int) -> None:
    """Refuse a run in which the target did not do its work."""
    requests = counts["requests"]
    if counts["broken"] or not requests:
        raise rig.RigError(f"{where}: not all deliveries were answered: {counts}")
    # Those under way at the end of the warm-up, and at the end.
    slack = 2 * scenario.connections + requests * COUNT_SHARE
    wanted = scenario.refused(requests, target.verifies)
    if wanted in (0, requests):
        wrong = counts["not_2xx"] != wanted
    else:
        wrong = abs(counts["not_2xx"] - wanted) > slack
    if wrong:
        raise rig.RigError(f"{where}: {wanted:.0f} deliveries were to be refused: {counts}")
    passed = requests - counts["not_2xx"] if target.forwards else 0
    if abs(reached - passed) > slack:
        raise rig.RigError(f"{where}: {passed} deliveries were answered but "
                           f"{reached} reached the upstream")


class Scraping:
    """Asks the admin port for metrics once a second, if there is one."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._problem: str | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._scrape, daemon=True)

    def __enter__(self) -> None:
        if self._port:
            self._thread.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._over.set()
        if self._port:
            self._thread.join()
        # A run without what it is to cost does not count.
        if self._problem and kind is None:
            raise rig.RigError(f"the admin port tells no metrics: {self._problem}")

    def _scrape(self) -> None:
        while not self._over.wait(1.0):
            try:
                text = rig.get(self._port, "/metrics")
            except (OSError, http.client.HTTPException) as error:
                self._problem = str(error)
                return
            if "countersign_" not in text:
                self._problem = f"{text[:100]!r}"


def context_switches(pids: list[int]) -> int:
    """Voluntary and other context switches of all threads so far."""
    total = 0
    for pid in pids:
        for status in Path(f"/proc/{pid}/task").glob("*/status"):
            try:
                text = status.read_text(encoding="ascii", errors="replace")
            except OSError:
                continue  # a thread that has just ended
            total += sum(map(int, re.findall(r"voluntary_ctxt_switches:\s+(\d+)", text)))
    return total


def resident(pids: list[int], key: str) -> int:
    """`VmRSS` or `VmHWM` of all processes, in bytes."""
    total = 0
    for pid in pids:
        text = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
        found = re.search(rf"^{key}:\s+(\d+) kB$", text, re.MULTILINE)
        if found is None:
            raise rig.RigError(f"process {pid} has ended")
        total += int(found[1]) * 1024
    return total


def syscalls(bench: rig.Rig, target: rig.Server,
             scenario: scenarios.Scenario) -> tuple[float | None, str]:
    """System calls per request in a short run of its own, and who counted them.

    perf counts in the kernel and hardly disturbs; strace stops the target at
    each call, so that it is slower and batches differently.
    """
    if target.name == "webhook":
        return None, "not available: its commands come and go"
    pids = ",".join(map(str, pids_of(target)))
    out = bench.folder / "syscalls"
    load = scenarios.load_of(bench, target.port, scenario)
    attempts = (
        ("perf", ["stat", "-x,", "-o", str(out), "-e", "raw_syscalls:sys_enter", "-p", pids],
         r"(?m)^(\d+),"),
        ("strace", ["-c", "-f", "-o", str(out),
                    *(word for pid in pids.split(",") for word in ("-p", pid))],
         r"(?m)^100\.\d+\s+\S+\s+(?:\d+\s+)?(\d+)(?:\s+\d+)?\s+total"),
    )
    for name, arguments, pattern in attempts:
        path = rig.find(name)
        if path is None:
            continue
        out.unlink(missing_ok=True)
        tracer = subprocess.Popen([path, *arguments], stdin=subprocess.DEVNULL,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                  preexec_fn=rig.end_with_parent, start_new_session=True)
        try:
            time.sleep(0.3)  # until it has attached
            counts = load.run(SYSCALL_SECONDS) if tracer.poll() is None else None
        finally:
            if tracer.poll() is None:
                tracer.send_signal(signal.SIGINT)
            try:
                tracer.wait(5)
            except subprocess.TimeoutExpired:
                tracer.kill()
                tracer.wait()
        text = out.read_text(encoding="utf-8", errors="replace") if out.exists() else ""
        found = re.search(pattern, text)
        if counts and counts["requests"] and found:
            return int(found[1]) / counts["requests"], name
    return None, "not available"


def once(bench: rig.Rig, target: rig.Server, scenario: scenarios.Scenario, idle: int) -> Once:
    """What is read once, at the end: peak memory, system calls."""
    peak = resident(pids_of(target), "VmHWM")
    count, by = syscalls(bench, target, scenario)
    return Once(scenario.name, target.name, idle, peak, count, by)


def missing(names: list[str]) -> dict[str, str]:
    """Targets that cannot be measured here, and why; installs what it can."""
    left = {}
    for name in names:
        try:
            rig.install_programs(peers.needed([name]))
        except (rig.RigError, subprocess.SubprocessError) as error:
            left[name] = str(error)
    return left
