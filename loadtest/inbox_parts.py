"""The parts of `inbox`: each measures, and gives the lines of its report and the figures."""

from __future__ import annotations

import argparse
import json
import re
import string
import subprocess
import time
from collections import defaultdict
from pathlib import Path
from statistics import median

import rig
from inbox_application import Application

SENDERS = (1, 16, 64, 256)
CONCURRENCY = 8
# A delivery takes the application so long: with the concurrency, that is its capacity.
APPLICATION_SECONDS = 0.002
DRAIN_SECONDS = 600.0
PROBE_RATE = 200
STORED = string.Template("""
[inbox]
directory = "${box}"
size = "8GiB"
deliveries = 400000

[[route]]
path = "/webhooks/stored"
upstream = "127.0.0.1:${application}"
scheme = "github"
secrets = [{ id = "1", file = "secret" }]
replay = { capacity = 1000000, when_full = "evict_oldest" }
acknowledge = "durable"
delivery = { concurrency = ${concurrency} }
""")
Report = tuple[list[str], object]
# The admin ports, by the ports of their servers.
ADMINS: dict[int, int] = {}


class Bench:
    """What all parts need."""

    def __init__(self, ground: rig.Rig, binary: Path | None, traffic: Path | None,
                 arguments: argparse.Namespace) -> None:
        self.rig, self.binary, self.traffic, self.arguments = ground, binary, traffic, arguments
        self._first = 1
        self._boxes = 0
        self._upstream: rig.Server | None = None

    @property
    def upstream(self) -> rig.Server:
        """The application of the direct route."""
        if self._upstream is None:
            port = rig.free_port()
            command = [str(self.traffic), "upstream", "--listen", f"127.0.0.1:{port}", "--large", "1"]
            self._upstream = self.rig.start_anywhere("upstream", command, port)
        return self._upstream

    def box(self) -> Path:
        """A directory that has not been used."""
        self._boxes += 1
        given = self.arguments.directory
        whole = Path(given).resolve() if given else self.rig.folder
        path = whole / f"inbox-{self.rig.folder.name}-{self._boxes}"
        return path

    def start(self, application: int | None) -> rig.Server:
        """countersign; with the port of an application, with the route that stores."""
        admin = rig.free_port()
        stored = "" if application is None else STORED.substitute(
            box=self.box(), application=application, concurrency=CONCURRENCY)
        server = self.rig.start_with(
            f"countersign-{self._boxes}-{'plain' if application is None else 'stored'}", "inbox.toml",
            [str(self.binary), "run", "--config", "{config}"], self.rig.cores.proxy, admin=admin,
            upstream=self.upstream.port, driver=self.arguments.driver, stored=stored)
        ADMINS[server.port] = admin
        if application is not None:
            wait_until(lambda: status(server).get("inbox", {}).get("state") == "open", 30, "the inbox does not open")
        return server

    def numbers(self, count: int) -> int:
        """The first of so many numbers that no delivery has had yet."""
        first = self._first
        self._first += count
        return first

    def traffic_of(self, command: list[str]) -> subprocess.Popen:
        """A part of the traffic, on the CPU of the load."""
        return subprocess.Popen(
            [rig.program("taskset"), "-c", str(self.rig.cores.load), str(self.traffic), *command],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, preexec_fn=rig.end_with_parent)

    def send(self, server: rig.Server, path: str, seconds: float, words: list[str]) -> subprocess.Popen:
        """Genuine deliveries over connections that stay."""
        return self.traffic_of(
            ["attack", "--script", "genuine", "--target", f"127.0.0.1:{server.port}", "--path", path,
             "--body", str(self.arguments.body), "--secret-file", str(self.rig.folder / "secret"),
             "--first", str(self.numbers(50_000_000)), "--seconds", str(seconds), "--latencies", "true", *words])

    def probe(self, server: rig.Server, seconds: float) -> subprocess.Popen:
        """Deliveries of the direct route by the clock."""
        return self.traffic_of(
            ["probe", "--target", f"127.0.0.1:{server.port}", "--secret-file", str(self.rig.folder / "secret"),
             "--rate", str(PROBE_RATE), "--seconds", str(seconds), "--first", str(self.numbers(10_000_000))])


def finish(child: subprocess.Popen, seconds: float) -> dict:
    """What a part of the traffic says at its end."""
    try:
        said, _ = child.communicate(timeout=seconds + 60)
    except subprocess.TimeoutExpired as error:
        child.kill()
        child.wait()
        raise rig.RigError("the traffic did not end in time") from error
    if child.returncode != 0 or not said.strip():
        raise rig.RigError("the traffic failed")
    return json.loads(said.strip().splitlines()[-1])


def wait_until(holds, seconds: float, problem: str) -> float:
    """Waits; how long it took."""
    begun = time.monotonic()
    while not holds():
        if time.monotonic() > begun + seconds:
            raise rig.RigError(problem)
        time.sleep(0.05)
    return time.monotonic() - begun


def status(server: rig.Server) -> dict:
    """The state of countersign."""
    try:
        return json.loads(rig.get(ADMINS[server.port], "/status"))
    except OSError:
        return {}


def waiting(server: rig.Server) -> int:
    """Deliveries that wait."""
    return status(server)["inbox"]["waiting"]


def drained(server: rig.Server) -> float:
    """Waits until nothing waits; seconds."""
    return wait_until(lambda: waiting(server) == 0, DRAIN_SECONDS, "the inbox does not become empty")


def cpu(server: rig.Server) -> dict[str, float]:
    """CPU seconds of the threads, by name."""
    spent: dict[str, float] = defaultdict(float)
    for task in Path(f"/proc/{server.child.pid}/task").iterdir():
        try:
            name = (task / "comm").read_text(encoding="utf-8").strip()
            spent[name] += int((task / "schedstat").read_text(encoding="ascii").split()[0]) / 1e9
        except OSError:
            continue
    return spent


def resident(server: rig.Server) -> int:
    """Resident memory in bytes."""
    text = Path(f"/proc/{server.child.pid}/status").read_text(encoding="ascii")
    found = re.search(r"^VmRSS:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def answered(sent: dict, wanted: str) -> int:
    """How many deliveries were answered so; an error where others were not."""
    count = sent["answers"].get(wanted, 0)
    others = {name: more for name, more in sent["answers"].items() if name != wanted}
    if others or not count:
        raise rig.RigError(f"answers {sent['answers']} instead of {wanted} alone")
    return count


def store(bench: Bench) -> Report:
    """The store alone, beside a loop that appends and syncs on the same directory."""
    arguments = bench.arguments
    command = [rig.program("cargo"), "bench", "--bench", "inbox", "--no-run", "--profile", arguments.profile,
               "--message-format", "json-render-diagnostics"]
    build = subprocess.run(command, cwd=rig.REPOSITORY, stdout=subprocess.PIPE, timeout=rig.BUILD_SECONDS, check=False)
    found = [json.loads(line).get("executable") for line in build.stdout.splitlines() if line.startswith(b"{")]
    programs = [path for path in found if path]
    if build.returncode != 0 or not programs:
        raise rig.RigError("cargo bench --bench inbox cannot be built")
    folder = bench.box()
    done = subprocess.run(
        [programs[-1], "--directory", str(folder), "--seconds", str(arguments.seconds), "--bytes",
         str(arguments.body), "--waiting", str(arguments.waiting)],
        stdout=subprocess.PIPE, text=True, timeout=3600, check=False)
    if done.returncode != 0:
        raise rig.RigError("the bench of the store failed")
    lines = [f"### Deliveries for each sync, {arguments.body} B\n",
             "| | waiting senders | each second | per sync | sync ms | p50 ms | p99 ms | p50 / sync | store thread µs |",
             "|---|---:|---:|---:|---:|---:|---:|---:|---:|"]
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith(("raw ", "store "))]
    names = {"raw": "append and fdatasync", "store": "the inbox"}
    lines += ["| " + " | ".join([names[row[0]], *row[1:]]) + " |" for row in rows]
    lines += ["", *[line for line in done.stdout.splitlines() if "wait:" in line]]
    return lines, rows


def answers(bench: Bench) -> Report:
    """The time until the 202 and the CPU of a delivery, of the whole process, with so many senders that wait."""
    application = Application(bench.rig.folder, 0.0)
    application.start()
    lines = ["### Time until the 202\n",
             "| waiting senders | each second | p50 ms | p99 ms | worker µs | store µs | delivers µs | all µs | forwarded µs "
             "| beside forwarded |", "|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"]
    found = []
    server = bench.start(application.port)
    try:
        for senders in SENDERS:
            words = ["--connections", str(senders)]
            direct, _ = spent_each(bench, server, "/webhooks/github", "200", words)
            each, sent = spent_each(bench, server, "/webhooks/stored", "202 accepted", words)
            rate = answered(sent, "202 accepted") / sent["seconds"]
            took = sent["latency"]
            found.append({"senders": senders, "rate": rate, **took, "cpu": each, "forwarded": direct})
            lines.append(f"| {senders} | {rate:.0f} | {took['p50'] / 1e3:.2f} | {took['p99'] / 1e3:.2f} | {each['worker']:.1f} "
                         f"| {each['inbox']:.1f} | {each['deliver']:.1f} | {each['all']:.1f} | {direct['all']:.1f} "
                         f"| {each['all'] / direct['all']:.2f} × |")
    finally:
        bench.rig.stop(server)
        application.stop()
    return lines, found


def spent_each(bench: Bench, server: rig.Server, path: str, code: str,
               words: list[str]) -> tuple[dict[str, float], dict]:
    """CPU in µs for each delivery, by thread, until all have been delivered, and what the sender says."""
    seconds = bench.arguments.seconds
    before = cpu(server)
    sent = finish(bench.send(server, path, seconds, words), seconds)
    count = answered(sent, code)
    if code == "202 accepted":
        drained(server)
    after = cpu(server)
    each = {name: (after[name] - before.get(name, 0.0)) * 1e6 / count for name in after}
    return {**each, "all": sum(each.values())}, sent


def paced(bench: Bench, server: rig.Server, path: str, code: str) -> dict[str, float]:
    """CPU in µs for each delivery, by thread, when they come by the clock."""
    return spent_each(bench, server, path, code, ["--connections", "32", "--pace", str(bench.arguments.rate)])[0]


def middle(rounds: list[dict[str, float]], name: str) -> float:
    """The median of the rounds."""
    return median(one.get(name, 0.0) for one in rounds)


def cost(bench: Bench) -> Report:
    """CPU of a delivery that is stored, acknowledged and delivered, beside one that is forwarded."""
    application = Application(bench.rig.folder, 0.0)
    application.start()
    server = bench.start(application.port)
    found: dict[str, list[dict[str, float]]] = {"forwarded": [], "stored": []}
    try:
        for kind, path, code in (("forwarded", "/webhooks/github", "200"), ("stored", "/webhooks/stored", "202 accepted")):
            paced(bench, server, path, code)  # warms up
        for _ in range(bench.arguments.rounds):
            found["forwarded"].append(paced(bench, server, "/webhooks/github", "200"))
            found["stored"].append(paced(bench, server, "/webhooks/stored", "202 accepted"))
    finally:
        bench.rig.stop(server)
        application.stop()
    lines = [f"### CPU of a delivery of {bench.arguments.body} B at {bench.arguments.rate}/s, in µs\n",
             "| | worker | store | delivers | others | all | beside forwarded |", "|---|---:|---:|---:|---:|---:|---:|"]
    for kind, rounds in found.items():
        worker, keeps, delivers, whole = (middle(rounds, name) for name in ("worker", "inbox", "deliver", "all"))
        direct = middle(found["forwarded"], "all")
        lines.append(f"| {kind} | {worker:.1f} | {keeps:.1f} | {delivers:.1f} | {whole - worker - keeps - delivers:.1f} "
                     f"| {whole:.1f} | {whole / direct if direct else 0:.2f} × |")
    part = middle(found["stored"], "worker") / max(middle(found["forwarded"], "worker"), 1e-9)
    lines += ["", f"The worker's part of a stored delivery: {part:.2f} × that of a forwarded one."]
    return lines, found


def memory(bench: Bench) -> Report:
    """Memory of deliveries that wait, in the whole process."""
    count = bench.arguments.waiting
    away = rig.free_port()
    server = bench.start(away)
    try:
        finish(bench.send(server, "/webhooks/stored", 10.0, ["--connections", "16", "--count", "64"]), 20)
        before = resident(server)
        sent = finish(bench.send(server, "/webhooks/stored", DRAIN_SECONDS,
                                 ["--connections", "64", "--count", str(count)]), DRAIN_SECONDS)
        held, after = waiting(server), resident(server)
    finally:
        bench.rig.stop(server)
    lines = ["### Memory of deliveries that wait\n",
             f"{held} deliveries of {bench.arguments.body} B wait: {(after - before) / 2**20:.1f} MiB more, "
             f"{(after - before) / max(held, 1):.0f} B each; {after / 2**20:.1f} MiB in all. "
             f"They came in {sent['seconds']:.1f} s."]
    return lines, {"waiting": held, "before": before, "after": after, "seconds": sent["seconds"]}


def outage(bench: Bench) -> Report:
    """The application is away while deliveries come, and comes back."""
    arguments = bench.arguments
    seconds, rate = arguments.outage, arguments.rate
    application = Application(bench.rig.folder, APPLICATION_SECONDS)
    server = bench.start(application.port)
    try:
        quiet = finish(bench.probe(server, min(seconds, 10.0)), seconds)
        probe = bench.probe(server, min(seconds, 10.0))
        answered(finish(bench.send(server, "/webhooks/github", min(seconds, 10.0),
                                   ["--connections", "64", "--pace", str(rate)]), seconds), "200")
        forwarded = finish(probe, seconds)
        probe = bench.probe(server, seconds)
        sent = finish(bench.send(server, "/webhooks/stored", seconds,
                                 ["--connections", "64", "--pace", str(rate)]), seconds)
        away = finish(probe, seconds)
        stored, depth = answered(sent, "202 accepted"), waiting(server)
        begun = time.monotonic()
        application.start()
        probe = bench.probe(server, max(2.0, min(30.0, depth * APPLICATION_SECONDS / CONCURRENCY)))
        emptied = drained(server)
        draining = finish(probe, 60)
        took = application.stop()
    finally:
        bench.rig.stop(server)
        application.stop()
    taken = took["taken"]
    first = taken[0][0] - begun if taken else 0.0
    seen, displaced, newest = set(), 0, -1
    for _, number, _ in taken:
        displaced = max(displaced, newest - number)
        newest = max(newest, number)
        seen.add(number)
    capacity = CONCURRENCY / APPLICATION_SECONDS
    p99 = {name: found["kept"]["p99"] for name, found in (
        ("quiet", quiet), ("while as many are forwarded", forwarded), ("away", away), ("draining", draining))}
    lines = [f"### The application is away for {seconds:.0f} s at {rate} deliveries a second\n",
             "| | |", "|---|---:|",
             f"| acknowledged with 202 | {stored} |", f"| delivered (each once) | {len(seen)} |",
             f"| delivered more than once | {len(taken) - len(seen)} |", f"| waiting when it came back | {depth} |",
             f"| first attempt after it came back, s | {first:.1f} |",
             f"| time to empty, s | {emptied:.1f} |",
             f"| depth ÷ capacity ({capacity:.0f}/s), s | {depth / capacity:.1f} |",
             f"| most attempts at a time (concurrency {CONCURRENCY}) | {took['most_at_a_time']} |",
             f"| a delivery came so much later than a younger one, s | {displaced / rate:.2f} |",
             *[f"| direct route, p99 {name}, ms | {value / 1e3:.2f} |" for name, value in p99.items()]]
    if len(seen) < stored:
        raise rig.RigError(f"{stored - len(seen)} acknowledged deliveries did not arrive")
    return lines, {"stored": stored, "depth": depth, "emptied": emptied, "first": first, "p99": p99,
                   "displaced_seconds": displaced / rate, "most_at_a_time": took["most_at_a_time"]}


def instructions(bench: Bench, server: rig.Server) -> float | None:
    """Instructions in user space of a forwarded delivery, where the machine counts them."""
    perf = rig.find("perf")
    if perf is None:
        return None
    seconds = bench.arguments.seconds
    sending = bench.send(server, "/webhooks/github", seconds, ["--connections", "32", "--pace", str(bench.arguments.rate)])
    counting = subprocess.run(
        [perf, "stat", "-x", ",", "-e", "instructions:u", "-p", str(server.child.pid), "--", "sleep", str(seconds + 1)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    count = answered(finish(sending, seconds), "200")
    found = re.match(r"(\d+),", counting.stderr.strip())
    return int(found[1]) / count if found else None


def direct(bench: Bench) -> Report:
    """A forwarded delivery, with the inbox configured and without."""
    application = Application(bench.rig.folder, 0.0)
    application.start()
    found: dict[str, list[dict[str, float]]] = {"without [inbox]": [], "with [inbox]": []}
    counted: dict[str, float | None] = {}
    servers = {"without [inbox]": bench.start(None), "with [inbox]": bench.start(application.port)}
    try:
        for server in servers.values():
            paced(bench, server, "/webhooks/github", "200")  # warms up
        for _ in range(bench.arguments.rounds):
            for name, server in servers.items():
                found[name].append(paced(bench, server, "/webhooks/github", "200"))
        for name, server in servers.items():
            counted[name] = instructions(bench, server)
    finally:
        for server in servers.values():
            bench.rig.stop(server)
        application.stop()
    lines = [f"### A forwarded delivery of {bench.arguments.body} B, with the inbox configured and without\n",
             "| | CPU µs | of it the worker | instructions (user) |", "|---|---:|---:|---:|"]
    for name, rounds in found.items():
        several = counted[name]
        shown = f"{several:.0f}" if several else "not counted here (perf)"
        lines.append(f"| {name} | {middle(rounds, 'all'):.2f} | {middle(rounds, 'worker'):.2f} | {shown} |")
    lines += ["", "`benches/instructions/count` counts the path of a worker exactly."]
    return lines, {"cpu": found, "instructions": counted}
