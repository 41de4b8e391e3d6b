"""What `dos` expects of a scenario."""

from __future__ import annotations

import re

import attacks
import rig
from dos_bench import Bench, Result
from dos_report import mib, ms


def judge(bench: Bench, scenario: attacks.Scenario, result: Result,
          seen: tuple[dict, dict]) -> None:
    """Hold the probe and the attack against what is expected."""
    name = scenario.name
    for where, phases in (("quiet", result.quiet), ("attacked", result.attacked)):
        passed, sent = result.total(phases, "passed"), result.total(phases, "sent")
        bench.expect(name, f"every genuine delivery passes ({where})", f"{passed} of {sent}",
                     passed == sent)
    calm = result.latency(result.quiet, "kept", "p99")[0]
    for kind in ("kept", "fresh"):
        p99, _, worst = result.latency(result.attacked, kind, "p99")
        bench.expect(name, f"p99 of genuine deliveries on {kind} connections at most {scenario.most_ms:g} ms",
                     f"{ms(p99)} ms, in one round {ms(worst)}",
                     p99 <= scenario.most_ms * 1000)
    p99 = result.latency(result.attacked, "kept", "p99")[0]
    if scenario.records_most:
        grown = result.records / result.attack["seconds"]
        bench.expect(name, f"access log and audit trail grow by at most {scenario.records_most / 1e6:g} MB/s",
                     f"{grown / 1e6:.3f} MB/s", grown <= scenario.records_most)
    if scenario.factor:
        bench.expect(name, f"p99 at most {scenario.factor:g} times the quiet one, by the medians",
                     f"{p99 / calm:.2f} ({ms(calm)} → {ms(p99)} ms)",
                     p99 <= scenario.factor * calm)
    answers = result.attack["answers"]
    odd = {kind: count for kind, count in answers.items() if kind not in scenario.answers}
    bench.expect(name, "attackers are answered nothing but "
                 + (", ".join(sorted(scenario.answers)) or "nothing"), str(odd or "so it is"), not odd)
    for kind, least in scenario.at_least.items():
        bench.expect(name, f"at least {least} times {kind}", str(answers.get(kind, 0)),
                     answers.get(kind, 0) >= least)
    before, after = seen
    reached = sum(after.get(path, 0) - before.get(path, 0) for path in after
                  if path not in ("/direct", scenario.route))
    genuine = sum(result.total(phases, "sent") for phases in (result.quiet, result.attacked))
    # A captured delivery is genuine, once.
    genuine += len(result.attacked) if scenario.captures else 0
    bench.expect(name, "what reached the application is what is genuine, each once",
                 f"{reached} of {genuine}", reached == genuine)
    bench.expect(name, "the attack took place",
                 f"{result.attack['opened']} connections, {result.attack['requests']} requests",
                 result.attack["opened"] >= min(64, len(result.attacked) * least_connections(scenario)))


def least_connections(scenario: attacks.Scenario) -> int:
    """How many connections the attackers have at a time."""
    asked = scenario.options["connections"]
    return asked if isinstance(asked, int) else 64


def judge_proxy(bench: Bench, name: str, server: rig.Server, result: Result) -> None:
    """Hold the proxy itself against what is expected, when all is over."""
    bench.memory = bench.bounds(server)
    bound = bound_of(bench.memory)
    growth = result.peak - result.rss_before
    bench.expect(name, "memory grows by no more than check adds up",
                 f"{mib(growth)} of {mib(bound)} MiB", growth <= bound)
    body = rig.delivery_body(1024, bench.numbers(1))
    got = rig.post(server.port, body, rig.delivery_headers(rig.signature(bench.rig.secret, body)))
    bench.expect(name, "a genuine delivery passes afterwards", str(got), got == 200)


def bound_of(lines: list[str]) -> int:
    """The sum of what `check` adds up, in bytes."""
    units = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
    found = re.search(r"^all:? .*?(\d+(?:\.\d+)?) ?([KMG]?i?B)$", "\n".join(lines), re.MULTILINE)
    if found is None:
        raise rig.RigError(f"check says no sum of memory: {lines}")
    return int(float(found[1]) * units[found[2]])
