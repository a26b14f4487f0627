"""Content by BDAT to a real server that offers CHUNKING, Postfix, which passes it on to a sink."""
import smtplib
from collections.abc import Iterator

import pytest

from tests.lib.instance import BIN, Instance, other_user, run
from tests.lib.postfix import Postfix, needs_postfix
from tests.lib.sink import Sink
from tests.lib.tap import Tap
from tests.lib.wait import until

pytestmark = [pytest.mark.system, pytest.mark.peer]

REFUSE = "smtpd_recipient_restrictions = check_recipient_access inline:{no@far.test=REJECT}, permit\n"
DOTS = b".\r\n..\r\n.x\r\nQUIT\r\n.\r\n"


class Chain:
    """meta1g, what it says, Postfix, and what that delivers."""

    def __init__(self, server: Instance, tap: Tap, sink: Sink) -> None:
        self.server = server
        self.tap = tap
        self.sink = sink

    def send(self, body: bytes, *rcpts: str, options: tuple[str, ...] = ()) -> None:
        """Send, and wait until meta1g has nothing more to do; the log of what it said begins anew."""
        self.tap.said.clear()
        self.sink.messages.clear()
        with smtplib.SMTP("127.0.0.1", self.server.port, timeout=30) as smtp:
            smtp.sendmail("a@far.test", rcpts or ["x@far.test"], b"Subject: x\r\n\r\n" + body, options)
        until(self.server.is_empty)

    def received(self, count: int = 1) -> list[bytes]:
        """Bodies of what arrived, without transparency dots."""
        until(lambda: len(self.sink.messages) >= count)
        return [message.partition(b"\r\n\r\n")[2].replace(b"\r\n.", b"\r\n").removeprefix(b".")
                for message in self.sink.messages]


@pytest.fixture(scope="module")
def chain() -> Iterator[Chain]:
    needs_postfix()
    sink = Sink()
    with Postfix(sink.port, extra=REFUSE) as postfix:
        tap = Tap(postfix.port)
        server = Instance("out.test", user=other_user())
        server.edit("\nsmtpc {", "\nsmtpc {\n  session_features old { flags = { -chunking } }")
        server.edit("qmgr {", "qmgr {\n  DSN_handling { merge_delay_max = 1; }")
        server.add("mt", f"far.test {{ port={tap.port}; ip={{127.0.0.1}} }}\n"
                         f"old.test {{ port={tap.port}; ip={{127.0.0.5}} }}\n")
        server.add("access", "to:@far.test relay\nto:@old.test relay\n")
        run(BIN / "meta1g", "createmap", "-F", server.base / "etc" / "qmgr_conf.db",
            input="smtpc_session_conf:127.0.0.5 session_feature = old;\n")
        with server:
            yield Chain(server, tap, sink)
        tap.close()
    sink.close()


def test_a_small_message_is_one_flight(chain: Chain) -> None:
    chain.send(DOTS)
    assert chain.received() == [DOTS]
    (flight,) = [piece.octets for piece in chain.tap.said if b"MAIL FROM" in piece.octets]
    assert b"\r\nRCPT TO:<x@far.test>\r\nBDAT " in flight
    assert flight.endswith(b"\r\n\r\n" + DOTS), "without transparency dots, and without a final one"


@pytest.mark.parametrize("size", [20_000, 200_000, 4_000_000])
def test_larger_ones_wait_for_a_recipient(chain: Chain, size: int) -> None:
    body = (b".line\r\n" + b"x" * 66 + b"\r\n.\r\n") * (size // 78)
    chain.send(body)
    assert chain.received() == [body]
    said = chain.tap.by_client()
    assert b"DATA\r\n" not in said
    assert said.count(b"BDAT ") == max(1, -(-size // (250 << 10))), "few chunks"


def test_one_of_two_recipients_is_refused(chain: Chain) -> None:
    chain.send(DOTS, "x@far.test", "no@far.test")
    assert b"Undelivered" not in chain.received(2)[0]
    assert DOTS in chain.received(2)
    assert any(b"<no@far.test>" in body and b"Access denied" in body for body in chain.received(2)), "the report"


def test_a_flight_for_nobody_and_the_next_one(chain: Chain) -> None:
    chain.send(DOTS, "no@far.test")
    assert b"<no@far.test>" in chain.received()[0], "the report"
    assert b"554 5.5.1 Error: no valid recipients" in chain.tap.by_server()
    assert b"RSET\r\n" in chain.tap.by_client()
    connections = chain.tap.connections
    chain.send(DOTS)
    assert chain.received() == [DOTS]
    assert chain.tap.connections == connections, "the session goes on"


def test_8_bits(chain: Chain) -> None:
    chain.send("grün\r\n".encode(), options=("BODY=8BITMIME",))
    assert b" BODY=8BITMIME" in chain.tap.by_client()
    (body,) = chain.received()
    assert body == "grün\r\n".encode() or b"gr=C3=BCn" in body, "the sink takes both"


def test_it_can_be_switched_off(chain: Chain) -> None:
    chain.send(DOTS, "x@old.test")
    assert chain.received() == [DOTS]
    assert b"\r\nDATA\r\n" in chain.tap.by_client()
    assert b"BDAT" not in chain.tap.by_client()
