"""What a milter costs: the same load without one, and with one in C (libmilter) that does nothing. It hears of the end
of a message only, of everything while it answers as little as the protocol allows, or, as older milters do, it answers
each step and each field of the header.
"""
import os
import statistics
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path

from contrib.bench import scenarios
from contrib.bench.scenarios import Figures, Server
from contrib.bench.servers import Sink
from tests.lib.instance import free_port
from tests.lib.wait import until

_SOURCE = Path(__file__).with_name("noop_milter.c")
_ROUNDS = 7  # in turn, as the machine is shared


_KINDS = {"with an idle one": "end", "with one": "few", "with a chatty one": "all"}


class Noop:
    """The milter, of one of three kinds."""

    def __init__(self, folder: str, kind: str) -> None:
        program = Path(folder) / "noop"
        if not program.exists():
            subprocess.run(["cc", "-O2", "-w", "-o", program, _SOURCE, "-lmilter", "-lpthread"], check=True)
        self.path = Path(folder) / kind
        self._process = subprocess.Popen([program, f"unix:{self.path}", kind])
        until(self.path.exists, 10, "the milter listens")
        self.path.chmod(0o666)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def cost(server: Server, sink: Sink, count: int) -> Figures:
    """What is accepted a second without a milter, and with each kind: four servers in turn."""
    rounds: dict[str, list[Figures]] = {"without": [], **{what: [] for what in _KINDS}}
    with tempfile.TemporaryDirectory(prefix="bench-milter.") as folder, ExitStack() as stack:
        os.chmod(folder, 0o755)
        servers = {"without": server}
        for what, kind in _KINDS.items():
            milter = Noop(folder, kind)
            stack.callback(milter.close)
            servers[what] = type(server)(sink.port, free_port())
            stack.callback(servers[what].close)
            servers[what].ask_milter(str(milter.path))
            scenarios.relay(servers[what], sink, 200, 1024, 20)
        for _ in range(_ROUNDS):
            for what, one in servers.items():
                rounds[what].append(scenarios.relay(one, sink, count // 2, 1024, 20))
    figures = {f"{name} {what}": statistics.median(found[name] for found in rounds[what])
               for name in ("accept/s", "cpu ms") for what in rounds}
    for what in _KINDS:
        figures[f"share {what}"] = statistics.median(
            found["accept/s"] / base["accept/s"] for base, found in zip(rounds["without"], rounds[what], strict=True))
    return figures
