"""The requests of a connection, for applications in Python: each whole, one after the other."""

from __future__ import annotations

import asyncio
import re

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Requests(asyncio.Protocol):
    """A connection over which requests with a Content-Length come, or without a body."""

    def __init__(self) -> None:
        self._got = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the connection."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Takes every request that is complete, until the connection is closed."""
        self._got += data
        while b"\r\n\r\n" in self._got and not self._transport.is_closing():
            head, _, rest = self._got.partition(b"\r\n\r\n")
            length = LENGTH.search(head)
            size = int(length[1]) if length else 0
            if len(rest) < size:
                return
            self._got = rest[size:]
            self.take(head, rest[:size])

    def take(self, head: bytes, body: bytes) -> None:
        """Takes one request: its head without the empty line, and its body."""
        raise NotImplementedError
