"""Connections that are passed on to a port, with all that is said on them."""
import socket
import threading
from typing import NamedTuple

_HOST = "127.0.0.1"


class Said(NamedTuple):
    """Octets that came in one piece."""

    by_client: bool
    octets: bytes


class Tap:
    """Listens at `port` of all addresses and passes on to port `to`.

    `said` is what came, in order, `connections` how many were passed on.
    """

    def __init__(self, to: int) -> None:
        self._to = to
        self._listener = socket.create_server(("", 0))
        self.port = int(self._listener.getsockname()[1])
        self.said: list[Said] = []
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def by_client(self) -> bytes:
        """All that clients said."""
        return b"".join(piece.octets for piece in self.said if piece.by_client)

    def by_server(self) -> bytes:
        """All that the server said."""
        return b"".join(piece.octets for piece in self.said if not piece.by_client)

    def close(self) -> None:
        """Take no more connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection((_HOST, self._to))
            except OSError:
                near.close()
                continue
            self.connections += 1
            for source, target, by_client in ((near, far, True), (far, near, False)):
                threading.Thread(target=self._copy, args=(source, target, by_client), daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket, by_client: bool) -> None:
        try:
            while octets := source.recv(65536):
                self.said.append(Said(by_client, octets))
                target.sendall(octets)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass
