"""What a program has written to a terminal, as text and as a picture in its colours."""

from __future__ import annotations

import html
import os
import re
import threading
import time

import rig

PATIENCE_SECONDS = 10.0
COLOURS = {"31": "#ff8a80", "32": "#7ee787", "33": "#e3b341", "36": "#79c0ff"}
SGR = re.compile("\x1b\\[([0-9;]*)m")
HEAD = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"
 font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="13" fill="#c9d1d9">
<rect width="{width}" height="{height}" rx="6" fill="#0d1117"/>
"""
CHARACTER, LINE, MARGIN = 7.83, 17.5, 18


class Screen:
    """Reads what comes through the end of a terminal, until the program has ended."""

    def __init__(self, terminal: int) -> None:
        self._terminal, self._text, self._change = terminal, "", threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        rest = b""
        while True:
            try:
                piece = os.read(self._terminal, 1 << 16)
            except OSError:
                # The program has ended.
                return
            # A character may have been cut.
            whole, cut, rest = (rest + piece).rpartition(b"\n")
            with self._change:
                self._text += (whole + cut).decode().replace("\r\n", "\n")
                self._change.notify_all()

    def text(self) -> str:
        """What was written, without colours."""
        with self._change:
            return SGR.sub("", self._text)

    def await_text(self, part: str, after: str = "") -> str:
        """What was written, once this part is there behind the other one."""
        end = time.monotonic() + PATIENCE_SECONDS
        while part not in self.text().partition(after)[2] if after else part not in self.text():
            with self._change:
                self._change.wait(0.2)
            if time.monotonic() > end:
                raise rig.RigError(f"the terminal does not say {part}:\n{self.text()}")
        return self.text()

    def is_coloured(self, word: str) -> bool:
        """Whether a word was written in a colour."""
        with self._change:
            return re.search(f"\x1b\\[[0-9;]+m{re.escape(word)}\x1b\\[0m", self._text) is not None

    def as_picture(self, command: str, columns: int) -> str:
        """What was written, behind the command, as SVG."""
        with self._change:
            lines = [f"$ {command}", *self._text.strip("\n").split("\n")]
        rows = [row for line in lines for row in wrapped(line, columns)]
        width, height = int(columns * CHARACTER + 2 * MARGIN), int(len(rows) * LINE + 2 * MARGIN)
        texts = [f'<text x="{MARGIN}" y="{MARGIN + LINE * (number + 0.75):.1f}">{coloured(row)}</text>\n'
                 for number, row in enumerate(rows) if row]
        return HEAD.format(width=width, height=height) + "".join(texts) + "</svg>\n"


def wrapped(line: str, columns: int) -> list[str]:
    """The rows of a line. What is too long has no colour behind its first row."""
    if len(SGR.sub("", line)) <= columns:
        return [line]
    cut = columns + sum(len(it[0]) for it in SGR.finditer(line) if it.end() <= columns)
    return [line[:cut], *wrapped(line[cut:], columns)]


def coloured(row: str) -> str:
    """A row as the content of a text of SVG. Browsers join spaces, unless none may be broken."""
    text = html.escape(row, quote=False).replace(" ", "\N{NO-BREAK SPACE}")
    return SGR.sub(lambda it: f'<tspan fill="{COLOURS[it[1]]}">' if it[1] in COLOURS else "</tspan>", text)
