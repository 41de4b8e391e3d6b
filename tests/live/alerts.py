"""Makes every alert of config/prometheus fire in a real Prometheus, each for its cause.

README.md says what is done and how to read the report.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import hashlib
import os
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Iterator

import prometheus
import rig
from scene import Background, Site, flood

QUIET_SECONDS = 20.0
PATIENCE_SECONDS = 30.0
LOAD_SECONDS = 10.0
SILENT_SECONDS = 60.0
TICK_SECONDS = 0.25
SHORT_CERTIFICATE_DAYS = 5
PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH = 0x4206, 0x4207, 17
WAIT_ALL_THREADS = 0x40000000
Again = Callable[[], None]


def many(act: Callable[[], object], times: int) -> None:
    """Does something a number of times."""
    for _ in range(times):
        act()


@contextlib.contextmanager
def spike(site: Site) -> Iterator[Again]:
    """Genuine deliveries, as many as fit."""
    until = time.monotonic() + LOAD_SECONDS
    with flood(site, "spike", site.bench.secret):
        yield lambda: None
        time.sleep(max(0.0, until - time.monotonic()))


@contextlib.contextmanager
def forgeries(site: Site) -> Iterator[Again]:
    """A flood of deliveries signed with another secret, from one address."""
    with flood(site, "forged", b"not the secret"):
        yield lambda: site.deliver("forged")


@contextlib.contextmanager
def strangers(site: Site) -> Iterator[Again]:
    """Genuine deliveries from an address that is not in the list."""
    yield lambda: site.deliver("closed")


@contextlib.contextmanager
def observed_strangers(site: Site) -> Iterator[Again]:
    """The same on a route whose list only counts."""
    yield lambda: site.deliver("observed")


@contextlib.contextmanager
def replays(site: Site) -> Iterator[Again]:
    """One captured delivery, again and again."""
    captured = site.body()
    yield lambda: many(lambda: site.deliver("replayed", body=captured), 5)


@contextlib.contextmanager
def old_key(site: Site) -> Iterator[Again]:
    """Deliveries signed with the key that ends in three days."""
    yield lambda: site.deliver("rotating", secret=site.old_secret)


@contextlib.contextmanager
def short_certificate(site: Site) -> Iterator[Again]:
    """A certificate for five days takes the place of the one on the listener; a client speaks plain HTTP to it."""
    site.certify(SHORT_CERTIFICATE_DAYS)

    def plain() -> None:
        with socket.create_connection(("127.0.0.1", site.tls_port), timeout=2) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            stranger.recv(4096)

    yield plain


@contextlib.contextmanager
def short_authority(site: Site) -> Iterator[Again]:
    """An authority of clients for five days takes the place of the other; a client makes handshakes and sends nothing."""
    site.authorize(SHORT_CERTIFICATE_DAYS)

    def shake() -> None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", site.tls_port), timeout=2) as stranger:
            rig.client_tls().wrap_socket(stranger, server_hostname="localhost").close()

    yield lambda: many(shake, 20)


@contextlib.contextmanager
def broken_configuration(site: Site) -> Iterator[Again]:
    """A configuration with a key that does not exist is written."""
    site.write("alerts.toml", site.configuration + "\n[limitz]\n")
    yield lambda: None
    site.write("alerts.toml", site.configuration)


@contextlib.contextmanager
def unwritable_trail(site: Site) -> Iterator[Again]:
    """The directory of the audit trail has been moved away, and a file has its place."""
    trail, away = site.bench.folder / "trail", site.bench.folder / "trail-away"
    os.rename(trail, away)
    trail.touch()
    yield lambda: site.deliver("steady")
    trail.unlink()
    os.rename(away, trail)


@contextlib.contextmanager
def failing_application(site: Site) -> Iterator[Again]:
    """The application breaks off or answers with two lengths, while strangers hang up in the middle of bodies."""

    def hang_up() -> None:
        with socket.create_connection(("127.0.0.1", site.port), timeout=2) as stranger:
            stranger.sendall(unfinished(site, "broken", 10))

    site.failing.value = 1
    yield lambda: (site.deliver("broken"), many(hang_up, 30))
    site.failing.value = 0


@contextlib.contextmanager
def application_away(site: Site) -> Iterator[Again]:
    """The application of a route without deliveries stops listening."""
    site.elsewhere.close()
    yield lambda: None


@contextlib.contextmanager
def dying_deliveries(site: Site) -> Iterator[Again]:
    """Stored deliveries get one attempt, and their application does not answer."""
    yield lambda: site.deliver("dying")


@contextlib.contextmanager
def missing_key(site: Site) -> Iterator[Again]:
    """Deliveries are stored, and then the key that they are encrypted with is taken out of the configuration."""
    many(lambda: site.deliver("stored"), 3)
    site.write("alerts.toml", site.configuration.replace('id = "1", file = "inbox-key"', 'id = "2", file = "other-key"'))
    yield lambda: None
    site.write("alerts.toml", site.configuration)


@contextlib.contextmanager
def large_deliveries(site: Site) -> Iterator[Again]:
    """Large deliveries are stored for an application that does not answer."""
    body = iter(range(1 << 30))
    yield lambda: many(lambda: site.deliver("stored", body=rig.delivery_body(60_000, next(body))), 60)


@contextlib.contextmanager
def occupied_inbox(site: Site) -> Iterator[Again]:
    """The process is started while another one has the directory of the inbox."""
    site.bench.stop(site.server)
    with (site.bench.folder / "inbox" / "lock").open("r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        site.start()
        yield lambda: None


@contextlib.contextmanager
def damaged_file(site: Site) -> Iterator[Again]:
    """A file of the inbox is another one when the process is started again."""
    site.bench.stop(site.server)
    file = sorted((site.bench.folder / "inbox").glob("inbox-*.redb"))[-1]
    with file.open("r+b") as opened:
        opened.write(b"x" * 64)
    site.start()
    yield lambda: None


def unfinished(site: Site, route: str, size: int, length: int = 64_000) -> bytes:
    """The head of a delivery of `length` bytes, and so much of its body."""
    headers = {"Host": "localhost", "Content-Length": str(length),
               **rig.delivery_headers(rig.signature(b"any", site.body()))}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST /{route} HTTP/1.1\r\n{head}\r\n".encode() + b"x" * size


@contextlib.contextmanager
def unfinished_bodies(site: Site) -> Iterator[Again]:
    """Bodies of 64,000 and of 18,000 bytes, each without its end."""
    with contextlib.ExitStack() as open_ones:
        # Large buffers are charged whole; what is left is filled by small bodies, which are charged as they arrive.
        for size, length in [(60_000, 64_000)] * 3 + [(17_000, 18_000)] * 3:
            sender = open_ones.enter_context(socket.create_connection(("127.0.0.1", site.port), timeout=2))
            sender.sendall(unfinished(site, "slow", size, length))
            time.sleep(0.1)
        yield lambda: None


@contextlib.contextmanager
def open_route(site: Site) -> Iterator[Again]:
    """A flood of a route that verifies nothing, from one address: the budget of a client is all that bounds it."""
    with flood(site, "open", b"any"):
        yield lambda: None


@contextlib.contextmanager
def many_deliveries(site: Site) -> Iterator[Again]:
    """Ninety genuine deliveries to a route that remembers a hundred."""
    many(lambda: site.deliver("full"), 90)
    yield lambda: None


@contextlib.contextmanager
def stopped_worker(site: Site) -> Iterator[Again]:
    """One worker's thread is stopped, as a debugger does it."""
    tasks = Path(f"/proc/{site.server.child.pid}/task")
    worker = next(int(task.name) for task in tasks.iterdir()
                  if (task / "comm").read_text(encoding="utf-8").strip() == "worker")
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
    libc.ptrace.restype = ctypes.c_long

    def trace(request: int) -> None:
        if libc.ptrace(request, worker, None, None) != 0:
            raise rig.RigError(f"a thread cannot be stopped (ptrace: {os.strerror(ctypes.get_errno())}); "
                               "that takes root, or CAP_SYS_PTRACE")

    trace(PTRACE_SEIZE)
    trace(PTRACE_INTERRUPT)
    os.waitpid(worker, WAIT_ALL_THREADS)
    try:
        yield lambda: None
    finally:
        trace(PTRACE_DETACH)


@contextlib.contextmanager
def silence(_site: Site) -> Iterator[Again]:
    """A route that had a delivery ten times a second has had none since the quiet beginning."""
    yield lambda: None


@contextlib.contextmanager
def stopped_process(site: Site) -> Iterator[Again]:
    """The process gets SIGTERM and ends."""
    site.bench.stop(site.server)
    yield lambda: None


@contextlib.contextmanager
def forged_trail(site: Site) -> Iterator[Again]:
    """While the process is away, its audit trail is made anew behind the first seal, with every third record left out."""
    trail = site.bench.folder / "trail" / "audit.jsonl"
    records = trail.read_text(encoding="ascii").splitlines(keepends=True)
    first = next(number for number, record in enumerate(records) if '"event":"seal"' in record)
    forged = records[: first + 1]
    others = [record for record in records[first + 1 :] if '"event":"seal"' not in record]
    for entry in (record for number, record in enumerate(others) if number % 3):
        before = forged[-1].rpartition(',"hash":"')[2][:64]
        body = entry.partition('","')[2].rpartition(',"hash":"')[0]
        whole = f'{{"seq":{len(forged) + 1},"prev":"{before}","{body}'
        forged.append(f'{whole},"hash":"{hashlib.sha256(whole.encode()).hexdigest()}"}}\n')
    trail.write_text("".join(forged), encoding="ascii")
    site.start()
    yield lambda: None


@dataclass(frozen=True)
class Cause:
    """An alert, what makes it fire, and the labels that it must have."""

    alert: str
    act: Callable[[Site], contextlib.AbstractContextManager[Again]]
    labels: dict[str, str] = field(default_factory=dict)

    def is_among(self, alerts: list[dict]) -> dict | None:
        """The alert, if it is one of these."""
        wanted = {"alertname": self.alert, **self.labels}
        return next((alert for alert in alerts if wanted.items() <= alert["labels"].items()), None)


CAUSES = [
    Cause("CountersignTrafficSpike", spike, {"route": "spike"}),
    Cause("CountersignSignatureFailures", forgeries, {"route": "forged"}),
    Cause("CountersignClientsOutsideAllowlist", strangers, {"route": "closed"}),
    Cause("CountersignClientsOutsideAllowlist", observed_strangers, {"route": "observed"}),
    Cause("CountersignReplays", replays, {"route": "replayed"}),
    Cause("CountersignOldKeyInUse", old_key, {"route": "rotating", "key": "old"}),
    Cause("CountersignCertificateNearExpiry", short_certificate),
    Cause("CountersignClientAuthorityNearExpiry", short_authority),
    Cause("CountersignReloadFailed", broken_configuration),
    Cause("CountersignAuditFailing", unwritable_trail),
    Cause("CountersignInboxDeadLetters", dying_deliveries),
    Cause("CountersignInboxLocked", missing_key),
    Cause("CountersignInboxNearlyFull", large_deliveries),
    Cause("CountersignUpstreamFailing", failing_application, {"route": "broken"}),
    Cause("CountersignUpstreamUnhealthy", application_away),
    Cause("CountersignBodyMemoryNearlyFull", unfinished_bodies),
    Cause("CountersignOverBudgetRefused", open_route),
    Cause("CountersignReplayTableNearlyFull", many_deliveries, {"route": "full"}),
    Cause("CountersignWorkerStuck", stopped_worker),
    Cause("CountersignNoDeliveries", silence, {"route": "silent"}),
    Cause("CountersignDown", stopped_process),
    Cause("CountersignAuditNotProven", forged_trail),
    Cause("CountersignInboxFailing", occupied_inbox),
    Cause("CountersignInboxDamaged", damaged_file),
]


@dataclass(frozen=True)
class Fired:
    """What came of a cause: seconds until the alert fired, and what it says."""

    cause: Cause
    seconds: float | None
    summary: str


@dataclass
class Findings:
    """Everything that is reported."""

    fired: list[Fired] = field(default_factory=list)
    # Alerts that fired in the quiet beginning, or before anything was done for them.
    unfounded: list[str] = field(default_factory=list)
    load: str = ""
    held_under_load: bool = False
    # Queries without any figure, and those that never had one other than 0.
    empty: list[prometheus.Query] = field(default_factory=list)
    zero: list[prometheus.Query] = field(default_factory=list)
    queries: int = 0


class Watch:
    """Looks at the alerts, and notes those that had no cause yet."""

    def __init__(self, monitor: prometheus.Prometheus, findings: Findings) -> None:
        self._monitor, self._findings = monitor, findings
        self.founded: set[str] = set()

    def look(self) -> list[dict]:
        """The alerts that fire."""
        firing = self._monitor.firing()
        for alert in firing:
            name = f"{alert['labels']['alertname']} ({alert['annotations']['summary']})"
            if alert["labels"]["alertname"] not in self.founded and name not in self._findings.unfounded:
                self._findings.unfounded.append(name)
        return firing

    def await_alert(self, cause: Cause, again: Again, began: float) -> Fired:
        """Repeats the cause until the alert fires; what it took counts from `began`."""
        give_up = time.monotonic() + PATIENCE_SECONDS + (SILENT_SECONDS if cause.act is silence else 0)
        while time.monotonic() < give_up:
            again()
            found = cause.is_among(self.look())
            if found:
                return Fired(cause, time.monotonic() - began, found["annotations"]["summary"])
            time.sleep(TICK_SECONDS)
        return Fired(cause, None, "")


def under_load(monitor: prometheus.Prometheus) -> tuple[str, bool]:
    """Whether every scrape of the last seconds succeeded, and how long they took."""
    window = f"{LOAD_SECONDS - 2:.0f}s"
    up = monitor.value(f'min_over_time(up{{job="countersign"}}[{window}])')
    slowest = monitor.value(f'max_over_time(scrape_duration_seconds{{job="countersign"}}[{window}])') or 0.0
    scraped = monitor.value(f'count_over_time(up{{job="countersign"}}[{window}])') or 0.0
    rate = monitor.value(f'sum(rate(countersign_exchanges_total{{route="spike"}}[{window}]))') or 0.0
    text = (f"{rate:.0f} genuine deliveries a second on route spike, {scraped:.0f} scrapes in {window}, "
            f"{'all' if up == 1 else 'not all'} of them answered, the slowest in {slowest * 1e3:.0f} ms")
    return text, up == 1 and rate > 500


def investigate(site: Site, monitor: prometheus.Prometheus) -> Findings:
    """The quiet beginning, all causes, and the queries of the dashboard."""
    findings = Findings()
    watch = Watch(monitor, findings)
    background = Background(site)
    try:
        rig.say(f"quiet for {QUIET_SECONDS:.0f} s")
        until = time.monotonic() + QUIET_SECONDS
        while time.monotonic() < until:
            watch.look()
            time.sleep(TICK_SECONDS)
        if monitor.value('up{job="countersign"}') != 1:
            raise rig.RigError("Prometheus does not reach the admin port")
        background.silence.set()
        silent_since = time.monotonic()
        watch.founded.add("CountersignNoDeliveries")
        for cause in CAUSES:
            watch.founded.add(cause.alert)
            began = silent_since if cause.act is silence else time.monotonic()
            with cause.act(site) as again:
                fired = watch.await_alert(cause, again, began)
            findings.fired.append(fired)
            rig.say(f"{cause.alert}: " + (f"after {fired.seconds:.1f} s" if fired.seconds else "did not fire"))
            if cause.act is spike:
                findings.load, findings.held_under_load = under_load(monitor)
    finally:
        background.close()
    for query in prometheus.dashboard_queries():
        count, greatest = monitor.figures(query)
        findings.queries += 1
        if count == 0:
            findings.empty.append(query)
        elif greatest == 0:
            findings.zero.append(query)
    return findings


def report(findings: Findings, changes: list[str], untried: list[str], facts: dict[str, str],
           factor: int) -> None:
    """Markdown on standard output."""
    print("# Every alert, for its cause\n")
    for name, value in facts.items():
        print(f"- {name}: {value}")
    print(f"\nDurations of the rules divided by {factor}, nothing else changed:\n")
    for change in sorted(set(changes)):
        print(f"- `{change}` ({changes.count(change)} times)")
    print("\n| alert | cause made | fired after s | what it says |\n|---|---|---:|---|")
    for fired in findings.fired:
        after = f"{fired.seconds:.1f}" if fired.seconds else "**not**"
        print(f"| {fired.cause.alert.removeprefix('Countersign')} | {(fired.cause.act.__doc__ or '').rstrip('.')} "
              f"| {after} | {fired.summary} |")
    print("\nAlerts without anything tried here: " + (", ".join(untried) or "none"))
    print("Alerts before their cause, the quiet beginning included: " + (", ".join(findings.unfounded) or "none"))
    print(f"Under load: {findings.load}\n")
    print(f"Dashboard: {findings.queries} queries, {findings.queries - len(findings.empty)} had figures")
    for title, queries in (("never had a figure", findings.empty), ("never had another figure than 0", findings.zero)):
        for query in queries:
            print(f"- {title}: {query.panel}: `{query.text}`")


def main(words: list[str]) -> int:
    """0 when every alert fired and every query had figures, 1 when not, 2 when nothing could be found out."""
    parser = argparse.ArgumentParser("tests/live/run alerts", description=__doc__.partition("\n")[0])
    parser.add_argument("--factor", type=int, default=60, help="what the rules' durations are divided by")
    parser.add_argument("--binary", metavar="PATH", help="watch this countersign")
    arguments = parser.parse_args(words)
    began = time.monotonic()
    try:
        rig.install_programs(["prometheus", "wrk", "taskset", "openssl"])
        binary = rig.countersign_binary(arguments.binary, ["countersign"])
        assert binary is not None
        shipped = (prometheus.CONFIG / "prometheus" / prometheus.RULES).read_text(encoding="utf-8")
        rules, changes = prometheus.shortened(shipped, arguments.factor)
        untried = sorted(set(prometheus.alerts_in(shipped)) - {cause.alert for cause in CAUSES})
        with rig.Rig(binary) as bench:
            facts = rig.machine_facts(binary, bench.cores, bool(arguments.binary))
            facts["Prometheus"] = rig.said([rig.program("prometheus"), "--version"])
            site = Site(bench, binary)
            try:
                monitor = prometheus.Prometheus(bench, rules, f"127.0.0.1:{site.admin}")
                findings = investigate(site, monitor)
            finally:
                site.close()
    except rig.RigError as error:
        rig.say(f"tests/live/run alerts: {error}")
        return 2
    except KeyboardInterrupt:
        rig.say("tests/live/run alerts: interrupted")
        return 130
    facts["time taken"] = f"{time.monotonic() - began:.0f} s"
    report(findings, changes, untried, facts, arguments.factor)
    fired = all(fired.seconds for fired in findings.fired)
    held = fired and not untried and not findings.unfounded and findings.held_under_load and not findings.empty
    return 0 if held else 1
