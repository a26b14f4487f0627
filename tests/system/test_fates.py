"""What becomes of mail that can't be delivered at once or at all; mailq and qmgrctl say what client and servers saw."""
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lib.dovecot import Dovecot, needs_dovecot
from tests.lib.instance import BIN, Instance, free_port, run
from tests.lib.sink import Sink
from tests.lib.wait import until

pytestmark = pytest.mark.system

EXTRA = """retry_delay_min = 1; retry_delay_max = 1; queue_return { default = 6; }
  double_bounce_address = postmaster@local.test; DSN_handling { merge_delay_max = 2; }"""
HOST = "127.0.0.1"


@pytest.fixture
def server() -> Iterator[Instance]:
    made = Instance("local.test", EXTRA)
    made.add("access", "to:@far.test relay\nto:@other.test relay\n")
    yield made
    made.__exit__()


@pytest.fixture
def sinks() -> Iterator[list[Sink]]:
    made = [Sink(), Sink()]
    yield made
    for sink in made:
        sink.close()


def route(server: Instance, **ports: int) -> None:
    """Where these domains of test go; before a start or with the next reload."""
    mt = server.base / "etc" / "mt"
    kept = [line for line in mt.read_text().splitlines(True) if not line.startswith(tuple(ports))]
    mt.write_text("".join(kept) + "".join(f"{name}.test {{ port={port}; ip={{{HOST}}} }}\n"
                                          for name, port in ports.items()))


def status(server: Instance) -> Any:
    return json.loads(run(BIN / "meta1g", "qmgrctl", "-f", server.conf, "status", "--json").stdout)


def waiting(server: Instance) -> int:
    """Recipients that QMGR has, whether they wait or are being tried."""
    queues = status(server)["queues"]
    return int(queues["aq"] + queues["deferred"])


def counted(server: Instance, *names: str) -> list[int]:
    """Counters, once nothing is left in the queue."""
    until(server.is_empty)
    until(lambda: server.queue() == [], 5, "mailq, which reads the disk, agrees soon")
    counters = status(server)["counters"]
    return [counters[name] for name in names]


def reports(server: Instance, user: str) -> list[str]:
    texts = [path.read_text("utf-8", "replace") for path in server.mail(user)]
    return [text for text in texts if text.startswith("Return-Path: <>")]


def test_it_waits_and_then_comes_back(server: Instance, sinks: list[Sink]) -> None:
    """Deferral, which mailq shows with its reason and tries, and expiry (queue_return)."""
    sinks[0].refuse, sinks[0].reply = True, b"450 4.2.1 come back later\r\n"
    route(server, far=sinks[0].port)
    server.start()
    server.send("late@far.test", sender="nobody@local.test")
    (message,) = until(lambda: [m for m in server.queue() if m["recipients"][0]["tries"] >= 2], 20, "it is tried again")
    (rcpt,) = message["recipients"]
    assert (message["store"], rcpt["address"]) == ("defedb", "late@far.test")
    assert "450 4.2.1 come back later" in rcpt["reason"]
    assert waiting(server) == 1
    (report,) = until(lambda: reports(server, "nobody"), 20, "it comes back")
    assert "<late@far.test>" in report
    assert "come back later" in report
    assert counted(server, "delivered", "bounced") == [1, 1], "the report was delivered"
    assert status(server)["counters"]["deferred"] >= 2
    assert not any(sinks[0].messages)


def test_a_report_that_fails_goes_to_the_postmaster(server: Instance, sinks: list[Sink]) -> None:
    sinks[0].refuse, sinks[0].reply = True, b"550 5.1.1 no\r\n"
    route(server, far=sinks[0].port)
    server.start()
    server.send("gone@far.test", "Subject: first\n\nx\n", sender="gone.too@far.test")
    (report,) = until(lambda: reports(server, "postmaster"), 20, "the double bounce arrives")
    assert "gone.too@far.test" in report
    assert counted(server, "delivered", "bounced") == [1, 2]


def test_failures_share_a_report(server: Instance, sinks: list[Sink]) -> None:
    """Two sites refuse one recipient each, a third recipient gets the mail: one report tells of both."""
    for sink in sinks:
        sink.refuse, sink.reply = True, b"550 5.1.1 no\r\n"
    route(server, far=sinks[0].port, other=sinks[1].port)
    server.start()
    server.send(["a@far.test", "b@other.test", "root@local.test"], sender="nobody@local.test")
    (report,) = until(lambda: reports(server, "nobody"), 20, "the report")
    assert "<a@far.test>" in report
    assert "<b@other.test>" in report
    assert "<root@local.test>" not in report
    assert counted(server, "delivered", "bounced") == [2, 2]
    assert len(reports(server, "nobody")) == 1
    assert len(server.mail("root")) == 1


def test_a_route_that_changes_while_mail_waits(server: Instance, sinks: list[Sink]) -> None:
    server.edit("queue_return { default = 6; }", "queue_return { default = 1h; }")
    server.edit("retry_delay_min = 1; retry_delay_max = 1;", "retry_delay_min = 10m; retry_delay_max = 1h;")
    route(server, far=free_port())
    server.start()
    server.send("x@far.test", "X-Number: moved\n\nx\n")
    until(lambda: any("refused" in m["recipients"][0]["reason"] for m in server.queue()), 20, "it waits")
    route(server, far=sinks[1].port)
    server.ctl("reload")
    assert len(server.queue()) == status(server)["queues"]["deferred"] == 1, "a reload alone tries nothing"
    server.flush()
    until(lambda: sinks[1].seen["moved"] == 1 or status(server)["counters"]["deferred"] == 2, 20, "it is tried")
    assert sinks[1].seen["moved"] == 1, "it takes the new way"
    assert counted(server, "delivered", "bounced") == [1, 0]
    assert sinks[0].messages == []


def test_a_list_with_many_members(server: Instance, sinks: list[Sink]) -> None:
    """An alias to 500 addresses at two sites: each gets the mail once; QMGR counts them."""
    seen = [_rcpts(sink) for sink in sinks]
    route(server, far=sinks[0].port, other=sinks[1].port)
    members = [f"<u{n}@{'far' if n % 2 else 'other'}.test>" for n in range(500)]
    server.add("aliases", f"many: {' '.join(members)}\n")
    server.start()
    server.send("many@local.test")
    until(lambda: sum(map(len, seen)) == 500, 30, "all have it")
    assert counted(server, "delivered", "bounced") == [500, 0]
    assert sorted(rcpt for found in seen for rcpt in found) == sorted(members)
    assert all("@far" in rcpt for rcpt in seen[0])


def _rcpts(sink: Sink) -> list[str]:
    """A list that grows with every recipient that the sink is told of."""
    found: list[str] = []
    sink.on_rcpt = lambda line: found.append(re.findall("<.*?>", line)[0])
    return found


@pytest.mark.peer
def test_dovecot_takes_mail_and_refuses_a_recipient_after_the_content(server: Instance) -> None:
    """LMTP: a recipient over quota fails after the content, the other one has the mail (RFC 2033 4.2)."""
    needs_dovecot()
    with Dovecot() as dovecot:
        server.add("mt", f"dove.test {{ protocol=lmtp; port={dovecot.port}; ip={{{HOST}}} }}\n")
        server.add("aliases", "good: local:\nfull: local:\n")
        server.start()
        text = "Subject: to both\n\n.dot\n..\nlast\n"
        server.send(["good@dove.test", "full@dove.test"], text, sender="nobody@local.test")
        (report,) = until(lambda: reports(server, "nobody"), 30, "the report")
        assert "<full@dove.test>" in report
        assert "<good@dove.test>" not in report
        assert "552 5.2.2" in report
        assert "Quota exceeded" in report
        assert counted(server, "delivered", "bounced") == [2, 1]
        (mail,) = dovecot.mail("good")
        assert mail.endswith("\n\n.dot\n..\nlast\n")
        assert dovecot.mail("full") == []
        (line,) = [line for line in server.log("smtpc").splitlines() if "rcpt=<full@dove.test>" in line]
        assert ", where=final_dot, " in line, "after the content"
