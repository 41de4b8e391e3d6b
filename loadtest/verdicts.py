"""What the project has set itself as targets, beside what was measured."""

from __future__ import annotations

import statistics
import subprocess
from dataclasses import dataclass
from pathlib import Path

import matrix
import rig
import scenarios
import stations

IDLE_CONNECTIONS, IDLE_TLS_CONNECTIONS = 10_000, 1_000
STATION_TARGETS = ("nginx", "haproxy", "countersign")
OURS = "countersign"


@dataclass(frozen=True)
class Station:
    """Resident bytes of a target with idle connections."""

    tls: bool
    target: str
    connections: int
    rss: int


@dataclass(frozen=True)
class Verdict:
    """One row of the table."""

    scenario: str
    against: str
    target: str
    measured: str
    outcome: str


# Scenario, who is measured, against whom, and the most that the ratio may be.
COSTS = (
    ("256", OURS, "nginx", 0.85), ("256", OURS, "nginx-lua", 0.78), ("256", OURS, "hyper", 0.80),
    ("256", OURS, "haproxy", 0.65), ("256", OURS, "envoy-lua", 0.25),
    ("256", OURS, "express", 0.12), ("8k", OURS, "nginx", 0.95),
    ("forged", OURS, "nginx-lua", 0.80), ("forged", OURS, "hyper", 0.95),
    ("forged-8k", OURS, "nginx-lua", 0.80), ("forged-8k", OURS, "hyper", 0.95),
    ("256", "countersign-unix", OURS, 0.90),
    ("tls", OURS, "nginx", 0.80), ("tls", OURS, "hyper", 0.92),
    ("tls-connection", OURS, "nginx", 0.55), ("tls-connection", OURS, "hyper", 1.0),
    ("256", "countersign-two", OURS, 1.05), ("256", "countersign-epoll", OURS, None),
)
# Scenarios in which the price of hashing is added to that of nginx.
DIGESTS = ("64k", "1m")
USER_SHARE_MOST = 0.15
P99_MOST = 1.0
UNMEASURED = (
    ("256", "heap allocations in the steady state", "0",
     "tests/allocations.rs counts them: more than 0 fails"),
)


def plan(rounds: int, seconds: float) -> matrix.Plan:
    """All that the table needs, and nothing else."""
    # Names in the order in which they are needed, each once.
    needed = {scenario: dict.fromkeys((OURS, "nginx")) for scenario in DIGESTS}
    for scenario, subject, against, _ in COSTS:
        needed.setdefault(scenario, {}).update(dict.fromkeys((OURS, subject, against)))
    pairs = [(scenario, list(needed[name])) for name, scenario in scenarios.SCENARIOS.items()
             if name in needed]
    return matrix.Plan(pairs, rounds, seconds,
                       latency_of=frozenset({("256", OURS), ("256", "nginx")}))


def measure_memory(binary: Path | None, measured: list[Station],
                   results: matrix.Results) -> None:
    """Open idle connections to one target after the other."""
    rig.raise_file_limit()
    for tls, count in ((False, IDLE_CONNECTIONS), (True, IDLE_TLS_CONNECTIONS)):
        with rig.Rig(binary, tls) as bench:
            upstream = bench.start_upstream()
            for name in STATION_TARGETS:
                try:
                    one = stations.measure(bench, name, upstream, count, 256)
                except (rig.RigError, OSError, subprocess.SubprocessError) as error:
                    results.failures.append(f"{count} idle connections, {name}: {error}")
                    continue
                measured.append(Station(tls, name, count, one.idle.rss))


def judge(results: matrix.Results, measured: list[Station]) -> list[Verdict]:
    """Each target with its outcome."""
    rows = [cost(results, *wanted) for wanted in COSTS]
    rows[7:7] = [with_digest(results, scenario) for scenario in DIGESTS]
    rows += [latency(results), user_share(results)]
    idle = {one.target: one.rss_idle for one in results.once if one.scenario == "256"}
    rows.append(memory("idle process", idle))
    for tls, count in ((False, IDLE_CONNECTIONS), (True, IDLE_TLS_CONNECTIONS)):
        rss = {one.target: one.rss for one in measured if one.tls == tls}
        rows.append(memory(f"{count} idle {'TLS' if tls else 'keep-alive'} connections", rss))
    rows += [Verdict(scenario, against, target, f"not measured: {why}", "–")
             for scenario, against, target, why in UNMEASURED]
    return rows


def cost(results: matrix.Results, scenario: str, subject: str, against: str,
         most: float | None) -> Verdict:
    """CPU time per request, as a share of another's in the same round."""
    spent = costs(results, scenario)
    values = [spent[number, subject] / spent[number, against] for number, name in spent
              if name == subject and (number, against) in spent]
    name = scenario if subject == OURS else f"{scenario}, {subject}"
    return ratio_row(name, against, most, values)


def with_digest(results: matrix.Results, scenario: str) -> Verdict:
    """The same, against nginx and the price of hashing together."""
    spent = costs(results, scenario)
    digests = {one.round: one.microseconds for one in results.digests
               if one.scenario == scenario}
    values = [spent[number, OURS] / (spent[number, "nginx"] + digests[number])
              for number in digests
              if (number, OURS) in spent and (number, "nginx") in spent]
    return ratio_row(scenario, "nginx + SHA-256 of the body", 1.0, values)


def latency(results: matrix.Results) -> Verdict:
    """p99 at a steady rate, against nginx's in the same round."""
    p99 = {(one.round, one.target): one.p99 for one in results.latencies
           if one.scenario == "256"}
    values = [p99[number, OURS] / p99[number, "nginx"] for number, name in p99
              if name == OURS and (number, "nginx") in p99]
    return ratio_row("256, p99 at 30 % of nginx's rate", "nginx", P99_MOST, values)


def user_share(results: matrix.Results) -> Verdict:
    """How much of our CPU time is spent in user space."""
    shares = [run.user_share for run in results.runs
              if (run.scenario, run.target) == ("256", OURS)]
    return ratio_row("256, user space's share of CPU time", "–", USER_SHARE_MOST, shares)


def memory(what: str, rss: dict[str, int]) -> Verdict:
    """Ours is to be below that of both others."""
    if not all(name in rss for name in STATION_TARGETS):
        return Verdict(f"resident: {what}", "nginx, haproxy", "below both", "not measured", "–")
    said = ", ".join(f"{name} {rss[name] / 2**20:.1f}" for name in ("nginx", "haproxy"))
    met = rss[OURS] < min(rss["nginx"], rss["haproxy"])
    return Verdict(f"resident: {what}", f"{said} MiB", "below both",
                   f"{rss[OURS] / 2**20:.1f} MiB", "met" if met else "MISSED")


def costs(results: matrix.Results, scenario: str) -> dict[tuple[int, str], float]:
    """CPU microseconds per request, by round and target."""
    return {(run.round, run.target): run.cpu_us for run in results.runs
            if run.scenario == scenario}


def ratio_row(scenario: str, against: str, most: float | None, values: list[float]) -> Verdict:
    """A row about a ratio, judged by its median."""
    target = "reported" if most is None else f"≤ {most:.2f}"
    if not values:
        return Verdict(scenario, against, target, "not measured", "–")
    middle = statistics.median(values)
    text = f"{middle:.3f} ({min(values):.3f}–{max(values):.3f})"
    if most is None:
        return Verdict(scenario, against, target, text, "–")
    return Verdict(scenario, against, target, text, "met" if middle <= most else "MISSED")


def table(rows: list[Verdict]) -> list[str]:
    """The Markdown."""
    lines = ["| scenario | against | target | measured: median (least–greatest) | |",
             "|---|---|---|---:|---|"]
    return lines + [f"| {row.scenario} | {row.against} | {row.target} | {row.measured} "
                    f"| {row.outcome} |" for row in rows]
