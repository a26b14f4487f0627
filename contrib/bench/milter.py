"""What a milter costs: the same load without one, and with one in C (libmilter) that looks at everything and does
nothing. It answers as little as the protocol allows, or, as older milters do, each step and each field of the header.
"""
import os
import subprocess
import tempfile
from pathlib import Path

from contrib.bench import scenarios
from contrib.bench.scenarios import Figures, Server
from contrib.bench.servers import Sink
from tests.lib.wait import until

_SOURCE = Path(__file__).with_name("noop_milter.c")
_ROUNDS = 3  # in turn, as the machine is shared


class Noop:
    """The milter; `is_chatty` if it answers everything."""

    def __init__(self, folder: str, *, is_chatty: bool) -> None:
        program = Path(folder) / "noop"
        if not program.exists():
            subprocess.run(["cc", "-O2", "-w", "-o", program, _SOURCE, "-lmilter", "-lpthread"], check=True)
        self.path = Path(folder) / ("all" if is_chatty else "few")
        self._process = subprocess.Popen([program, f"unix:{self.path}", "all" if is_chatty else "few"])
        until(self.path.exists, 10, "the milter listens")
        self.path.chmod(0o666)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def cost(server: Server, sink: Sink, count: int) -> Figures:
    """The best rates at which mail is accepted: without a milter, with one, with one that answers everything."""
    figures: Figures = {}
    with tempfile.TemporaryDirectory(prefix="bench-milter.") as folder:
        os.chmod(folder, 0o755)
        milters = {"with one": Noop(folder, is_chatty=False), "with a chatty one": Noop(folder, is_chatty=True)}
        try:
            for what, milter in (("without", None), *milters.items()):
                server.ask_milter(str(milter.path) if milter else "")
                scenarios.relay(server, sink, 200, 1024, 20)
                found = [scenarios.relay(server, sink, count, 1024, 20) for _ in range(_ROUNDS)]
                figures[f"accept/s {what}"] = max(one["accept/s"] for one in found)
                figures[f"cpu ms {what}"] = min(one["cpu ms"] for one in found)
        finally:
            for milter in milters.values():
                milter.close()
    for what in milters:
        figures[f"share {what}"] = figures[f"accept/s {what}"] / figures["accept/s without"]
    return figures
