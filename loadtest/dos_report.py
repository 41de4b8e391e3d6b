"""What `dos` prints: Markdown tables, and the list of expectations."""

from __future__ import annotations


def ms(microseconds: int) -> str:
    """A latency in milliseconds."""
    return f"{microseconds / 1000:.2f}"


def mib(size: int) -> str:
    """A size in MiB."""
    return f"{size / 2**20:.1f}"


def scenario_table(results: list) -> list[str]:
    """Genuine deliveries, and what the attack cost."""
    lines = ["| scenario | genuine passed, quiet | under attack | p50 ms | p99 ms | range of p99 "
             "| fresh p99 ms | direct p99 ms | attack | answers | proxy CPU | CPU µs each "
             "| RSS MiB, peak |",
             "|---|---:|---:|---:|---:|---:|---:|---:|---|---|---:|---:|---:|"]
    for one in results:
        attack, rounds = one.attack, len(one.attacked)

        def both(kind: str, rank: str, one: object = one) -> str:
            if not one.total_of(one.quiet, kind):
                return "–"
            quiet = one.latency(one.quiet, kind, rank)[0]
            return f"{ms(quiet)} → {ms(one.latency(one.attacked, kind, rank)[0])}"

        if one.unit == "connection":
            size = f"{attack['opened'] / rounds:.0f} connections, {attack['open_peak']} at a time"
        else:
            size = f"{one.attacks() / attack['seconds']:.0f} requests/s"
        answers = ", ".join(f"{kind}: {count}" for kind, count in attack["answers"].items())
        passed = [f"{one.total(phases, 'passed')}/{one.total(phases, 'sent')}"
                  for phases in (one.quiet, one.attacked)]
        ranges = [[ms(value) for value in one.latency(phases, "kept", "p99")[1:]]
                  for phases in (one.quiet, one.attacked)]
        lines.append(
            f"| {one.scenario} | {passed[0]} | {passed[1]} | {both('kept', 'p50')} "
            f"| {both('kept', 'p99')} | {'–'.join(ranges[0])} → {'–'.join(ranges[1])} "
            f"| {both('fresh', 'p99')} | {both('direct', 'p99')} | {size} | {answers or 'none'} "
            f"| {spent(one)} |")
    return lines


def spent(one: object) -> str:
    """The columns about the proxy itself, where they could be read."""
    if not one.peak:
        return "– | – | –"
    busy = [sum(phase.cpu for phase in phases) / len(phases) / one.seconds
            for phases in (one.quiet, one.attacked)]
    return (f"{busy[0]:.0%} → {busy[1]:.0%} | {one.cost_us():.1f} "
            f"| {mib(one.rss_before)} → {mib(one.peak)}")


def reason_lines(results: list) -> list[str]:
    """What the proxy's log says, as far as its budget of lines goes."""
    lines = []
    for one in results:
        if one.reasons:
            seen = ", ".join(f"{reason} {count}" for reason, count
                             in sorted(one.reasons.items(), key=lambda item: -item[1]))
            lines.append(f"- {one.scenario}: {seen}; {one.lines_left_out} lines left out")
    return lines


def probe_lines(results: list) -> list[str]:
    """How punctual the probe itself was, and what it had to send again."""
    lines = ["| scenario | sent late by p99 ms | CPU stolen | resent | connections lost | broken "
             "| unanswered | other answers |", "|---|---:|---:|---:|---:|---:|---:|---|"]
    for one in results:
        late = [ms(one.latency(phases, "late", "p99")[0]) for phases in (one.quiet, one.attacked)]
        stolen = [f"{max((phase.stolen for phase in phases), default=0):.0%}"
                  for phases in (one.quiet, one.attacked)]
        counts = " | ".join(str(one.total(one.attacked, key)) for key in
                            ("resent", "reconnected", "broken", "unanswered"))
        other: dict[str, int] = {}
        for phase in one.attacked:
            for kind, count in phase.probe["answers"].items():
                if kind != "200":
                    other[kind] = other.get(kind, 0) + count
        lines.append(f"| {one.scenario} | {' → '.join(late)} | {' → '.join(stolen)} | {counts} "
                     f"| {other or 'none'} |")
    return lines


def cost_table(runs: list[dict], names: list[str], bodies: tuple[int, ...]) -> list[str]:
    """CPU time per request, and as a share of a forwarded one."""
    lines = ["| body | answer | CPU µs each | range | share of forwarding | range | rounds |",
             "|---:|---|---:|---:|---:|---:|---:|"]
    for body in bodies:
        base = {run["round"]: run["us"] for run in runs
                if (run["body"], run["name"]) == (body, "forwarded")}
        for name in names:
            own = [run for run in runs if (run["body"], run["name"]) == (body, name)]
            cost = sorted(run["us"] for run in own)
            share = sorted(run["us"] / base[run["round"]] for run in own if run["round"] in base)
            if cost and share:
                middle = len(cost) // 2
                lines.append(f"| {body} B | {name} | {cost[middle]:.2f} | {cost[0]:.2f}–{cost[-1]:.2f} "
                             f"| {share[middle]:.2f} | {share[0]:.2f}–{share[-1]:.2f} | {len(own)} |")
    return lines


def replay_table(runs: list[dict]) -> list[str]:
    """Deliveries through a table that is too small for them."""
    lines = ["| when_full | deliveries | entries | answers | reached the application | RSS MiB at "
             "start | when full | at the end | copy of the first | of the last |",
             "|---|---:|---:|---|---:|---:|---:|---:|---|---|"]
    for run in runs:
        answers = ", ".join(f"{kind}: {count}" for kind, count in run["answers"].items())
        lines.append(f"| {run['when_full']} | {run['deliveries']} | {run['capacity']} | {answers} "
                     f"| {run['forwarded']} | {mib(run['rss_start'])} | {mib(run['rss_full'])} "
                     f"| {mib(run['rss_end'])} | {run['copies']['first']} | {run['copies']['last']} |")
    return lines


def verdict_lines(verdicts: list, everything: bool) -> list[str]:
    """Every expectation, or those that were missed and those with a number in the issue."""
    lines = ["| where | expected | measured | |", "|---|---|---|---|"]
    for one in verdicts:
        if everything or not one.met or "p99" in one.wanted or "at most" in one.wanted:
            lines.append(f"| {one.where} | {one.wanted} | {one.got} | {'met' if one.met else '**MISSED**'} |")
    return lines
