"""The rig: one temporary folder and the servers that it started there."""

from __future__ import annotations

import ctypes
import os
import random
import resource
import secrets
import shutil
import signal
import socket
import string
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from . import peers
from .deliveries import delivery_body, delivery_headers, post, signature
from .programs import LOADTEST, RigError, nginx_command, program
from .readings import choose_cores, read, stat_fields, upstream_count

# Idle connections to the upstream that a target may keep.
POOL = 64

START_SECONDS, STOP_SECONDS = 10.0, 5.0
PR_SET_PDEATHSIG = 1
INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


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
                fields = stat_fields(int(entry.name))
                if fields:
                    parents[int(entry.name)] = int(fields[1])
        family = [self.child.pid]
        for pid in family:
            family += [child for child, parent in parents.items() if parent == pid]
        return family


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
        says so: that the port accepts means nothing.
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
        text = string.Template((LOADTEST / template).read_text(encoding="utf-8"))
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
                # The caller gets no handle to it, and it must not compete with those that are measured.
                self.stop(server)
                raise RigError(f"{name}: {what}:\n{read(str(log_path))[-2000:]}")
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


def raise_file_limit() -> int:
    """Raise the soft limit on open files to the hard one; servers inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    hard = 1_000_000 if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def free_port() -> int:
    """A port without a listener, below the range of outgoing connections."""
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
    """Whether a port of 127.0.0.1 accepts connections."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


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
    # The third field is the process group; see `stat_fields`.
    numbers = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in numbers if stat_fields(pid)[2:3] == [str(leader)]]


def end_with_parent() -> None:
    """Make a child that is about to start end when we do."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt
