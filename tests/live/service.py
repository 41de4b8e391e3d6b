"""The Debian package on a Debian with systemd, in a container: installed, started, reloaded, restarted under load, removed.

Needs root, podman, runc, mmdebstrap and what `tests/live/run deb` needs. Left out (77) where systemd cannot be started.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import deb
import rig
from image import ENGINE, Failed, eventually, expect, run

LEFT_OUT = 77
NAME = f"countersign-service-{os.getpid()}"
PACKAGES = "systemd,systemd-sysv,curl,man-db,iproute2"
# Mount propagation is what systemd needs to hand out credentials; it changes it itself only outside of containers.
BOOT = "mount --make-rshared / && exec /sbin/init"
CONFIG = """\
[server]
drain_delay = "0s"
[[listener]]
address = "127.0.0.1:8080"
[upstream]
address = "127.0.0.1:9000"
[admin]
address = "127.0.0.1:9090"
[audit]
file = "/var/lib/countersign/audit.jsonl"
key = { id = "seal", file = "/run/credentials/countersign.service/seal" }
[[route]]
name = "github"
path = "/webhooks/github"
scheme = "github"
secrets = [{ id = "1", file = "/run/credentials/countersign.service/github" }]
"""
DROP_IN = """\
[Service]
LoadCredential=github:/etc/countersign/secrets/github
LoadCredential=seal:/etc/countersign/secrets/seal
"""
SECRETS = (b"0123456789abcdef0123456789abcdef", b"fedcba9876543210fedcba9876543210")
# In the network of the container, with the Python of this host: an application, and clients.
APPLICATION = """\
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204); self.send_header("Content-Length", "0"); self.end_headers()
    def log_message(self, *args): pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 1024
Server(("127.0.0.1", 9000), Handler).serve_forever()
"""
CLIENT = """\
import hashlib, hmac, http.client, json, os, sys, time
secret, seconds = sys.argv[1].encode(), float(sys.argv[2])
statuses, end = {}, time.monotonic() + seconds
while True:
    body = os.urandom(16).hex().encode()
    signed = "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()
    way = http.client.HTTPConnection("127.0.0.1", 8080, timeout=30)
    try:
        way.request("POST", "/webhooks/github", body, {"X-Hub-Signature-256": signed, "Content-Type": "application/json"})
        status = str(way.getresponse().status)
    except Exception as error:
        status = type(error).__name__
    way.close()
    statuses[status] = statuses.get(status, 0) + 1
    if time.monotonic() > end: break
print(json.dumps(statuses))
"""


class Machine:
    """The container in which systemd runs."""

    def __init__(self, folder: Path, root: Path) -> None:
        (folder / "containers.conf").write_text(ENGINE.format(files=min(os.sysconf("SC_OPEN_MAX"), 16384)), encoding="utf-8")
        os.environ["CONTAINERS_CONF"] = str(folder / "containers.conf")
        for name, text in (("application.py", APPLICATION), ("client.py", CLIENT)):
            (folder / name).write_text(text, encoding="utf-8")
        self.folder, self.root, self.names = folder, root, []

    def boot(self) -> str:
        """Start systemd; what `systemctl is-system-running` says."""
        self.names.append(NAME)
        done = run("podman", "run", "--detach", "--name", NAME, "--network", "none", "--systemd=always", "--privileged",
                   "--rootfs", f"{self.root}:O", "/bin/sh", "-c", BOOT, check=False)
        if done.returncode != 0:
            return done.stderr.strip()[-300:]
        eventually(lambda: self.said("systemctl", "is-system-running") in ("running", "degraded"))
        return self.said("systemctl", "is-system-running")

    def accompany(self) -> None:
        """The application, and where clients are run: this host's files, and the network of the machine."""
        self.names.append(f"{NAME}-application")
        run("podman", "run", "--detach", "--name", self.names[-1], "--network", f"container:{NAME}",
            "--volume", f"{self.folder}:/work/it:ro", "--rootfs", "/:O", sys.executable, "/work/it/application.py")

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess:
        """A command on the machine."""
        return run("podman", "exec", NAME, *command, check=check)

    def said(self, *command: str) -> str:
        """What it printed, whatever its exit code."""
        return self.run(*command, check=False).stdout.strip()

    def show(self, name: str, unit: str = "countersign") -> str:
        """A property of a unit."""
        return self.said("systemctl", "show", "--value", "-p", name, unit)

    def put(self, path: str, content: bytes, mode: int = 0o644) -> None:
        """Write a file that belongs to root."""
        source = self.folder / "put"
        source.write_bytes(content)
        self.run("mkdir", "-p", str(Path(path).parent))
        run("podman", "cp", str(source), f"{NAME}:{path}")
        self.run("chown", "root:root", path)
        self.run("chmod", f"{mode:o}", path)

    def client(self, secret: bytes, seconds: float) -> subprocess.Popen[str]:
        """One client that delivers over new connections."""
        return subprocess.Popen(["podman", "exec", f"{NAME}-application", sys.executable, "/work/it/client.py", secret.decode(),
                                 str(seconds)], stdout=subprocess.PIPE, text=True)

    def deliver(self, secret: bytes) -> str:
        """What one delivery is answered."""
        statuses = json.loads(self.client(secret, 0).communicate(timeout=60)[0])
        return next(iter(statuses))

    def end(self) -> None:
        """Remove everything."""
        for name in reversed(self.names):
            run("podman", "rm", "--force", "--time", "2", name, check=False)


def documented() -> list[str]:
    """The commands of docs/hosts.md, with the package where it is here."""
    section = (deb.ROOT / "docs/hosts.md").read_text(encoding="utf-8").partition("## systemd")[2].partition("\n## ")[0]
    commands = [line.removeprefix("$ ") for line in section.splitlines() if line.startswith("$ ")]
    if not commands or not commands[0].startswith("dpkg --install "):
        raise Failed("docs/hosts.md does not say how the package is installed")
    return ["dpkg --install /countersign.deb", *commands[1:]]


def examine_start(machine: Machine, package: Path) -> None:
    """Install, write what an operator writes, start, deliver."""
    run("podman", "cp", str(package), f"{NAME}:/countersign.deb")
    commands = documented()
    machine.run("sh", "-c", commands[0])
    expect(machine.show("ActiveState") == "inactive", "the package is installed with dpkg, and has started nothing")
    expect(machine.said("man", "--where", "countersign").endswith("countersign.1.gz"), "man finds the manual page")
    verified = machine.run("systemd-analyze", "verify", "countersign.service", "countersign.socket", check=False)
    expect(verified.returncode == 0 and not verified.stderr.strip(), f"systemd-analyze verify has nothing to say {verified.stderr}")
    score = machine.said("systemd-analyze", "security", "--no-pager", "countersign.service").splitlines()[-1]
    print(f"    {score.strip('→ ')}")
    begun = time.monotonic()
    # One shell for all of them: one changes the folder.
    machine.run("sh", "-ec", "\n".join(commands[1:]))
    secret = machine.said("cat", "/etc/countersign/secrets/github").encode()
    expect(machine.deliver(secret) == "204", f"{len(commands)} commands of docs/hosts.md lead to the first verified webhook, in "
           f"{time.monotonic() - begun:.1f} s after dpkg")
    machine.put("/etc/countersign/countersign.toml", CONFIG.encode())
    machine.put("/etc/countersign/secrets/github", SECRETS[0], 0o600)
    machine.put("/etc/countersign/secrets/seal", os.urandom(32).hex().encode(), 0o600)
    machine.put("/etc/systemd/system/countersign.service.d/secrets.conf", DROP_IN.encode())
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", "countersign")
    expect((machine.show("ActiveState"), machine.show("StatusText")) == ("active", "guards 1 routes"),
           f"systemctl start returns when it is ready: status \"{machine.show('StatusText')}\"")
    log = lambda: machine.said("journalctl", "-u", "countersign", "--no-pager", "-o", "cat")  # noqa: E731
    expect(eventually(lambda: " ready: " in log()), "the journal has its log")
    ready = next(line for line in log().splitlines() if " ready: " in line)
    disabled = rig.readings.read("/proc/sys/kernel/io_uring_disabled").strip() if Path("/proc/sys/kernel/io_uring_disabled").exists() else "2"
    expect(disabled != "0" or "driver=io_uring" in ready, f"under the unit's filter of system calls it says: {ready.partition('ready: ')[2]}")
    process = machine.show("MainPID")
    facts = dict(line.split(":\t", 1) for line in machine.said("cat", f"/proc/{process}/status").splitlines() if ":\t" in line)
    expect(facts["Uid"].split()[0] != "0" and int(facts["CapEff"], 16) == 0 and facts["NoNewPrivs"] == "1",
           f"user {facts['Uid'].split()[0]}, no capability, no new privileges")
    expect(machine.deliver(SECRETS[0]) == "204", "a genuine delivery reaches the application, with a secret that root alone may read")
    expect(machine.deliver(SECRETS[1]) == "401", "another one does not")


def examine_change(machine: Machine) -> None:
    """Reload for the configuration, restart for a credential."""
    machine.put("/etc/countersign/countersign.toml", CONFIG.replace("/webhooks/github", "/moved").encode())
    machine.run("systemctl", "reload", "countersign")
    expect(eventually(lambda: machine.deliver(SECRETS[0]) == "404"), "systemctl reload takes up the configuration")
    machine.put("/etc/countersign/countersign.toml", CONFIG.encode())
    machine.run("systemctl", "reload", "countersign")
    expect(eventually(lambda: machine.deliver(SECRETS[0]) == "204"), "and back")
    machine.put("/etc/countersign/secrets/github", SECRETS[1], 0o600)
    machine.run("systemctl", "reload", "countersign")
    time.sleep(1)
    expect(machine.deliver(SECRETS[0]) == "204", "a credential is what it was at the start, until a restart (systemd copies it then)")
    machine.run("systemctl", "restart", "countersign")
    expect(machine.deliver(SECRETS[1]) == "204", "after a restart it is the new one")


def examine_upgrades(machine: Machine, number: int) -> None:
    """The sockets are systemd's; restarts under load."""
    machine.run("systemctl", "stop", "countersign")
    machine.run("systemctl", "enable", "--now", "countersign.socket")
    machine.run("systemctl", "start", "countersign")
    clients = [machine.client(SECRETS[1], number * 1.5) for _ in range(3)]
    for _ in range(number):
        time.sleep(1)
        # systemd allows five starts in ten seconds: its count begins anew.
        machine.run("systemctl", "reset-failed", "countersign")
        machine.run("systemctl", "restart", "countersign")
    statuses: dict[str, int] = {}
    for client in clients:
        for status, count in json.loads(client.communicate(timeout=120)[0]).items():
            statuses[status] = statuses.get(status, 0) + count
    expect(set(statuses) == {"204"}, f"{number} restarts with countersign.socket under load: {statuses}, none failed")


def examine_end(machine: Machine) -> None:
    """Stop, prove the trail, remove."""
    machine.run("systemctl", "stop", "countersign.socket", "countersign")
    expect((machine.show("Result"), machine.show("ExecMainStatus")) == ("success", "0"), "systemctl stop: it ended with 0")
    verified = machine.run("countersign", "audit", "verify", "--key-file", "/etc/countersign/secrets/seal", "--key-id", "seal",
                           "/var/lib/countersign/audit.jsonl", check=False)
    expect(verified.returncode == 0, f"the audit trail in its StateDirectory is {verified.stdout.strip().splitlines()[-1].partition(';')[0]}")
    machine.run("dpkg", "--remove", "countersign")
    expect(machine.run("test", "-e", "/usr/bin/countersign", check=False).returncode == 1, "the package is removed with dpkg")


def make_root(root: Path) -> None:
    """A small Debian with systemd."""
    rig.say(f"making a Debian with systemd in {root}")
    run("mmdebstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(root))


def main(words: list[str]) -> int:
    """Read the arguments, make the machine, examine the package on it."""
    parser = argparse.ArgumentParser("tests/live/run service", description=__doc__.partition("\n")[0])
    parser.add_argument("--binary", help="put this one into the package instead of building")
    parser.add_argument("--root", type=Path, help="a folder with a Debian that has systemd; made there if it is missing")
    parser.add_argument("--restarts", type=int, default=10)
    arguments = parser.parse_args(words)
    if os.geteuid() != 0:
        rig.say("LEFT OUT: containers are run as root")
        return LEFT_OUT
    folder = Path(tempfile.mkdtemp(prefix="countersign-service-"))
    os.chmod(folder, 0o755)
    machine = None
    try:
        rig.install_programs(["podman", "runc", "mmdebstrap", "dpkg-shlibdeps"])
        deb.ensure_cargo_deb()
        binary = Path(str(rig.countersign_binary(arguments.binary, ["countersign"]))).resolve()
        root = (arguments.root or folder / "root").resolve()
        if not (root / "sbin/init").exists():
            make_root(root)
        machine = Machine(folder, root)
        state = machine.boot()
        if state not in ("running", "degraded"):
            rig.say(f"LEFT OUT: systemd cannot be started here: {state}")
            return LEFT_OUT
        machine.accompany()
        print(f"- ok: {machine.said('systemctl', '--version').splitlines()[0]} is {state} in a container")
        examine_start(machine, deb.build(binary))
        examine_change(machine)
        examine_upgrades(machine, arguments.restarts)
        examine_end(machine)
    except rig.RigError as error:
        rig.say(f"LEFT OUT: {error}")
        return LEFT_OUT
    except Failed as error:
        if machine:
            print(machine.said("journalctl", "-u", "countersign", "--no-pager", "-n", "30"), file=sys.stderr)
        rig.say(f"tests/live/run service: {error}")
        return 1
    finally:
        if machine:
            machine.end()
        shutil.rmtree(folder, ignore_errors=True)
    return 0
