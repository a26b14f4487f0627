"""Both ends of the protocol of policy milters, for tests: an SMTP server that asks, and a milter that may lie."""
import contextlib
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from meta1g.pmilter import Hub, PolicyMilter, Process
from meta1g.proto.pmilter import messages, numbers
from meta1g.proto.pmilter.messages import TO_MILTER, TO_SERVER, Reader
from meta1g.proto.rcb import Hello
from tests.lib.wait import until

HELLO = Hello(numbers.VERSION, 1, 0, "test")
OFFER = messages.Offer(int(numbers.EVERYTHING), int(numbers.EVERY_FUNCTION), 1, 0, b"mail.test")


@contextlib.contextmanager
def serving(policy: PolicyMilter, where: str, **options: Any) -> Iterator[Hub]:
    """A policy in this process, at this socket; `options` are attributes of its Process."""
    process = Process()
    process.setconn(where)
    for name, value in options.items():
        setattr(process, name, value)
    hub = Hub(policy, process, 0o666)
    hub.start()
    try:
        yield hub
    finally:
        hub.stop()


class Server:
    """An SMTP server at a library's socket."""

    def __init__(self, path: str | Path, *, negotiates: bool = True) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(10)
        until(lambda: self.sock.connect_ex(str(path)) == 0, 10, f"somebody listens at {path}")
        self._reader = Reader(TO_SERVER)
        self._heard: list[tuple[Any, int]] = []
        self.wants: Any = None
        if negotiates:
            self.sock.sendall(TO_MILTER.frame(HELLO))
            self.say(OFFER)
            assert isinstance(self.hear()[0], Hello)
            self.wants = self.hear()[0]

    def say(self, message: Any, number: int = 0) -> None:
        self.sock.sendall(TO_MILTER.frame(message, number))

    def hear(self) -> tuple[Any, int]:
        """The next message and its session; ConnectionError at the end."""
        while not self._heard:
            data = self.sock.recv(1 << 16)
            if not data:
                raise ConnectionError("closed")
            self._heard += self._reader.feed(data)
        return self._heard.pop(0)

    def ask(self, message: Any, number: int = 1) -> Any:
        self.say(message, number)
        answer, its = self.hear()
        assert its == number
        return answer

    def is_closed(self) -> bool:
        """Whether the library ends the connection, whatever it says before."""
        try:
            while self.sock.recv(1 << 16):
                pass
        except ConnectionResetError:
            pass
        return True

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *unused: object) -> None:
        self.sock.close()


Script = Callable[["FakeMilter", Any, int], None]


class FakeMilter:
    """A milter that does what `script(milter, message, session)` says; `wants` is what it negotiates."""

    def __init__(self, path: Path, wants: messages.Wants, script: Script) -> None:
        self.path = path
        self.wants = wants
        self.script = script
        self.heard: list[Any] = []
        self.connections = 0
        self._ends: list[socket.socket] = []
        self._out = threading.local()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        path.unlink(missing_ok=True)
        self._listener.bind(str(path))
        path.chmod(0o666)
        self._listener.listen(8)
        threading.Thread(target=self._accept, daemon=True).start()

    def say(self, message: Any, number: int) -> None:
        self.send(TO_SERVER.frame(message, number))

    def say_later(self, message: Any, number: int, seconds: float) -> None:
        octets = TO_SERVER.frame(message, number)
        threading.Timer(seconds, self._out.sock.sendall, (octets,)).start()

    def send(self, octets: bytes) -> None:
        self._out.sock.sendall(octets)

    def hang_up(self) -> None:
        """End the connection over which this was heard."""
        self._out.sock.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        """End all, as if the process had died."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._ends:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> "FakeMilter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.end()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self._ends.append(sock)
            self.connections += 1
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        self._out.sock = sock
        reader = Reader(TO_MILTER)
        try:
            self.send(TO_SERVER.frame(HELLO))
            while data := sock.recv(1 << 16):
                for message, number in reader.feed(data):
                    if isinstance(message, messages.Offer):
                        self.say(self.wants, 0)
                    elif not isinstance(message, Hello):
                        self.heard.append(message)
                        self.script(self, message, number)
        except OSError:
            pass
        finally:
            sock.close()


def run_policy(source: str, folder: Path) -> list[str]:
    """The command that runs a policy whose file has this text."""
    path = folder / "policy.py"
    path.write_text(source)
    return [sys.executable, str(path)]
