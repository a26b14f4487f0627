import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from meta1g.maps.m_sequence import SequenceMap
from meta1g.maps.m_socket import BadReply, SocketMap, netstring, parse_reply
from meta1g.maps.map import NO_MORE, NOT_FOUND, Found, PermFail, Result, TempFail, first
from tests.lib.mapserver import Server

REPLIES = [  # M1 10.2
    (b"OK value with blanks", Found(b"k", b"value with blanks")), (b"OK ", Found(b"k", b"")), (b"OK", Found(b"k", b"")),
    (b"NOTFOUND ", NOT_FOUND), (b"NOMORE", NO_MORE), (b"TEMP try later", TempFail("server said TEMP try later")),
    (b"TIMEOUT", TempFail("server said TIMEOUT")), (b"PERM no", PermFail("server said PERM no")),
]


@pytest.mark.parametrize(("reply", "result"), REPLIES)
def test_socket_reply(reply: bytes, result: Result) -> None:
    assert parse_reply(b"k", reply) == result


def test_socket_unknown_reply() -> None:
    with pytest.raises(BadReply):
        parse_reply(b"k", b"MAYBE x")


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    made: list[Server] = []
    yield made
    for server in made:
        server.sock.close()


def test_socket_map(tmp_path: Path, servers: list[Server]) -> None:
    seen: list[bytes] = []

    def handle(data: bytes) -> bytes:
        seen.append(data)
        return netstring(b"OK " + b"x" * 1000)

    for path in ("", str(tmp_path / "sock")):
        servers.append(Server(handle, path))
        found = SocketMap("m", "aliases", servers[-1].address)
        for _ in range(3):
            assert found.lookup(b"foo") == Found(b"foo", b"x" * 1000)
        assert servers[-1].connections == 1
        assert found.reopen() == ""
        assert found.lookup(b"foo") == Found(b"foo", b"x" * 1000)
        assert servers[-1].connections == 2
    assert seen[0] == b"11:aliases foo,"


@pytest.mark.parametrize(
    "answer", [b"garbage garbage", b"5:short;", b"999999:x,", b"x:", b"2:xx,yy", None, b"5:MAYBE,"])
def test_socket_bad_server(servers: list[Server], answer: bytes | None) -> None:
    servers.append(Server(lambda data: answer))
    assert isinstance(SocketMap("m", "m", servers[0].address, timeout=1).lookup(b"k"), TempFail)


def test_socket_server_restarts_or_hangs(servers: list[Server]) -> None:
    turns = iter([netstring(b"OK 1"), None, netstring(b"PERM 2"), b"", None])
    servers.append(Server(lambda data: next(turns)))
    found = SocketMap("m", "m", servers[0].address, timeout=0.3)
    assert found.lookup(b"k") == Found(b"k", b"1")
    assert found.lookup(b"k") == PermFail("map m: server said PERM 2")  # closed under us: asked again
    assert found.lookup(b"k") == TempFail("map m: no answer in 0.3 s")
    servers[0].sock.close()
    gone = SocketMap("m", "m", ("127.0.0.1", 1), timeout=0.3)
    assert isinstance(gone.lookup(b"k"), TempFail)


def test_netstring() -> None:  # M1 10.2: its examples
    assert netstring(b"hello there") == b"11:hello there,"
    reply = b"TEMP this text explains that we had a temporary failure"
    assert netstring(reply) == b"55:" + reply + b","
    assert parse_reply(b"k", reply) == TempFail("server said " + reply.decode())


@pytest.mark.parametrize("is_unix", [False, True], ids=["tcp", "unix"])
def test_every_reply(tmp_path: Path, servers: list[Server], is_unix: bool) -> None:
    replies = {b"m %d" % at: reply for at, (reply, _) in enumerate(REPLIES)}
    servers.append(Server(lambda data: netstring(replies[data.partition(b":")[2][:-1]]),
                          str(tmp_path / "sock") if is_unix else ""))
    found = SocketMap("s", "m", servers[0].address)
    for at, (_, wanted) in enumerate(REPLIES):
        result = found.lookup(b"%d" % at)
        if isinstance(wanted, Found):
            assert result == Found(b"%d" % at, wanted.value)
        elif isinstance(wanted, TempFail | PermFail):
            assert result == type(wanted)(f"map s: {wanted.reason}")
        else:
            assert result is wanted
    assert servers[0].connections == 1


def test_ipv6(servers: list[Server]) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("needs IPv6")
    server = Server(lambda data: netstring(b"OK 6"))
    servers.append(server)
    server.sock.close()
    six = socket.create_server(("::1", 0), family=socket.AF_INET6)
    server.sock = six
    threading.Thread(target=server._accept, daemon=True).start()
    assert SocketMap("s", "m", ("::1", six.getsockname()[1])).lookup(b"k") == Found(b"k", b"6")


def test_no_more_ends_derivatives_and_sequences(servers: list[Server]) -> None:
    seen: list[bytes] = []

    def handle(data: bytes) -> bytes:
        seen.append(data)
        return netstring(b"NOMORE") if b"stop" in data else netstring(b"NOTFOUND ")

    servers.append(Server(handle))
    one, two = (SocketMap(name, name, servers[0].address) for name in ("one", "two"))
    both = SequenceMap("both", [one, two])
    assert first(both, [b"a", b"stop", b"b"]) is NOT_FOUND
    assert seen == [b"5:one a,", b"5:two a,", b"8:one stop,"]


def test_server_is_restarted(tmp_path: Path, servers: list[Server]) -> None:
    path = tmp_path / "sock"
    servers.append(Server(lambda data: netstring(b"OK 1"), str(path)))
    found = SocketMap("s", "m", str(path), timeout=5)
    threads = [threading.Thread(target=found.lookup, args=(b"k",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    servers[0].stop()
    path.unlink()
    assert isinstance(found.lookup(b"k"), TempFail)  # every idle connection is closed, and nobody listens
    servers.append(Server(lambda data: netstring(b"OK 2"), str(path)))
    assert found.lookup(b"k") == Found(b"k", b"2")


def test_one_deadline_for_all_of_a_lookup(servers: list[Server]) -> None:
    """A server that sends an octet now and then is not waited for longer than one that is silent."""
    more = threading.Event()

    def handle(data: bytes) -> bytes:
        while not more.wait(0.05):
            for sock in servers[0].clients:
                sock.sendall(b"1")
        return b""

    servers.append(Server(handle))
    started = time.monotonic()
    result = SocketMap("s", "m", servers[0].address, timeout=0.3).lookup(b"k")
    more.set()
    assert isinstance(result, TempFail)
    assert time.monotonic() - started < 3
