import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from meta1g.maps.m_redis import RedisMap
from meta1g.maps.map import NOT_FOUND, Found, Result, TempFail
from meta1g.maps.open import Declared, open_maps
from tests.lib.peers import needs
from tests.lib.redisserver import Server

pytest.importorskip("redis")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    needs("redis-server")
    with Server(tmp_path) as found:
        yield found


@pytest.mark.peer
def test_lookup(server: Server) -> None:
    server.client.hset("mail:lists", mapping={b"key": b"value", b"\xff\0": b"\x80", "n": 5, "empty": ""})
    server.client.set("text", "no hash")
    for address in (server.path, ("127.0.0.1", server.port)):
        found = RedisMap("m", "mail:lists", address)
        for key, value in ((b"key", b"value"), (b"\xff\0", b"\x80"), (b"n", b"5"), (b"empty", b"")):
            assert found.lookup(key) == Found(key, value)
        for key in (b"none", b"", b"x" * 5000):
            assert found.lookup(key) is NOT_FOUND
        assert "WRONGTYPE" in str(RedisMap("m", "text", address).lookup(b"key"))
        assert RedisMap("mail:lists", "", address).lookup(b"key") == Found(b"key", b"value")  # by its own name
        assert RedisMap("none", "", address).lookup(b"key") is NOT_FOUND


@pytest.mark.peer
def test_server_goes_and_comes(server: Server) -> None:
    found = RedisMap("m", "m", server.path)
    server.client.hset("m", "k", "1")
    assert found.lookup(b"k") == Found(b"k", b"1")
    server.stop()
    assert isinstance(found.lookup(b"k"), TempFail)
    server.start()
    server.client.hset("m", "k", "2")
    assert found.lookup(b"k") == Found(b"k", b"2")
    server.client.client_kill_filter(skipme=True)  # as an idle timeout of the server does
    assert found.lookup(b"k") == Found(b"k", b"2")
    assert found.reopen() == ""
    assert found.lookup(b"k") == Found(b"k", b"2")


@pytest.mark.peer
def test_threads(server: Server) -> None:
    found = RedisMap("m", "m", server.path)
    server.client.hset("m", mapping={f"k{n}": str(n) for n in range(100)})
    wrong: list[Result] = []

    def ask() -> None:
        for n in range(100):
            result = found.lookup(b"k%d" % n)
            if result != Found(b"k%d" % n, b"%d" % n):
                wrong.append(result)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        found.reopen()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_nobody_answers(tmp_path: Path) -> None:
    path = str(tmp_path / "sock")
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(path)
        silent.listen()
        started = time.monotonic()
        assert RedisMap("m", "m", path, timeout=0.2).lookup(b"k") == TempFail("map m: no answer in 0.2 s")
        assert time.monotonic() - started < 2
    assert isinstance(RedisMap("m", "m", path, timeout=0.2).lookup(b"k"), TempFail)
    assert isinstance(RedisMap("m", "m", ("127.0.0.1", 1), timeout=0.2).lookup(b"k"), TempFail)


def test_nonsense_is_answered(tmp_path: Path) -> None:
    path = str(tmp_path / "sock")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()

        def serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                with client:
                    client.recv(1000)
                    client.sendall(b"220 mail.example.org ESMTP\r\n")

        threading.Thread(target=serve, daemon=True).start()
        assert isinstance(RedisMap("m", "m", path, timeout=2).lookup(b"k"), TempFail)


def test_open() -> None:
    maps = open_maps([Declared("r", "redis", mapname="m", path="/none"), Declared("t", "redis", address="::1", port=7)])
    assert isinstance(maps["r"].lookup(b"k"), TempFail)
    assert not maps["r"].is_stable and maps["t"].is_slow
