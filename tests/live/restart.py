"""Restarts under load: a new process on the same port, then SIGTERM to the old one.

README.md says what is measured and how to read it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import signal
import socket
import ssl
import subprocess
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

import rig

ANSWER_SECONDS = 10.0
# A client's first packet that is lost is sent again after a second.
SLOW_SECONDS = 0.9
END_SECONDS = 40.0
SETTLE_SECONDS = 0.3
PAUSE_SECONDS = 1.5
SOURCE_ADDRESSES = 200
IP_BIND_ADDRESS_NO_PORT = 24
KINDS = ("fresh", "kept", "pausing")


@dataclass
class Tally:
    """What one client saw."""

    kind: str
    answered: int = 0
    connections: int = 0
    # Connections that the server had announced to close.
    announced: int = 0
    # Requests on a connection that had been idle and was found closed, before a
    # byte of an answer: sent again, once, as HTTP allows it.
    retried: int = 0
    slow_connects: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)


class Broken(Exception):
    """No answer, and why; `begun` if a part of one had come."""

    def __init__(self, why: str, begun: bool = False) -> None:
        super().__init__(why)
        self.begun = begun


class Sender:
    """One client: it sends the same genuine delivery again and again."""

    def __init__(self, kind: str, port: int, request: bytes, tls: ssl.SSLContext | None) -> None:
        self._address = ("127.0.0.1", port)
        self._tls = tls
        self._request = request
        self._socket: socket.socket | None = None
        self._used = False
        self.tally = Tally(kind)

    def run(self, stop: multiprocessing.synchronize.Event) -> Tally:
        """Send until told to stop."""
        while not stop.is_set():
            begun = time.monotonic()
            try:
                self._deliver()
                self.tally.answered += 1
            except Broken as error:
                self.tally.failures[str(error)] += 1
                self._forget()
            self.tally.seconds.append(time.monotonic() - begun)
            if self.tally.kind == "fresh":
                self._forget()
            elif self.tally.kind == "pausing":
                time.sleep(random.uniform(0, PAUSE_SECONDS))
        self._forget()
        return self.tally

    def _deliver(self) -> None:
        if self._socket is None:
            self._connect()
        try:
            closes = self._exchange()
        except Broken as error:
            # Only what is known not to have been answered, on a connection that
            # had done its work: every other failure counts.
            if error.begun or not self._used:
                raise
            self.tally.retried += 1
            self._forget()
            self._connect()
            closes = self._exchange()
        self._used = True
        if closes:
            self.tally.announced += 1
            self._forget()

    def _connect(self) -> None:
        begun = time.monotonic()
        connection = socket.socket()
        connection.settimeout(ANSWER_SECONDS)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # Ports of one address run out.
            connection.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            connection.bind((f"127.0.1.{random.randrange(1, SOURCE_ADDRESSES)}", 0))
            connection.connect(self._address)
            if self._tls:
                # A handshake in full each time: the context is asked for no session.
                connection = self._tls.wrap_socket(connection)
        except OSError as error:
            connection.close()
            raise Broken(f"connecting: {type(error).__name__}") from error
        self._socket, self._used = connection, False
        self.tally.connections += 1
        self.tally.slow_connects += time.monotonic() - begun > SLOW_SECONDS

    def _exchange(self) -> bool:
        """One request and its answer; whether the connection closes after it."""
        assert self._socket is not None
        received = b""
        try:
            self._socket.sendall(self._request)
            while b"\r\n\r\n" not in received:
                received += self._more()
            head, _, body = received.partition(b"\r\n\r\n")
            fields = head.lower().split(b"\r\n")
            length = next(int(line[15:]) for line in fields if line.startswith(b"content-length:"))
            while len(body) < length:
                body += self._more()
        except OSError as error:
            raise Broken(f"{self._where(received)}: {type(error).__name__}", bool(received)) from error
        status = head.split(b" ")[1].decode()
        if status != "200":
            raise Broken(f"status {status}", True)
        return b"connection: close" in fields

    def _more(self) -> bytes:
        assert self._socket is not None
        piece = self._socket.recv(65536)
        if not piece:
            raise ConnectionAbortedError("closed")
        return piece

    def _where(self, received: bytes) -> str:
        if received:
            return "inside an answer"
        return "before an answer, on a connection that had been used" if self._used \
            else "before an answer, on a new connection"

    def _forget(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None


def send(kind: str, port: int, request: bytes, tls: bool, stop: object, results: object) -> None:
    """What a client process does."""
    speaks = rig.client_tls() if tls else None
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    results.put(Sender(kind, port, request, speaks).run(stop))


def request_bytes(bench: rig.Rig, port: int, size: int) -> bytes:
    """A genuine delivery, as it travels."""
    body = rig.delivery_body(size)
    headers = {"Host": f"127.0.0.1:{port}", "Content-Length": str(len(body)),
               **rig.delivery_headers(rig.signature(bench.secret, body))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {rig.ROUTE} HTTP/1.1\r\n{lines}\r\n".encode() + body


def restart(bench: rig.Rig, old: rig.Server, new: rig.Server) -> float:
    """Tell the old process to stop, with the new one ready; how long it took."""
    begun = time.monotonic()
    old.child.send_signal(signal.SIGTERM)
    try:
        code = old.child.wait(END_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise rig.RigError(f"{old.name} does not end") from error
    if code != 0:
        raise rig.RigError(f"{old.name} ended with {code}")
    took = time.monotonic() - begun
    bench.stop(old)
    if new.child.poll() is not None:
        raise rig.RigError(f"{new.name} has ended")
    return took


def measure(bench: rig.Rig, arguments: argparse.Namespace) -> dict[str, object]:
    """Load, restarts, and what came of both."""
    upstream = bench.start_upstream()
    port = rig.free_port()
    lines = (f'drain_delay = "{arguments.drain_delay}"\ndrain_grace = "25s"')
    start = lambda number: bench.start_successor(  # noqa: E731
        f"countersign-{number}{'-epoll' if arguments.epoll else ''}", upstream, port, lines)
    current = start(0)
    rig.check_target(bench, current, upstream)
    context = multiprocessing.get_context("fork")
    stop, results = context.Event(), context.Queue()
    kinds = [kind for kind in KINDS for _ in range(getattr(arguments, kind))]
    request = request_bytes(bench, port, arguments.body)
    before = rig.upstream_count(upstream)
    clients = [context.Process(target=send, daemon=True,
                               args=(kind, port, request, bench.tls, stop, results))
               for kind in kinds]
    begun = time.monotonic()
    for client in clients:
        client.start()
    took = []
    try:
        for number in range(1, arguments.restarts + 1):
            time.sleep(SETTLE_SECONDS)
            new = start(number)
            took.append(restart(bench, current, new))
            current = new
            rig.say(f"restart {number} of {arguments.restarts}: {took[-1]:.2f} s")
        time.sleep(SETTLE_SECONDS)
    finally:
        stop.set()
    tallies = [results.get(timeout=END_SECONDS) for _ in clients]
    seconds = time.monotonic() - begun
    reached = rig.upstream_count(upstream).since(before).requests
    return {"seconds": seconds, "took": took, "reached": reached,
            "tallies": [asdict(tally) for tally in tallies]}


def report(outcome: dict[str, object], arguments: argparse.Namespace, what: str = "restarts") -> bool:
    """Print the figures; whether nothing failed."""
    tallies, seconds = outcome["tallies"], outcome["seconds"]
    over = " over TLS 1.3" if arguments.tls else ""
    print(f"{arguments.restarts} {what}{over} in {seconds:.0f} s, drain_delay = {arguments.drain_delay}; "
          f"the old process ended after {min(outcome['took'], default=0):.2f} to "
          f"{max(outcome['took'], default=0):.2f} s\n")
    print("| clients | deliveries | per second | connections | announced closes | sent again "
          "| connects over 0.9 s | p50 | p99 | longest | failed |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    failures: Counter[str] = Counter()
    for kind in KINDS:
        mine = [tally for tally in tallies if tally["kind"] == kind]
        if not mine:
            continue
        total = {name: sum(tally[name] for tally in mine) for name in
                 ("answered", "connections", "announced", "retried", "slow_connects")}
        failed = sum(sum(tally["failures"].values()) for tally in mine)
        times = sorted(second for tally in mine for second in tally["seconds"]) or [0.0]
        at = lambda share: times[int(share * (len(times) - 1))] * 1000  # noqa: E731, B023
        print(f"| {len(mine)} {kind} | {total['answered']} | {total['answered'] / seconds:.0f} "
              f"| {total['connections']} | {total['announced']} | {total['retried']} "
              f"| {total['slow_connects']} | {at(0.5):.2f} ms | {at(0.99):.2f} ms "
              f"| {at(1):.0f} ms | {failed} |")
        for tally in mine:
            for why, count in tally["failures"].items():
                failures[f"{kind}: {why}"] += count
    answered = sum(tally["answered"] for tally in tallies)
    print(f"\nanswered with 200: {answered}; reached the application: {outcome['reached']}")
    for why, count in failures.most_common():
        print(f"- {count} × {why}")
    return not failures and answered == outcome["reached"]


def main(words: list[str]) -> int:
    """Read the arguments, measure, report."""
    parser = argparse.ArgumentParser("tests/live/run restart", description=__doc__.partition("\n")[0])
    parser.add_argument("--restarts", type=int, default=50)
    parser.add_argument("--drain-delay", default="1s")
    parser.add_argument("--fresh", type=int, default=4, help="clients with a connection per delivery")
    parser.add_argument("--kept", type=int, default=4, help="clients that keep their connection")
    parser.add_argument("--pausing", type=int, default=8, help="the same with pauses up to 1.5 s")
    parser.add_argument("--body", type=int, default=1024)
    parser.add_argument("--tls", action="store_true",
                        help="everything over TLS 1.3, with a handshake in full for each connection")
    parser.add_argument("--epoll", action="store_true", help="on epoll instead of io_uring")
    parser.add_argument("--binary", help="measure this one instead of building")
    parser.add_argument("--json", type=Path, help="keep the figures here")
    arguments = parser.parse_args(words)
    try:
        rig.install_programs(["nginx", "taskset", *(["openssl"] if arguments.tls else [])])
        rig.raise_file_limit()
        binary = rig.countersign_binary(arguments.binary, ["countersign"])
        with rig.Rig(binary, tls=arguments.tls) as bench:
            outcome = measure(bench, arguments)
    except rig.RigError as error:
        rig.say(f"tests/live/run restart: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    if arguments.json:
        arguments.json.write_text(json.dumps(outcome), encoding="utf-8")
    return 0 if report(outcome, arguments) else 1
