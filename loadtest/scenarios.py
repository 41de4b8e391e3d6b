"""The loads: what is sent, over which connections, and how."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from dataclasses import dataclass

import handshaking
import rig

# Of ten deliveries of the mix, one is forged.
MIX = 10

WRK_SCRIPT = """\
local file = assert(io.open("{body}", "rb"))
wrk.method = "POST"
wrk.body = file:read("*a")
file:close()
{headers}
{mix}
function done(summary, latency, requests)
    local e = summary.errors
    local out = assert(io.open("{counts}", "w"))
    out:write(string.format(
        '{{"requests":%d,"microseconds":%d,"not_2xx":%d,"broken":%d}}',
        summary.requests, summary.duration, e.status,
        e.connect + e.read + e.write + e.timeout))
    out:close()
end
"""

MIX_SCRIPT = """\
local genuine, forged, sent = nil, nil, 0
function init()
    genuine = wrk.format()
    wrk.headers["X-Hub-Signature-256"] = "{forged}"
    forged = wrk.format()
end
function request()
    sent = sent + 1
    if sent % {every} == 0 then return forged end
    return genuine
end
"""


@dataclass(frozen=True)
class Scenario:
    """One load."""

    name: str
    what: str
    body: int = 256
    connections: int = 50
    # "genuine", "forged", or "mixed": nine genuine ones, one forged.
    deliveries: str = "genuine"
    tls: bool = False
    # A connection for each request.
    fresh: bool = False

    @property
    def has_latency(self) -> bool:
        """Whether latency is measured: the traffic program speaks plain text and is genuine."""
        return self.deliveries == "genuine" and not self.tls and not self.fresh

    def suits(self, target: str) -> bool:
        """Whether the target is measured here: webhook only where it can be, express in plain text."""
        return self.name == "256" if target == "webhook" else not (target == "express" and self.tls)

    def refused(self, requests: int, verifies: bool) -> float:
        """How many of so many requests a target must refuse."""
        if not verifies or self.deliveries == "genuine":
            return 0
        return requests if self.deliveries == "forged" else requests / MIX


SCENARIOS = {scenario.name: scenario for scenario in (
    Scenario("256", "256 B, 50 keep-alive connections"),
    Scenario("1k", "1 KiB, 50 keep-alive connections", body=1024),
    Scenario("8k", "8 KiB, 50 keep-alive connections", body=8 << 10),
    Scenario("64k", "64 KiB, 50 keep-alive connections", body=64 << 10),
    Scenario("1m", "1 MiB, 50 keep-alive connections", body=1 << 20),
    Scenario("256-500", "256 B, 500 keep-alive connections", connections=500),
    Scenario("8k-500", "8 KiB, 500 keep-alive connections", body=8 << 10, connections=500),
    Scenario("forged", "forged flood, 256 B", deliveries="forged"),
    Scenario("forged-8k", "forged flood, 8 KiB", body=8 << 10, deliveries="forged"),
    Scenario("mixed", "nine genuine, one forged; 256 B", deliveries="mixed"),
    Scenario("tls", "256 B over TLS 1.3, 50 keep-alive connections", tls=True),
    Scenario("tls-8k", "8 KiB over TLS 1.3, 50 keep-alive connections", body=8 << 10, tls=True),
    Scenario("tls-connection", "256 B, a connection and a full TLS 1.3 handshake each",
             connections=1, tls=True, fresh=True),
    Scenario("plain-connection", "256 B, a connection each", fresh=True),
)}


class WrkLoad:
    """wrk against one port: each connection sends when it has been answered."""

    def __init__(self, bench: rig.Rig, port: int, scenario: Scenario) -> None:
        self._counts = bench.folder / "counts.json"
        body_file = bench.folder / f"body-{scenario.body}"
        body_file.write_bytes(rig.delivery_body(scenario.body))
        body = body_file.read_bytes()
        forged = rig.signature(b"not the secret", body)
        signed = forged if scenario.deliveries == "forged" else rig.signature(bench.secret, body)
        named = rig.delivery_headers(signed)
        if scenario.fresh:
            named["Connection"] = "close"
        headers = "\n".join(f'wrk.headers["{name}"] = "{value}"'
                            for name, value in named.items())
        mix = (MIX_SCRIPT.format(forged=forged, every=MIX)
               if scenario.deliveries == "mixed" else "")
        script = bench.folder / f"load-{scenario.name}.lua"
        script.write_text(WRK_SCRIPT.format(body=body_file, headers=headers, mix=mix,
                                            counts=self._counts), encoding="utf-8")
        self._command = [
            rig.program("taskset"), "-c", str(bench.cores.load),
            rig.program("wrk"), "-t1", f"-c{scenario.connections}", "--timeout", "5s",
            "-s", str(script),
            f"{'https' if bench.tls else 'http'}://127.0.0.1:{port}{rig.ROUTE}"]

    def run(self, seconds: float, prefix: tuple[str, ...] = ()) -> dict[str, int]:
        """Send deliveries for so long, under `prefix` if there is one; wrk's own counts."""
        self._counts.unlink(missing_ok=True)
        # wrk takes whole seconds only; a shorter run is ended with SIGINT,
        # which it takes as the end of the time and reports as usual.
        command = [*prefix, *self._command, "-d", f"{max(1, round(seconds))}s"]
        wrk = subprocess.Popen(command, stdin=subprocess.DEVNULL, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               start_new_session=True)
        try:
            if seconds < 1:
                time.sleep(seconds)
                wrk.send_signal(signal.SIGINT)
            said, _ = wrk.communicate(timeout=seconds + 15)
        except subprocess.TimeoutExpired as error:
            raise rig.RigError("wrk did not end in time") from error
        finally:
            if wrk.poll() is None:
                wrk.kill()
                wrk.wait()
        if not self._counts.exists():
            raise rig.RigError(f"wrk failed:\n{said}")
        return json.loads(self._counts.read_text(encoding="utf-8"))


class HandshakeLoad:
    """One connection with a full handshake after the other. (wrk would resume sessions.)"""

    def __init__(self, bench: rig.Rig, port: int) -> None:
        self._client = handshaking.Client(bench, port)

    def run(self, seconds: float, _prefix: tuple[str, ...] = ()) -> dict[str, int]:
        """Send deliveries for so long; counts as wrk gives them. What is not a 200 is an error."""
        count, taken = self._client.run_for(seconds)
        return {"requests": count, "microseconds": round(taken * 1e6), "not_2xx": 0, "broken": 0}


def load_of(bench: rig.Rig, port: int, scenario: Scenario) -> WrkLoad | HandshakeLoad:
    """What sends the deliveries of a scenario."""
    if scenario.tls and scenario.fresh:
        return HandshakeLoad(bench, port)
    return WrkLoad(bench, port, scenario)


class OpenLoop:
    """The traffic program: deliveries by the clock, each with a body of its own.

    A latency counts from the moment at which its delivery was due, so that a
    target which stalls is charged for all that had to wait.
    """

    def __init__(self, bench: rig.Rig, traffic: str) -> None:
        self._bench, self._traffic = bench, traffic

    def run(self, port: int, scenario: Scenario, rate: float, seconds: float,
            first: int) -> dict[str, object]:
        """So many deliveries a second for so long; what the program reports."""
        command = [
            rig.program("taskset"), "-c", str(self._bench.cores.load), self._traffic, "probe",
            "--target", f"127.0.0.1:{port}", "--secret-file", str(self._bench.folder / "secret"),
            "--path", rig.ROUTE, "--first", str(first), "--rate", f"{rate:.1f}", "--seconds",
            str(seconds), "--body", str(scenario.body), "--connections",
            str(scenario.connections), "--fresh-every", "0"]
        return run_traffic(command, seconds + 15)


def digest_microseconds(bench: rig.Rig, traffic: str, size: int, seconds: float) -> float:
    """How long SHA-256 of so many bytes takes on the proxy's core."""
    command = [rig.program("taskset"), "-c", str(bench.cores.proxy), traffic, "digest",
               "--body", str(size), "--seconds", str(seconds)]
    return float(run_traffic(command, seconds + 15)["microseconds"])


def run_traffic(command: list[str], seconds: float) -> dict[str, object]:
    """What a command of the traffic program says in its line of JSON."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False,
                          preexec_fn=rig.end_with_parent)
    if done.returncode != 0:
        raise rig.RigError(f"{' '.join(command[3:5])} failed: {done.stderr[-500:]}")
    return json.loads(done.stdout)
