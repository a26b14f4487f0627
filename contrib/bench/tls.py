"""TLS: handshakes a second, messages each of which comes by a connection of its own, and messages that leave in it.

The load is Python's ssl in several processes (`python -m contrib.bench.tls PORT COUNT MESSAGES`), the same for each
server; what it costs them is their own processor time.
"""
import smtplib
import ssl
import subprocess
import sys
import tempfile
import threading
import time

from contrib.bench import scenarios
from contrib.bench.scenarios import Figures, Server, arrived
from contrib.bench.servers import Sink, TlsSink

_PROCESSES = 2
_THREADS = 10
_TEXT = "Subject: tls\n\n" + ("x" * 70 + "\n") * 14


def handshakes(server: Server, count: int) -> Figures:
    """Connections that say EHLO, STARTTLS, EHLO and QUIT."""
    return _measured(server, count, messages=0)


def relay(server: Server, sink: Sink, count: int) -> Figures:
    """Messages of 1 KB, in and through."""
    before = sink.count
    return _measured(server, count, messages=1, sink=sink, until=before + count)


def onward(server: Server, count: int) -> Figures:
    """Messages of 1 KB that come in plain and leave in TLS; a connection that is kept is one handshake for several."""
    with tempfile.TemporaryDirectory() as folder:
        sink = TlsSink(folder)
        try:
            server.send_to(sink.port)
            figures = scenarios.relay(server, sink, count, 1024, 20, "x@tls.test")
        finally:
            sink.close()
    return {"a second": figures["relay/s"], "cpu ms": figures["cpu ms"]}


def _measured(server: Server, count: int, *, messages: int, sink: Sink | None = None, until: int = 0) -> Figures:
    server.offer_tls()
    cpu, began = sum(server.cpu().values()), time.monotonic()
    command = [sys.executable, "-m", "contrib.bench.tls", str(server.port), str(count // _PROCESSES), str(messages)]
    for process in [subprocess.Popen(command) for _ in range(_PROCESSES)]:
        assert process.wait() == 0
    if sink is not None:
        arrived(sink, until)
    return {"a second": count / (time.monotonic() - began), "cpu ms": (sum(server.cpu().values()) - cpu) * 1000 / count}


def _client(port: int, count: int, messages: int) -> None:
    context = ssl._create_unverified_context()
    for _ in range(count):
        with smtplib.SMTP("127.0.0.1", port, "bench.test", 60) as smtp:
            smtp.starttls(context=context)
            smtp.ehlo()
            for _ in range(messages):
                smtp.sendmail("a@bench.test", "x@sink.test", _TEXT)


def main() -> None:
    """One process of the load."""
    port, count, messages = map(int, sys.argv[1:])
    threads = [threading.Thread(target=_client, args=(port, count // _THREADS, messages)) for _ in range(_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
