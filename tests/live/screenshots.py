"""Takes pictures of the status page as a person sees it: quiet, under flood, after a reload that failed.

Each in light and dark, and as wide as a desktop and a phone.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import select
import subprocess
import time
from pathlib import Path

import rig
from scene import Background, Site, flood

WIDTHS = {"desktop": (1280, 800, 1), "phone": (390, 844, 2)}
SCHEMES = ("light", "dark")
# So that the sparklines have something to show.
WARM_UP_SECONDS = 25.0
FLOOD_SECONDS = 20.0
SETTLE_SECONDS = 5.0
PIECE_PIXELS = 1700
# Nothing that a browser does by itself.
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
         "--remote-debugging-pipe")


class Browser:
    """Chromium, spoken to through two pipes in the protocol of its developer tools."""

    def __init__(self, folder: Path) -> None:
        to_browser, self._commands = os.pipe()
        self._answers, from_browser = os.pipe()

        def descriptors() -> None:
            # Chromium reads from 3 and writes to 4, whichever numbers the pipes have here.
            rig.end_with_parent()
            read_end, write_end = os.dup(to_browser), os.dup(from_browser)
            high = [os.dup2(end, 60 + at) for at, end in enumerate((read_end, write_end))]
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        self._child = subprocess.Popen(
            [rig.program("chromium"), *FLAGS, f"--user-data-dir={folder}", "about:blank"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            close_fds=False, preexec_fn=descriptors, start_new_session=True)
        os.close(to_browser)
        os.close(from_browser)
        self._number, self._rest, self._session = 0, b"", ""
        self._page: Path | None = None
        self.complaints: list[str] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.ask(f"{domain}.enable")

    def _send(self, method: str, **arguments: object) -> int:
        self._number += 1
        message = {"id": self._number, "method": method, "params": arguments}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        return self._number

    def ask(self, method: str, **arguments: object) -> dict:
        """One command, and its result."""
        number = self._send(method, **arguments)
        deadline = time.monotonic() + 30
        while True:
            answer = self._receive(deadline)
            if answer.get("id") == number:
                if "error" in answer:
                    raise rig.RigError(f"{method}: {answer['error']}")
                return answer["result"]
            if answer.get("method") == "Fetch.requestPaused":
                self._answer_with_page(answer["params"]["requestId"])
            if answer.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.complaints.append(json.dumps(answer["params"])[:500])

    def show(self, address: str, page: Path | None) -> None:
        """Opens an address; with `page`, that file is what is found there."""
        self._page = page
        if page:
            self.ask("Fetch.enable", patterns=[{"urlPattern": address}])
        self.ask("Page.navigate", url=address)

    def _answer_with_page(self, request: str) -> None:
        assert self._page
        self._send("Fetch.fulfillRequest", requestId=request, responseCode=200,
                   responseHeaders=[{"name": "Content-Type", "value": "text/html"}],
                   body=base64.b64encode(self._page.read_bytes()).decode())

    def _receive(self, deadline: float) -> dict:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._answers], [], [], max(0.0, deadline - time.monotonic()))
            piece = os.read(self._answers, 1 << 20) if ready else b""
            if not piece:
                raise rig.RigError("Chromium does not answer")
            self._rest += piece
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def evaluate(self, expression: str) -> object:
        """The value of an expression in the page."""
        return self.ask("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def look(self, width: str, scheme: str) -> None:
        """The page as it is on a device of this width, in this scheme of colours."""
        wide, high, scale = WIDTHS[width]
        self.ask("Emulation.setDeviceMetricsOverride", width=wide, height=high, deviceScaleFactor=scale,
                 mobile=width == "phone")
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def pictures(self, width: str, stem: Path) -> list[Path]:
        """The whole page, in pieces that can be looked at."""
        wide = WIDTHS[width][0]
        high = int(self.evaluate("document.documentElement.scrollHeight"))
        paths = []
        for number, top in enumerate(range(0, high, PIECE_PIXELS), 1):
            clip = {"x": 0, "y": top, "width": wide, "height": min(PIECE_PIXELS, high - top), "scale": 1}
            shot = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
            paths.append(stem.with_name(f"{stem.name}-{number}.png"))
            paths[-1].write_bytes(base64.b64decode(shot["data"]))
        return paths

    def close(self) -> None:
        """Ends it."""
        with contextlib.suppress(rig.RigError, OSError):
            self._session = ""
            self.ask("Browser.close")
        try:
            self._child.wait(5)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        os.close(self._commands)
        os.close(self._answers)


class Studio:
    """A page that stays open, and pictures of it."""

    def __init__(self, browser: Browser, site: Site, arguments: argparse.Namespace) -> None:
        self._browser, self._folder = browser, Path(arguments.folder)
        self.problems: list[str] = []
        browser.look("desktop", "light")
        browser.show(f"http://127.0.0.1:{site.admin}/", Path(arguments.page) if arguments.page else None)

    def take(self, moment: str) -> None:
        """The page at this moment, at every width and in every scheme of colours."""
        for width in WIDTHS:
            for scheme in SCHEMES:
                self._browser.look(width, scheme)
                time.sleep(0.3)
                for path in self._browser.pictures(width, self._folder / f"{moment}-{width}-{scheme}"):
                    print(path)
            wide = WIDTHS[width][0]
            needed = self._browser.evaluate("document.documentElement.scrollWidth")
            if needed != wide:
                self.problems.append(f"{moment}, {width}: the page is {needed} pixels wide, the screen {wide}")
        self._keeps_up(moment)

    def _keeps_up(self, moment: str) -> None:
        # The page asks every two seconds; `seen` has what it was told, the youngest last.
        self._browser.look("desktop", "light")
        age = self._browser.evaluate("Date.now() - seen.at(-1).now")
        phase = self._browser.evaluate("document.getElementById('phase').textContent")
        slowest = self._browser.evaluate(
            "Math.max(...performance.getEntriesByType('resource').filter(it => it.name.endsWith('/status'))"
            ".slice(-10).map(it => it.duration))")
        rate = self._browser.evaluate("total.refused.at(-1)")
        if age is None or age > 4000 or phase != "ready":
            self.problems.append(f"{moment}: the page does not keep up: {age} ms old, says {phase}")
        if None in (age, slowest, rate):
            return
        print(f"{moment}: {rate:.0f} refused a second; what is shown is {age / 1000:.1f} s old; "
              f"/status took at most {slowest:.0f} ms")


def stage(site: Site, studio: Studio) -> None:
    """Everything that is to be seen, one after the other."""
    background = Background(site)
    try:
        for _ in range(3):
            site.deliver("rotating", secret=site.old_secret)
            site.deliver("closed")
            site.deliver("observed")
        time.sleep(WARM_UP_SECONDS)
        studio.take("quiet")
        with flood(site, "forged", b"not the secret"):
            time.sleep(FLOOD_SECONDS)
            studio.take("flood")
        site.failing.value = 1
        site.write("alerts.toml", site.configuration.replace("workers = 2", "workers = 2\nworkerz = 2"))
        for _ in range(20):
            site.deliver("broken")
        time.sleep(SETTLE_SECONDS)
        studio.take("reload-failed")
    finally:
        background.close()


def main(words: list[str]) -> int:
    """0 when the page fitted and kept up, 1 when it did not, 2 when there are no pictures."""
    parser = argparse.ArgumentParser("tests/live/run screenshots", description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", metavar="PATH", required=True, help="where the pictures go")
    parser.add_argument("--page", metavar="PATH",
                        help="show this file in the place of the page that is built in: for work on the page")
    parser.add_argument("--binary", metavar="PATH", help="show this countersign")
    arguments = parser.parse_args(words)
    Path(arguments.folder).mkdir(parents=True, exist_ok=True)
    try:
        rig.install_programs(["chromium", "wrk", "taskset", "openssl"])
        binary = rig.countersign_binary(arguments.binary, ["countersign"])
        assert binary is not None
        with rig.Rig(binary) as bench, contextlib.ExitStack() as ending:
            site = Site(bench, binary)
            ending.callback(site.close)
            browser = Browser(bench.folder / "chromium")
            ending.callback(browser.close)
            studio = Studio(browser, site, arguments)
            stage(site, studio)
            problems = studio.problems + [f"the page complained: {text}" for text in browser.complaints]
    except rig.RigError as error:
        rig.say(f"tests/live/run screenshots: {error}")
        return 2
    except KeyboardInterrupt:
        rig.say("tests/live/run screenshots: interrupted")
        return 130
    for problem in problems:
        print(problem)
    return 1 if problems else 0
