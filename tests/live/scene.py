"""A countersign with a route for everything that can go wrong, its application, and who sends to it."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import http.client
import itertools
import multiprocessing
import os
import shutil
import signal
import socket
import string
import subprocess
import threading
from pathlib import Path
from typing import Iterator

import rig

HERE = Path(__file__).resolve().parent
OLD_KEY_DAYS = 3
# Senders have another address than wrk: what counts against an attacker does not count against them.
SENDER = "127.0.0.2"
WRK_SCRIPT = """\
wrk.method = "POST"
wrk.body = "{body}"
{headers}
"""


class Application(rig.Requests):
    """What stands behind countersign: it answers 200; told to fail, it breaks off, or answers with two lengths, in turn."""

    def __init__(self, failing: multiprocessing.Value) -> None:
        super().__init__()
        self._failing = failing

    def take(self, head: bytes, body: bytes) -> None:
        """Answers a request."""
        if not self._failing.value or b" /broken " not in head.partition(b"\r\n")[0]:
            self._transport.write(rig.ANSWER)
            return
        self._failing.value = 3 - self._failing.value
        if self._failing.value == 2:
            self._transport.write(rig.ANSWER.replace(b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\n"))
        self._transport.close()

    @classmethod
    def serve(cls, listener: socket.socket, failing: multiprocessing.Value) -> None:
        """Serves until the process is ended."""
        rig.end_with_parent()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

        async def forever() -> None:
            loop = asyncio.get_running_loop()
            server = await loop.create_server(lambda: cls(failing), sock=listener)
            await server.serve_forever()

        asyncio.run(forever())


class Site:
    """The application, countersign, its files, and senders of all kinds."""

    def __init__(self, bench: rig.Rig, binary: Path) -> None:
        self.bench = bench
        self._numbers = itertools.count()
        context = multiprocessing.get_context("fork")
        self.failing = context.Value("b", 0)
        listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._application = context.Process(target=Application.serve, args=(listener, self.failing), daemon=True)
        self._application.start()
        # An application that accepts connections, which is all that is asked of it.
        self.elsewhere = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port, self.tls_port, self.admin = (rig.free_port() for _ in range(3))
        self.old_secret = os.urandom(24).hex().encode()
        self.write("old-secret", self.old_secret.decode())
        self.write("inbox-key", os.urandom(32).hex())
        self.write("other-key", os.urandom(32).hex())
        (bench.folder / "tls").mkdir()
        (bench.folder / "trail").mkdir()
        self.certify(90)
        self.authorize(90)
        now = datetime.datetime.now(datetime.timezone.utc)
        moment = "{:%Y-%m-%dT%H:%M:%SZ}".format
        template = string.Template((HERE / "alerts.toml").read_text(encoding="utf-8"))
        self.configuration = template.substitute(
            admin=self.admin, port=self.port, tls_port=self.tls_port, upstream=listener.getsockname()[1],
            elsewhere=self.elsewhere.getsockname()[1],
            began=moment(now - datetime.timedelta(days=90)), ends=moment(now + datetime.timedelta(days=OLD_KEY_DAYS)))
        listener.close()
        self.write("alerts.toml", self.configuration)
        self._command = [str(binary), "run", "--config", str(bench.folder / "alerts.toml")]
        self.start()

    def start(self) -> None:
        """Starts countersign."""
        self.server = self.bench.start_anywhere("countersign", self._command, self.admin)

    def close(self) -> None:
        """Ends the applications."""
        self.elsewhere.close()
        self._application.terminate()
        self._application.join()

    def write(self, name: str, text: str) -> None:
        """A file, whole, renamed into its place."""
        path = self.bench.folder / name
        new = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(new, "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(f"{path}.new", path)

    def certify(self, days: int) -> None:
        """Another certificate, which holds for so many days, in the place of the one that is there."""
        self._put(f"pair-{days}", days, {"tls.key": "tls.key", "tls.crt": "tls.crt"})

    def authorize(self, days: int) -> None:
        """Another authority of clients, which holds for so many days, in the place of the one that is there."""
        self._put(f"authority-{days}", days, {"tls.crt": "ca.crt"})

    def _put(self, pair: str, days: int, names: dict[str, str]) -> None:
        folder = self.bench.folder / pair
        folder.mkdir()
        rig.make_certificate(folder, days)
        for made, name in names.items():
            shutil.copy(folder / made, self.bench.folder / f"{name}.new")
            os.rename(self.bench.folder / f"{name}.new", self.bench.folder / "tls" / name)

    def body(self) -> bytes:
        """The body of a delivery that has never been sent."""
        return rig.delivery_body(256, next(self._numbers))

    def deliver(self, route: str, body: bytes | None = None, secret: bytes | None = None) -> str:
        """Sends a delivery over a connection of its own; its status, or what was wrong."""
        body = self.body() if body is None else body
        headers = rig.delivery_headers(rig.signature(secret or self.bench.secret, body))
        return self._send(f"/{route}", body, headers, tls=False)

    def deliver_encrypted(self, route: str) -> str:
        """A genuine one over TLS, with a handshake in full."""
        body = self.body()
        return self._send(f"/{route}", body, rig.delivery_headers(rig.signature(self.bench.secret, body)), tls=True)

    def _send(self, path: str, body: bytes, headers: dict[str, str], tls: bool) -> str:
        source = (SENDER, 0)
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.tls_port, timeout=2, source_address=source, context=rig.client_tls(),
        ) if tls else http.client.HTTPConnection("127.0.0.1", self.port, timeout=2, source_address=source)
        try:
            connection.request("POST", path, body, headers)
            return str(connection.getresponse().status)
        except (OSError, http.client.HTTPException) as error:
            return type(error).__name__
        finally:
            connection.close()


@contextlib.contextmanager
def flood(site: Site, route: str, secret: bytes) -> Iterator[None]:
    """The same delivery from 127.0.0.1, over sixteen connections, as fast as it is answered."""
    body = "flood"
    headers = rig.delivery_headers(rig.signature(secret, body.encode()))
    lines = "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in headers.items())
    script = site.bench.folder / f"flood-{route}.lua"
    script.write_text(WRK_SCRIPT.format(body=body, headers=lines), encoding="utf-8")
    command = [rig.program("wrk"), "-t1", "-c16", "-d", "600s", "-s", str(script),
               f"http://127.0.0.1:{site.port}/{route}"]
    wrk = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL, preexec_fn=rig.end_with_parent)
    try:
        yield
    finally:
        wrk.terminate()
        wrk.wait()


class Background:
    """What comes all the time: genuine deliveries, some over TLS, one in twenty forged, until the end."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._end, self.silence = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        for number in itertools.count():
            if self._end.wait(0.1):
                return
            self._site.deliver("steady", secret=b"wrong" if number % 20 == 19 else None)
            if number % 10 == 0:
                self._site.deliver_encrypted("steady")
            if not self.silence.is_set():
                self._site.deliver("silent")

    def close(self) -> None:
        """Ends it."""
        self._end.set()
        self._thread.join()
