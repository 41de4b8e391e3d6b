"""Takes the pictures of the documents: the status page of `countersign demo` under deliveries of three senders.

In light and dark as on a desktop, and as on a phone, each small enough for a repository.
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
import re
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import rig
from screenshots import Browser

LARGEST = 150 << 10
SECONDS = 60.0
PATIENCE_SECONDS = 30.0
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
        self._child = subprocess.Popen([str(binary), "demo"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                                       env={**os.environ, "TMPDIR": str(folder)}, preexec_fn=rig.end_with_parent)
        self._said = ""
        assert self._child.stdout
        for line in self._child.stdout:
            self._said += line
            if line.startswith("The other routes"):
                break
        threading.Thread(target=lambda: [None for _ in self._child.stdout], daemon=True).start()
        self.proxy = int(self._find(r"proxy on 127\.0\.0\.1:(\d+)"))
        self.page = self._find(r"Status page: (\S+)")
        place = Path(self._find(r"--config (\S+)")).parent
        self._secrets = {path.stem: path.read_text(encoding="utf-8").strip() for path in place.glob("*.secret")}
        self._ending = threading.Event()
        self._numbers = itertools.count(1)
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
        self._thread.join()
        self._child.terminate()
        self._child.wait()


def sent_again(browser: Browser) -> str:
    """What countersign answers to the curl that the page gives for the request that is open: its status line."""
    expression = "curlOf(document.querySelector('.group[open] .id').textContent, false)"
    command = browser.ask("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)["result"]["value"]
    answer = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    return (answer.stdout or answer.stderr).partition("\n")[0].strip()


def take(browser: Browser, demo: Demo, folder: Path, page: Path | None) -> list[str]:
    """The pictures, and what is wrong with them."""
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
        shot = browser.ask("Page.captureScreenshot", format="png", captureBeyondViewport=True, optimizeForSpeed=False, clip=clip)
        path = folder / f"{name}.png"
        path.write_bytes(base64.b64decode(shot["data"]))
        print(f"{path}: {path.stat().st_size >> 10} KiB")
        if path.stat().st_size > LARGEST:
            wrong.append(f"{name}: larger than {LARGEST >> 10} KiB")
        browser.evaluate(CLOSE)
    return wrong + [f"the page complained: {text}" for text in browser.complaints]


def main(words: list[str]) -> int:
    """0 when the pictures are as they should be, 1 when something is wrong with them, 2 when there are none."""
    parser = argparse.ArgumentParser("tests/live/run pictures", description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", metavar="PATH", required=True, help="where the pictures go: docs, for those that are shown there")
    parser.add_argument("--page", metavar="PATH", help="show this file in the place of the page that is built in")
    parser.add_argument("--binary", metavar="PATH", help="show this countersign")
    arguments = parser.parse_args(words)
    folder = Path(arguments.folder)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        rig.install_programs(["chromium", "curl"])
        binary = rig.countersign_binary(arguments.binary, ["countersign"])
        assert binary is not None
        with tempfile.TemporaryDirectory() as place, contextlib.ExitStack() as ending:
            demo = Demo(binary, Path(place))
            ending.callback(demo.close)
            browser = Browser(Path(place) / "chromium")
            ending.callback(browser.close)
            wrong = take(browser, demo, folder, Path(arguments.page) if arguments.page else None)
    except rig.RigError as error:
        rig.say(f"tests/live/run pictures: {error}")
        return 2
    except KeyboardInterrupt:
        rig.say("tests/live/run pictures: interrupted")
        return 130
    for problem in wrong:
        print(problem)
    return 1 if wrong else 0
