"""Tables of what was measured, as Markdown and JSON."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict
from pathlib import Path

import matrix
import measuring
import scenarios
from rig import peers

NEW_CONNECTION_SHARE = 0.01
FOREIGN_SHARE = 0.10
NONE = "–"


def ratios(results: matrix.Results, scenario: str, target: str, base: str) -> list[float]:
    """Per round: CPU time per request, as a share of the base's in that round."""
    cost = {(run.round, run.target): run.cpu_us for run in results.runs
            if run.scenario == scenario}
    return [cost[number, target] / cost[number, base]
            for number in sorted({number for number, _ in cost})
            if (number, target) in cost and (number, base) in cost]


def spread(values: list[float], digits: int) -> str:
    """The median, and the least and greatest value, as text."""
    if not values:
        return NONE
    middle = f"{statistics.median(values):.{digits}f}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def median(values: list[float], digits: int) -> str:
    """The median as text."""
    return f"{statistics.median(values):.{digits}f}" if values else NONE


def table(results: matrix.Results, scenario: scenarios.Scenario) -> list[str]:
    """The Markdown table of one scenario."""
    runs = [run for run in results.runs if run.scenario == scenario.name]
    targets = list(dict.fromkeys(run.target for run in runs))
    if not targets:
        return []
    base = matrix.base_of(targets)
    rates = [one.rate for one in results.latencies if one.scenario == scenario.name]
    steady = f" at {rates[0]:.0f}/s" if rates else ""
    lines = [f"### `{scenario.name}`: {scenario.what}", "",
             f"| target | CPU µs/request | user | system | ratio to {base} | requests/s "
             f"| p50 µs{steady} | p99 | p99.9 | idle MiB | peak MiB "
             "| switches/request | syscalls/request |",
             "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"]
    lines += [row(results, scenario.name, target, base) for target in targets]
    digests = [one.microseconds for one in results.digests if one.scenario == scenario.name]
    if digests:
        lines += ["", f"SHA-256 of such a body on the proxy's core: {spread(digests, 1)} µs."]
    return [*lines, ""]


def row(results: matrix.Results, scenario: str, target: str, base: str) -> str:
    """The line of one target."""
    own = [run for run in results.runs if (run.scenario, run.target) == (scenario, target)]
    late = [one for one in results.latencies if (one.scenario, one.target) == (scenario, target)]
    once = [one for one in results.once if (one.scenario, one.target) == (scenario, target)]
    name = target
    if not peers.PEERS[target].verifies:
        name += " (verifies nothing)"
    elif not peers.PEERS[target].forwards:
        name += " (forwards nothing)"
    cells = [
        name, spread([run.cpu_us for run in own], 2), median([run.user_us for run in own], 2),
        median([run.system_us for run in own], 2),
        spread(ratios(results, scenario, target, base), 3), median([run.rate for run in own], 0),
        median([one.p50 for one in late], 0), spread([one.p99 for one in late], 0),
        median([one.p999 for one in late], 0),
        median([one.rss_idle / 2**20 for one in once], 1),
        median([one.rss_peak / 2**20 for one in once], 1),
        median([run.switches for run in own], 3),
        median([one.syscalls for one in once if one.syscalls is not None], 2)]
    return "| " + " | ".join(cells) + " |"


def remarks(results: matrix.Results) -> list[str]:
    """What a reader must know before trusting the table."""
    runs, found = results.runs, []
    ticks = sum(run.cpu_seconds != run.cpu_seconds_scheduler for run in runs)
    found.append("CPU time: the scheduler's account in nanoseconds "
                 "(`/proc/PID/task/*/schedstat`), which agreed with utime + stime "
                 f"(10 ms ticks) in {len(runs) - ticks} of {len(runs)} runs"
                 + ("; the others count by ticks." if ticks else ".")
                 + " User and system are its shares by utime and stime.")
    two = {name for name in peers.PEERS if peers.workers_of(name) == 2}
    noisy = [run for run in runs if run.target not in two
             and run.core_busy_seconds - run.cpu_seconds > FOREIGN_SHARE * run.seconds]
    if noisy:
        found.append(f"Noise: in {len(noisy)} of {len(runs)} runs something else used more "
                     f"than {FOREIGN_SHARE:.0%} of the proxy's CPU. Measure again on a "
                     "quiet machine.")
    counters = sorted({one.syscalls_by for one in results.once})
    if counters:
        found.append(f"System calls, in a run of their own, counted by: {', '.join(counters)}.")
    for scenario, target in dict.fromkeys((run.scenario, run.target) for run in runs):
        own = [run for run in runs if (run.scenario, run.target) == (scenario, target)]
        opened = sum(run.upstream_connections for run in own)
        share = opened / sum(run.requests for run in own)
        # Each connection of the load may open one.
        few = scenarios.SCENARIOS[scenario].connections * len(own)
        if share > NEW_CONNECTION_SHARE and opened > few:
            found.append(f"{target} opened a new upstream connection for {share:.1%} of "
                         f"its requests in {scenario}: it does not get the good of keep-alive.")
    for (scenario, target), rate in results.too_slow.items():
        found.append(f"{target} took {results.median_rate(scenario, target):.0f} requests/s in "
                     f"{scenario}, and so cannot show a latency at {rate:.0f}/s.")
    return found + [f"Left out: {failure}" for failure in results.failures]


def markdown(results: matrix.Results, facts: dict[str, str], plan: matrix.Plan) -> str:
    """The whole report."""
    lines = [f"Medians (least–greatest) of {plan.rounds} interleaved rounds of {plan.seconds} s; "
             "one core for the proxy. Ratios are those of CPU time per request within a round.",
             ""]
    for scenario in scenarios.SCENARIOS.values():
        lines += table(results, scenario)
    lines += [f"- {line}" for line in remarks(results)]
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    return "\n".join(lines)


def document(results: matrix.Results, facts: dict[str, str],
             arguments: dict[str, object]) -> dict[str, object]:
    """All that was measured, for programs."""
    pairs = dict.fromkeys((run.scenario, run.target) for run in results.runs)
    summary = []
    for scenario, target in pairs:
        base = matrix.base_of([name for where, name in pairs if where == scenario])
        summary.append({"scenario": scenario, "target": target, "base": base,
                        "ratios": ratios(results, scenario, target, base)})
    return {"machine": facts, "arguments": arguments,
            "runs": [run_row(run) for run in results.runs],
            "latencies": [asdict(one) for one in results.latencies],
            "once": [asdict(one) for one in results.once],
            "digests": [asdict(one) for one in results.digests],
            "ratios": summary, "remarks": remarks(results)}


def run_row(run: measuring.Run) -> dict[str, object]:
    """A run with what is derived from it."""
    return {**asdict(run), "cpu_us_per_request": run.cpu_us, "user_us": run.user_us,
            "system_us": run.system_us, "requests_per_second": run.rate,
            "context_switches_per_request": run.switches}


def write_json(path: str, whole: dict[str, object]) -> None:
    """Write it down."""
    Path(path).write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
