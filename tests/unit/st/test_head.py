"""The line that begins a connection."""
import socket
import time

import pytest

from meta1g.mta.errors import RemoteProtocolError
from meta1g.st.head import read_head
from meta1g.st.netfd import NetFd
from meta1g.st.sched import TimedOut, sleep, spawn


@pytest.fixture
def ends() -> tuple[NetFd, socket.socket]:
    ours, theirs = socket.socketpair()
    return NetFd(ours), theirs


def test_in_pieces(ends: tuple[NetFd, socket.socket]) -> None:
    netfd, peer = ends

    def send() -> None:
        for piece in (b"a li", b"ne\r", b"\nre"):
            peer.send(piece)
            sleep(0)

    spawn(send)
    assert read_head(netfd, 16, 5) == b"a line"
    assert netfd.read(10, 5) == b"re"


@pytest.mark.parametrize(("octets", "said"), [
    (b"a linex\r\n", "too long"), (b"x" * 8, "too long"), (b"x" * 9000, "too long"), (b"a line", "closed"),
    (b"", "closed"), (b"a line\n", "closed")])
def test_bad(ends: tuple[NetFd, socket.socket], octets: bytes, said: str) -> None:
    netfd, peer = ends
    peer.send(octets)
    peer.shutdown(socket.SHUT_WR)
    with pytest.raises(RemoteProtocolError, match=said):
        read_head(netfd, 8, 5)


def test_time_is_for_the_whole_line(ends: tuple[NetFd, socket.socket]) -> None:
    netfd, peer = ends

    def drip() -> None:
        while True:
            peer.send(b"x")
            sleep(0.02)

    thread, began = spawn(drip), time.monotonic()
    with pytest.raises(TimedOut):
        read_head(netfd, 10_000, 0.2)
    assert time.monotonic() - began < 5
    thread.kill()
