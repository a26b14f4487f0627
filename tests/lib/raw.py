"""A client that keeps to no rule of its own."""
import socket

from tests.lib.instance import Instance


class Raw:
    """A client that sends what it is told."""

    def __init__(self, server: Instance, client: str = "127.0.0.1") -> None:
        self.sock = socket.create_connection(("127.0.0.1", server.port), 20, source_address=(client, 0))
        self._file = self.sock.makefile("rb")

    def say(self, octets: bytes) -> str:
        """Send and read one reply, its lines joined."""
        self.sock.sendall(octets)
        return self.read()

    def read(self) -> str:
        """One reply, its lines joined; what there is of it at the end of the stream."""
        lines = []
        while (line := self._file.readline()).endswith(b"\r\n"):
            lines.append(line.decode().rstrip())
            if line[3:4] != b"-":
                break
        return "\n".join(lines)

    def __enter__(self) -> "Raw":
        return self

    def __exit__(self, *unused: object) -> None:
        self.sock.close()
