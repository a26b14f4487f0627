"""SMAR as SMTPS and QMGR see it: a real process, a scripted nameserver."""
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from meta1g.proto.msg_ar import (
    Action,
    CheckConnect,
    CheckMail,
    CheckRcpt,
    Hop,
    Protocol,
    Resolve,
    Statistics,
)
from tests.lib.nameserver import Nameserver
from tests.lib.smarproc import Client, Smar
from tests.lib.wait import until

pytestmark = pytest.mark.system

DNS = {
    "far.dom MX": "20 mx2.far.dom.;10 mx1.far.dom.", "mx1.far.dom A": "192.0.2.1", "mx2.far.dom A": "192.0.2.2",
    "a.dom A": "192.0.2.9", "none.dom MX": "nx", "null.dom MX": "0 .",
    "equal.dom MX": "10 e1.dom.;10 e2.dom.", "e1.dom A": "192.0.2.11", "e2.dom A": "192.0.2.12",
    "1.100.51.198.in-addr.arpa PTR": "mail.good.dom.", "mail.good.dom A": "198.51.100.1",
}
MT = "my.dom lmtp:\nhost.my.dom\tlmtp:\nfixed.dom 2525^esmtp:[192.0.2.50]\nbroken.dom { nonsense }\n"
ACCESS = {
    "cltaddr:10.": "quick:relay", "to:@far.dom": "relay", "from:@a.dom": "error:551 5.7.1 No spammers",
    "to:root": "reject",
}
ALIASES = {"list": "<u1@far.dom> <u2@a.dom> <user@my.dom>", "owner-list": "user", "user": "local:"}


@pytest.fixture
def ns() -> Iterator[Nameserver]:
    with Nameserver(DNS) as server:
        yield server


@pytest.fixture
def smar(tmp_path: Path, ns: Nameserver) -> Iterator[Smar]:
    made = Smar(tmp_path, ns.address[1], mt=MT)
    made.map("access.db", ACCESS)
    made.map("aliases.db", ALIASES)
    with made:
        yield made


def resolve(client: Client, address: bytes, timeout: float = 20.0) -> list[tuple[bytes, int, list[str]]]:
    answer = client.ask(Resolve(timeout, True, address))
    return [(t.address, t.code, [f"{h.ip}:{h.port}" for h in t.hops]) for t in answer.targets]


def test_everything(smar: Smar, ns: Nameserver) -> None:
    client = smar.connect()
    assert resolve(client, b"u@far.dom") == [(b"u@far.dom", 0, ["192.0.2.1:0", "192.0.2.2:0"])]
    assert resolve(client, b"u@fixed.dom") == [(b"u@fixed.dom", 0, ["192.0.2.50:2525"])]
    assert resolve(client, b"u@none.dom") == [(b"u@none.dom", 550, [])]
    assert resolve(client, b"u@null.dom") == [(b"u@null.dom", 556, [])]
    assert resolve(client, b"list@my.dom") == [
        (b"u1@far.dom", 0, ["192.0.2.1:0", "192.0.2.2:0"]), (b"u2@a.dom", 0, ["192.0.2.9:0"]), (b"user@my.dom", 0, [])]
    (target,) = client.ask(Resolve(20, True, b"user@my.dom")).targets
    assert (target.protocol, target.ttl) == (Protocol.LMTP_UNIX, 3600)
    (target,) = client.ask(Resolve(20, True, b"u@far.dom")).targets
    assert target.hops[0] == Hop(0, "192.0.2.1", "mx1.far.dom") and 290 < target.ttl <= 300

    found = client.ask(CheckConnect(1, "198.51.100.1"))
    assert (found.action, found.client_name, found.resolve) == (Action.NONE, "mail.good.dom", "ok")
    found = client.ask(CheckConnect(1, "10.1.2.3"))
    assert (found.action, found.quick, found.resolve) == (Action.RELAY, True, "no")
    assert client.ask(CheckMail(True, False, "", b"u@a.dom")).code == 551
    assert client.ask(CheckMail(False, False, "", b"u@a.dom")).code == 0
    refused = client.ask(CheckMail(True, False, "", b"u@none.dom"))
    assert (refused.code, refused.estat, refused.text) == (553, "5.1.8", "Sender address does not exist")
    found = client.ask(CheckRcpt(True, "", b"", b"user@my.dom"))
    assert (found.is_local, found.exists) == (True, True)
    found = client.ask(CheckRcpt(True, "", b"", b"nobody@my.dom"))
    assert (found.is_local, found.exists) == (True, False)
    assert client.ask(CheckRcpt(True, "", b"", b"x@far.dom")).action == Action.RELAY
    assert client.ask(CheckRcpt(True, "", b"", b"root@my.dom")).code == 550
    assert f"{smar.folder}/mt:4: broken.dom" in smar.log.read_text()

    asked = len(ns.queries)
    assert resolve(client, b"other@far.dom")[0][1] == 0
    assert client.ask(CheckMail(True, False, "", b"other@far.dom")).code == 0
    assert len(ns.queries) == asked
    counts = json.loads(client.ask(Statistics("")).text)
    assert counts["peers"] == 1 and counts["decisions"]["Resolve"] == 7 and counts["dns_cache"]["entries"] > 5
    assert smar.stop() == 0


def test_equal_preference_is_shuffled_per_answer(smar: Smar) -> None:
    client = smar.connect()
    seen = {tuple(resolve(client, b"u@equal.dom")[0][2]) for _ in range(60)}
    assert seen == {("192.0.2.11:0", "192.0.2.12:0"), ("192.0.2.12:0", "192.0.2.11:0")}


def test_reopen(smar: Smar) -> None:
    one, two = smar.connect(), smar.connect()
    assert client_action(one) == Action.RELAY
    assert resolve(one, b"u@new.dom")[0][1] == 550
    smar.map("access.db", {"to:@far.dom": "reject"})
    (smar.folder / "mt").write_text(MT + "new.dom lmtp:\n")
    assert client_action(one) == Action.RELAY  # M1 4.8: until USR1
    smar.process.send_signal(signal.SIGUSR1)
    for client in (one, two):
        assert [message.tags for message in client.news(2)] == ["cltaddr from to", "to"]
    assert client_action(one) == Action.REJECT
    assert resolve(two, b"u@new.dom")[0][1] == 0
    line = next(line for line in smar.wait_for("stats: ").splitlines() if line.startswith("stats: "))
    assert json.loads(line.removeprefix("stats: "))["program"] == "smar"


def client_action(client: Client) -> int:
    action: int = client.ask(CheckRcpt(True, "", b"", b"x@far.dom")).action
    return action


def test_reopen_while_asked_loses_nothing(smar: Smar) -> None:
    client = smar.connect()
    asked = 0
    for turn in range(10):
        tags = client.send(*[CheckRcpt(True, "", b"", b"u%d@far.dom" % n) for n in range(200)])
        smar.map("access.db", {**ACCESS, "turn": str(turn)})
        smar.process.send_signal(signal.SIGUSR1)
        while not all(tag in client.waiting for tag in tags):
            client.receive()
        asked += len(tags)
        assert {client.waiting.pop(tag).action for tag in tags} == {Action.RELAY}
    assert asked == 2000


def test_dead_nameserver_delays_only_who_needs_it(smar: Smar, ns: Nameserver) -> None:
    ns.behave["*"] = ["drop*"]
    client = smar.connect()
    slow = client.send(*[Resolve(20, True, b"u@slow%d.dom" % n) for n in range(100)])
    begin = time.monotonic()
    assert resolve(client, b"u@fixed.dom")[0][1] == 0
    assert client.ask(CheckRcpt(True, "", b"", b"user@my.dom")).exists
    assert time.monotonic() - begin < 0.5
    while not all(tag in client.waiting for tag in slow):
        client.receive()
    assert {client.waiting[tag].targets[0].code for tag in slow} == {451}
    assert time.monotonic() - begin < 8


def test_deadline(tmp_path: Path, ns: Nameserver) -> None:
    ns.behave["*"] = ["drop*"]
    with Smar(tmp_path, ns.address[1], mt=MT, timeout=30) as smar:
        client = smar.connect()
        begin = time.monotonic()
        assert resolve(client, b"u@far.dom", timeout=1.0) == [(b"u@far.dom", 451, [])]
        assert time.monotonic() - begin < 3


def test_missing_maps(tmp_path: Path, ns: Nameserver) -> None:
    with Smar(tmp_path, ns.address[1], mt=MT) as smar:
        client = smar.connect()
        assert client.ask(CheckRcpt(False, "", b"", b"anybody@my.dom")).exists
        refused = client.ask(CheckRcpt(True, "", b"", b"anybody@my.dom"))
        assert (refused.code, refused.estat) == (451, "4.3.0")
        assert f"{tmp_path}/access.db" in smar.log.read_text()
        smar.map("aliases.db", {"known": "local:"})
        smar.process.send_signal(signal.SIGUSR1)
        client.news(2)
        assert not client.ask(CheckRcpt(False, "", b"", b"anybody@my.dom")).exists
        assert client.ask(CheckRcpt(False, "", b"", b"known@my.dom")).exists


def test_mailertable_must_be_there(tmp_path: Path, ns: Nameserver) -> None:
    smar = Smar(tmp_path, ns.address[1])
    (tmp_path / "mt").unlink()
    smar.start(wait=False)
    assert smar.process.wait(15) == 78  # EX_CONFIG
    assert f"read mailertable {tmp_path}/mt" in smar.log.read_text()


def test_peer_that_breaks_the_protocol_or_dies(smar: Smar) -> None:
    bad, good = smar.connect(), smar.connect()
    bad.sock.sendall(b"\xff" * 100)
    dying = smar.connect()
    dying.send(*[Resolve(20, True, b"u@far.dom")] * 500)
    dying.close()
    assert resolve(good, b"u@far.dom")[0][1] == 0


def test_declared_maps_of_all_types(tmp_path: Path, ns: Nameserver) -> None:
    extra = f"""
    map users {{ type = hash; file = "{tmp_path}/users.db"; }}
    map password {{ type = passwd; }}
    map both {{ type = sequence; maps = {{ users, password }}; }}
    map patterns {{ type = regex; file = "{tmp_path}/patterns"; }}
    access_map {{ name = patterns; }}
    local_user_map {{ name = both; }}
    address_delimiter = "/-";
    """
    (tmp_path / "patterns").write_text("/^to:bounce-[0-9]+-[0-9]+@/ei error:550 5.7.1 no numbered bounces\n")
    smar = Smar(tmp_path, ns.address[1], mt=MT, extra=extra)
    smar.map("users.db", {"virtual": "x", "ext-+": "x"})
    with smar:
        client = smar.connect()
        for local, known in ((b"virtual", True), (b"root", True), (b"no.such.user", False), (b"ext-x", True)):
            assert client.ask(CheckRcpt(False, "", b"", local + b"@my.dom")).exists is known
        assert client.ask(CheckRcpt(True, "", b"", b"bounce-1-22@far.dom")).code == 550
        assert client.ask(CheckRcpt(True, "", b"", b"bounce-1@far.dom")).code == 0


def test_cost_of_cached_answers(smar: Smar) -> None:
    client = smar.connect()
    addresses = [b"u%d@far.dom" % n for n in range(100)]
    for address in addresses:
        resolve(client, address)
    begin, count = smar.cpu_seconds(), 0
    for _ in range(60):
        tags = client.send(*[Resolve(20, True, address) for address in addresses] * 2)
        while not all(tag in client.waiting for tag in tags):
            client.receive()
        client.waiting.clear()
        count += len(tags)
    cost = (smar.cpu_seconds() - begin) / count
    print(f"\ncached Resolve: {cost * 1e6:.1f} microseconds of processor time")
    assert cost < 100e-6  # the budget is 50 (design.md 9); room for a loaded machine


def test_fds_max_limits_clients(tmp_path: Path, ns: Nameserver) -> None:
    with Smar(tmp_path, ns.address[1], mt=MT, extra="fds_max = 16;") as smar:
        log = smar.wait_for("clients_max=")
        assert "fds_max=16" in log and "status=fds_max cannot be kept" in log  # it needs more for itself
        limit = int(log.split("clients_max=")[1].split()[0])
        assert 1 <= limit < 20
        clients = [smar.connect() for _ in range(limit)]
        for client in clients:
            assert resolve(client, b"u@fixed.dom")[0][1] == 0
        with pytest.raises(ConnectionError):
            smar.connect().ask(Resolve(20, True, b"u@fixed.dom"))
        assert f"peers={limit}, status=refused, reason=too many connections (fds_max)" in smar.log.read_text()
        soft = smar.limits("Max open files")[0]
        assert soft == int(log.split("used=")[1].split(",")[0]) > len(clients)
        clients.pop().close()
        assert until(lambda: answers(smar))
        assert {resolve(client, b"u@far.dom")[0][1] for client in clients} == {0}


def answers(smar: Smar) -> bool:
    try:
        return resolve(smar.connect(), b"u@fixed.dom")[0][1] == 0
    except ConnectionError:
        return False


def test_threads_grow_from_min_to_max(tmp_path: Path, ns: Nameserver) -> None:
    ns.table.update({f"u{n}.dom MX": "10 mx1.far.dom." for n in range(2000)})
    with Smar(tmp_path, ns.address[1], mt=MT, extra="threads_min = 2; threads_max = 5;") as smar:
        client = smar.connect()
        assert threads(client) == 2
        tags = client.send(*[Resolve(20, True, b"u@u%d.dom" % n) for n in range(2000)])
        while not all(tag in client.waiting for tag in tags):
            client.receive()
        assert 2 <= threads(client) <= 5


def threads(client: Client) -> int:
    found: int = json.loads(client.ask(Statistics("")).text)["threads"]
    return found
