"""Readings: CPU time, the counters of the upstream, the machine."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .deliveries import get
from .programs import REPOSITORY, RigError, find, program, said

if TYPE_CHECKING:
    from .servers import Server


@dataclass(frozen=True)
class Cores:
    """Which CPU each party is pinned to."""

    proxy: int
    upstream: int
    load: int

    @property
    def two(self) -> str:
        """Two CPUs, for what has two workers: a third party's if there are but two."""
        spare = sorted(os.sched_getaffinity(0) - {self.proxy, self.upstream, self.load})
        return f"{self.proxy},{spare[0] if spare else self.upstream}"


@dataclass(frozen=True)
class CpuReading:
    """CPU seconds of all of a server's processes since they started."""

    scheduler: float  # the scheduler's account of living threads, nanoseconds
    ticks: float  # utime + stime, clock ticks (10 ms), with ended threads and children
    user: float  # the part of the ticks that is utime


@dataclass(frozen=True)
class UpstreamCount:
    """What reached the upstream since it started."""

    connections: int
    requests: int

    def since(self, earlier: UpstreamCount) -> UpstreamCount:
        """The difference, without the request that made the later reading."""
        return UpstreamCount(self.connections - earlier.connections - 1,
                             self.requests - earlier.requests - 1)


def choose_cores() -> Cores:
    """The first CPU for the proxy, others (no hyper-thread of it) for the rest."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise RigError("needs two CPUs: one for the proxy, one for upstream and load")
    proxy = allowed[0]
    siblings = cpu_list(read(
        f"/sys/devices/system/cpu/cpu{proxy}/topology/thread_siblings_list"))
    others = [cpu for cpu in allowed[1:] if cpu not in siblings] or allowed[1:]
    return Cores(proxy, others[0], others[1] if len(others) > 1 else others[0])


def cpu_list(text: str) -> set[int]:
    """The CPUs in a kernel list such as `0,64` or `0-1`."""
    cpus: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        cpus.update(range(int(first), int(last or first) + 1))
    return cpus


def upstream_count(upstream: Server) -> UpstreamCount:
    """The upstream's counters; reading them counts as a request, too."""
    text = get(upstream.port, "/upstream-status")
    numbers = re.search(r"^\s*(\d+) (\d+) (\d+)\s*$", text, re.MULTILINE)
    if numbers is None:
        raise RigError(f"unreadable upstream status: {text!r}")
    return UpstreamCount(int(numbers[1]), int(numbers[3]))


def cpu_reading(pids: list[int]) -> CpuReading:
    """The CPU time that the processes have used so far."""
    scheduler = ticks = user = 0.0
    for pid in pids:
        for thread in _threads(pid):
            scheduler += int((read(f"{thread}/schedstat").split() or ["0"])[0]) / 1e9
        fields = stat_fields(pid)
        if not fields:
            raise RigError(f"process {pid} ended while it was measured")
        utime, stime, children_utime, children_stime = map(int, fields[11:15])
        user += (utime + children_utime) / os.sysconf("SC_CLK_TCK")
        ticks += (utime + stime + children_utime + children_stime) / os.sysconf("SC_CLK_TCK")
    return CpuReading(scheduler, ticks, user)


def core_busy_seconds(core: int) -> float:
    """Seconds a CPU was not idle since boot, all processes counted."""
    found = re.search(rf"^cpu{core} (.*)$", read("/proc/stat"), re.MULTILINE)
    if found is None:
        return 0.0
    user, nice, system, _idle, _wait, irq, softirq = map(int, found[1].split()[:7])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def stolen_seconds() -> float:
    """Seconds, of all CPUs since boot, that the hypervisor gave to other machines."""
    fields = read("/proc/stat").partition("\n")[0].split()
    return int(fields[8]) / os.sysconf("SC_CLK_TCK") if len(fields) > 8 else 0.0


def machine_facts(binary: Path | None, cores: Cores, given: bool) -> dict[str, str]:
    """The machine and the versions; `given` if the binary is not of this tree."""
    model = re.search(r"^model name\s*: (.*)$", read("/proc/cpuinfo"), re.MULTILINE)
    facts = {
        "CPU": f"{model[1] if model else platform.machine()}, "
               f"{os.cpu_count()} CPUs; proxy on {cores.proxy}, "
               f"upstream on {cores.upstream}, load on {cores.load}",
        "kernel": platform.release(),
        "this tree": source_commit(),
    }
    if find("nginx"):
        facts["nginx"] = said([program("nginx"), "-v"]).partition("/")[2]
    if find("haproxy"):
        facts["haproxy"] = " ".join(said([program("haproxy"), "-v"]).split()[2:3])
    if find("wrk"):
        facts["wrk"] = " ".join(said([program("wrk"), "-v"]).split()[1:2])
    if binary:
        origin = "given with --binary" if given else "built from this tree"
        facts["countersign"] = f"{said([str(binary), '--version'])}, {origin}"
    return facts


def source_commit() -> str:
    """The commit of this tree, and whether files differ from it."""
    git = ["git", "-C", str(REPOSITORY)]
    commit = said([*git, "rev-parse", "--short", "HEAD"])
    if not re.fullmatch("[0-9a-f]+", commit):
        return "unknown commit"
    return commit + (", changed" if said([*git, "status", "--porcelain"]) else "")


def _threads(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []


def stat_fields(pid: int) -> list[str]:
    # The name, in parentheses, may contain spaces: what follows it is regular.
    return read(f"/proc/{pid}/stat").rpartition(")")[2].split()


def read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
