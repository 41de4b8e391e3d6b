"""Scenario after scenario, each with its targets side by side in rounds that take turns."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import measuring
import rig
import scenarios
from rig import peers

SPARE_SLOTS = 512
DIGEST_SECONDS = 0.3
# The rate at which latency is measured, as a share of the base's greatest, and
# the most that the traffic program sends.
STEADY_SHARE, STEADY_MOST = 0.3, 20_000.0
SETTLE_SECONDS = 0.3
# Deliveries are numbered, each run from another number on.
FIRST_STEP = 10_000_000


@dataclass(frozen=True)
class Digest:
    """What SHA-256 of the scenario's body took on the proxy's core in a round."""

    scenario: str
    round: int
    microseconds: float


@dataclass
class Results:
    """All that has been measured."""

    runs: list[measuring.Run] = field(default_factory=list)
    latencies: list[measuring.Latency] = field(default_factory=list)
    once: list[measuring.Once] = field(default_factory=list)
    digests: list[Digest] = field(default_factory=list)
    # By scenario and target: the rate at which latency was to be measured, beyond what it takes.
    too_slow: dict[tuple[str, str], float] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def median_rate(self, scenario: str, target: str) -> float:
        """Requests per second under wrk: what the target can take; 0 if it was not measured."""
        rates = [run.rate for run in self.runs if (run.scenario, run.target) == (scenario, target)]
        return statistics.median(rates) if rates else 0.0


@dataclass(frozen=True)
class Plan:
    """What is to be measured, and how long."""

    # Each scenario with its targets, in this order.
    matrix: list[tuple[scenarios.Scenario, list[str]]]
    rounds: int
    seconds: float
    # Scenarios and targets whose latency is measured; None: all.
    latency_of: frozenset[tuple[str, str]] | None = None


def base_of(targets: list[str]) -> str:
    """What the others are compared with: nginx, or else the first target."""
    return "nginx" if "nginx" in targets else targets[0]


def run(plan: Plan, binary: Path | None, tools: dict[str, object], results: Results,
        facts: dict[str, str]) -> None:
    """Measure all of it; what fails is told in `results` and left out from there on."""
    for tls in (False, True):
        matrix = [(scenario, targets) for scenario, targets in plan.matrix if scenario.tls == tls]
        if not matrix:
            continue
        with rig.Rig(binary, tls) as bench:
            bench.made = tools["made"]
            facts.update(rig.machine_facts(binary, bench.cores, bool(tools["given"])))
            # What we do ourselves is load, and must not run on the proxy's core.
            before = os.sched_getaffinity(0)
            os.sched_setaffinity(0, {bench.cores.upstream, bench.cores.load})
            try:
                upstream = bench.start_upstream()
                for scenario, targets in matrix:
                    Field(bench, upstream, scenario, str(tools["traffic"]), plan, results).play(
                        targets)
            finally:
                os.sched_setaffinity(0, before)


class Field:
    """One scenario with its servers."""

    def __init__(self, bench: rig.Rig, upstream: rig.Server, scenario: scenarios.Scenario,
                 traffic: str, plan: Plan, results: Results) -> None:
        self._bench, self._upstream, self._scenario = bench, upstream, scenario
        self._traffic, self._plan, self._results = traffic, plan, results
        self._servers: list[rig.Server] = []
        self._idle: dict[str, int] = {}

    def play(self, targets: list[str]) -> None:
        """Start the targets, measure them in turn, end them."""
        for name in targets:
            if self._scenario.suits(name):
                self._guarded(name, lambda name=name: self._start(name))
        for number in range(1, self._plan.rounds + 1):
            if self._scenario.body >= 64 << 10:
                self._results.digests.append(Digest(
                    self._scenario.name, number, scenarios.digest_microseconds(
                        self._bench, self._traffic, self._scenario.body, DIGEST_SECONDS)))
            self._each(number, self._cost)
        if self._scenario.has_latency and (rate := self._steady_rate()):
            for number in range(1, self._plan.rounds + 1):
                self._each(number, lambda server, number: self._latency(server, number, rate))
        self._each(1, self._once)
        for server in self._servers:
            self._bench.stop(server)

    def _start(self, name: str) -> None:
        server = self._launch(name)
        time.sleep(SETTLE_SECONDS)
        self._idle[name] = measuring.resident(measuring.pids_of(server), "VmRSS")
        rig.check_target(self._bench, server, self._upstream)
        self._servers.append(server)

    def _launch(self, name: str) -> rig.Server:
        slots = 2 * self._scenario.connections + SPARE_SLOTS
        return self._bench.start_target(name, self._upstream, slots, self._scenario.body,
                                        max(rig.POOL, self._scenario.connections))

    def _renewed(self, server: rig.Server) -> rig.Server:
        """The same target, started anew in the same place.

        Where a process happens to lie in memory makes some per cent, for as long as it lives:
        rounds of one process would agree with each other and be wrong together.
        """
        place = self._servers.index(server)
        self._servers.remove(server)
        self._bench.stop(server)
        self._servers.insert(place, self._launch(server.name))
        return self._servers[place]

    def _each(self, number: int, action: Callable[..., None]) -> None:
        # No target is always the first: what drifts within a round is shared.
        turn = (number - 1) % max(1, len(self._servers))
        for server in self._servers[turn:] + self._servers[:turn]:
            if not self._guarded(server.name, lambda server=server: action(server, number)):
                self._drop(server.name)

    def _drop(self, name: str) -> None:
        # By name: the process may be another one by now, or none if it did not start again.
        for server in [server for server in self._servers if server.name == name]:
            self._servers.remove(server)
            self._bench.stop(server)

    def _guarded(self, name: str, action: Callable[..., None]) -> bool:
        """Whether it went well; a target that fails is out of this scenario."""
        try:
            action()
        except (rig.RigError, OSError, subprocess.SubprocessError) as error:
            failure = f"{self._scenario.name}, {name}: {error}"
            rig.say(f"left out: {failure}")
            self._results.failures.append(failure)
            return False
        return True

    def _cost(self, server: rig.Server, number: int) -> None:
        if number > 1:
            server = self._renewed(server)
        run = measuring.measure(self._bench, server, self._upstream, number, self._scenario,
                                self._plan.seconds)
        self._results.runs.append(run)
        rig.say(f"{self._scenario.name:<16} round {number}/{self._plan.rounds}  "
                f"{run.target:<22} {run.cpu_us:8.2f} us  {run.rate:8.0f} req/s")

    def _steady_rate(self) -> float:
        own = [run for run in self._results.runs if run.scenario == self._scenario.name]
        if not own:
            return 0.0
        base = base_of(list(dict.fromkeys(run.target for run in own)))
        rate = self._results.median_rate(self._scenario.name, base)
        return max(1.0, min(STEADY_MOST, STEADY_SHARE * rate))

    def _latency(self, server: rig.Server, number: int, rate: float) -> None:
        wanted = self._plan.latency_of
        named = wanted is None or (self._scenario.name, server.name) in wanted
        if not named or not server.forwards:
            return
        if rate > self._results.median_rate(self._scenario.name, server.name):
            # The queue would grow for as long as the round lasts.
            self._results.too_slow[self._scenario.name, server.name] = rate
            return
        loop = scenarios.OpenLoop(self._bench, self._traffic)
        # One unmeasured moment, so that every connection to the upstream is there.
        loop.run(server.port, self._scenario, rate, peers.WARM_UP_SECONDS,
                 FIRST_STEP * (2 * number))
        said = loop.run(server.port, self._scenario, rate, self._plan.seconds,
                        FIRST_STEP * (2 * number + 1))
        if said["passed"] != said["sent"] or said["resent"]:
            raise rig.RigError(f"at a steady rate not all deliveries were accepted: {said}")
        kept = said["kept"]
        latency = measuring.Latency(self._scenario.name, number, server.name, rate,
                                    kept["p50"], kept["p99"], kept["p999"])
        self._results.latencies.append(latency)
        rig.say(f"{self._scenario.name:<16} round {number}/{self._plan.rounds}  "
                f"{server.name:<22} p99 {latency.p99} us at {rate:.0f}/s")

    def _once(self, server: rig.Server, _number: int) -> None:
        self._results.once.append(measuring.once(self._bench, server, self._scenario,
                                                 self._idle[server.name]))
