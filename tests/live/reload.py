"""Reloads in a row under steady load: failed deliveries, memory, latency.

README.md says what is measured and how to read it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import shutil
import socket
import ssl
import statistics
import string
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import rig

HERE = Path(__file__).resolve().parent
PATIENCE_SECONDS = 10.0
PROBE_PAUSE_SECONDS = 0.001
# Buffers and tables reach their size during the first reloads.
WARM_UP_RELOADS = 20
# Flat: what is resident in the end beyond what was after the warm-up.
GROWTH_SHARE, GROWTH_KIB = 0.05, 2048
KINDS = ("configuration", "secret", "certificate")


@dataclass(frozen=True)
class Reload:
    """One change of a file, and when it took effect."""

    number: int
    kind: str
    milliseconds: float
    resident_kib: int


@dataclass
class Load:
    """What one kind of connections has sent and what came of it."""

    connections: str
    sent: int
    failed: dict[str, int]
    seconds: float


class Caller:
    """Deliveries over plain sockets, kept alive or a new one each."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._port = port
        self._tls = tls
        self._kept: socket.socket | None = None

    def ask(self, request: bytes, keep: bool) -> str:
        """The status of the answer, or what went wrong."""
        try:
            connection = self._kept or self._connect()
            self._kept = None
            connection.sendall(request)
            status, closes = self._answer(connection)
            if keep and not closes:
                self._kept = connection
            else:
                connection.close()
            return "closed by the proxy" if keep and closes else status
        except OSError as error:
            return type(error).__name__

    def _connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self._port), 5)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._tls.wrap_socket(connection) if self._tls else connection

    @property
    def encrypts(self) -> bool:
        """Whether it speaks TLS."""
        return self._tls is not None

    def another(self) -> Caller:
        """One who calls the same listener, over connections of its own."""
        return Caller(self._port, self._tls)

    def shown(self) -> bytes:
        """The certificate that a fresh handshake shows; nothing if there is none."""
        assert self._tls
        try:
            with self._connect() as connection:
                assert isinstance(connection, ssl.SSLSocket)
                return connection.getpeercert(binary_form=True) or b""
        except OSError:
            return b""

    @staticmethod
    def _answer(connection: socket.socket) -> tuple[str, bool]:
        got = b""
        while b"\r\n\r\n" not in got:
            piece = connection.recv(65536)
            if not piece:
                return "no answer", True
            got += piece
        head, _, body = got.partition(b"\r\n\r\n")
        fields = head.lower().split(b"\r\n")
        length = next((int(field[15:]) for field in fields
                       if field.startswith(b"content-length:")), 0)
        while len(body) < length:
            piece = connection.recv(65536)
            if not piece:
                return "answer cut off", True
            body += piece
        return head.split(b" ", 2)[1].decode(), b"connection: close" in fields


def delivery(path: str, secret: bytes, body: bytes) -> bytes:
    """A genuine delivery to `path`, byte for byte."""
    fields = {"Host": "127.0.0.1", "Content-Length": str(len(body)),
              **rig.delivery_headers(rig.signature(secret, body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def steady_load(caller: Caller, request: bytes, rate: float, keep: bool, end: Connection) -> None:
    """Sends deliveries at a rate until told to stop, then reports."""
    callers = [caller.another() for _ in range(8 if keep else 1)]
    failed: Counter[str] = Counter()
    sent, began = 0, time.monotonic()
    while not end.poll():
        outcome = callers[sent % len(callers)].ask(request, keep)
        sent += 1
        if outcome != "200":
            failed[outcome] += 1
        time.sleep(max(0.0, began + sent / rate - time.monotonic()))
    kind = ("keep-alive" if keep else "fresh") + (", TLS" if caller.encrypts else "")
    end.send(Load(kind, sent, dict(failed), time.monotonic() - began))


class Site:
    """The proxy under test, its files, and probes for what is in force."""

    def __init__(self, bench: rig.Rig, binary: Path, arguments: argparse.Namespace) -> None:
        self._bench = bench
        self._upstream = bench.start_upstream()
        self._port, self._tls_port = rig.free_port(), rig.free_port()
        self._driver, self._workers = arguments.driver, arguments.workers
        self._body = rig.delivery_body(arguments.body)
        self._make_pairs()
        self.callers = [Caller(self._port), Caller(self._tls_port, self._trust())]
        self._prober, self._handshakes = (caller.another() for caller in self.callers)
        self._write("rotated", os.urandom(24).hex())
        self._write("reload.toml", self._configuration(0))
        # Not pinned to a core: what happens beside the workers shall not stand in their way.
        command = [str(binary), "run", "--config", str(bench.folder / "reload.toml")]
        self.server = bench.start_anywhere("countersign", command, self._port)
        self.steady = delivery(rig.ROUTE, bench.secret, self._body)

    def resident_kib(self) -> int:
        """Memory of the proxy that is resident."""
        status = Path(f"/proc/{self.server.child.pid}/status").read_text(encoding="utf-8")
        return next(int(line.split()[1]) for line in status.splitlines()
                    if line.startswith("VmRSS:"))

    def change(self, kind: str, number: int) -> Callable[[], bool]:
        """Changes a file of this kind; what then tells whether that has taken effect."""
        if kind == "certificate":
            expected = self._publish()
            return lambda: self._handshakes.shown() == expected
        if kind == "secret":
            secret = os.urandom(24).hex()
            self._write("rotated", secret)
            probe = delivery(rig.ROUTE, secret.encode(), self._body)
        else:
            self._write("reload.toml", self._configuration(number))
            probe = delivery(f"/moving/{number}", self._bench.secret, self._body)
        return lambda: self._prober.ask(probe, keep=True) == "200"

    def await_effect(self, has_effect: Callable[[], bool]) -> None:
        """Returns when the change has taken effect."""
        give_up = time.monotonic() + PATIENCE_SECONDS
        while not has_effect():
            if time.monotonic() > give_up:
                raise rig.RigError("a change has taken no effect in "
                                   f"{PATIENCE_SECONDS:.0f} s:\n{self.log()[-3000:]}")
            time.sleep(PROBE_PAUSE_SECONDS)

    def log(self) -> str:
        """What the proxy has written."""
        return (self._bench.folder / "countersign.out").read_text(encoding="utf-8")

    def _configuration(self, number: int) -> str:
        template = string.Template((HERE / "reload.toml").read_text(encoding="utf-8"))
        return template.substitute(driver=self._driver, workers=self._workers, port=self._port,
                                   tls_port=self._tls_port, upstream=self._upstream.port, number=number)

    def _make_pairs(self) -> None:
        """Two certificates with their keys, and the volume that has the first of them."""
        self._pairs = [self._bench.folder / f"pair-{number}" for number in (1, 2)]
        for folder in self._pairs:
            folder.mkdir()
            rig.make_certificate(folder)
        self._volume = self._bench.folder / "tls"
        self._volume.mkdir()
        self._version = 0
        self._publish()
        for name in ("tls.crt", "tls.key"):
            (self._volume / name).symlink_to(f"..data/{name}")

    def _publish(self) -> bytes:
        """The other pair, swapped in as the kubelet does it for a Secret; its certificate."""
        self._version += 1
        pair = self._pairs[self._version % 2]
        (self._volume / f"..{self._version}").mkdir()
        for name in ("tls.crt", "tls.key"):
            copy = shutil.copy(pair / name, self._volume / f"..{self._version}" / name)
            os.chmod(copy, 0o440)
        data = self._volume / "..data"
        before = os.readlink(data) if data.is_symlink() else None
        (self._volume / "..data_tmp").symlink_to(f"..{self._version}")
        os.rename(self._volume / "..data_tmp", data)
        if before:
            shutil.rmtree(self._volume / before)
        return ssl.PEM_cert_to_DER_cert((pair / "tls.crt").read_text(encoding="ascii"))

    def _trust(self) -> ssl.SSLContext:
        """What clients speak: they accept the two certificates, and no others."""
        tls = rig.client_tls()
        for pair in self._pairs:
            tls.load_verify_locations(pair / "tls.crt")
        tls.verify_mode = ssl.CERT_REQUIRED
        return tls

    def _write(self, name: str, text: str) -> None:
        # As editors and configuration tools do it: whole, under another name, renamed.
        path = self._bench.folder / name
        new = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(new, "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(f"{path}.new", path)


def measure(site: Site, arguments: argparse.Namespace) -> tuple[list[Reload], list[Load]]:
    """All reloads, one after the other, and what became of the load meanwhile."""
    loads = []
    # A TLS context cannot be sent to a process, but inherited.
    context = multiprocessing.get_context("fork")
    for caller, keep in itertools.product(site.callers, (True, False)):
        ours, theirs = context.Pipe()
        process = context.Process(
            target=steady_load, daemon=True,
            args=(caller, site.steady, arguments.rate / 4, keep, theirs))
        process.start()
        loads.append((process, ours))
    reloads = []
    try:
        for number in range(1, arguments.reloads + 1):
            kind = KINDS[number % len(KINDS)]
            began = time.monotonic()
            site.await_effect(site.change(kind, number))
            took = (time.monotonic() - began) * 1e3
            reloads.append(Reload(number, kind, took, site.resident_kib()))
            if number % 100 == 0:
                rig.say(f"{number} reloads, {reloads[-1].resident_kib} KiB resident")
    finally:
        outcomes = []
        for process, pipe in loads:
            pipe.send("stop")
            outcomes.append(pipe.recv())
            process.join()
    return reloads, outcomes


def percentile(values: list[float], share: float) -> float:
    """The value that this share of all does not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def verdicts(reloads: list[Reload], loads: list[Load], log: str) -> list[tuple[str, str, bool]]:
    """Each target: what it says, what was found, whether it held."""
    failed = sum(sum(load.failed.values()) for load in loads)
    reasons = Counter[str]()
    for load in loads:
        reasons.update(load.failed)
    first = reloads[min(WARM_UP_RELOADS, len(reloads) - 1)].resident_kib
    last = statistics.median(reload.resident_kib for reload in reloads[-10:])
    bound = max(first * GROWTH_SHARE, GROWTH_KIB)
    took = log.count(" reloaded generation=")
    refused = log.count(" reload refused")
    return [
        ("no failed delivery", f"{failed} failed of {sum(load.sent for load in loads)}"
         + (f": {dict(reasons)}" if failed else ""), failed == 0),
        (f"memory flat (at most {bound:.0f} KiB more)",
         f"{first} KiB after {WARM_UP_RELOADS} reloads, {last:.0f} KiB in the end", last - first <= bound),
        ("every change a reload of its own", f"{took} reloads, {refused} refused",
         took == len(reloads) and refused == 0),
    ]


def report(reloads: list[Reload], loads: list[Load], found: list[tuple[str, str, bool]],
           facts: dict[str, str], arguments: argparse.Namespace) -> None:
    """Markdown on standard output, and everything as JSON where asked for."""
    print(f"# {len(reloads)} reloads under load\n")
    for name, value in facts.items():
        print(f"- {name}: {value}")
    print(f"- driver {arguments.driver}, {arguments.workers} workers, bodies of {arguments.body} bytes\n")
    print("| from change to effect | reloads | p50 ms | p90 ms | p99 ms | most ms |\n|---|---|---|---|---|---|")
    for kind in (*KINDS, "all"):
        times = [reload.milliseconds for reload in reloads if kind in (reload.kind, "all")]
        if times:
            print(f"| {kind} | {len(times)} | {statistics.median(times):.1f} | {percentile(times, 0.9):.1f} "
                  f"| {percentile(times, 0.99):.1f} | {max(times):.1f} |")
    print("\n| connections | deliveries | per second | failed |\n|---|---|---|---|")
    for load in loads:
        print(f"| {load.connections} | {load.sent} | {load.sent / load.seconds:.0f} | {sum(load.failed.values())} |")
    print("\n| target | found | held |\n|---|---|---|")
    for target, value, held in found:
        print(f"| {target} | {value} | {'yes' if held else '**no**'} |")
    if arguments.json:
        whole = {"facts": facts, "arguments": vars(arguments),
                 "targets": [{"target": t, "found": f, "held": h} for t, f, h in found],
                 "loads": [asdict(load) for load in loads],
                 "reloads": [asdict(reload) for reload in reloads]}
        Path(arguments.json).write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")


def parse_arguments(words: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser("tests/live/run reload", description=__doc__.partition("\n")[0])
    parser.add_argument("--reloads", type=int, default=1000, help="how many changes of a file")
    parser.add_argument("--rate", type=float, default=400,
                        help="deliveries per second: half of them encrypted, of either half again "
                             "half over fresh connections")
    parser.add_argument("--body", type=int, default=1024, help="bytes of a delivery's body")
    parser.add_argument("--driver", choices=("io_uring", "epoll"), default="io_uring")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--binary", metavar="PATH", help="measure this countersign")
    parser.add_argument("--json", metavar="PATH", help="write every single reload here, too")
    return parser.parse_args(words)


def main(words: list[str]) -> int:
    """0 when every target held, 1 when one did not, 2 when nothing could be measured."""
    arguments = parse_arguments(words)
    try:
        rig.install_programs(["nginx", "taskset", "openssl"])
        binary = rig.countersign_binary(arguments.binary, ["countersign"])
        assert binary is not None
        with rig.Rig(binary) as bench:
            facts = rig.machine_facts(binary, bench.cores, bool(arguments.binary))
            site = Site(bench, binary, arguments)
            reloads, loads = measure(site, arguments)
            found = verdicts(reloads, loads, site.log())
    except rig.RigError as error:
        rig.say(f"tests/live/run reload: {error}")
        return 2
    except KeyboardInterrupt:
        rig.say("tests/live/run reload: interrupted")
        return 130
    report(reloads, loads, found, facts, arguments)
    return 0 if all(held for _, _, held in found) else 1
