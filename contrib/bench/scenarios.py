"""What is measured: each function takes a fresh server and returns figures by name."""
import os
import re
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from contrib.bench.servers import DEAD, Counter, Meta1g, Postfix, Sink, memory_of
from tests.lib.wait import until

Server = Meta1g | Postfix
Figures = dict[str, float]
SINK_WAIT = 180.0  # seconds for all messages to arrive


def source(server: Server, count: int, size: int, sessions: int, *options: str, to: str = "x@sink.test") -> None:
    """smtp-source with a connection for each message."""
    subprocess.run(["smtp-source", "-s", str(sessions), "-m", str(count), "-l", str(size), "-f", "a@bench.test",
                    "-t", to, *options, f"127.0.0.1:{server.port}"], check=True)


def relay(server: Server, sink: Counter, count: int, size: int, sessions: int, to: str = "x@sink.test") -> Figures:
    """Messages a second in and through, and processor time for each."""
    before, began, cpu = sink.count, time.monotonic(), server.cpu()
    source(server, count, size, sessions, to=to)
    accepted = time.monotonic()
    arrived(sink, before + count)
    relayed = time.monotonic()
    used = {name: (value - cpu.get(name, 0.0)) * 1000 / count for name, value in server.cpu().items()}
    parts = {f"cpu {name}": value for name, value in used.items() if len(used) > 1}
    return {"accept/s": count / (accepted - began), "relay/s": count / (relayed - began),
            "cpu ms": sum(used.values()), **parts}


def arrived(sink: Counter, count: int) -> None:
    """Wait until the sink has so many messages."""
    until(lambda: sink.count >= count, SINK_WAIT, f"the sink has {count} messages")


def held(server: Server, count: int) -> Figures:
    """Messages a second in while nothing is delivered."""
    server.hold()
    began = time.monotonic()
    source(server, count, 1024, 20)
    return {"accept/s": count / (time.monotonic() - began)}


def flushes(server: Server, sink: Sink, count: int) -> Figures:
    """Flushes for each message with 100 sessions, counted by strace (which slows the server down)."""
    with tempfile.NamedTemporaryFile(prefix="flushes.") as file:
        pids = [word for pid in server.pids() for word in ("-p", str(pid))]
        tracer = subprocess.Popen(["strace", "-f", "-q", "-e", "trace=fsync,fdatasync", "-o", file.name, *pids],
                                  stderr=subprocess.DEVNULL)
        time.sleep(1.0)
        before = sink.count
        source(server, count, 1024, 100)
        arrived(sink, before + count)
        tracer.terminate()
        tracer.wait()
        calls = len(re.findall(r"\b(?:fsync|fdatasync)\(", Path(file.name).read_text()))
    return {"flushes a message": calls / count}


def latency(server: Server, count: int, sessions: int = 20) -> Figures:
    """Milliseconds from the final dot to its reply, 20 sessions at once."""
    times: list[float] = []
    clients = [threading.Thread(target=_send, args=(server.port, count // sessions, times)) for _ in range(sessions)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    times.sort()
    return {"p50 ms": statistics.median(times) * 1000, "p99 ms": times[int(len(times) * 0.99)] * 1000}


def _send(port: int, count: int, times: list[float]) -> None:
    body = b"Subject: x\r\n\r\n" + (b"X" * 70 + b"\r\n") * 14
    for _ in range(count):
        with socket.create_connection(("127.0.0.1", port), 60) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            talk(sock, b"HELO x", b"MAIL FROM:<a@bench.test>", b"RCPT TO:<x@sink.test>", b"DATA")
            sock.sendall(body)
            began = time.monotonic()
            sock.sendall(b".\r\n")
            sock.recv(4096)
            times.append(time.monotonic() - began)
            sock.sendall(b"QUIT\r\n")


def talk(sock: socket.socket, *lines: bytes) -> None:
    """Read the greeting, then send line by line; AssertionError unless each is taken."""
    sock.recv(4096)
    for line in lines:
        sock.sendall(line + b"\r\n")
        reply = sock.recv(4096)
        assert reply[:1] in b"23", (line, reply)


def idle(server: Server, count: int) -> Figures:
    """Kilobytes for each session that waits after EHLO."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    before = memory_of(server.pids())
    socks = []
    for _ in range(count):
        sock = socket.create_connection(("127.0.0.1", server.port), 60)
        talk(sock, b"EHLO x")
        socks.append(sock)
    after = memory_of(server.pids())
    for sock in socks:
        sock.close()
    return {"KB a session": (after - before) * 1024 / count, "MB in all": after}


def many_rcpts(server: Server, sink: Sink) -> Figures:
    """Seconds for one message to 1,000 recipients: until it is accepted, and until the last one has it."""
    began, before = time.monotonic(), sink.count
    source(server, 1, 1024, 1, "-r", "1000")
    accepted = time.monotonic()
    quiet = sink.count
    since = accepted
    while sink.count == before or time.monotonic() - since < 1.0:  # how many transactions depends on the server
        if sink.count != quiet:
            quiet, since = sink.count, time.monotonic()
        time.sleep(0.002)
    return {"accepted s": accepted - began, "delivered s": since - began}


def best_rate(server: Server, sink: Sink, count: int) -> float:
    """The best of three: on a shared machine the others say more about the neighbours."""
    return max(relay(server, sink, count, 1024, 20)["relay/s"] for _ in range(3))


def deferred(server: Server, sink: Sink, dead: int, rcpts: int, count: int) -> Figures:
    """A queue of deferred recipients: the rate beside it, restart, memory, and the time to the next attempt."""
    free = best_rate(server, sink, count)
    source(server, rcpts // 1000, 1024, 5, "-r", "1000", to="x@dead.test")
    until(lambda: server.deferred() >= rcpts, 600, "all is deferred", pause=0.5)
    full = best_rate(server, sink, count)
    began = time.monotonic()
    server.restart()
    restarted = time.monotonic()
    memory = memory_of(server.pids())
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((DEAD, dead))
        listener.listen(100)
        listener.settimeout(120)
        flushed = time.monotonic()
        server.flush()
        listener.accept()[0].close()
        first = time.monotonic()
    return {"relay/s with an empty queue": free, "relay/s beside it": full, "share": full / free,
            "restart s": restarted - began, "MB": memory, "next attempt s": first - flushed}


def machine() -> str:
    """A line about where the figures come from."""
    cpu = next((line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), "?")
    return f"{os.cpu_count()} x {cpu}, Linux {os.uname().release}, Python {sys.version.split()[0]}"


