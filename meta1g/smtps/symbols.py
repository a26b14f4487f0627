"""What filters can know of a session, by name: the identifiers of checks (M1 8.5.1), and some more."""
from collections.abc import Callable
from typing import Any, Final

from meta1g import __version__
from meta1g.smtps.condition import READERS
from meta1g.smtps.visit import Visit


def _end(name: Any) -> tuple[bytes, bytes]:
    """Address and port of a socket's name; empty and 0 for a Unix socket."""
    if not isinstance(name, tuple):
        return b"", b"0"
    return str(name[0]).removeprefix("::ffff:").encode(), b"%d" % name[1]


class Symbols:
    """Those of one session."""

    def __init__(self, visit: Visit, here: Any, there: Any) -> None:
        """`here` and `there` are the ends of the connection as the socket names them."""
        self._visit = visit
        self._here, self._there = here, there

    def get(self, name: str) -> bytes:
        """Its value; empty if there is none, or none yet."""
        reader = READERS.get(name)
        if reader is not None:
            value = reader(self._visit.checks.facts)
            return value if isinstance(value, bytes) else b"%d" % value if value or not name.endswith("_bits") else b""
        return _MORE[name](self) if name in _MORE else b""

    @property
    def client_port(self) -> bytes:
        """0 where a proxy has told of the client."""
        address, port = _end(self._there)
        return port if address.decode() == self._visit.ip else b"0"


_MORE: Final[dict[str, Callable[[Symbols], bytes]]] = {
    "version": lambda at: f"meta1g-{__version__}".encode(),
    "daemon_name": lambda at: at._visit.set.name.encode(),
    "daemon_addr": lambda at: _end(at._here)[0],
    "daemon_port": lambda at: _end(at._here)[1],
    "is_ehlo": lambda at: b"1" if at._visit.is_ehlo else b"",
    "client_port": lambda at: at.client_port,
}
NAMES: Final = frozenset({*READERS, *_MORE})
