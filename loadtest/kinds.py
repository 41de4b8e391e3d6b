"""Forged deliveries of each kind of signature that is more than a MAC over head and body, as requests in files."""

from __future__ import annotations

import base64
import gzip
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import canned

# The length of the bodies, in bytes, before they are compressed.
BODY = 8192
# What a compressed body becomes, in bytes: nearly as much as a route takes.
DECOMPRESSED = 1_000_000
# Members of an object in which the signed ones come last.
MEMBERS = 400
# Parts of a multipart form, nearly as many as are read; the signed one comes last.
PARTS = 1000
# Where no key is to be had: the port of the URL is one on which nothing listens, on this host.
UNKNOWN_KEY = "https://localhost:1/forged.pem"


@dataclass(frozen=True)
class Kind:
    """One kind of signature."""

    name: str
    does: str
    make: Callable[[Path], tuple[dict[str, str], bytes]]  # the header fields and the body of a forgery
    answer: str = "401 unauthorized"  # what most forgeries are answered

    @property
    def path(self) -> str:
        """The route, in dos.toml."""
        return f"/kinds/{self.name}"


def signed_with(folder: Path, key: str, digest: str, message: bytes) -> bytes:
    """A signature that is well formed, and of another message than the one that is sent."""
    (folder / "message").write_bytes(b"another " + message)
    canned.openssl("dgst", f"-{digest}", "-sign", folder / f"{key}.pem", "-out", folder / "signature", folder / "message")
    return (folder / "signature").read_bytes()


def over_the_body(key: str, digest: str) -> Callable[[Path], tuple[dict[str, str], bytes]]:
    """A signature of a public key in a header."""
    def make(folder: Path) -> tuple[dict[str, str], bytes]:
        body = b"." * BODY
        signature = base64.b64encode(signed_with(folder, key, digest, body)).decode()
        return {"X-Signature": signature}, body
    return make


def unpadded(data: bytes) -> bytes:
    """As a token has it."""
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def signed_part(algorithm: str) -> bytes:
    """Head and claims of a token, which are as they should be."""
    now = int(time.time())
    claims = {"iss": "https://issuer.example", "aud": "countersign", "iat": now, "exp": now + 3600}
    head = {"alg": algorithm, "typ": "JWT"}
    return b".".join(unpadded(json.dumps(part, separators=(",", ":")).encode()) for part in (head, claims))


def bearer(content: bytes, signature: bytes) -> tuple[dict[str, str], bytes]:
    """A request with this token."""
    return {"Authorization": f"Bearer {(content + b'.' + unpadded(signature)).decode()}"}, b"." * BODY


def token(folder: Path) -> tuple[dict[str, str], bytes]:
    """A token of a public key."""
    content = signed_part("RS256")
    return bearer(content, signed_with(folder, "rsa", "sha256", content))


def form(_folder: Path) -> tuple[dict[str, str], bytes]:
    """A form of many fields, which have to be sorted."""
    fields = "&".join(f"{number * 7919 % 1000:03}={number}" for number in range(1000))
    signature = base64.b64encode(bytes(20)).decode()
    return {"X-Twilio-Signature": signature, "Content-Type": "application/x-www-form-urlencoded"}, fields.encode()[:BODY]


def members(_folder: Path) -> tuple[dict[str, str], bytes]:
    """An object whose signed members are the last ones."""
    body = {f"member-{number}": [number] for number in range(MEMBERS)} | {"a": "1", "b": "2"}
    return {"X-Signature": "a" * 64, "Content-Type": "application/json"}, json.dumps(body).encode()


def compressed(_folder: Path) -> tuple[dict[str, str], bytes]:
    """A body that becomes 100 times as long."""
    body = bytes(range(256)) * (DECOMPRESSED // 256)
    return {"X-Signature": "a" * 64, "Content-Encoding": "gzip"}, gzip.compress(body)


def shared_token(_folder: Path) -> tuple[dict[str, str], bytes]:
    """A token of a shared secret, with a wrong signature."""
    return bearer(signed_part("HS256"), bytes(32))


def multipart(_folder: Path) -> tuple[dict[str, str], bytes]:
    """A form of many parts."""
    def part(name: str, value: str) -> str:
        return f'--limit\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'

    parts = [*(part(str(number), "") for number in range(PARTS)), part("payload", "{}")]
    fields = {"X-Signature": "a" * 64, "Content-Type": "multipart/form-data; boundary=limit"}
    return fields, ("".join(parts) + "--limit--\r\n").encode()


def named_key(folder: Path) -> tuple[dict[str, str], bytes]:
    """A delivery that names a key that is not known."""
    body = b"." * BODY
    signature = base64.b64encode(signed_with(folder, "rsa", "sha256", body)).decode()
    return {"X-Signature": signature, "X-Key": UNKNOWN_KEY}, body


KINDS = [
    Kind("rsa", "RSA-2048", over_the_body("rsa", "sha256")),
    Kind("p256", "ECDSA on P-256", over_the_body("p256", "sha256")),
    Kind("p384", "ECDSA on P-384", over_the_body("p384", "sha384")),
    Kind("jwt", "a token with RS256", token),
    Kind("form", "sorted fields of a form", form),
    Kind("json", "members of a JSON body", members),
    Kind("compressed", "a compressed body of 1 MB", compressed),
    Kind("token", "a token with HS256", shared_token),
    Kind("multipart", "a multipart form of 1,001 parts", multipart),
    Kind("named-key", "the URL of a key that is not known", named_key, "503 unavailable"),
]


def make_keys(folder: Path) -> None:
    """The senders' keys: `NAME.pem`, and `NAME.pub` for the configuration."""
    options = {"rsa": ("RSA", "rsa_keygen_bits:2048"), "p256": ("EC", "ec_paramgen_curve:P-256"),
               "p384": ("EC", "ec_paramgen_curve:P-384")}
    for name, (algorithm, option) in options.items():
        key, public = folder / f"{name}.pem", folder / f"{name}.pub"
        canned.openssl("genpkey", "-algorithm", algorithm, "-pkeyopt", option, "-out", key)
        public.touch(mode=0o600)
        canned.openssl("pkey", "-in", key, "-pubout", "-out", public)


def make_requests(folder: Path) -> None:
    """One request for each kind."""
    for kind in KINDS:
        fields, body = kind.make(folder)
        lines = [f"POST {kind.path} HTTP/1.1", "Host: hooks.example.com", f"Content-Length: {len(body)}",
                 *(f"{name}: {value}" for name, value in fields.items())]
        (folder / f"{kind.name}.http").write_bytes("\r\n".join([*lines, "", ""]).encode() + body)
