"""`make bench`: meta1g and Debian's Postfix on the same work, in turn, both with their queue on this disk.

A load of smtp-source goes in, smtp-sink counts what comes out. As root, Postfix gets a private configuration:
DNS off, everything relayed to the sink. Without it meta1g is measured alone.
"""
import argparse
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from contrib.bench import backlog, door, milter, scenarios, sites, smar, tls
from contrib.bench.report import Row, plot, table
from contrib.bench.scenarios import Figures, Server
from contrib.bench.servers import Meta1g, Postfix, Sink
from tests.lib.instance import free_port

Scenario = Callable[[Server], Figures]
PARTS = ["rates", "details", "tls", "milter", "recipients", "queues", "backlog", "sites", "smar", "door"]
DOCS = Path(__file__).parents[2] / "docs" / "bench"


class Bench:
    """Runs scenarios on both servers in turn."""

    def __init__(self, runs: int, *, both: bool) -> None:
        self._runs = runs
        self._kinds: list[type[Meta1g] | type[Postfix]] = [Meta1g, Postfix] if both else [Meta1g]
        self.dead = free_port()
        self.rows: list[Row] = []

    @cached_property
    def sink(self) -> Sink:
        """Started when it is needed; `close` ends it."""
        return Sink(free_port(), "0.0.0.0")

    def close(self) -> None:
        """End the sink."""
        if "sink" in self.__dict__:
            self.sink.close()

    def run(self, what: str, scenario: Scenario, goals: dict[str, str], *, runs: int = 0, alone: bool = False) -> None:
        """Measure and keep a row for each figure in `goals`."""
        results: dict[str, list[Figures]] = {}
        for _ in range(runs or self._runs):
            for kind in self._kinds[:1] if alone else self._kinds:
                server = kind(self.sink.port, self.dead)
                try:
                    scenarios.relay(server, self.sink, 200, 1024, 20)
                    figures = scenario(server)
                finally:
                    server.close()
                results.setdefault(kind.name, []).append(figures)
                print(f"{what}: {kind.name:<8}" + "".join(f"  {k} {v:.2f}" for k, v in figures.items()), flush=True)
        ours, theirs = results["meta1g"], results.get("Postfix")
        for name, goal in goals.items():
            other = _median(theirs, name) if theirs else None
            self.rows.append(Row(f"{what}: {name}", _median(ours, name), other, goal))


def _median(runs: list[Figures], name: str) -> float:
    return statistics.median(figures[name] for figures in runs)


def rates(bench: Bench, count: int) -> None:
    """How much goes through."""
    sink = bench.sink
    bench.run("1 KB, 20 sessions", lambda s: scenarios.relay(s, sink, count, 1024, 20),
              {"relay/s": ">= 2", "accept/s": "", "cpu ms": "<= 0.5"})
    bench.run("1 KB, 100 sessions", lambda s: scenarios.relay(s, sink, count, 1024, 100), {"relay/s": ""})
    bench.run("10 KB, 20 sessions", lambda s: scenarios.relay(s, sink, count, 10240, 20), {"relay/s": ">= 1.8"})
    bench.run("100 KB, 20 sessions", lambda s: scenarios.relay(s, sink, count // 4, 102400, 20), {"relay/s": ">= 1.2"})
    bench.run("deliveries held", lambda s: scenarios.held(s, count), {"accept/s": ">= 2.5"})


def details(bench: Bench, count: int) -> None:
    """What one message and one session cost."""
    sink = bench.sink
    bench.run("reply to the final dot", lambda s: scenarios.latency(s, count), {"p50 ms": "", "p99 ms": "<= 1"})
    if shutil.which("strace") and os.geteuid() == 0:
        bench.run("100 sessions", lambda s: scenarios.flushes(s, sink, count // 2),
                  {"flushes a message": "ours <= 0.25"}, runs=1)
    bench.run("1,000 idle sessions", lambda s: scenarios.idle(s, 1000 if isinstance(s, Meta1g) else 90),
              {"KB a session": "<= 0.05"}, runs=1)
    bench.run("9,500 idle sessions", lambda s: scenarios.idle(s, 9500),
              {"MB in all": "ours < 500"}, runs=1, alone=True)


def secure(bench: Bench, count: int) -> None:
    """What TLS costs; Postfix has a process for each session."""
    sink = bench.sink
    bench.run("TLS handshakes", lambda s: tls.handshakes(s, count), {"a second": "", "cpu ms": ""})
    bench.run("1 KB in by TLS", lambda s: tls.relay(s, sink, count), {"a second": "", "cpu ms": ""})
    bench.run("1 KB out by TLS", lambda s: tls.onward(s, count), {"a second": "", "cpu ms": ""})


def filters(bench: Bench, count: int) -> None:
    """What a milter that does nothing costs on the way in."""
    bench.run("a milter", lambda s: milter.cost(s, bench.sink, count),
              {"accept/s without": "", "accept/s with one": "", "share with an idle one": "ours >= 0.7",
               "share with one": "", "share with a chatty one": "", "cpu ms without": "", "cpu ms with one": "",
               "cpu ms with a chatty one": ""}, runs=1)


def recipients(bench: Bench) -> None:
    """One message to many."""
    bench.run("1,000 recipients", lambda s: scenarios.many_rcpts(s, bench.sink),
              {"accepted s": "", "delivered s": "< 1"})


def queues(bench: Bench, count: int, rcpts: int) -> None:
    """What waits must not slow down what moves."""
    bench.run(f"{rcpts:,} deferred", lambda s: scenarios.deferred(s, bench.sink, bench.dead, rcpts, count),
              {"restart s": "< 1", "MB": "", "next attempt s": "", "share": "ours > 0.9"}, runs=1)


def drain(bench: Bench, count: int) -> None:
    """What has waited leaves."""
    bench.run(f"{count:,} held", lambda s: backlog.backlog(s, bench.sink, count),
              {"accept/s": "", "drain/s": ">= 2", "cpu ms": "", "QMGR cpu ms": "", "QMGR MB, waiting": "",
               "QMGR MB at most": ""}, runs=1)


def bad_sites(bench: Bench, count: int) -> None:
    """One site must not delay the others; Postfix would need a route for each."""
    def run(server: Server) -> Figures:
        assert isinstance(server, Meta1g)
        return sites.one_bad_site(server, bench.sink, bench.dead, count)

    goals = {"relay/s": "", "p99 ms": ""}
    for what in ("a dead one", "a silent one", "a slow one"):
        goals |= {f"share beside {what}": "ours > 0.9", f"p99 ms beside {what}": ""}
    bench.run("1,000 sites", run, goals, runs=1, alone=True)


def front_door(bench: Bench, count: int) -> None:
    """What many clients that want little, and few that want all, leave to the others; Postfix forks for each."""
    def run(what: str, scenario: Callable[[Meta1g], Figures], goals: dict[str, str]) -> None:
        bench.run(what, scenario, goals, runs=1, alone=True)  # type: ignore[arg-type]

    run("10,000 idle and 1,000 slow sessions", lambda s: door.crowd(s, bench.sink, count),
        {"relay/s alone": "", "relay/s beside them": "", "share": "ours >= 0.8", "CPU % for the crowd": "",
         "MB in all": "ours < 500", "still there": "ours = 11000"})
    run("reply beside 2 that pipeline without end", lambda s: door.flood(s, 500),
        {"p50 ms": "", "longest ms": "ours < 50"})


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="make bench ARGS=...", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="only the rate of 1 KB messages")
    parser.add_argument("-m", type=int, default=4000, help="messages in each run")
    parser.add_argument("-r", type=int, default=3, help="runs of each server")
    parser.add_argument("--rcpts", type=int, default=100_000, help="deferred recipients")
    parser.add_argument("--backlog", type=int, default=100_000, help="messages that are held, then released")
    parser.add_argument("--domains", type=int, default=10_000, help="domains that SMAR is asked for in each run")
    parser.add_argument("--only", choices=PARTS, action="append", help="parts")
    parser.add_argument("--only-meta1g", action="store_true", help="leave Postfix out")
    parser.add_argument("--keep", action="store_true", help="write docs/bench/results.md and results.png")
    options = parser.parse_args()
    parts = options.only or PARTS
    if shutil.which("smtp-source") is None and parts != ["smar"]:
        sys.exit("smtp-source is needed: apt-get install postfix")
    both = not options.only_meta1g and os.geteuid() == 0 and shutil.which("postfix") is not None
    bench = Bench(options.r, both=both)
    try:
        _measure(bench, options)
    finally:
        bench.close()
    text = table(bench.rows, scenarios.machine(), time.strftime("%Y-%m-%d"))
    print("\n" + text)
    if options.keep:
        (DOCS / "results.md").write_text("# Measured\n\n" + text + "\n![ratios](results.png)\n")
        plot(bench.rows, DOCS / "results.png")


def _measure(bench: Bench, options: argparse.Namespace) -> None:
    parts = options.only or PARTS
    if options.quick:
        bench.run("1 KB, 20 sessions", lambda s: scenarios.relay(s, bench.sink, options.m, 1024, 20),
                  {"relay/s": ">= 2", "accept/s": "", "cpu ms": "<= 0.5"})
        parts = []
    if "rates" in parts:
        rates(bench, options.m)
    if "details" in parts:
        details(bench, options.m // 2)
    if "tls" in parts:
        secure(bench, options.m // 2)
    if "milter" in parts and not Path("/usr/include/libmilter/mfapi.h").exists():
        print("the milter is left out, it needs libmilter: apt-get install libmilter-dev")
    elif "milter" in parts:
        filters(bench, options.m)
    if "recipients" in parts:
        recipients(bench)
    if "queues" in parts:
        queues(bench, options.m, options.rcpts)
    if "backlog" in parts:
        drain(bench, options.backlog)
    if "sites" in parts:
        bad_sites(bench, options.m)
    if "door" in parts:
        front_door(bench, 2 * options.m)
    if "smar" in parts and shutil.which("nsd") is None:
        print("SMAR alone is left out, it needs nsd: apt-get install nsd")
    elif "smar" in parts:
        bench.rows += smar.measure(options.domains, options.r)


if __name__ == "__main__":
    main()
