"""A thousand sites: what one that is dead, silent or slow costs the others."""
import re
import socket
import threading
import time
from datetime import datetime
from typing import Final

from contrib.bench.scenarios import Figures, arrived, source, talk
from contrib.bench.servers import DESTINATIONS, SILENT, SLOW, Meta1g, Sink

_LINE: Final = re.compile(r"^(\S+ \S+) .*\bss_ta=(S[0-9A-F]+)[, ]", re.MULTILINE)
CLIENTS: Final = 20
PACE: Final = 200  # messages a second while delays are measured: at full speed they wait for one another
PACED: Final = 1000


def one_bad_site(server: Meta1g, sink: Sink, dead: int, count: int) -> Figures:
    """Rate and delay of the healthy: alone, and while much waits for one that refuses, is silent, or takes its time."""
    _to_many(server, sink, count)
    rate, _ = _to_many(server, sink, count)
    figures = {"relay/s": rate, "p99 ms": _to_many(server, sink, PACED, PACE)[1]}
    for what, site in (("a dead one", "dead"), ("a silent one", "silent"), ("a slow one", "slow")):
        with _There(site, dead):
            source(server, count // 2, 1024, CLIENTS, to=f"x@{site}.test")
            beside, _ = _to_many(server, sink, count)
            _, late = _to_many(server, sink, PACED, PACE)
        figures |= {f"share beside {what}": beside / rate, f"p99 ms beside {what}": late}
    return figures


class _There:
    """What listens at a bad site, in a with statement."""

    def __init__(self, site: str, port: int) -> None:
        self._sink = Sink(port, SLOW, "-w", "2") if site == "slow" else None
        self._silent = socket.create_server((SILENT, port), backlog=1000) if site == "silent" else None

    def __enter__(self) -> None:
        pass

    def __exit__(self, *unused: object) -> None:
        if self._sink:
            self._sink.close()
        if self._silent:
            self._silent.close()


def _to_many(server: Meta1g, sink: Sink, count: int, pace: float = 0.0) -> tuple[float, float]:
    """Messages a second, and milliseconds that 99 in 100 needed at most from their 250 to that of their site.

    With a `pace` so many are sent in a second.
    """
    before, log_sizes = sink.count, server.log_sizes()
    pause = CLIENTS / pace if pace else 0.0
    clients = [threading.Thread(target=_spread, args=(server.port, part, count // CLIENTS, pause))
               for part in range(CLIENTS)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    arrived(sink, before + count // CLIENTS * CLIENTS)
    taken, left = (_times(server.log(name, log_sizes[name])) for name in ("smtps", "smtpc"))
    delays = sorted((left[ta] - taken[ta]).total_seconds() * 1000 for ta in left.keys() & taken.keys())
    seconds = (max(left.values()) - min(taken.values())).total_seconds()
    return len(delays) / seconds, delays[int(len(delays) * 0.99)]


def _times(log: str) -> dict[str, datetime]:
    """When each transaction was mentioned last."""
    return {ta: datetime.fromisoformat(stamp) for stamp, ta in _LINE.findall(log)}


def _spread(port: int, part: int, count: int, pause: float) -> None:
    began = time.monotonic() + pause * part / CLIENTS
    for number in range(count):
        time.sleep(max(began + number * pause - time.monotonic(), 0.0))
        with socket.create_connection(("127.0.0.1", port), 60) as sock:
            rcpt = b"RCPT TO:<x@d%d.many.test>" % ((part * count + number) % DESTINATIONS)
            talk(sock, b"HELO x", b"MAIL FROM:<a@bench.test>", rcpt, b"DATA", b"Subject: x\r\n\r\nx\r\n.")
