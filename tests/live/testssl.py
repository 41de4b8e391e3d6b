"""testssl.sh against countersign: what a scanner of strangers finds in its TLS.

README.md says what is asked and what is left out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import rig

LEFT_OUT = 77
SCAN_SECONDS = 600.0
# What testssl.sh thinks no worse than this of is no finding.
HARMLESS = ("OK", "INFO", "LOW", "DEBUG")
# These are about the certificate, which is made for the run and self-signed, or about the scanner.
NOT_OURS = {
    "cert_chain_of_trust": "the certificate is self-signed",
    "cert_revocation": "the certificate is self-signed: it cannot be revoked",
    "engine_problem": "about the OpenSSL of the scanner: GOST cannot be tested",
}


@dataclass(frozen=True)
class Finding:
    """One line of testssl.sh."""

    id: str
    severity: str
    finding: str

    @property
    def excused(self) -> str:
        """Why it is not ours; empty if it is."""
        return next((why for name, why in NOT_OURS.items()
                     if self.id == name or self.id.startswith(f"{name} ")), "")

    @property
    def counts(self) -> bool:
        """Whether it must not be there."""
        return self.severity not in HARMLESS and not self.excused


def scan(bench: rig.Rig, server: rig.Server) -> list[Finding]:
    """Everything that testssl.sh says of the server."""
    told = bench.folder / "testssl.json"
    # Everything that it tests unless told otherwise; no look-ups of names, no calls to strangers.
    command = [rig.program("testssl"), "--quiet", "--warnings", "batch", "--color", "0", "--nodns", "none",
               "--connect-timeout", "10", "--openssl-timeout", "10", "--jsonfile", str(told),
               f"127.0.0.1:{server.port}"]
    with (bench.folder / "testssl.out").open("wb") as output:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                              cwd=bench.folder, timeout=SCAN_SECONDS, check=False)
    if not told.exists():
        text = (bench.folder / "testssl.out").read_text(encoding="utf-8", errors="replace")
        raise rig.RigError(f"testssl.sh ended with {done.returncode} and no report:\n{text[-2000:]}")
    lines = json.loads(told.read_text(encoding="utf-8", errors="replace"))
    return [Finding(line["id"], line["severity"], " ".join(line["finding"].split())) for line in lines]


def report(findings: list[Finding], facts: dict[str, str], seconds: float) -> bool:
    """Print what was found; whether nothing counts against us."""
    counts = Counter(finding.severity for finding in findings)
    print("# testssl.sh against countersign\n")
    for name, value in facts.items():
        print(f"- {name}: {value}")
    print(f"- {len(findings)} lines in {seconds:.0f} s: "
          + ", ".join(f"{count} {severity}" for severity, count in sorted(counts.items())) + "\n")
    print("| finding | severity | what it says | |\n|---|---|---|---|")
    for finding in findings:
        if finding.severity not in ("OK", "INFO", "DEBUG"):
            remark = finding.excused or ("**counts**" if finding.counts else "")
            said = finding.finding.replace("|", "\\|")
            print(f"| {finding.id} | {finding.severity} | {said} | {remark} |")
    against = sum(finding.counts for finding in findings)
    print(f"\nfindings above LOW that are ours: {against}")
    return against == 0


def parse_arguments(words: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser("tests/live/run testssl", description=__doc__.partition("\n")[0])
    parser.add_argument("--epoll", action="store_true", help="on epoll instead of io_uring")
    parser.add_argument("--binary", metavar="PATH", help="ask this countersign")
    parser.add_argument("--json", type=Path, metavar="PATH", help="keep every line here, too")
    return parser.parse_args(words)


def main(words: list[str]) -> int:
    """0 when nothing counts, 1 when something does, 2 when there was no scan, 77 without testssl.sh."""
    arguments = parse_arguments(words)
    try:
        rig.install_programs(["testssl"])
    except rig.RigError as error:
        print(f"LEFT OUT: there is no testssl.sh here: {error}")
        return LEFT_OUT
    try:
        rig.install_programs(["nginx", "taskset", "openssl"])
        binary = rig.countersign_binary(arguments.binary, ["countersign"])
        with rig.Rig(binary, tls=True) as bench:
            facts = {"testssl.sh": next((word for word in rig.said([rig.program("dpkg-query"), "-W", "-f",
                                         "${Version}", "testssl.sh"]).split()), "unknown"),
                     **rig.machine_facts(binary, bench.cores, bool(arguments.binary))}
            upstream = bench.start_upstream()
            name = "countersign-epoll" if arguments.epoll else "countersign"
            server = bench.start_target(name, upstream, 0)
            rig.check_target(bench, server, upstream)
            began = time.monotonic()
            findings = scan(bench, server)
            seconds = time.monotonic() - began
            # A scanner sends much that is no handshake: the server must still serve.
            rig.check_target(bench, server, upstream)
    except (rig.RigError, OSError, subprocess.SubprocessError) as error:
        rig.say(f"tests/live/run testssl: {error}")
        return 2
    except KeyboardInterrupt:
        rig.say("tests/live/run testssl: interrupted")
        return 130
    if arguments.json:
        arguments.json.write_text(json.dumps([vars(finding) for finding in findings], indent=2) + "\n",
                                  encoding="utf-8")
    return 0 if report(findings, facts, seconds) else 1
