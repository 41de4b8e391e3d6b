"""The program for arm64: cross-built with Debian's toolchain, put into the folder of an image, and run by qemu.

Needs root, mmdebstrap, qemu-user-static and Debian's cross-compiler; rustup is not asked. Left out (77) without them. Takes as long as
a build does.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import rig
from image import KUBERNETES, ROOT, Failed, expect, run

LEFT_OUT = 77
TARGET = "aarch64-unknown-linux-gnu"
# rustc-web is the Rust that Debian keeps new enough for browsers, in its stable releases.
PACKAGES = "rustc-web,cargo-web,libstd-rust-web-dev:arm64,gcc-aarch64-linux-gnu,libc6-dev-arm64-cross,gcc,libc6-dev"
MIRRORS = ["deb http://deb.debian.org/debian bookworm main", "deb http://deb.debian.org/debian-security bookworm-security main"]
QEMU = "qemu-aarch64-static"
# In a mount namespace of its own, so that nothing stays mounted.
BUILD = """
set -e
root=$1 source=$2 home=$3 profile=$4
mkdir -p "$root/source" "$root/cargo" "$root/made"
mount --make-rprivate /
mount --bind "$source" "$root/source"
mount --bind "$home" "$root/cargo"
mount --bind /dev "$root/dev"
mount -t proc proc "$root/proc"
exec chroot "$root" env -i PATH=/usr/bin:/bin HOME=/root CARGO_HOME=/cargo CARGO_TARGET_DIR=/made COUNTERSIGN_COMMIT="$5" \\
    CARGO_NET_OFFLINE=true \\
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc \\
    AR_aarch64_unknown_linux_gnu=aarch64-linux-gnu-ar \\
    nice -n 19 /source/config/kubernetes/binary aarch64-unknown-linux-gnu "$profile"
"""


def build(root: Path, profile: str) -> Path:
    """The program, built in the Debian of `root`."""
    if not (root / "usr/bin/rustc").exists():
        rig.say(f"making a Debian with a cross-compiler in {root}")
        run("mmdebstrap", "--variant=minbase", "--architectures=amd64,arm64", f"--include={PACKAGES}", "bookworm", str(root), *MIRRORS)
    run("cargo", "fetch", "--locked", "--target", TARGET, cwd=ROOT)
    home = os.environ.get("CARGO_HOME") or str(Path.home() / ".cargo")
    commit = rig.readings.source_commit()
    done = subprocess.run(["unshare", "--mount", "sh", "-c", BUILD, "sh", str(root), str(ROOT), home, profile, commit], check=False)
    if done.returncode != 0:
        raise Failed(f"cargo ended with {done.returncode}")
    return root / "made" / TARGET / profile / "countersign"


def examine(binary: Path, folder: Path) -> None:
    """What it is, how large its image would be, and whether it runs."""
    machine = run("readelf", "--file-header", str(binary)).stdout
    expect("AArch64" in machine, "the program is for arm64")
    filled = folder / "root"
    run(str(KUBERNETES / "rootfs"), str(binary), str(filled))
    files = sorted(path for path in filled.rglob("*") if path.is_file())
    for path in files:
        print(f"    {path.stat().st_size:>9} /{path.relative_to(filled)}")
    print(f"    {sum(path.stat().st_size for path in files) / 1e6:.2f} MB in {len(files)} files")
    program = [QEMU, "-L", str(filled), str(filled / "countersign")]
    said = run(*program, "version").stdout
    expect(f"target   {TARGET}" in said, f"it runs: {' '.join(said.split())}")
    guard = folder / "guard"
    guard.mkdir()
    for words, says in ((("init", "github", "--to", "127.0.0.1:9000"), "countersign.toml"), (("check",), "github"),
                        (("sign", "--route", "github", "--body", "{}"), "X-Hub-Signature-256: sha256=")):
        done = run(*program, *words, cwd=guard)
        expect(says in done.stdout, f"`{' '.join(words)}` says {says}")
    header = done.stdout.strip()
    for body, code in (("{}", 0), ("{ }", 1)):
        (guard / "body").write_text(body, encoding="utf-8")
        done = run(*program, "verify", "--route", "github", "--header", header, "--body-file", "body", check=False, cwd=guard)
        expect(done.returncode == code, f"`verify` of {body} ends with {code}: {done.stdout.partition(chr(10))[0]}")
    demo = run(*program, "demo", "--once", check=False)
    expect(demo.returncode == 0, f"`demo --once` passes under qemu {demo.stdout[-400:] if demo.returncode else ''}")


def main(words: list[str]) -> int:
    """Read the arguments, build, examine."""
    parser = argparse.ArgumentParser("tests/live/run arm64", description=__doc__.partition("\n")[0])
    parser.add_argument("--binary", type=Path, help="a program for arm64 that was built already")
    parser.add_argument("--root", type=Path, help="a folder with a Debian that has the cross-compiler; made there if it is missing")
    parser.add_argument("--profile", default="dist", help="how it is built")
    arguments = parser.parse_args(words)
    if os.geteuid() != 0:
        rig.say("LEFT OUT: a Debian with a cross-compiler is made as root")
        return LEFT_OUT
    folder = Path(tempfile.mkdtemp(prefix="countersign-arm64-"))
    try:
        rig.install_programs(["mmdebstrap", QEMU, "/usr/aarch64-linux-gnu/lib/libc.so.6", "aarch64-linux-gnu-strip", "readelf"])
        binary = arguments.binary or build((arguments.root or folder / "debian").resolve(), arguments.profile)
        examine(binary.resolve(), folder)
    except rig.RigError as error:
        rig.say(f"LEFT OUT: {error}")
        return LEFT_OUT
    except Failed as error:
        print(error, file=sys.stderr)
        rig.say("tests/live/run arm64: a promise was not kept")
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0
