"""Takes the pictures of the inbox in the documents: the status page with a backlog, with dead letters, after a redrive.

Each is a part of the page as on a desktop, small enough for a repository.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.client
import http.server
import json
import threading
import time
from pathlib import Path

import rig
from screenshots import Browser

LARGEST = 120 << 10
PATIENCE_SECONDS = 60.0
# The page asks every two seconds.
SHOWN_SECONDS = 5.0
ORDERS, INVOICES = 240, 36
REFUSED_EVERY = 60
CONFIGURATION = """\
[server]
workers = 1
drain_delay = "0s"
drain_grace = "1s"

[access_log]
output = "off"

[admin]
address = "127.0.0.1:{admin}"

[[listener]]
address = "127.0.0.1:{port}"

[upstream]
address = "127.0.0.1:{application}"

[inbox]
directory = "{box}"
size = "64MiB"

[[route]]
name = "orders"
path = "/orders"
scheme = "github"
secrets = [{{ id = "1", file = "secret" }}]
acknowledge = "durable"
delivery = {{ backoff = "200ms..1s" }}

[[route]]
name = "invoices"
path = "/invoices"
scheme = "github"
secrets = [{{ id = "1", file = "secret" }}]
acknowledge = "durable"
delivery = {{ backoff = "200ms..1s" }}
"""
# What is shown: the cards of the inbox and of its dead letters, one below the other.
BOX = """JSON.stringify((() => {
  const boxes = ["inbox", "dead"].map((id) => document.getElementById(id)).filter((it) => !it.hidden).map((it) => it.getBoundingClientRect());
  const left = Math.min(...boxes.map((it) => it.left)), top = Math.min(...boxes.map((it) => it.top));
  const right = Math.max(...boxes.map((it) => it.right)), bottom = Math.max(...boxes.map((it) => it.bottom));
  return { x: left - 8, y: top + scrollY - 8, width: right - left + 16, height: bottom - top + 16 };
})())"""
REDRIVE = """(() => {
  const all = [...document.querySelectorAll("#dead button")].find((it) => it.textContent.startsWith("redrive these"));
  if (!all) return false;
  all.click();
  document.activeElement.blur();
  return true;
})()"""


class Application:
    """The application: away, or there; it refuses one delivery in `REFUSED_EVERY` until it is corrected."""

    def __init__(self, port: int) -> None:
        self.corrected = False
        self._seen: dict[str, int] = {}
        application = self

        class Delivery(http.server.BaseHTTPRequestHandler):
            """One connection."""

            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:  # noqa: N802  (the name is the library's)
                """Takes a delivery, or refuses it for good."""
                self.rfile.read(int(self.headers.get("Content-Length", "0")))
                number = application.number(self.headers.get("X-Countersign-Delivery", ""))
                refused = not application.corrected and number % REFUSED_EVERY == 0
                self.send_response(422 if refused else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Delivery)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def number(self, delivery: str) -> int:
        """Which delivery it is, counted from 1."""
        return self._seen.setdefault(delivery, len(self._seen) + 1)

    def close(self) -> None:
        """It is away."""
        self._server.shutdown()
        self._server.server_close()


class Stage:
    """countersign, its application and a browser."""

    def __init__(self, bench: rig.Rig, binary: Path, browser: Browser, arguments: argparse.Namespace) -> None:
        self._bench, self._browser = bench, browser
        self._folder = Path(arguments.folder)
        self.port, self.admin, self.application = (rig.free_port() for _ in range(3))
        config = bench.folder / "inbox.toml"
        config.write_text(CONFIGURATION.format(admin=self.admin, port=self.port, application=self.application,
                                               box=bench.folder / "box"), encoding="utf-8")
        bench.start_anywhere("countersign", [str(binary), "run", "--config", str(config)], self.admin)
        self.wait(lambda inbox: inbox["state"] == "open", "the inbox does not open")
        browser.look("desktop", "light")
        browser.show(f"http://127.0.0.1:{self.admin}/", Path(arguments.page) if arguments.page else None)
        self.wrong: list[str] = []

    def wait(self, holds, problem: str) -> None:
        """Waits until this holds of the inbox."""
        give_up = time.monotonic() + PATIENCE_SECONDS
        while True:
            inbox = json.loads(rig.get(self.admin, "/status"))["inbox"]
            if holds(inbox):
                return
            if time.monotonic() > give_up:
                raise rig.RigError(f"{problem}: {inbox}")
            time.sleep(0.2)

    def send(self, route: str, count: int) -> None:
        """Deliveries that are acknowledged."""
        for number in range(count):
            body = rig.delivery_body(700, number)
            headers = rig.delivery_headers(rig.signature(self._bench.secret, body))
            status = post(self.port, f"/{route}", body, headers)
            if status != 202:
                raise rig.RigError(f"{route}: answered {status} instead of 202")

    def take(self, name: str, words: list[str]) -> None:
        """The picture; what must be seen on it."""
        time.sleep(SHOWN_SECONDS)
        box = json.loads(str(self._browser.evaluate(BOX)))
        shown = str(self._browser.evaluate("document.getElementById('inbox').textContent + document.getElementById('dead').textContent"))
        self.wrong += [f"{name}: does not say: {word}" for word in words if word not in shown]
        shot = self._browser.ask("Page.captureScreenshot", format="png", captureBeyondViewport=True,
                                 optimizeForSpeed=False, clip={**box, "scale": 1})
        path = self._folder / f"{name}.png"
        path.write_bytes(base64.b64decode(shot["data"]))
        print(f"{path}: {path.stat().st_size >> 10} KiB")
        if path.stat().st_size > LARGEST:
            self.wrong.append(f"{name}: larger than {LARGEST >> 10} KiB")

    def redrive(self) -> None:
        """Presses the button under the dead letters."""
        give_up = time.monotonic() + PATIENCE_SECONDS
        while not self._browser.evaluate(REDRIVE):
            if time.monotonic() > give_up:
                raise rig.RigError("there is no button that redrives all that are shown")
            time.sleep(0.5)


def post(port: int, path: str, body: bytes, headers: dict[str, str]) -> int:
    """Sends one delivery on a connection of its own; the status of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with contextlib.closing(connection):
        connection.request("POST", path, body, headers)
        return connection.getresponse().status


def play(stage: Stage) -> None:
    """What is to be seen, one after the other."""
    stage.send("orders", ORDERS)
    stage.send("invoices", INVOICES)
    stage.take("inbox-backlog", [f"{ORDERS} waiting", f"{INVOICES} waiting", "202 means"])
    application = Application(stage.application)
    try:
        stage.wait(lambda inbox: inbox["waiting"] == 0 and inbox["dead"] > 0, "the inbox does not become empty")
        stage.take("inbox-dead-letters", ["Dead letters", "refused_by_application", "redrive"])
        application.corrected = True
        stage.redrive()
        time.sleep(SHOWN_SECONDS)
        stage.wait(lambda inbox: inbox["waiting"] == 0, "what was redriven is not delivered")
        stage.take("inbox-redriven", ["delivered"])
    finally:
        application.close()


def main(words: list[str]) -> int:
    """0 when the pictures are as they should be, 1 when something is wrong with them, 2 when there are none."""
    parser = argparse.ArgumentParser("tests/live/run inbox-pictures", description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", metavar="PATH", required=True, help="where the pictures go: docs, for those that are shown there")
    parser.add_argument("--page", metavar="PATH", help="show this file in the place of the page that is built in")
    parser.add_argument("--binary", metavar="PATH", help="show this countersign")
    arguments = parser.parse_args(words)
    Path(arguments.folder).mkdir(parents=True, exist_ok=True)
    try:
        rig.install_programs(["chromium", "taskset"])
        binary = rig.countersign_binary(arguments.binary, ["countersign"])
        assert binary is not None
        with rig.Rig(binary) as bench, contextlib.ExitStack() as ending:
            browser = Browser(bench.folder / "chromium")
            ending.callback(browser.close)
            stage = Stage(bench, binary, browser, arguments)
            play(stage)
            wrong = stage.wrong + [f"the page complained: {text}" for text in browser.complaints]
    except rig.RigError as error:
        rig.say(f"tests/live/run inbox-pictures: {error}")
        return 2
    except KeyboardInterrupt:
        rig.say("tests/live/run inbox-pictures: interrupted")
        return 130
    for problem in wrong:
        print(problem)
    return 1 if wrong else 0
