"""SMAR alone: a real process asked over its socket, with nsd on this machine to ask in turn.

What is asked is prepared before the clock runs, and answers are only counted, so that the client costs little.
"""
import shutil
import socket
import statistics
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

from contrib.bench.report import Row
from contrib.bench.servers import memory_of
from meta1g.proto.msg_ar import VOCABULARY, CheckMail, CheckRcpt, Resolve
from tests.lib.realdns import Nsd
from tests.lib.smarproc import Client, Smar

Figures = dict[str, float]
WINDOW = 400  # questions on their way: a busy day of SMTPS and QMGR together
BURST = 50  # questions in one write
USERS = 200  # addresses whose verdicts are kept
SLICES = 10  # of a run, so that both servers see the same of the machine
HUNG = 100  # questions that wait for the source that hangs
ZONE = "$TTL 3600\n@ SOA ns hostmaster 1 3600 600 86400 30\n@ NS ns\nns A 127.0.0.1\n"
HEADER = struct.Struct("<IHI")  # length, type, tag: proto.rcb
MT = "local.test lmtp:\n"


class Asker:
    """Keeps a window of questions on their way."""

    def __init__(self, smar: Smar) -> None:
        self._client = Client(smar.path)
        self._client.sock.settimeout(60)
        self._client.ask(CheckRcpt(False, "", b"", b"postmaster"))  # Hello has been said
        self._rest = b""

    def run(self, questions: list[Any], share: float = 1.0) -> float:
        """Ask all; seconds until this share of the answers was there. Returns after the last one."""
        frames = [VOCABULARY.frame(question, tag) for tag, question in enumerate(questions, 1)]
        bursts = [b"".join(frames[at:at + BURST]) for at in range(0, len(frames), BURST)]
        sent = answered = 0
        began, taken = monotonic(), 0.0
        while answered < len(frames):
            while sent - answered < WINDOW and sent < len(frames):
                self._client.sock.sendall(bursts[sent // BURST])
                sent = min(sent + BURST, len(frames))
            answered += self._count()
            if not taken and answered >= share * len(frames):
                taken = monotonic() - began
        return taken

    def one_by_one(self, questions: list[Any]) -> float:
        """Ask each when the one before is answered; seconds."""
        frames = [VOCABULARY.frame(question, tag) for tag, question in enumerate(questions, 1)]
        began = monotonic()
        for frame in frames:
            self._client.sock.sendall(frame)
            while not self._count():
                pass
        return monotonic() - began

    def send(self, questions: list[Any]) -> None:
        """Ask without waiting."""
        self._client.send(*questions)

    def close(self) -> None:
        """Leave."""
        self._client.close()

    def _count(self) -> int:
        data = self._rest + self._client.sock.recv(1 << 18)
        at = count = 0
        while len(data) - at >= HEADER.size and len(data) - at >= HEADER.size + HEADER.unpack_from(data, at)[0]:
            at += HEADER.size + HEADER.unpack_from(data, at)[0]
            count += 1
        self._rest = data[at:]
        return count


@contextmanager
def started(port: int, extra: str = "", nameservers: str = "127.0.0.2") -> Iterator[Smar]:
    """A SMAR in a folder of its own that asks nsd at 127.0.0.2."""
    folder = Path(tempfile.mkdtemp(prefix="bench-smar."))
    folder.chmod(0o755)
    smar = Smar(folder, port, mt=MT, extra=extra, nameservers=nameservers)
    smar.map("access.db", {"to:@d0.bench.test": "relay"})
    smar.map("aliases.db", {f"u{n}": "local:" for n in range(USERS)})
    try:
        with smar:
            yield smar
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def timed(smar: Smar, asker: Asker, questions: list[Any]) -> tuple[float, float]:
    """Answers a second, and a second of SMAR's processor time."""
    cpu = smar.cpu_seconds()
    taken = asker.run(questions)
    return len(questions) / taken, len(questions) / max(smar.cpu_seconds() - cpu, 0.01)


def domains(first: int, count: int) -> list[Any]:
    """Routes to domains that nobody has asked for."""
    return [Resolve(60, True, b"u@d%d.bench.test" % n) for n in range(first, first + count)]


def kept(smar: Smar, count: int) -> Figures:
    """Verdicts that SMAR has in its cache."""
    asker = Asker(smar)
    users: list[Any] = [CheckRcpt(True, "", b"", b"u%d@local.test" % n) for n in range(USERS)]
    senders = [CheckMail(True, False, "", b"u%d@local.test" % n) for n in range(USERS)]
    asker.run(users + senders)
    rate, per_cpu = timed(smar, asker, (users + senders) * (count // (2 * USERS)))
    single = (users + senders) * (count // (40 * USERS))
    cpu = smar.cpu_seconds()
    taken = asker.one_by_one(single)
    return {"verdicts/s": rate, "verdicts a CPU second": per_cpu, "one by one, verdicts/s": len(single) / taken,
            "one by one, verdicts a CPU second": len(single) / max(smar.cpu_seconds() - cpu, 0.01)}


def fresh(smar: Smar, count: int) -> Figures:
    """MX, A and AAAA of domains that are new."""
    rate, per_cpu = timed(smar, Asker(smar), domains(0, count))
    return {"domains/s": rate, "domains a CPU second": per_cpu, "MB": memory_of([smar.process.pid])}


def both(port: int, count: int) -> Figures:
    """A process that does first the one, then the other."""
    with started(port) as smar:
        return {**kept(smar, 50 * count), **fresh(smar, count)}


def shares(plain: Smar, other: Smar, count: int) -> Figures:
    """The other's rate by the plain one's, in turn; of 99 in 100 answers, as one may wait for who is silent."""
    seconds = [0.0, 0.0]
    askers = [Asker(plain), Asker(other)]
    for first in range(0, count, count // SLICES):
        for at, asker in enumerate(askers):
            seconds[at] += asker.run(domains(first, count // SLICES), 0.99)
    return {"rate by rate alone": seconds[0] / seconds[1]}


def beside_hung_map(port: int, count: int) -> Figures:
    """While a map's server takes questions and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=HUNG) as silent:
        extra = (f'map hung {{ type = socket; mapname = x; address = 127.0.0.1; port = {silent.getsockname()[1]}; }} '
                 "local_user_map { name = hung; }")
        with started(port) as plain, started(port, extra) as other:
            stuck = Asker(other)
            stuck.send([CheckRcpt(False, "", b"", b"x%d@local.test" % n) for n in range(HUNG)])
            with silent.accept()[0]:  # the first one hangs
                return shares(plain, other, count)


def beside_silent_nameserver(port: int, count: int) -> Figures:
    """While the first nameserver is silent and has missed its answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", port))
        with started(port) as plain, started(port, nameservers="127.0.0.1, 127.0.0.2") as other:
            for smar in (plain, other):
                Asker(smar).run(domains(count, 10))
            return shares(plain, other, count)


GOALS: list[tuple[str, Callable[[int, int], Figures], dict[str, str]]] = [
    ("SMAR", both, {
        "verdicts/s": "ours >= 20000", "verdicts a CPU second": "ours >= 20000", "one by one, verdicts/s": "",
        "one by one, verdicts a CPU second": "ours >= 20000", "domains/s": "",
        "domains a CPU second": "ours >= 3000", "MB": ""}),
    ("SMAR beside a hanging socket map", beside_hung_map, {"rate by rate alone": "ours > 0.9"}),
    ("SMAR beside a silent nameserver", beside_silent_nameserver, {"rate by rate alone": "ours > 0.9"}),
]


def measure(count: int, runs: int) -> list[Row]:
    """All rows; `count` domains are asked for in each run."""
    folder = Path(tempfile.mkdtemp(prefix="bench-nsd."))
    records = "".join(f"d{n} MX 10 m{n}\nm{n} A 192.0.2.1\n" for n in range(count + 10))
    rows = []
    try:
        with Nsd(folder, {"bench.test": ZONE + records}, "127.0.0.2") as nsd:
            for what, scenario, goals in GOALS:
                results = [scenario(nsd.port, count) for _ in range(runs)]
                for name, goal in goals.items():
                    values = [figures[name] for figures in results]
                    rows.append(Row(f"{what}: {name}", statistics.median(values), None, goal))
                    print(f"{what}: {name}  " + "  ".join(f"{value:.2f}" for value in values), flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return rows
