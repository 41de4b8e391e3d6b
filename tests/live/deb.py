"""The Debian package: built, looked into, unpacked, and its program run from where it was unpacked.

Needs cargo-deb and dpkg-dev. Left out (77) where cargo-deb is missing and cannot be installed.
"""

from __future__ import annotations

import argparse
import gzip
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import rig
from image import Failed, expect, run

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = 77
TOOLS = ROOT / "target/tools"
INSTALL_SECONDS = 1800
# What must be inside, with its mode.
FILES = {
    "usr/bin/countersign": "-rwxr-xr-x",
    "usr/lib/systemd/system/countersign.service": "-rw-r--r--",
    "usr/lib/systemd/system/countersign.socket": "-rw-r--r--",
    "usr/share/man/man1/countersign.1.gz": "-rw-r--r--",
    "usr/share/bash-completion/completions/countersign": "-rw-r--r--",
    "usr/share/zsh/vendor-completions/_countersign": "-rw-r--r--",
    "usr/share/fish/vendor_completions.d/countersign.fish": "-rw-r--r--",
    "usr/share/doc/countersign/examples/example.toml": "-rw-r--r--",
    "usr/share/doc/countersign/README.md": "-rw-r--r--",
    "usr/share/doc/countersign/copyright": "-rw-r--r--",
}


def ensure_cargo_deb() -> None:
    """Have cargo-deb on the path: the one that is installed, or one in target/tools."""
    os.environ["PATH"] = f"{os.environ.get('PATH', '')}:{TOOLS / 'bin'}"
    if shutil.which("cargo-deb"):
        return
    rig.say("installing cargo-deb into target/tools")
    done = subprocess.run(["cargo", "install", "--quiet", "--locked", "--root", str(TOOLS), "cargo-deb"],
                          timeout=INSTALL_SECONDS, check=False)
    if done.returncode != 0:
        raise rig.RigError("cargo-deb is missing and cannot be installed")


def build(binary: Path) -> Path:
    """The package with this binary."""
    made = run(str(ROOT / "config/systemd/build-deb"), str(binary))
    package = Path(made.stdout.strip().splitlines()[-1])
    return package if package.is_absolute() else ROOT / package


def commands(binary: Path) -> list[str]:
    """The commands that the program has: each has a manual page."""
    lines = run(str(binary), "--help").stdout.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
    names = [line.split()[0] for line in lines if line.startswith("  ") and not line.startswith("   ")]
    return [name for name in names if name != "help"]


def examine_contents(package: Path, binary: Path) -> None:
    """Files, modes, owners, what it depends on."""
    listed = {}
    for line in run("dpkg-deb", "--contents", str(package)).stdout.splitlines():
        mode, owner, _, _, _, path = line.split(None, 5)
        listed[path.removeprefix("./")] = mode
        if owner not in ("root/root", "0/0"):
            raise Failed(f"{path} belongs to {owner}")
    missing = [path for path, mode in FILES.items() if listed.get(path) != mode]
    expect(not missing, f"binary, units, manual page, completions, example, licence are inside, each with its mode {missing or ''}")
    pages = [f"usr/share/man/man1/countersign-{name}.1.gz" for name in commands(binary)]
    missing = [page for page in pages if page not in listed]
    expect(not missing, f"{len(pages)} commands have a manual page {missing or ''}")
    files = {path for path, mode in listed.items() if mode.startswith("-")}
    other = {path for path in files - set(FILES) if not path.startswith("usr/share/man/man1/countersign-")}
    expect(not other, f"nothing else is inside {sorted(other) or ''}")
    field = lambda name: run("dpkg-deb", "--field", str(package), name).stdout.strip()  # noqa: E731
    print(f"    {field('Package')} {field('Version')} {field('Architecture')}: {package.stat().st_size / 1e6:.2f} MB, "
          f"{int(field('Installed-Size')) / 1e3:.1f} MB installed, depends on {field('Depends')}")
    expect("libc6" in field("Depends"), "it depends on the C library that the binary was linked with")


def examine_unpacked(package: Path, folder: Path) -> None:
    """Unpack it as dpkg does, and use what came out."""
    run("dpkg-deb", "--extract", str(package), str(folder))
    program = str(folder / "usr/bin/countersign")
    said = run(program, "version").stdout
    expect(said.startswith("countersign "), f"the program runs: {' '.join(said.split())}")
    with gzip.open(folder / "usr/share/man/man1/countersign.1.gz", "rt", encoding="utf-8") as page:
        expect(".TH" in page.read(), "the manual page is one")
    for shell, path in (("bash", "usr/share/bash-completion/completions/countersign"),
                        ("zsh", "usr/share/zsh/vendor-completions/_countersign"),
                        ("fish", "usr/share/fish/vendor_completions.d/countersign.fish")):
        if shutil.which(shell):
            expect(run(shell, "-n", str(folder / path), check=False).returncode == 0, f"{shell} understands its completions")
    unit = (folder / "usr/lib/systemd/system/countersign.service").read_text(encoding="utf-8")
    started = next(line.partition("=")[2] for line in unit.splitlines() if line.startswith("ExecStart="))
    expect((folder / started.split()[0].lstrip("/")).exists(), f"the unit starts a file of the package: {started.split()[0]}")
    work = folder / "work"
    work.mkdir()
    said = run(program, "init", "--example", cwd=work).stdout
    example = (folder / "usr/share/doc/countersign/examples/example.toml").read_text(encoding="utf-8")
    expect((work / "countersign.toml").read_text(encoding="utf-8") == example, "the example is the one that `init --example` writes")
    command = next(line.strip() for line in said.splitlines() if " countersign check " in line)
    path = f"{folder / 'usr/bin'}:{os.environ.get('PATH', '')}"
    checked = run("sh", "-c", command, cwd=work, check=False, env={**os.environ, "PATH": path})
    expect(checked.returncode == 0, f"and `check`, as it says, finds no error in it {checked.stderr[-300:] if checked.returncode else ''}")


def main(words: list[str]) -> int:
    """Read the arguments, build the package, examine it."""
    parser = argparse.ArgumentParser("tests/live/run deb", description=__doc__.partition("\n")[0])
    parser.add_argument("--binary", help="put this one into the package instead of building")
    arguments = parser.parse_args(words)
    try:
        rig.install_programs(["dpkg-shlibdeps"])
        ensure_cargo_deb()
    except (rig.RigError, subprocess.TimeoutExpired) as error:
        rig.say(f"LEFT OUT: {error}")
        return LEFT_OUT
    binary = Path(str(rig.countersign_binary(arguments.binary, ["countersign"]))).resolve()
    try:
        package = build(binary)
        with tempfile.TemporaryDirectory(prefix="countersign-deb-") as folder:
            examine_contents(package, binary)
            examine_unpacked(package, Path(folder))
    except Failed as error:
        rig.say(f"tests/live/run deb: {error}")
        return 1
    return 0
