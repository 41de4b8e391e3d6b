"""The experiments of `dos`, which have no probe: the cost of a request, a full replay table, one delivery many times."""

from __future__ import annotations

import json
from statistics import median

import rig
from dos_bench import UNLIMITED, Bench, finish, status
from dos_report import mib

EXPERIMENTS = ("cost", "replay-table", "same-delivery")
# name, what it sends, whether to the proxy without limits, the only answer
COSTS = [
    ("forwarded", ["--script", "genuine"], True, "200"),
    ("401 after verification", ["--script", "forged"], True, "401 unauthorized"),
    ("401 before the body", ["--script", "unsigned"], True, "401 unauthorized"),
    ("429 by the client's rate", ["--script", "forged"], False, "429 too_many_requests"),
]
COST_BODIES = (256, 8192)
# The refusal of a body that has not been read closes the connection: only small ones are alike.
COST_SMALL = "401 before the body"
COST_LIMIT = 0.5
COPIES, COPY_CONNECTIONS = 1000, 64
FAILURES = 5


def run_cost(bench: Bench) -> list[dict]:
    """CPU time per request: forwarded and refused, in rounds that take turns."""
    # An application that goes before the load on their CPU would take requests one by one, and
    # make forwarding dearer than it is: here it is the other one.
    servers = {True: bench.start_proxy("unlimited", **UNLIMITED, upstream=bench.large.port),
               False: bench.start_proxy("limited", requests_per_connection=1_000_000_000,
                                       over_budget="refuse")}
    runs = []
    for number in range(1, bench.arguments.rounds + 1):
        for body in COST_BODIES:
            turn = number % len(COSTS)
            for name, words, unlimited, answer in COSTS[turn:] + COSTS[:turn]:
                if name == COST_SMALL and body != COST_BODIES[0]:
                    continue
                words = [*words, "--connections", "50", "--body", str(body)]
                if name == "forwarded":
                    words += ["--secret-file", str(bench.rig.folder / "secret"),
                              "--first", str(bench.numbers(10_000_000))]
                runs.append(cost_of(bench, servers[unlimited], words, answer)
                            | {"round": number, "body": body, "name": name})
                rig.say(f"cost: round {number} {body:>5} B {name:<26} {runs[-1]['us']:6.2f} us")
    for name, _, _, _ in COSTS[1:]:
        for body in COST_BODIES if name != COST_SMALL else COST_BODIES[:1]:
            share = median(ratios(runs, name, body))
            bench.expect("cost", f"{name}, {body} B: at most {COST_LIMIT} of forwarding",
                         f"{share:.2f}", share <= COST_LIMIT)
    for server in servers.values():
        bench.rig.stop(server)
    return runs


def cost_of(bench: Bench, server: rig.Server, words: list[str], answer: str) -> dict:
    """What one kind of request costs the proxy."""
    seconds = bench.arguments.cost_seconds
    pids = server.pids()
    before = rig.cpu_reading(pids)
    child = bench.attack(f"127.0.0.1:{server.port}", words, seconds)
    said = finish(child, "the load", seconds)
    used = rig.cpu_reading(pids).scheduler - before.scheduler
    total = sum(said["answers"].values())
    # The first requests of a client that is limited later are verified.
    if said["answers"].get(answer, 0) < 0.99 * total or total < 1000:
        raise rig.RigError(f"not all were answered {answer}: {said['answers']}")
    return {"requests": total, "cpu_seconds": used, "us": used * 1e6 / total,
            "seconds": said["seconds"]}


def ratios(runs: list[dict], name: str, body: int) -> list[float]:
    """The cost as a share of that of forwarding, for each round."""
    cost = {(run["round"], run["name"]): run["us"] for run in runs if run["body"] == body}
    return [cost[number, name] / cost[number, "forwarded"]
            for number in sorted({run["round"] for run in runs})]


def run_replay_table(bench: Bench, when_full: str) -> dict:
    """Many more distinct deliveries than a replay table has entries."""
    count, capacity = bench.arguments.deliveries, bench.arguments.capacity
    server = bench.start_proxy(f"replay-{when_full}", capacity=capacity, when_full=when_full,
                               requests_per_connection=1_000_000_000)
    where, first = f"replay-table, {when_full}", bench.numbers(count)
    secret = ["--secret-file", str(bench.rig.folder / "secret")]
    before = bench.application()["paths"].get(rig.ROUTE, 0)
    start = status(server, "VmRSS")
    child = bench.start(
        ["attack", "--target", f"127.0.0.1:{server.port}", "--seconds", "280", "--script", "genuine",
         "--connections", "64", "--count", str(count), "--first", str(first), "--progress", "true",
         *secret], bench.rig.cores.load, [])
    samples, last = [], {}
    try:
        for line in child.stdout:
            last = json.loads(line)
            if "at" in last:
                samples.append((last["answers"], status(server, "VmRSS")))
    finally:
        if child.poll() is None and "open" not in last:
            child.kill()
        child.wait()
    answers, seen = last.get("answers", {}), bench.application()["paths"][rig.ROUTE] - before
    # One delivery has been there before: the one that `check` sent.
    room = capacity - 1 if when_full == "refuse" else count
    wanted = {"200": room, "503 unavailable": count - room}
    bench.expect(where, f"answered: {wanted}", str(answers),
                 answers == {kind: number for kind, number in wanted.items() if number})
    bench.expect(where, f"{room} reach the application", str(seen), seen == room)
    full = [rss for answered, rss in samples if answered >= capacity * 5 / 4]
    flat = max(full) - min(full) if full else -1
    bench.expect(where, "resident memory flat after the table is full: within 1 MiB",
                 f"{mib(flat)} MiB in {len(full)} samples", 0 <= flat <= 2**20)
    again = {}
    for name, number in (("first", first), ("last", first + count - 1)):
        words = ["--script", "capture", "--connections", "1", "--count", "1", "--first", str(number)]
        said = finish(bench.attack(f"127.0.0.1:{server.port}", [*words, *secret], 5), "a copy", 5)
        again[name] = next(iter(said["answers"]), "nothing")
    wanted = ({"first": "200 duplicate", "last": "503 unavailable"} if when_full == "refuse"
              else {"first": "200", "last": "200 duplicate"})
    bench.expect(where, f"copies of the first and the last: {wanted}", str(again), again == wanted)
    bench.rig.stop(server)
    return {"when_full": when_full, "deliveries": count, "capacity": capacity, "answers": answers,
            "forwarded": seen, "rss_start": start, "samples": samples, "copies": again,
            "rss_full": full[0] if full else 0, "rss_end": samples[-1][1] if samples else 0,
            "seconds": last.get("seconds")}


def run_same_delivery(bench: Bench, failures: int) -> dict:
    """The same delivery many times at once, to an application that fails first."""
    server = bench.start_proxy(f"same-{failures}")
    number = bench.numbers(1)
    bench.application(f"fail/{failures}")
    bench.application("delay/20")
    words = ["--script", "capture", "--path", "/webhooks/flaky", "--first", str(number),
             "--secret-file", str(bench.rig.folder / "secret")]
    together = ["--connections", str(COPY_CONNECTIONS), "--count", str(COPIES),
                "--together", "true", "--retry", "true"]
    target = f"127.0.0.1:{server.port}"
    said = finish(bench.attack(target, words + together, 30), "the copies", 60)
    during = bench.application()
    late = finish(bench.attack(target, [*words, "--connections", "8", "--count", "100"], 10),
                  "the late copies", 20)
    after = bench.application()
    bench.application("delay/0")
    where = f"same-delivery, fails {failures} times"
    answers = said["answers"]
    reached = during["paths"].get("/webhooks/flaky", 0)
    bench.expect(where, f"the application sees it {failures + 1} times and accepts it once",
                 f"{reached} times, accepted {during['flaky_accepted']} times",
                 (reached, during["flaky_accepted"]) == (failures + 1, 1))
    bench.expect(where, "one copy is answered by the application, all others as duplicates",
                 str(answers), answers.get("200") == 1
                 and answers.get("200 duplicate") == COPIES - 1
                 and answers.get("500", 0) == failures and answers.get("409 in_progress", 0) > 0
                 and set(answers) <= {"200", "200 duplicate", "500", "409 in_progress"})
    bench.expect(where, "none of 100 later copies reaches the application",
                 f"{after['paths']['/webhooks/flaky'] - reached}, answered {late['answers']}",
                 after["paths"]["/webhooks/flaky"] == reached
                 and late["answers"] == {"200 duplicate": 100})
    bench.rig.stop(server)
    return {"failures": failures, "answers": answers, "reached": reached, "late": late["answers"]}
