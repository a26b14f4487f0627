"""A real redis-server."""
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.lib.wait import until


def redis() -> Any:
    """The client's package."""
    return pytest.importorskip("redis")


class Server:
    """A real redis-server on a Unix socket and a port of its own; nothing is written to disk."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "redis.sock")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.client: Any = redis().Redis(unix_socket_path=self.path)
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", self.path,
             "--unixsocketperm", "777", "--save", "",
             "--dir", str(Path(self.path).parent)], stdout=subprocess.DEVNULL)
        until(self.is_up, what="redis-server answers")

    def is_up(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis().exceptions.RedisError:
            return False

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=20)

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *exc: object) -> None:
        self.client.close()
        self.stop()
