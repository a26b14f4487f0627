"""A policy milter that is dropped when it has gone anyway."""
import socket
import struct
from types import SimpleNamespace
from typing import Any

from meta1g.proto.pmilter.messages import Wants
from meta1g.smtps.pmilter_wire import Wire
from meta1g.st.netfd import NetFd


def test_a_wire_that_was_reset() -> None:
    """The kernel has forgotten the connection: that is no error of the session that finds nonsense in an answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        peer, _ = listener.accept()
    log: Any = SimpleNamespace(error=lambda line: None)
    wire = Wire(NetFd(client), Wants(0, 0, 0, 0, b"x", ()), 5.0, log)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    wire.drop("nonsense")
    assert not wire.is_up
    client.close()
