"""A real Prometheus on what `config/prometheus` ships, with its durations made shorter, and questions to it."""

from __future__ import annotations

import json
import math
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass

import rig

CONFIG = rig.REPOSITORY / "config"
RULES = "countersign.rules.yml"
DASHBOARD = CONFIG / "grafana" / "countersign.json"
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
# What stands where a duration is one: how long a cause must last, a range, how far back it lies.
DURATION = re.compile(r"(?P<before>^ *for: |\[|\boffset )(?P<number>\d+)(?P<unit>ms|s|m|h|d)", re.MULTILINE)
SCRAPE_SECONDS = 1
# What Grafana puts in: four times the interval of scrapes, and one step.
VARIABLES = {"$__rate_interval": "5s", "$__interval": "5s", "$instance": ".*", "$route": ".*"}


@dataclass(frozen=True)
class Query:
    """One query of the dashboard, and where it stands."""

    panel: str
    text: str

    def filled_in(self) -> str:
        """As Grafana would send it."""
        text = self.text
        for name, value in VARIABLES.items():
            text = text.replace(name, value)
        if "$" in text:
            raise rig.RigError(f"the query of {self.panel} has an unknown variable: {self.text}")
        return text


def shortened(rules: str, factor: int) -> tuple[str, list[str]]:
    """The rules with every duration divided by `factor`, nothing else changed, and what was changed."""
    changes: list[str] = []

    def shorten(found: re.Match[str]) -> str:
        milliseconds = round(int(found["number"]) * UNITS[found["unit"]] / factor * 1000)
        text = f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"
        before = found["before"].strip()
        closing = "]" if before == "[" else ""
        gap = "" if closing else " "
        changes.append(f"{before}{gap}{found['number']}{found['unit']}{closing} -> {before}{gap}{text}{closing}")
        return found["before"] + text

    return DURATION.sub(shorten, rules), changes


def alerts_in(rules: str) -> list[str]:
    """The names of the alerts."""
    return re.findall(r"^ *- alert: (\w+)", rules, re.MULTILINE)


def dashboard_queries() -> list[Query]:
    """Every query of the dashboard."""
    queries: list[Query] = []

    def collect(panels: list[dict]) -> None:
        for panel in panels:
            queries.extend(Query(panel["title"], target["expr"]) for target in panel.get("targets", []))
            collect(panel.get("panels", []))

    collect(json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"])
    return queries


class Prometheus:
    """One that scrapes a countersign every second."""

    def __init__(self, bench: rig.Rig, rules: str, target: str) -> None:
        (bench.folder / RULES).write_text(rules, encoding="utf-8")
        config = (CONFIG / "prometheus" / "prometheus.yml").read_text(encoding="utf-8")
        for shipped, ours in (("scrape_interval: 15s", f"scrape_interval: {SCRAPE_SECONDS}s\n  "
                               f"evaluation_interval: {SCRAPE_SECONDS}s"), ("127.0.0.1:9090", target)):
            if shipped not in config:
                raise rig.RigError(f"prometheus.yml has no {shipped}")
            config = config.replace(shipped, ours)
        path = bench.folder / "prometheus.yml"
        path.write_text(config, encoding="utf-8")
        self._port = rig.free_port()
        command = [rig.program("prometheus"), f"--config.file={path}",
                   f"--storage.tsdb.path={bench.folder}/tsdb", "--log.level=warn",
                   f"--web.listen-address=127.0.0.1:{self._port}"]
        self.server = bench.start_anywhere("prometheus", command, self._port)
        self._began = time.time()

    def ask(self, path: str, **arguments: object) -> dict:
        """The data of an answer of the HTTP API."""
        address = f"http://127.0.0.1:{self._port}/api/v1/{path}?{urllib.parse.urlencode(arguments)}"
        try:
            with urllib.request.urlopen(address, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            # Until it has read its storage.
            if error.code == 503:
                return {}
            raise rig.RigError(f"{path} {arguments}: {error.read().decode()}") from error
        except OSError as error:
            raise rig.RigError(f"Prometheus does not answer: {error}") from error

    def firing(self) -> list[dict]:
        """The alerts that fire now."""
        return [alert for alert in self.ask("alerts").get("alerts", []) if alert["state"] == "firing"]

    def value(self, query: str) -> float | None:
        """The first figure of a query, now."""
        result = self.ask("query", query=query).get("result", [])
        return float(result[0]["value"][1]) if result else None

    def figures(self, query: Query) -> tuple[int, float]:
        """How many figures a query has had since the start, second by second, and the greatest."""
        result = self.ask("query_range", query=query.filled_in(), start=self._began, end=time.time(),
                          step=1)["result"]
        figures = [float(value) for series in result for _, value in series["values"]]
        figures = [figure for figure in figures if math.isfinite(figure)]
        return len(figures), max(figures, default=0.0)
