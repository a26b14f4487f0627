"""The front door: a normal load beside a crowd of idle and slow sessions, a quiet client beside ones that pipeline."""
import contextlib
import random
import resource
import selectors
import socket
import statistics
import struct
import threading
import time
from collections.abc import Iterator

from contrib.bench.scenarios import Figures, relay, talk
from contrib.bench.servers import Meta1g, Sink, memory_of

IDLE, SLOW = 10_000, 1_000
ROUNDS = 3  # alone and beside in turn, as the machine is shared
PIECE_EVERY = 1.0  # seconds between two pieces of a slow client; Slowloris sends one in 10 s
CLIENTS = 50  # source addresses of the crowd
BATCH = 200  # connections made at once: the listen queue holds 1,024
ENVELOPE = [b"EHLO x\r\n", b"MAIL FROM:<a@bench.test>\r\n", b"RCPT TO:<x@sink.test>\r\n", b"DATA\r\n"]
TRICKLE = b"EHLO slow.test\r\n"
FLOOD = b"EHLO x\r\nMAIL FROM:<a@bench.test>\r\n" + b"RCPT TO:<x@sink.test>\r\n" * 20_000


class Crowd:
    """Sessions that are there: some wait after EHLO, some send a piece now and then, some do not read replies."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socks: list[socket.socket] = []
        self._slow: list[tuple[socket.socket, bytes]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._trickle, daemon=True)

    def __enter__(self) -> "Crowd":
        allow_descriptors()
        for first in range(0, IDLE, BATCH):
            self._socks += self._connect(first, min(BATCH, IDLE - first), b"EHLO x\r\n")
        for first in range(0, SLOW, BATCH):
            socks = self._connect(first, min(BATCH, SLOW - first), b"")
            self._socks += socks
            self._slow += [(sock, self._begin(number, sock)) for number, sock in enumerate(socks)]
        for sock, _ in self._slow:
            sock.setblocking(False)
        self._thread.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._stop.set()
        self._thread.join()
        for sock in self._socks:  # by a reset: ten thousand ports in TIME_WAIT would be missed by who comes next
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()

    def alive(self) -> int:
        """Sessions that the server has not ended."""
        return sum(map(is_open, self._socks))

    def _connect(self, first: int, count: int, hello: bytes) -> list[socket.socket]:
        socks = [socket.create_connection(("127.0.0.1", self._port), 60, source_address=(source(first + n), 0))
                 for n in range(count)]
        for sock in socks:
            sock.recv(4096)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for sock in socks if hello else []:
            sock.sendall(hello)
        for sock in socks if hello else []:
            sock.recv(4096)
        return socks

    @staticmethod
    def _begin(number: int, sock: socket.socket) -> bytes:
        """What a slow client repeats: octets of a command, lines of content, or commands whose replies it leaves."""
        if number % 3 == 0:
            return TRICKLE
        for line in ENVELOPE[:4 if number % 3 == 1 else 3]:
            sock.sendall(line)
            sock.recv(4096)
        if number % 3 == 1:
            return b"x"
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        sock.setblocking(False)
        sock.send(b"BDAT 0\r\n" * 8000)
        return b"BDAT 0\r\n"

    def _trickle(self) -> None:
        """One piece of each slow client in PIECE_EVERY, in small steps."""
        sent = [0] * len(self._slow)
        order = list(range(len(self._slow)))
        random.shuffle(order)
        while not self._stop.is_set():
            began = time.monotonic()
            for step, number in enumerate(order):
                sock, text = self._slow[number]
                at = sent[number] % len(text)
                sent[number] += 1
                with contextlib.suppress(OSError):
                    sock.send(text[at:at + 1])
                if step % 20 == 19 and self._stop.wait(max(
                        began + PIECE_EVERY * step / len(order) - time.monotonic(), 0.0)):
                    return


def allow_descriptors() -> None:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))


def is_open(sock: socket.socket) -> bool:
    """Whether the server has not ended this connection; what it said is thrown away."""
    sock.setblocking(False)
    try:
        while sock.recv(65536):
            pass
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def source(number: int) -> str:
    """An address of this machine."""
    return f"127.2.{number % CLIENTS}.1"


def crowd(server: Meta1g, sink: Sink, count: int) -> Figures:
    """The normal load's rate beside the crowd by its rate alone, and what the crowd costs."""
    processes = server.pids()
    alone, beside, quiet, memory, alive = [], [], [], 0.0, 0
    for _ in range(ROUNDS):
        alone.append(relay(server, sink, count, 1024, 100)["relay/s"])
        with Crowd(server.port) as there:
            time.sleep(5.0)  # until the connections' own work is done
            cpu, began = server.cpu()["smtps"], time.monotonic()
            time.sleep(3.0)
            quiet.append((server.cpu()["smtps"] - cpu) / (time.monotonic() - began) * 100)
            beside.append(relay(server, sink, count, 1024, 100)["relay/s"])
            memory, alive = memory_of(processes), there.alive()
        time.sleep(2.0)  # until they are gone
    return {"relay/s alone": statistics.median(alone), "relay/s beside them": statistics.median(beside),
            "share": statistics.median(beside) / statistics.median(alone), "CPU % for the crowd": min(quiet),
            "MB in all": memory, "still there": alive}


@contextlib.contextmanager
def flooding(port: int, count: int) -> Iterator[None]:
    """Clients that send commands as fast as the socket takes them, and read the replies."""
    stop = threading.Event()

    def flood() -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 60) as sock:
                _pump(sock, stop)

    threads = [threading.Thread(target=flood, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    yield
    stop.set()
    for thread in threads:
        thread.join()


def _pump(sock: socket.socket, stop: threading.Event) -> None:
    sock.recv(4096)
    sock.setblocking(False)
    left = memoryview(FLOOD)
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_READ | selectors.EVENT_WRITE)
        while left and not stop.is_set():
            for _, events in selector.select(1.0):
                if events & selectors.EVENT_WRITE:
                    left = left[sock.send(left):]
                if events & selectors.EVENT_READ and not sock.recv(65536):
                    return


def flood(server: Meta1g, count: int) -> Figures:
    """Milliseconds that a quiet client waits for a reply while two others pipeline without end."""
    times: list[float] = []
    with flooding(server.port, 2), socket.create_connection(("127.0.0.1", server.port), 60) as sock:
        talk(sock, b"EHLO x", b"MAIL FROM:<a@bench.test>")
        for _ in range(count):
            began = time.monotonic()
            sock.sendall(b"RCPT TO:<x@sink.test>\r\n")
            assert sock.recv(4096).startswith(b"250")
            times.append(time.monotonic() - began)
            time.sleep(0.02)
    times.sort()
    return {"p50 ms": statistics.median(times) * 1000, "longest ms": times[-1] * 1000}
