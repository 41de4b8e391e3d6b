"""What the commands of this folder, of tests/live and benches/pgo share: programs, servers, deliveries, readings.

A rig owns one temporary folder and the servers it started there. Leaving the
`with` block ends those servers, by their process ids and no others, and
removes the folder: after an error, Ctrl-C or SIGTERM just the same.
"""

from .deliveries import (ROUTE, client_tls, delivery_body, delivery_headers, get, post, signature)
from .programs import (BUILD_SECONDS, LOADTEST, REPOSITORY, RigError, build_crate, check_writable,
                       countersign_binary, find, install_programs, made_for, parse_targets, program,
                       said, say)
from .readings import (core_busy_seconds, cpu_reading, machine_facts, stolen_seconds,
                       upstream_count)
from .requests import ANSWER, Requests
from .servers import (POOL, Rig, Server, check_target, end_with_parent, free_port,
                      make_certificate, raise_file_limit)

DEFAULT_TARGETS = ("countersign", "countersign-epoll", "nginx")

__all__ = [
    "ANSWER", "BUILD_SECONDS", "DEFAULT_TARGETS", "LOADTEST", "POOL", "REPOSITORY", "ROUTE", "Requests", "Rig",
    "RigError", "Server", "build_crate", "check_target", "check_writable", "client_tls",
    "core_busy_seconds", "countersign_binary", "cpu_reading", "delivery_body", "delivery_headers",
    "end_with_parent", "find", "free_port", "get", "install_programs", "machine_facts", "made_for",
    "make_certificate", "parse_targets", "post", "program", "raise_file_limit", "said", "say",
    "signature", "stolen_seconds", "upstream_count",
]
