"""The Compose example in real containers, with podman-compose: deliveries pass, the application has no other way in.

Needs root, buildah, podman, runc, netavark, aardvark-dns, busybox-static and podman-compose (PyPI). Left out (77) without them.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import rig
from image import ENGINE, KUBERNETES, ROOT, Failed, eventually, expect, run

LEFT_OUT = 77
PROJECT = f"countersign{os.getpid()}"
PROXY, APPLICATION = f"{PROJECT}_countersign_1", f"{PROJECT}_app_1"
# An application from nothing but busybox: it reads a request and answers 204.
ANSWER = """\
while read -r line; do
    line=${line%"$(printf '\\r')"}
    case "$line" in
        [Cc]ontent-[Ll]ength:*) length=${line#*: } ;;
        "") break ;;
    esac
done
/bin/busybox head -c "${length:-0}" >/dev/null
/bin/busybox printf 'HTTP/1.1 204 No Content\\r\\nConnection: close\\r\\n\\r\\n'
"""
LISTEN = ["/bin/busybox", "nc", "-ll", "-p", "9000", "-e", "/bin/busybox", "sh", "/answer"]


def make_application(folder: Path, name: str) -> None:
    """An image of the application, from scratch."""
    (folder / "answer").write_text(ANSWER, encoding="utf-8")
    container = run("buildah", "from", "scratch").stdout.strip()
    try:
        run("buildah", "copy", container, "/bin/busybox", "/bin/busybox")
        run("buildah", "copy", container, str(folder / "answer"), "/answer")
        run("buildah", "config", "--cmd", json.dumps(LISTEN), container)
        run("buildah", "commit", "--quiet", container, name)
    finally:
        run("buildah", "rm", container, check=False)


def prepare(folder: Path, binary: Path, port: int) -> None:
    """What the head of the example says, with images of our own names and a free port."""
    images = {"countersign:latest": f"localhost/{PROJECT}:latest", "your-application": f"localhost/{PROJECT}-application:latest"}
    example = (ROOT / "config/compose/compose.yaml").read_text(encoding="utf-8")
    for name, ours in images.items():
        if f"image: {name}\n" not in example:
            raise Failed(f"the example has no image {name}")
        example = example.replace(f"image: {name}\n", f"image: {ours}\n")
    (folder / "compose.yaml").write_text(example.replace('"8080:8080"', f'"127.0.0.1:{port}:8080"'), encoding="utf-8")
    commands = [line[1:].split() for line in example.splitlines() if line.startswith("#   countersign init")]
    if len(commands) != 1:
        raise Failed("the example does not say how its configuration is made")
    run(str(binary), *commands[0][1:], cwd=folder)
    secret = folder / "secrets/github"
    for path, mode in ((secret.parent, 0o750), (secret, 0o440)):
        os.chown(path, 0, 65532)
        os.chmod(path, mode)
    run(str(KUBERNETES / "image"), images["countersign:latest"], str(binary))
    make_application(folder, images["your-application"])


def compose(folder: Path, *words: str, check: bool = True) -> subprocess.CompletedProcess:
    """A command of podman-compose."""
    return run(sys.executable, "-m", "podman_compose", "--project-name", PROJECT, *words, cwd=folder, check=check)


def deliver(folder: Path, binary: Path, port: int, change: str = "") -> str:
    """Sign a delivery and send it with the command that `sign` prints; the status."""
    command = run(str(binary), "sign", "--route", "github", "--config", "countersign.toml", "--body", '{"hello":"world"}',
                  "--format", "curl", cwd=folder).stdout
    command = command.replace("curl -i", "curl -s -o /dev/null -w %{http_code}").replace("127.0.0.1:8080", f"127.0.0.1:{port}")
    return run("sh", "-c", command.replace("world", change or "world"), check=False).stdout.strip()


def examine(folder: Path, binary: Path, port: int) -> None:
    """Up, deliveries, who reaches what, the health check, down."""
    compose(folder, "up", "--detach")
    expect(eventually(lambda: deliver(folder, binary, port) == "204"), "`up`: a genuine delivery reaches the application")
    expect(deliver(folder, binary, port, "forged") == "401", "a forged one does not")
    ports = json.loads(run("podman", "inspect", "--format", "{{json .HostConfig.PortBindings}}", APPLICATION).stdout)
    expect(not ports, "the application publishes no port")
    internal = run("podman", "network", "inspect", "--format", "{{.Internal}}", f"{PROJECT}_behind").stdout.strip()
    expect(internal == "true", "and its network has no way out")
    checked = run("podman", "healthcheck", "run", PROXY, check=False)
    expect(checked.returncode == 0, "the health check of the example says yes")
    mounts = run("podman", "inspect", "--format", "{{.HostConfig.ReadonlyRootfs}} {{.EffectiveCaps}}", PROXY).stdout.strip()
    expect(mounts == "true []", "its root is read-only, and it has no capability")
    compose(folder, "stop")
    ended = run("podman", "inspect", "--format", "{{.State.ExitCode}}", PROXY).stdout.strip()
    expect(ended == "0", "`stop`: it finishes what is in flight and ends with 0")


def main(words: list[str]) -> int:
    """Read the arguments, build the images, run the example."""
    parser = argparse.ArgumentParser("tests/live/run compose", description=__doc__.partition("\n")[0])
    parser.add_argument("--binary", help="put this one into the image instead of building")
    arguments = parser.parse_args(words)
    if os.geteuid() != 0 or importlib.util.find_spec("podman_compose") is None:
        rig.say("LEFT OUT: it needs root, and podman-compose (pip install podman-compose)")
        return LEFT_OUT
    try:
        rig.install_programs(["buildah", "podman", "runc", "/usr/lib/podman/netavark", "/usr/lib/podman/aardvark-dns", "/bin/busybox"])
    except rig.RigError as error:
        rig.say(f"LEFT OUT: {error}")
        return LEFT_OUT
    binary = Path(str(rig.countersign_binary(arguments.binary, ["countersign"]))).resolve()
    folder = Path(tempfile.mkdtemp(prefix="countersign-compose-"))
    settings = ENGINE.format(files=min(os.sysconf("SC_OPEN_MAX"), 16384)) + '[network]\nnetwork_backend = "netavark"\n'
    (folder / "containers.conf").write_text(settings, encoding="utf-8")
    os.environ["CONTAINERS_CONF"] = str(folder / "containers.conf")
    try:
        probe = run("podman", "network", "create", f"{PROJECT}-probe", check=False)
        run("podman", "network", "rm", f"{PROJECT}-probe", check=False)
        if probe.returncode != 0:
            rig.say(f"LEFT OUT: no network of containers can be made here: {probe.stderr.strip()[-300:]}")
            return LEFT_OUT
        prepare(folder, binary, rig.free_port())
        port = int((folder / "compose.yaml").read_text(encoding="utf-8").partition('"127.0.0.1:')[2].partition(":")[0])
        examine(folder, binary, port)
    except Failed as error:
        print(run("podman", "logs", PROXY, check=False).stderr[-1500:], file=sys.stderr)
        rig.say(f"tests/live/run compose: {error}")
        return 1
    finally:
        compose(folder, "down", "--timeout", "1", check=False)
        run("podman", "rmi", "--force", f"localhost/{PROJECT}:latest", f"localhost/{PROJECT}-application:latest", check=False)
        shutil.rmtree(folder, ignore_errors=True)
    return 0
