"""A client that opens a TLS connection for each delivery, and knows what handshake it was."""

from __future__ import annotations

import socket
import ssl
import time

import rig

BODY = 256
ANSWER_SECONDS = 5.0


class Client:
    """Opens connections, each for one genuine delivery."""

    def __init__(self, bench: rig.Rig, port: int) -> None:
        body = rig.delivery_body(BODY)
        headers = {"Host": f"127.0.0.1:{port}", "Content-Length": str(len(body)),
                   "Connection": "close",
                   **rig.delivery_headers(rig.signature(bench.secret, body))}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._request = f"POST {rig.ROUTE} HTTP/1.1\r\n{lines}\r\n".encode() + body
        self._port = port
        self._tls = rig.client_tls()

    def deliver(self, session: ssl.SSLSession | None) -> ssl.SSLSession | None:
        """One connection; the session that the next one can resume.

        An error if the session was not resumed, or the delivery not accepted.
        """
        with socket.create_connection(("127.0.0.1", self._port), ANSWER_SECONDS) as plain:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._tls.wrap_socket(plain, session=session) as connection:
                if connection.session_reused != (session is not None):
                    raise rig.RigError(f"port {self._port}: asked to resume: "
                                       f"{session is not None}, resumed: "
                                       f"{connection.session_reused}")
                connection.sendall(self._request)
                answer = b""
                while piece := connection.recv(65536):
                    answer += piece
                if not answer.startswith(b"HTTP/1.1 200 "):
                    raise rig.RigError(f"port {self._port}: {answer[:200]!r}")
                # The tickets came before the answer.
                return connection.session

    def run(self, kind: str, count: int) -> float:
        """So many connections, one after the other; how long that took."""
        session = self.deliver(None) if kind == "resumed" else None
        begun = time.monotonic()
        for _ in range(count):
            got = self.deliver(session)
            session = got if kind == "resumed" else None
        return time.monotonic() - begun

    def run_for(self, seconds: float) -> tuple[int, float]:
        """Full handshakes for so long; how many, and how long that took."""
        begun = time.monotonic()
        count = 0
        while (taken := time.monotonic() - begun) < seconds:
            self.deliver(None)
            count += 1
        return count, taken
