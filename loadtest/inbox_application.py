"""The application behind the stored route of `inbox`: it takes a while for each delivery, and knows their order."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import re
import signal
import socket
import time
from pathlib import Path

import rig

NUMBER = re.compile(rb'"number":1(\d{20})')
ATTEMPT = re.compile(rb"\r\nx-countersign-attempt: *(\d+)", re.IGNORECASE)


class Delivered(rig.Requests):
    """A connection: one delivery after the other, each answered after `delay` seconds."""

    taken: list[tuple[float, int, int]] = []
    delay = 0.0
    at_a_time = 0
    most_at_a_time = 0

    def take(self, head: bytes, body: bytes) -> None:
        """Takes a delivery down, and answers it later."""
        number, attempt = NUMBER.search(body), ATTEMPT.search(head)
        Delivered.taken.append((time.monotonic(), int(number[1]) if number else -1, int(attempt[1]) if attempt else 0))
        Delivered.at_a_time += 1
        Delivered.most_at_a_time = max(Delivered.most_at_a_time, Delivered.at_a_time)
        asyncio.get_running_loop().call_later(Delivered.delay, self._answer)

    def _answer(self) -> None:
        Delivered.at_a_time -= 1
        if not self._transport.is_closing():
            self._transport.write(rig.ANSWER)


def serve(listener: socket.socket, delay: float, report: str) -> None:
    """Serves until it gets SIGTERM, and writes then what it has taken."""
    rig.end_with_parent()
    Delivered.delay = delay

    async def forever() -> None:
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, ended.set)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        server = await loop.create_server(Delivered, sock=listener)
        async with server:
            await ended.wait()

    asyncio.run(forever())
    whole = {"taken": Delivered.taken, "most_at_a_time": Delivered.most_at_a_time}
    Path(report).write_text(json.dumps(whole), encoding="ascii")


class Application:
    """The application as a process of its own, which can go and come back at the same port."""

    def __init__(self, folder: Path, delay: float) -> None:
        self._folder, self._delay = folder, delay
        self.port = rig.free_port()
        self._process: multiprocessing.Process | None = None
        self._count = 0

    def start(self) -> None:
        """It is there."""
        listener = socket.create_server(("127.0.0.1", self.port), backlog=512)
        self._count += 1
        self._report = self._folder / f"application-{self._count}.json"
        context = multiprocessing.get_context("fork")
        self._process = context.Process(target=serve, args=(listener, self._delay, str(self._report)),
                                        daemon=True)
        self._process.start()
        listener.close()

    def stop(self) -> dict:
        """It is gone. What it took."""
        if self._process is None:
            return {"taken": [], "most_at_a_time": 0}
        self._process.terminate()
        self._process.join(30)
        self._process = None
        return json.loads(self._report.read_text(encoding="ascii"))
