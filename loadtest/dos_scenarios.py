"""The scenarios of `dos`: quiet phases and attacks in turn, on a bench or on a deployment of your own."""

from __future__ import annotations

import argparse
import os
import ssl
import subprocess
import time
from pathlib import Path

import attacks
import canned
import kinds
import rig
from dos_bench import Bench, Phase, Result, Verdict, added, finish, reasons, status
from dos_judging import judge, judge_proxy

SETTLE_SECONDS = 0.5


def run_scenario(bench: Bench, scenario: attacks.Scenario) -> Result:
    """One scenario: quiet phases and attacks in turn, and what came of them."""
    seconds = bench.arguments.seconds
    result = Result(scenario.name, scenario.does, scenario.unit, seconds)
    tls_port = rig.free_port() if scenario.tls else 0
    server = bench.start_proxy(scenario.name, more=further_sections(scenario, tls_port))
    before = bench.application()["paths"]
    for number in range(bench.arguments.rounds):
        result.quiet.append(run_phase(bench, server, None, 0.0, tls_port)[0])
        if number == 0:
            result.rss_before = status(server, "VmRSS")
        words, written = attack_words(bench, scenario), records_size(bench, server)
        phase, said = run_phase(bench, server, words, scenario.lead, tls_port)
        result.records += records_size(bench, server) - written
        result.attacked.append(phase)
        result.attack = added(result.attack, said)
        time.sleep(SETTLE_SECONDS)
    after = bench.application()["paths"]
    result.peak = status(server, "VmHWM")
    result.reasons, result.lines_left_out = reasons(bench, server)
    judge(bench, scenario, result, (before, after))
    judge_proxy(bench, scenario.name, server, result)
    bench.rig.stop(server)
    return result


def attack_words(bench: Bench, scenario: attacks.Scenario) -> list[str]:
    """The options of an attack, for one round of it."""
    words = scenario.arguments(bench.arguments.slow_connections)
    words = [word.format(folder=bench.rig.folder) for word in words]
    if scenario.signs:
        words += ["--secret-file", str(bench.rig.folder / "secret")]
        words += ["--first", str(bench.numbers(1_000_000))]
    if scenario.route:
        words += ["--path", scenario.route]
    return words


def further_sections(scenario: attacks.Scenario, tls_port: int) -> str:
    """What a scenario needs in the configuration beyond what all have."""
    text = ""
    if scenario.tls:
        text += (f'[[listener]]\naddress = "127.0.0.1:{tls_port}"\n[listener.tls]\n'
                 f'certificate = "{scenario.tls}.crt"\nkey = "{scenario.tls}.key"\n')
    if scenario.client_ca:
        text += 'client_ca = "ca.crt"\nclient_auth = "request"\n'
    if scenario.audited:
        text += (f'[audit]\nfile = "{scenario.name}.jsonl"\nkey = {{ id = "dos", file = "secret" }}\n'
                 'fsync = "interval"\ninterval = "1s"\n')
    return text


def records_size(bench: Bench, server: rig.Server) -> int:
    """Bytes of access log and audit trail."""
    name = server.name.removeprefix("countersign-")
    paths = [bench.rig.folder / f"{server.name}.out", *bench.rig.folder.glob(f"{name}.jsonl*")]
    return sum(path.stat().st_size for path in paths)


def make_canned(folder: Path, names: list[str]) -> None:
    """What the attackers over TLS and on public keys need; only what the scenarios ask for."""
    canned.make_public_keys(folder, 4)
    kinds.make_keys(folder)
    kinds.make_requests(folder)
    asked = [one for one in attacks.SCENARIOS if one.name in names and one.tls]
    for kind in {one.tls for one in asked}:
        canned.make_server_pair(folder, kind)
    if asked:
        canned.record_hello(folder / "hello", ssl.TLSVersion.TLSv1_3)
        canned.record_hello(folder / "hello-1.2", ssl.TLSVersion.TLSv1_2)
    if any(one.client_ca for one in asked):
        canned.make_chain(folder)


def run_phase(bench: Bench, server: rig.Server, words: list[str] | None,
              lead: float = 0.0, tls_port: int = 0) -> tuple[Phase, dict]:
    """The probe, with or without an attack; what they said and what the proxy spent."""
    seconds, pids, said = bench.arguments.seconds, server.pids(), {}
    cpu, stolen = rig.cpu_reading(pids), rig.stolen_seconds()
    begun = time.monotonic()
    attack, port = None, tls_port or server.port
    if lead:
        attack = bench.attack(f"127.0.0.1:{port}", words, seconds + lead)
        time.sleep(lead)
    probe = bench.probe(port, seconds, bool(tls_port))
    if words and not attack:
        attack = bench.attack(f"127.0.0.1:{port}", words, seconds)
    told = finish(probe, "the probe", seconds)
    if attack:
        said = finish(attack, "the attack", seconds)
    used = rig.cpu_reading(pids).scheduler - cpu.scheduler
    stolen = (rig.stolen_seconds() - stolen) / (time.monotonic() - begun) / (os.cpu_count() or 1)
    return Phase(told, used, stolen), said


def run_against(arguments: argparse.Namespace, traffic: Path) -> tuple[list[Result], list[Verdict]]:
    """Attack a deployment of the user's own: only what can be seen from outside."""
    results, verdicts = [], []
    first = int(time.time() * 1000) * 1_000_000
    secret = ["--secret-file", arguments.secret_file, "--path", arguments.path]
    owned = ["--i-own-this-deployment", str(arguments.i_own_this_deployment).lower()]
    host = ["--host", arguments.host] if arguments.host else []

    def start(words: list[str]) -> subprocess.Popen:
        return subprocess.Popen([str(traffic), *words, "--target", arguments.target, "--seconds",
                                 str(arguments.seconds), *owned, *host],
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                                preexec_fn=rig.end_with_parent)

    for scenario in attacks.SCENARIOS:
        if scenario.name not in arguments.names or scenario.route or scenario.tls:
            continue
        rig.say(f"{scenario.name}: {scenario.does}")
        result = Result(scenario.name, scenario.does, scenario.unit, arguments.seconds)
        for _ in range(arguments.rounds):
            for phases in (result.quiet, result.attacked):
                words = ["probe", "--rate", str(arguments.rate), "--first", str(first), *secret]
                first += 10_000_000
                probe = start(words)
                if phases is result.attacked:
                    words = scenario.arguments(arguments.slow_connections)
                    words += [*secret, "--first", str(first)] if scenario.signs else secret[2:]
                    attack = start(["attack", *words])
                    first += 10_000_000
                    said = finish(attack, "the attack", arguments.seconds)
                    result.attack = added(result.attack, said)
                phases.append(Phase(finish(probe, "the probe", arguments.seconds), 0.0, 0.0))
        results.append(result)
        passed, sent = (result.total(result.attacked, key) for key in ("passed", "sent"))
        verdicts.append(Verdict(scenario.name, "every genuine delivery passes (attacked)",
                                f"{passed} of {sent}", passed == sent))
    return results, verdicts
