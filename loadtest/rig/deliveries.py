"""Deliveries as GitHub sends them, and a client that sends one."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import ssl

from .programs import RigError

ROUTE = "/webhooks/github"
LARGEST_BODY = 2 * 1024 * 1024


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


def client_tls() -> ssl.SSLContext:
    """What a client of the rig speaks: TLS 1.3, with whom it does not ask."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["http/1.1"])
    return context


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
