"""The scenarios of `dos`: what the attackers do, and what must come of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import kinds

# Of 127.0.0.0/8, from 127.0.1.1 on. The probe has another one.
MANY_ADDRESSES = 250
PROBE_ADDRESS = "127.0.0.9"


@dataclass(frozen=True)
class Scenario:
    """One attack, and its expectations."""

    name: str
    does: str
    options: dict[str, object]
    answers: set[str]  # all that the attackers may be answered
    unit: str = "request"  # of the attack: what its cost is counted by
    factor: float | None = None  # p99 of the probe at most so many times the quiet one
    at_least: dict[str, int] = field(default_factory=dict)
    signs: bool = False  # the attacker has a secret, or has captured a delivery
    lead: float = 0.0  # seconds that the attackers have before the probe begins
    captures: bool = False  # the attacker has captured a delivery to the probe's route
    route: str | None = None  # where to, if not to the probe's route
    own_address: bool = False  # the attackers have the address of the genuine sender
    tls: str | None = None  # the key of the TLS listener that is attacked, and that the probe uses
    client_ca: bool = False  # this listener asks for client certificates
    audited: bool = False  # with an audit trail; what the records grow by is told
    most_ms: float = 50  # p99 of the probe, on kept and on fresh connections
    records_most: float | None = None  # bytes a second that access log and audit trail may grow by


    def arguments(self, slow: int) -> list[str]:
        """The options of `traffic attack`; `slow` replaces 5,000 slow connections."""
        words = ["--source", PROBE_ADDRESS] if self.own_address else []
        for name, value in self.options.items():
            if name == "connections" and value == "slow":
                value = slow
            words += [f"--{name}", str(value)]
        return words


REFUSED = {"401 unauthorized", "429 too_many_requests"}
MALFORMED = {"400 bad_request", "431 header_fields_too_large", "505 version_not_supported",
             "414 uri_too_long", "501 not_implemented"}

SLOW = {"408 request_timeout", *REFUSED}
# Clients that make the proxy wait give way when a bound is met; when none may be made to, a newcomer is refused.
GAVE_WAY = {"503 unavailable", "503 overloaded", *SLOW}
# p99 under forgeries, in milliseconds; under everything else it is the default.
FORGED_MS = 10
# What opening thousands of connections does is another question than what they do then.
LEAD = 2.0
# Thousands that are made to give way and come again at once take longer until all of them are there.
LONG_LEAD = 5.0

SCENARIOS = [
    Scenario("forged-one", "forged deliveries, from one address, 64 connections",
             {"script": "forged", "connections": 64}, REFUSED, factor=5,
             most_ms=FORGED_MS, at_least={"401 unauthorized": 1000}),
    Scenario("forged-many", "forged deliveries, from 250 addresses, 250 connections",
             {"script": "forged", "connections": 250, "sources": MANY_ADDRESSES}, REFUSED,
             factor=5, most_ms=FORGED_MS, at_least={"401 unauthorized": 1000}),
    Scenario("own-1000", "1,000 forgeries a second from the sender's own address, 16 connections",
             {"script": "forged", "connections": 16, "pace": 1000}, REFUSED, own_address=True,
             most_ms=FORGED_MS, at_least={"401 unauthorized": 1000}),
    Scenario("own-20000", "20,000 forgeries a second from the sender's own address, 100 connections",
             {"script": "forged", "connections": 100, "pace": 20_000}, REFUSED, own_address=True,
             most_ms=FORGED_MS, at_least={"401 unauthorized": 1000}),
    Scenario("own-unlimited", "forgeries from the sender's own address as fast as it goes, 100 connections",
             {"script": "forged", "connections": 100}, REFUSED, own_address=True,
             most_ms=FORGED_MS, at_least={"401 unauthorized": 1000}),
    Scenario("own-crowd", "the same over 1,000 connections",
             {"script": "forged", "connections": 1000}, GAVE_WAY, own_address=True,
             at_least={"401 unauthorized": 1000}),
    Scenario("own-cut", "half a body and a reset from the sender's own address, 1,000 connections, 2,000 a second",
             {"script": "cut", "connections": 1000, "pace": 2000}, GAVE_WAY, own_address=True,
             unit="connection"),
    Scenario("own-copies", "copies of one delivery from the sender's own address, 64 connections",
             {"script": "capture", "connections": 64}, {"200", "200 duplicate", "409 in_progress", *REFUSED},
             own_address=True, signs=True, captures=True, audited=True, records_most=1e6,
             at_least={"200 duplicate": 1000}),
    Scenario("named-headers", "1,300 names of header fields in a signature, 5,600 Connection options",
             {"script": "named-headers", "connections": 32}, {*REFUSED, *MALFORMED}, route="/webhooks/named"),
    Scenario("options", "7,500 Connection options",
             {"script": "options", "connections": 32}, {*REFUSED, *MALFORMED}),
    Scenario("candidates", "16 Ed25519 signatures on 1 MiB, four keys",
             {"script": "candidates", "connections": 16, "body": 1 << 20}, REFUSED, route="/webhooks/public"),
    *(Scenario(f"kind-{kind.name}", f"forged deliveries of 8 KiB: {kind.does}, from 250 addresses",
               {"script": "repeat", "connections": 250, "sources": MANY_ADDRESSES, "file": f"{{folder}}/{kind.name}.http"},
               {*REFUSED, kind.answer}, at_least={kind.answer: 1000}, route=kind.path)
      for kind in kinds.KINDS),
    Scenario("hello-p256", "one recorded ClientHello of TLS 1.3, key P-256",
             {"script": "canned", "connections": 200, "file": "{folder}/hello"}, set(), unit="connection", tls="p256"),
    Scenario("hello-rsa-2048", "the same, key RSA-2048",
             {"script": "canned", "connections": 200, "file": "{folder}/hello"}, set(), unit="connection",
             tls="rsa-2048"),
    Scenario("hello-rsa-4096", "the same, key RSA-4096",
             {"script": "canned", "connections": 200, "file": "{folder}/hello"}, set(), unit="connection",
             tls="rsa-4096"),
    Scenario("chains", "client certificates with 110 useless intermediates, 16 connections",
             {"script": "canned", "connections": 16, "file": "{folder}/hello-1.2", "follow-up": "{folder}/chain.bin"},
             set(), unit="connection", tls="p256", client_ca=True),
    Scenario("forged-8k", "the same with bodies of 8 KiB",
             {"script": "forged", "connections": 250, "sources": MANY_ADDRESSES, "body": 8192},
             REFUSED, most_ms=FORGED_MS, at_least={"401 unauthorized": 1000}),
    Scenario("replay", "one captured genuine delivery, again and again, from 250 addresses",
             {"script": "capture", "connections": 250, "sources": MANY_ADDRESSES},
             {"200", "200 duplicate", "409 in_progress", *REFUSED}, signs=True, captures=True,
             audited=True, records_most=1e6,
             at_least={"200 duplicate": 1000}),
    Scenario("slowloris", "heads that never end, a line a second; the connections are there",
             {"script": "slowloris", "connections": "slow", "sources": MANY_ADDRESSES},
             SLOW, unit="connection", factor=2, lead=LEAD),
    Scenario("slowloris-opening", "the same while the connections are opened, all at once",
             {"script": "slowloris", "connections": "slow", "sources": MANY_ADDRESSES},
             SLOW, unit="connection"),
    Scenario("slow-body", "bodies that never end, a byte a second",
             {"script": "slow-body", "connections": 2000, "sources": MANY_ADDRESSES},
             SLOW, unit="connection", lead=LEAD),
    Scenario("unfinished-large", "bodies of 1 MiB that lack a byte, from 25 addresses, 256 each",
             {"script": "unfinished", "connections": 25 * 256, "sources": 25, "body": 1 << 20},
             GAVE_WAY, unit="connection", lead=LONG_LEAD),
    Scenario("unfinished-one", "the same from one address, 256 connections",
             {"script": "unfinished", "connections": 256, "body": 1 << 20},
             GAVE_WAY, unit="connection", lead=LONG_LEAD),
    Scenario("unfinished-many", "bodies of 150 bytes that lack a byte, from 25 addresses, 200 each",
             {"script": "unfinished", "connections": 25 * 200, "sources": 25, "body": 150},
             GAVE_WAY, unit="connection", lead=LONG_LEAD),
    Scenario("one-byte-heads", "heads a byte a second, from 40 addresses, 256 each",
             {"script": "byte-heads", "connections": 40 * 256, "sources": 40},
             GAVE_WAY, unit="connection", lead=LONG_LEAD),
    Scenario("slow-read", "genuine deliveries whose large answers are not read",
             {"script": "slow-read", "connections": 200, "sources": MANY_ADDRESSES}, set(),
             unit="connection", signs=True, route="/webhooks/large", lead=LEAD),
    Scenario("unread", "forged deliveries whose refusals are not read",
             {"script": "unread", "connections": 250, "sources": MANY_ADDRESSES}, set(),
             unit="connection"),
    Scenario("silent", "connections that say nothing, 12,000 at a time",
             {"script": "silent", "connections": 12_000, "sources": MANY_ADDRESSES}, set(),
             unit="connection"),
    Scenario("connect-close", "connect and close, as fast as it goes",
             {"script": "connect-close", "connections": 64, "sources": MANY_ADDRESSES}, set(),
             unit="connection"),
    Scenario("fields", "400 header fields",
             {"script": "fields", "connections": 64, "sources": MANY_ADDRESSES}, MALFORMED,
             at_least={"431 header_fields_too_large": 100}),
    Scenario("large-head", "a head of 128 KiB",
             {"script": "large-head", "connections": 64, "sources": MANY_ADDRESSES}, MALFORMED,
             at_least={"431 header_fields_too_large": 100}),
    Scenario("random", "random bytes",
             {"script": "random", "connections": 64, "sources": MANY_ADDRESSES}, MALFORMED,
             at_least={"400 bad_request": 100}),
    Scenario("chunks", "forged bodies in 2,048 chunks of one byte",
             {"script": "chunks", "connections": 64, "sources": MANY_ADDRESSES}, REFUSED,
             at_least={"401 unauthorized": 100}),
]
