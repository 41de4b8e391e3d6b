"""The image, in real containers: what is in it, both drivers, names, a pod, limits, a rotated secret, doctor, and a drain.

Needs root, buildah, podman, runc and iproute2. Left out (77) where no container can be run.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import rig

ROOT = Path(__file__).resolve().parents[2]
KUBERNETES = ROOT / "config/kubernetes"
LEFT_OUT = 77
# The network of the pod: a namespace of our own, and one end of a pair of interfaces in it.
SPACE, OUTSIDE, INSIDE = f"countersign-{os.getpid()}", "10.89.77.1", "10.89.77.2"
# What the configuration calls the application: a name that DNS has to resolve.
NAME = "application.countersign.test"
DELIVERIES = 1000
SECRETS = (b"0123456789abcdef0123456789abcdef", b"fedcba9876543210fedcba9876543210")
ENGINE = """\
[containers]
default_ulimits = ["nofile={files}:{files}", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
CONFIG = """\
[server]
drain_delay = "3s"
drain_grace = "10s"
[[listener]]
address = "0.0.0.0:8443"
[upstream]
address = "application.countersign.test:9000"
[admin]
address = "0.0.0.0:9090"
[limits]
connections = 400
requests_in_flight = 200
body_memory = "8MiB"
clients_tracked = 4096
[[route]]
name = "github"
path = "/webhooks/github"
scheme = "github"
secrets = [{ id = "1", file = "/etc/countersign/secrets/github" }]
replay = { capacity = 20_000 }
"""
# The application: counts what reaches it, and answers until SIGTERM. It listens for the pod alone.
APPLICATION = """\
import http.server, signal, sys, threading
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        print("delivery", flush=True)
        self.send_response(204); self.send_header("Content-Length", "0"); self.end_headers()
    def log_message(self, *args): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 9000), Handler)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever()
"""


class Failed(Exception):
    """A promise that was not kept."""


def run(*command: str, check: bool = True, **more: object) -> subprocess.CompletedProcess:
    """A command, with what it printed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **more)
    if check and done.returncode != 0:
        raise Failed(f"{' '.join(command)}: {done.returncode}: {done.stderr.strip()[-800:]}")
    return done


def expect(holds: bool, what: str) -> None:
    """Say what was found; stop if it does not hold."""
    print(f"- {'ok' if holds else 'FAILED'}: {what}", flush=True)
    if not holds:
        raise Failed(what)


def eventually(question, seconds: float = 20.0) -> bool:
    """Whether the answer becomes yes in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if question():
            return True
        time.sleep(0.1)
    return False


class Stage:
    """The engine's settings, the folders of the pod, its network, and what is to be removed in the end."""

    def __init__(self, folder: Path, image: str, largest: int) -> None:
        self.folder, self.image, self.largest, self.names = folder, image, largest, []
        files = min(os.sysconf("SC_OPEN_MAX"), 16384)
        (folder / "containers.conf").write_text(ENGINE.format(files=files), encoding="utf-8")
        os.environ["CONTAINERS_CONF"] = str(folder / "containers.conf")
        (folder / "config").mkdir()
        (folder / "config/countersign.toml").write_text(CONFIG, encoding="utf-8")
        (folder / "application.py").write_text(APPLICATION, encoding="utf-8")
        (folder / "secrets").mkdir()
        self.put_secret(SECRETS[0])
        for path in [folder, *folder.rglob("*")]:
            os.chmod(path, 0o755 if path.is_dir() else 0o644)

    def put_secret(self, secret: bytes) -> None:
        """As the kubelet does: a new folder, and one rename of a symbolic link to it."""
        volume = self.folder / "secrets"
        fresh = volume / f"..{time.monotonic_ns()}"
        fresh.mkdir(mode=0o755)
        (fresh / "github").write_bytes(secret)
        os.chown(fresh / "github", 0, 65532)
        os.chmod(fresh / "github", 0o440)
        old = volume.joinpath("..data")
        before = old.resolve() if old.is_symlink() else None
        os.symlink(fresh.name, volume / "..data_tmp")
        os.rename(volume / "..data_tmp", old)
        if not (volume / "github").is_symlink():
            os.symlink("..data/github", volume / "github")
        if before:
            shutil.rmtree(before)

    def podman(self, *words: str, check: bool = True) -> subprocess.CompletedProcess:
        """A command of the engine."""
        return run("podman", *words, check=check)

    def start(self, name: str, *words: str) -> str:
        """A container in the background; its name."""
        name = f"{SPACE}-{name}"
        self.names.append(name)
        self.podman("run", "--detach", "--name", name, *words)
        return name

    def sidecar(self, name: str, *words: str, command: tuple[str, ...] = ()) -> str:
        """countersign as the manifests run it."""
        return self.start(
            name, "--read-only", "--read-only-tmpfs=false", "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
            "--memory", "64m", "--cpus", "0.5",
            "--volume", f"{self.folder}/config:/etc/countersign/config:ro",
            "--volume", f"{self.folder}/secrets:/etc/countersign/secrets:ro", *words, self.image, *command)

    def log(self, name: str) -> str:
        """What a container has written."""
        done = self.podman("logs", name, check=False)
        return done.stdout + done.stderr

    def pid(self, name: str) -> int:
        """The process of a container, as the host sees it."""
        return int(self.podman("inspect", "--format", "{{.State.Pid}}", name).stdout)

    def end(self) -> None:
        """Remove everything, whatever has gone wrong."""
        # The application first: it has the network of the sidecar.
        for name in reversed(self.names):
            self.podman("rm", "--force", "--time", "1", name, check=False)
        run("ip", "netns", "delete", SPACE, check=False)
        self.podman("rmi", "--force", self.image, check=False)


def make_network() -> None:
    """A namespace with one interface, whose other end is here."""
    here, there = f"cs{os.getpid()}o", f"cs{os.getpid()}i"
    run("ip", "netns", "add", SPACE)
    run("ip", "link", "add", here, "type", "veth", "peer", "name", there)
    run("ip", "link", "set", there, "netns", SPACE)
    run("ip", "address", "add", f"{OUTSIDE}/30", "dev", here)
    run("ip", "link", "set", here, "up")
    for words in (["address", "add", f"{INSIDE}/30", "dev", there], ["link", "set", there, "up"], ["link", "set", "lo", "up"]):
        run("ip", "-n", SPACE, *words)


def examine_image(stage: Stage) -> None:
    """Size, files, user, labels, list of parts; the same again gives the same."""
    facts = json.loads(run("buildah", "inspect", "--type", "image", stage.image).stdout)
    config = facts["OCIv1"]["config"]
    expect(config["User"] == "65532:65532", f"user {config['User']}")
    labels = config["Labels"]
    expect({"org.opencontainers.image.title", "org.opencontainers.image.version", "org.opencontainers.image.licenses",
            "org.opencontainers.image.revision"} <= set(labels), f"labels {', '.join(sorted(labels))}")
    container = run("buildah", "from", stage.image).stdout.strip()
    try:
        mounted = Path(run("buildah", "mount", container).stdout.strip())
        files = sorted(path for path in mounted.rglob("*") if path.is_file() and not path.is_symlink())
        size = sum(path.stat().st_size for path in files)
        for path in files:
            print(f"    {path.stat().st_size:>9} /{path.relative_to(mounted)}")
        expect(size < stage.largest * 1e6, f"{size / 1e6:.2f} MB in {len(files)} files, less than {stage.largest}")
        expect(not any(path.name in ("sh", "bash", "busybox") for path in files), "no shell")
        expect(all(path.stat().st_mode & 0o6022 == 0 for path in [mounted, *mounted.rglob("*")] if not path.is_symlink()),
               "nothing is set-uid, and nothing can be written by the user of the image")
        parts = json.loads((mounted / "usr/share/doc/countersign/sbom.cdx.json").read_text(encoding="utf-8"))
        names = {part["name"] for part in parts["components"]}
        expect({"rustls", "ring", "monoio"} <= names, f"the list of parts names {len(names)} crates")
    finally:
        run("buildah", "rm", container, check=False)


def examine_again(stage: Stage, binary: Path) -> None:
    """The same binary and commit give the same image."""
    again = f"{stage.image}-again"
    number = lambda name: json.loads(run("buildah", "inspect", "--type", "image", name).stdout)["FromImageID"]  # noqa: E731
    run(str(KUBERNETES / "image"), again, str(binary))
    first, second = number(stage.image), number(again)
    run("buildah", "rmi", again, check=False)
    expect(first == second, "built again it is the same image")


class Names(threading.Thread):
    """The DNS server of the pod: knows the application by its name, and nothing else."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((OUTSIDE, 53))
        self.asked = 0

    def run(self) -> None:
        known = b"".join(bytes([len(part)]) + part.encode() for part in NAME.split(".")) + b"\0"
        while True:
            query, client = self.socket.recvfrom(512)
            end = query.index(b"\0", 12) + 5
            question, kind = query[12:end], query[end - 3]
            mine = question.startswith(known)
            self.asked += mine
            # Type A has an answer, type AAAA none; other names do not exist.
            found = mine and kind == 1
            head = query[:2] + (b"\x81\x80" if mine else b"\x81\x83") + bytes([0, 1, 0, int(found), 0, 0, 0, 0])
            record = b"\xc0\x0c" + bytes([0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]) if found else b""
            self.socket.sendto(head + question + record, client)


def examine_drivers(stage: Stage) -> None:
    """The engine's own profile denies io_uring, ours does not."""
    denied = stage.sidecar("default", "--network", "none", "--add-host", f"{NAME}:127.0.0.1")
    expect(eventually(lambda: " ready: " in stage.log(denied)), "it starts under the engine's own seccomp profile")
    log = stage.log(denied)
    expect("does not resolve" not in log, "a name in /etc/hosts resolves")
    expect("driver=epoll" in log and "io_uring is not available" in log, "there it runs on epoll, and says why")
    if Path("/proc/sys/kernel/io_uring_disabled").exists() and rig.readings.read("/proc/sys/kernel/io_uring_disabled").strip() == "0":
        allowed = stage.sidecar("allowed", "--network", "none", "--security-opt", f"seccomp={KUBERNETES}/seccomp.json")
        expect(eventually(lambda: " ready: " in stage.log(allowed)), "it starts under config/kubernetes/seccomp.json")
        expect("driver=io_uring" in stage.log(allowed), "there it runs on io_uring")
        status = Path(f"/proc/{stage.pid(allowed)}/status").read_text(encoding="utf-8")
        facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        expect(int(facts["CapEff"], 16) == 0 and int(facts["CapBnd"], 16) == 0, "no capability is left")
        expect(facts["NoNewPrivs"] == "1" and facts["Seccomp"] == "2", "no new privileges, seccomp is on")
        mounts = Path(f"/proc/{stage.pid(allowed)}/mountinfo").read_text(encoding="utf-8").splitlines()
        own = [line.split(" ") for line in mounts]
        writable = [it[4] for it in own if "rw" in it[5].split(",") and not it[4].startswith(("/dev", "/proc", "/sys"))]
        # Files of the engine itself, which belong to root.
        writable = [it for it in writable if it not in ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/run/.containerenv", "/run/secrets")]
        expect(not writable, f"nothing is mounted writable {writable or ''}")
    else:
        print("- LEFT OUT: this kernel has no io_uring")


def deliver(number: int, secret: bytes = SECRETS[0], connection: http.client.HTTPConnection | None = None) -> int:
    """One genuine delivery from outside; the status."""
    body = rig.delivery_body(512, number)
    way = connection or http.client.HTTPConnection(INSIDE, 8443, timeout=30)
    try:
        way.request("POST", "/webhooks/github", body, rig.delivery_headers(rig.signature(secret, body)))
        answer = way.getresponse()
        answer.read()
        return answer.status
    finally:
        if connection is None:
            way.close()


def is_ready() -> bool:
    """What a readiness probe would find."""
    try:
        way = http.client.HTTPConnection(INSIDE, 9090, timeout=2)
        way.request("GET", "/ready")
        return way.getresponse().status == 200
    except OSError:
        return False


def make_pod(stage: Stage, profile: tuple[str, ...]) -> tuple[str, str]:
    """The sidecar first, then the application in its network, as in a pod."""
    names = Names()
    names.start()
    sidecar = stage.sidecar("sidecar", "--network", f"ns:/run/netns/{SPACE}", "--dns", OUTSIDE, *profile)
    expect(eventually(is_ready), "the sidecar is ready before the application is there")
    expect(names.asked > 0 and "does not resolve" not in stage.log(sidecar), "the application's name resolves by DNS")
    expect(deliver(-1) == 503, "while the application is away a delivery is answered 503")
    # A container that has the files of this host, for its Python, and a network that it shares with the sidecar.
    application = stage.start(
        "application", "--network", f"container:{sidecar}", "--volume", f"{stage.folder}/application.py:/application.py:ro",
        "--rootfs", "/:O", sys.executable, "/application.py")
    expect(eventually(lambda: deliver(-2) == 204), "when the application is there, it is answered by it")
    return sidecar, application


def examine_pod(stage: Stage, sidecar: str, application: str) -> None:
    """Reachability, a thousand deliveries within the limits, a rotated secret."""
    for port, open_ in ((9000, False), (8443, True)):
        try:
            http.client.HTTPConnection(INSIDE, port, timeout=3).connect()
            reached = True
        except OSError:
            reached = False
        expect(reached == open_, f"port {port} is {'reachable' if open_ else 'not reachable'} from outside")
    before = stage.log(application).count("delivery")
    begun, statuses = time.monotonic(), []
    way = http.client.HTTPConnection(INSIDE, 8443, timeout=30)
    for number in range(DELIVERIES):
        statuses.append(deliver(number, connection=way))
    took = time.monotonic() - begun
    arrived = lambda: stage.log(application).count("delivery") - before  # noqa: E731
    expect(statuses == [204] * DELIVERIES, f"{DELIVERIES} genuine deliveries in {took:.1f} s, all answered by the application")
    expect(eventually(lambda: arrived() == DELIVERIES), "each of them arrived once")
    peak = Path(f"/proc/{stage.pid(sidecar)}/status").read_text(encoding="utf-8")
    peak = next(line for line in peak.splitlines() if line.startswith("VmHWM")).split()[1]
    expect(int(peak) < 64 * 1024, f"the sidecar held {int(peak) / 1024:.1f} MiB at most, under 64 MiB and half a CPU")
    begun = time.monotonic()
    stage.put_secret(SECRETS[1])
    numbers = iter(range(10_000, 20_000))
    expect(eventually(lambda: deliver(next(numbers), SECRETS[1]) == 204), f"a swapped Secret counts after {time.monotonic() - begun:.1f} s")
    expect(deliver(30_000, SECRETS[0]) == 401, "the old one does not count any more")


def doctor(stage: Stage, name: str) -> dict[str, str]:
    """The verdicts of `countersign doctor` in a container, by what was examined: the worst of each."""
    done = stage.podman("exec", name, "/countersign", "doctor", "--json", "--config",
                        "/etc/countersign/config/countersign.toml", check=False)
    order = ["ok", "note", "warning", "fault"]
    verdicts: dict[str, str] = {}
    for finding in json.loads(done.stdout)["findings"]:
        worst = verdicts.get(finding["examined"], "ok")
        verdicts[finding["examined"]] = max(worst, finding["verdict"], key=order.index)
    return verdicts


def examine_doctor(stage: Stage, sidecar: str) -> None:
    """Healthy in the pod; limits and mounts that do not fit are named."""
    verdicts = doctor(stage, sidecar)
    bad = {name: verdict for name, verdict in verdicts.items() if verdict in ("warning", "fault")}
    expect(not bad, f"doctor finds nothing wrong in the pod {bad or ''}")
    config = stage.folder / "config/countersign.toml"
    config.write_text(CONFIG.replace("[server]\n", "[server]\nworkers = 4\n"), encoding="utf-8")
    tight = stage.start(
        "tight", "--network", "none", "--memory", "24m", "--cpus", "0.5",
        "--volume", f"{stage.folder}/config:/etc/countersign/config:ro",
        "--volume", f"{stage.folder}/secrets/..data/github:/etc/countersign/secrets/github:ro", stage.image)
    expect(eventually(lambda: " ready: " in stage.log(tight)), "a container with too little starts")
    verdicts = doctor(stage, tight)
    for examined, verdict in (("cpu", "warning"), ("memory", "warning"), ("mounts", "warning"), ("application", "fault")):
        expect(verdicts.get(examined) == verdict, f"there doctor finds: {examined}: {verdict}")
    config.write_text(CONFIG, encoding="utf-8")


class Load(threading.Thread):
    """Deliveries one after the other, until told to stop."""

    def __init__(self, number: int, kept: bool) -> None:
        super().__init__(daemon=True)
        self.number, self.kept, self.statuses, self.stopping = number, kept, [], False

    def run(self) -> None:
        way = None
        while not self.stopping:
            self.number += 1
            if self.kept and way is None:
                way = http.client.HTTPConnection(INSIDE, 8443, timeout=30)
            try:
                self.statuses.append(deliver(self.number, SECRETS[1], way))
            except OSError as error:
                self.statuses.append(type(error).__name__)
            except http.client.HTTPException as error:
                self.statuses.append(type(error).__name__)
            # After an answer with `Connection: close` the library has closed it.
            if way is not None and way.sock is None:
                way = None
            time.sleep(0.01)


def examine_drain(stage: Stage, sidecar: str, application: str) -> None:
    """As a pod ends: both preStop hooks at once, endpoints follow readiness, then the application, then the sidecar."""
    clients = [Load(100_000 * (number + 1), number % 2 == 0) for number in range(4)]
    for client in clients:
        client.start()
    time.sleep(1)
    begun = time.monotonic()
    hook = stage.podman("exec", sidecar, "/countersign", "drain", "--config", "/etc/countersign/config/countersign.toml")
    expect(hook.stdout.startswith("draining"), f"the preStop hook says: {hook.stdout.strip()}")
    expect(eventually(lambda: not is_ready(), 2), "the sidecar is not ready any more")
    # The endpoints are updated within seconds; until then deliveries go on coming.
    time.sleep(1.5)
    for client in clients:
        client.stopping = True
    for client in clients:
        client.join(30)
    statuses = [status for client in clients for status in client.statuses]
    failed = [status for status in statuses if status != 204]
    expect(not failed, f"{len(statuses)} deliveries before and during the drain, {len(failed)} failed {failed[:5] or ''}")
    # The kubelet sends SIGTERM to the application when its own preStop (sleep) has ended, and to the sidecar after that.
    stage.podman("kill", "--signal", "TERM", application)
    stage.podman("kill", "--signal", "TERM", sidecar, check=False)
    state = lambda: stage.podman("inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", sidecar).stdout.strip()  # noqa: E731
    expect(eventually(lambda: state() == "exited 0", 30), f"the sidecar has ended with 0, {time.monotonic() - begun:.1f} s after the hook")


def all_of_it(stage: Stage, binary: Path) -> None:
    """Every examination, in order."""
    examine_image(stage)
    examine_again(stage, binary)
    examine_drivers(stage)
    make_network()
    pod = make_pod(stage, ("--security-opt", f"seccomp={KUBERNETES}/seccomp.json"))
    examine_pod(stage, *pod)
    examine_doctor(stage, pod[0])
    examine_drain(stage, *pod)


def build_binary(profile: str) -> Path:
    """What the image has in it."""
    rig.say(f"building countersign (config/kubernetes/binary, {profile})")
    target = f"{platform.machine()}-unknown-linux-gnu"
    done = subprocess.run([str(KUBERNETES / "binary"), target, profile], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise Failed("config/kubernetes/binary failed")
    return Path(done.stdout.strip())


def main(words: list[str]) -> int:
    """Read the arguments, build the image, examine it."""
    parser = argparse.ArgumentParser("tests/live/run image", description=__doc__.partition("\n")[0])
    parser.add_argument("--binary", help="put this one into the image instead of building")
    parser.add_argument("--profile", default="dist", help="of the build")
    parser.add_argument("--largest", type=float, default=10.0, help="megabytes that the image may have")
    arguments = parser.parse_args(words)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if os.geteuid() != 0:
        rig.say("LEFT OUT: containers are run as root")
        return LEFT_OUT
    try:
        rig.install_programs(["buildah", "podman", "runc", "ip"])
    except rig.RigError as error:
        rig.say(f"LEFT OUT: {error}")
        return LEFT_OUT
    try:
        binary = Path(arguments.binary) if arguments.binary else build_binary(arguments.profile)
    except Failed as error:
        rig.say(f"tests/live/run image: {error}")
        return 2
    folder = Path(tempfile.mkdtemp(prefix="countersign-image-"))
    stage = Stage(folder, f"localhost/countersign-test:{os.getpid()}", arguments.largest)
    try:
        run(str(KUBERNETES / "image"), stage.image, str(binary))
        probe = stage.podman("run", "--rm", "--network", "none", stage.image, "--version", check=False)
        if probe.returncode != 0:
            rig.say(f"LEFT OUT: no container can be run here: {probe.stderr.strip()[-400:]}")
            return LEFT_OUT
        all_of_it(stage, binary)
    except Failed as error:
        for name in stage.names:
            print(f"# log of {name}\n{stage.log(name)[-1500:]}", file=sys.stderr)
        rig.say(f"tests/live/run image: {error}")
        return 1
    finally:
        stage.end()
        shutil.rmtree(folder, ignore_errors=True)
    return 0
