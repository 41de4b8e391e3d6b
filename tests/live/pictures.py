"""Takes the pictures of the documents: the terminal of `countersign demo`, and its status page under deliveries of three senders.

The page in light and dark as on a desktop, and as on a phone; each picture small enough for a repository.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import hmac
import http.client
import itertools
import json
import os
import pty
import re
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import rig
from screenshots import Browser
from terminal import Screen

LARGEST = 150 << 10
SECONDS = 60.0
PATIENCE_SECONDS = 30.0
# Of the terminal.
COLUMNS = 122
# Name, device, scheme of colours, how much smaller, what is shown, and how many pixels of it from its top.
PICTURES = (("status-page-light", "desktop", "light", 0.75, "body", 1090), ("status-page-dark", "desktop", "dark", 0.75, "body", 1090),
            ("status-page-refusal", "desktop", "light", 0.75, "#refusals", 560), ("status-page-phone", "phone", "light", 0.5, "body", 1700))
OPEN = """(() => {
  const group = [...document.querySelectorAll("details.group")].find((it) => /signature_mismatch.*github/.test(it.textContent));
  if (!group) return false;
  group.open = true;
  group.querySelector(".one button:nth-of-type(2)").click();
  document.activeElement.blur();
  return true;
})()"""
CLOSE = "document.querySelectorAll('details.group').forEach((it) => { it.open = false; it.querySelectorAll('pre').forEach((pre) => { pre.textContent = ''; }); })"


class Demo:
    """The demo as a process, and senders that it has the secrets of."""

    def __init__(self, binary: Path, folder: Path) -> None:
        # The path of the program is in the commands that the demo prints: a short one can be read.
        program = shutil.copy(binary, folder / "countersign")
        terminal, of_child = pty.openpty()
        environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
        self._child = subprocess.Popen([str(program), "demo"], stdin=subprocess.DEVNULL, stdout=of_child, preexec_fn=rig.end_with_parent,
                                       env={**environment, "TMPDIR": str(folder), "TERM": "xterm"})
        os.close(of_child)
        self.screen = Screen(terminal)
        self._said = self.screen.await_text("The other routes")
        self.proxy = int(self._find(r"proxy on 127\.0\.0\.1:(\d+)"))
        self.page = self._find(r"Status page: (\S+)")
        place = Path(self._find(r"--config (\S+)")).parent
        self._secrets = {path.stem: path.read_text(encoding="utf-8").strip() for path in place.glob("*.secret")}
        self._ending, self._thread = threading.Event(), None
        self._numbers = itertools.count(1)

    def try_it(self) -> None:
        """What the demo asks its user to try, and what the terminal then says."""
        body = b'{"hello":"world"}'
        headers = self._headers("github", body, 0)
        for path, sent, signed in (("/webhooks/github", body, headers), ("/webhooks/github", body, headers),
                                   ("/webhooks/github", body.replace(b"o", b"0"), headers), ("/elsewhere", b"{}", {})):
            self._post(path, sent, signed)
        self.screen.await_text("404 route_unknown")
        self.screen.await_text("what to do", after="404 route_unknown")

    def go_on(self) -> None:
        """From now on deliveries of three senders come."""
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def _find(self, pattern: str) -> str:
        found = re.search(pattern, self._said)
        if not found:
            raise rig.RigError(f"the demo does not say {pattern}:\n{self._said}")
        return found.group(1)

    def _send(self) -> None:
        while not self._ending.wait(0.08):
            number = next(self._numbers)
            body = b'{"event":"order.created","number":%d}' % number
            sender = ("github", "stripe", "shopify")[number % 3]
            headers = self._headers(sender, body, number)
            if number % 50 == 7:
                body += b"\n"
            if number % 90 == 11:
                headers = {name: value for name, value in headers.items() if "ignature" not in name and "Hmac" not in name}
            self._post("/elsewhere" if number % 130 == 13 else f"/webhooks/{sender}", body, headers)

    def _headers(self, sender: str, body: bytes, number: int) -> dict[str, str]:
        def tag(signed: bytes) -> bytes:
            return hmac.new(self._secrets[sender].encode(), signed, hashlib.sha256).digest()

        if sender == "github":
            return {"X-Hub-Signature-256": "sha256=" + tag(body).hex(), "User-Agent": "GitHub-Hookshot/44ae67d",
                    "X-GitHub-Delivery": f"72d3162e-cc78-11e3-81ab-{number:012d}"}
        if sender == "stripe":
            moment = int(time.time())
            signed = tag(b"%d.%s" % (moment, body)).hex()
            return {"Stripe-Signature": f"t={moment},v1={signed}", "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)"}
        return {"X-Shopify-Hmac-Sha256": base64.b64encode(tag(body)).decode(), "X-Shopify-Webhook-Id": f"b54557e4-{number:08d}",
                "User-Agent": "Shopify-Captain-Hook"}

    def _post(self, path: str, body: bytes, headers: dict[str, str]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.proxy, timeout=5)
        with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
            connection.request("POST", path, body, headers)
            connection.getresponse().read()

    def close(self) -> None:
        """Ends it."""
        self._ending.set()
        if self._thread:
            self._thread.join()
        self._child.terminate()
        self._child.wait()


def sent_again(browser: Browser) -> str:
    """What countersign answers to the curl that the page gives for the request that is open: its status line."""
    expression = "curlOf(document.querySelector('.group[open] .id').textContent, false)"
    command = browser.ask("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)["result"]["value"]
    answer = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    return (answer.stdout or answer.stderr).partition("\n")[0].strip()


def take_terminal(browser: Browser, demo: Demo, folder: Path) -> list[str]:
    """The picture of the terminal, and what is wrong with it."""
    demo.try_it()
    path = folder / "demo-terminal.svg"
    path.write_text(demo.screen.as_picture("countersign demo", COLUMNS), encoding="utf-8")
    print(f"{path}: {path.stat().st_size >> 10} KiB")
    wrong = [] if path.stat().st_size < LARGEST else [f"demo-terminal: larger than {LARGEST >> 10} KiB"]
    browser.look("desktop", "dark")
    browser.show(path.resolve().as_uri(), None)
    time.sleep(1.0)
    widest = float(browser.evaluate("Math.max(...[...document.querySelectorAll('text')].map((it) => it.getBBox().x + it.getBBox().width))"))
    wide = float(browser.evaluate("document.documentElement.viewBox.baseVal.width"))
    if not 0 < widest < wide:
        wrong.append(f"demo-terminal: the text is {widest} wide, the picture {wide}")
    for word in ("forwarded", "duplicate", "signature_mismatch"):
        if not demo.screen.is_coloured(word):
            wrong.append(f"demo-terminal: {word} has no colour")
    return wrong


def save(browser: Browser, clip: dict, path: Path) -> list[str]:
    """A part of what is shown as a file, and what is wrong with it."""
    shot = browser.ask("Page.captureScreenshot", format="png", captureBeyondViewport=True, optimizeForSpeed=False, clip=clip)
    path.write_bytes(base64.b64decode(shot["data"]))
    print(f"{path}: {path.stat().st_size >> 10} KiB")
    return [f"{path.stem}: larger than {LARGEST >> 10} KiB"] if path.stat().st_size > LARGEST else []


def take(browser: Browser, demo: Demo, folder: Path, page: Path | None) -> list[str]:
    """The pictures of the page, and what is wrong with them."""
    demo.go_on()
    browser.look("desktop", "light")
    browser.show(demo.page, page)
    time.sleep(SECONDS)
    wrong = []
    for name, device, scheme, scale, part, height in PICTURES:
        browser.look(device, scheme)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not browser.evaluate(OPEN):
            if time.monotonic() > deadline:
                raise rig.RigError("the page shows no refusal for signature_mismatch")
            time.sleep(0.5)
        time.sleep(1.0)
        if "explained:" not in str(browser.evaluate("document.querySelector('.group[open] pre').textContent")):
            wrong.append(f"{name}: the refusal is not explained")
        answer = sent_again(browser)
        if " 401 " not in answer:
            wrong.append(f"{name}: the curl of the page is answered: {answer}")
        wide, needed = (int(browser.evaluate(f"document.documentElement.{it}Width")) for it in ("client", "scroll"))
        if needed > wide:
            wrong.append(f"{name}: the page is {needed} pixels wide, the screen {wide}")
        box = json.loads(str(browser.evaluate(f"JSON.stringify(document.querySelector('{part}').getBoundingClientRect())")))
        top = float(browser.evaluate("window.scrollY"))
        clip = {"x": box["x"], "y": box["y"] + top, "width": box["width"], "height": min(height, box["height"]), "scale": scale}
        wrong += save(browser, clip, folder / f"{name}.png")
        browser.evaluate(CLOSE)
    return wrong + [f"the page complained: {text}" for text in browser.complaints]


def main(words: list[str]) -> int:
    """0 when the pictures are as they should be, 1 when something is wrong with them, 2 when there are none."""
    parser = argparse.ArgumentParser("tests/live/run pictures", description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", metavar="PATH", required=True, help="where the pictures go: docs, for those that are shown there")
    parser.add_argument("--page", metavar="PATH", help="show this file in the place of the page that is built in")
    parser.add_argument("--only-terminal", action="store_true", help="take no picture of the page")
    parser.add_argument("--binary", metavar="PATH", help="show this countersign")
    arguments = parser.parse_args(words)
    folder = Path(arguments.folder)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        rig.install_programs(["chromium", "curl"])
        binary = rig.countersign_binary(arguments.binary, ["countersign"])
        assert binary is not None
        with tempfile.TemporaryDirectory(prefix="demo-") as place, contextlib.ExitStack() as ending:
            demo = Demo(binary, Path(place))
            ending.callback(demo.close)
            browser = Browser(Path(place) / "chromium")
            ending.callback(browser.close)
            wrong = take_terminal(browser, demo, folder)
            if not arguments.only_terminal:
                wrong += take(browser, demo, folder, Path(arguments.page) if arguments.page else None)
    except rig.RigError as error:
        rig.say(f"tests/live/run pictures: {error}")
        return 2
    except KeyboardInterrupt:
        rig.say("tests/live/run pictures: interrupted")
        return 130
    for problem in wrong:
        print(problem)
    return 1 if wrong else 0
