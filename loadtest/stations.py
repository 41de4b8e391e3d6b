"""What is resident when a target has started, has many idle connections, and has lost them."""

from __future__ import annotations

import re
import select
import socket
import time
from dataclasses import dataclass
from pathlib import Path

import rig

SETTLE_SECONDS = 1.0
IDLE_SECONDS = 5.0
CLOSED_SECONDS = 2.0
ANSWER_SECONDS = 5.0
OPEN_SECONDS = 300.0
# Ports of one address run out at about 28,000, and a target may bound what
# one client gets: connections come from this many addresses of 127.0.0.0/8.
SOURCE_ADDRESSES = 200
SPARE_FILES = 300
LARGEST_HEAD = 65536


@dataclass(frozen=True)
class Memory:
    """Memory of all of a server's processes, in bytes."""

    rss: int
    pss: int | None  # None where the kernel does not let us see it
    processes: int


@dataclass(frozen=True)
class Result:
    """One target at its three stations."""

    target: str
    connections: int
    start: Memory
    idle: Memory
    closed: Memory

    def per_connection(self) -> float:
        """Resident bytes that one idle connection added."""
        return (self.idle.rss - self.start.rss) / self.connections


def memory(server: rig.Server) -> Memory:
    """Resident (VmRSS) and proportional (Pss) memory of a server."""
    pids = server.pids()
    rss, pss = 0, 0
    seen = True
    for pid in pids:
        rss += kibibytes(Path(f"/proc/{pid}/status"), "VmRSS")
        try:
            pss += kibibytes(Path(f"/proc/{pid}/smaps_rollup"), "Pss")
        except PermissionError:
            # countersign is not dumpable: its maps are for root alone.
            seen = False
    return Memory(rss, pss if seen else None, len(pids))


def kibibytes(path: Path, key: str) -> int:
    """One `Key:   123 kB` line of a /proc file, in bytes."""
    found = re.search(rf"^{key}:\s+(\d+) kB$", path.read_text(encoding="ascii"),
                      re.MULTILINE)
    if found is None:
        raise rig.RigError(f"{path} has no {key}")
    return int(found[1]) * 1024


def open_connections(bench: rig.Rig, port: int, count: int, size: int,
                     opened: list[socket.socket]) -> None:
    """Open connections, each with one genuine delivery answered 200 on it.

    Every delivery has a body of its own, so that none is a duplicate.
    """
    tls = rig.client_tls() if bench.tls else None
    deadline = time.monotonic() + OPEN_SECONDS
    for number in range(count):
        if time.monotonic() > deadline:
            raise rig.RigError(f"{number} connections after {OPEN_SECONDS:.0f} s: too slow")
        body = rig.delivery_body(size, number)
        headers = {"Host": f"127.0.0.1:{port}", "Content-Length": str(len(body)),
                   **rig.delivery_headers(rig.signature(bench.secret, body))}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        connection = socket.socket()
        opened.append(connection)
        connection.settimeout(ANSWER_SECONDS)
        connection.bind((f"127.0.0.{2 + number % SOURCE_ADDRESSES}", 0))
        connection.connect(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            connection = opened[-1] = tls.wrap_socket(connection)
        connection.sendall(f"POST {rig.ROUTE} HTTP/1.1\r\n{lines}\r\n".encode() + body)
        head = read_answer(connection)
        if not head.startswith(b"HTTP/1.1 200 ") or b"connection: close" in head.lower():
            raise rig.RigError(f"connection {number} was answered {head[:300]!r}")


def read_answer(connection: socket.socket) -> bytes:
    """Read one whole answer off a connection; its head."""
    received = b""
    while b"\r\n\r\n" not in received:
        chunk = connection.recv(LARGEST_HEAD)
        if not chunk or len(received) > LARGEST_HEAD:
            raise rig.RigError(f"no whole answer: {received[:300]!r}")
        received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"(?im)^content-length: *(\d+)\r?$", head)
    while len(body) < int(length[1]) if length else not body.endswith(b"0\r\n\r\n"):
        chunk = connection.recv(LARGEST_HEAD)
        if not chunk:
            raise rig.RigError(f"no whole answer: {received[:300]!r}")
        body += chunk
    return head


def count_idle(opened: list[socket.socket]) -> int:
    """How many connections are open and have nothing to read."""
    poll = select.poll()
    for connection in opened:
        poll.register(connection, select.POLLIN | select.POLLRDHUP)
    return len(opened) - len(poll.poll(0))


def measure(bench: rig.Rig, name: str, upstream: rig.Server, connections: int,
            size: int) -> Result:
    """Take one target through its three stations, alone on the machine."""
    # nginx drops idle connections when only a sixteenth of its slots is free.
    slots = connections * 9 // 8 + SPARE_FILES
    server = bench.start_target(name, upstream, slots, size)
    opened: list[socket.socket] = []
    try:
        time.sleep(SETTLE_SECONDS)
        start = memory(server)
        rig.check_target(bench, server, upstream)
        rig.say(f"{name}: opening {connections} connections")
        open_connections(bench, server.port, connections, size, opened)
        time.sleep(IDLE_SECONDS)
        idle = memory(server)
        remaining = count_idle(opened)
        if remaining != len(opened):
            raise rig.RigError(f"{name}: only {remaining} of {len(opened)} "
                               "connections were still open and idle")
    finally:
        for connection in opened:
            connection.close()
    time.sleep(CLOSED_SECONDS)
    closed = memory(server)
    bench.stop(server)
    return Result(name, connections, start, idle, closed)
