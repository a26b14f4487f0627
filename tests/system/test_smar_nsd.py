"""SMAR against real nameservers: nsd with zones of its own, and nsd behind a validating unbound."""
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from meta1g.mta.dane import Tlsa
from meta1g.proto.msg_ar import CheckConnect, CheckMail, Resolve
from meta1g.smar.ask import DnsAnswer, DnsAsk, Rtype, Status
from meta1g.smar.cache import TtlCache
from meta1g.smar.dnsq import DnsConf, DnsThread
from tests.lib.realdns import Nsd, Unbound, needs_servers, sign
from tests.lib.smarproc import Smar

pytestmark = [pytest.mark.system, pytest.mark.peer]

HEAD = "$TTL 120\n@ SOA ns.nsd.test. hostmaster.nsd.test. 1 3600 600 86400 30\n@ NS ns.nsd.test.\n"
ZONE = f"""{HEAD}
@ MX 20 mx2
@ MX 10 mx1
ns A 127.0.0.1
mx1 A 192.0.2.1
mx1 AAAA 2001:db8::1
mx2 A 192.0.2.2
alias CNAME chain
chain CNAME @
only A 192.0.2.3
six MX 10 mx6
mx6 AAAA 2001:db8::6
null MX 0 .
ip MX 10 192.0.2.7.
loop MX 10 host.my.dom.
dead MX 10 nowhere
halfdead MX 10 mx.broken.test.
l1 CNAME l2
l2 CNAME l1
*.wild MX 10 mx1
""" + "".join(f"many MX {n} m{n}\nm{n} A 192.0.2.{n}\n" for n in range(200))
REVERSE = f"{HEAD}1 PTR mx1.nsd.test.\n2 PTR only.nsd.test.\n4 PTR mx.broken.test.\n"
LIST = f"{HEAD}1.2.0.192 A 127.0.0.2\n*.100.51.198 A 127.0.0.4\n{'.'.join('1' + '0' * 23 + '8bd01002')} A 127.0.0.2\n"
ZONES = {"nsd.test": ZONE, "2.0.192.in-addr.arpa": REVERSE, "bl.test": LIST, "broken.test": ""}


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    needs_servers("nsd")
    with Nsd(tmp_path_factory.mktemp("nsd"), ZONES) as nsd:
        yield nsd.port


@pytest.fixture
def smar(tmp_path: Path, port: int) -> Iterator[Smar]:
    made = Smar(tmp_path, port, mt="via.test nsd.test\n")
    made.map("access.db", {"mxbadip:192.0.2.2": "error:551 5.7.1 Bad IP address in MX/A list"})
    with made:
        yield made


CASES = [
    (b"nsd.test", 0, {"192.0.2.1", "2001:db8::1", "192.0.2.2"}),
    (b"alias.nsd.test", 0, {"192.0.2.1", "2001:db8::1", "192.0.2.2"}),
    (b"via.test", 0, {"192.0.2.1", "2001:db8::1", "192.0.2.2"}),
    (b"only.nsd.test", 0, {"192.0.2.3"}),
    (b"six.nsd.test", 0, {"2001:db8::6"}),
    (b"x.wild.nsd.test", 0, {"192.0.2.1", "2001:db8::1"}),
    (b"none.nsd.test", 550, set()),
    (b"null.nsd.test", 556, set()),
    (b"ip.nsd.test", 550, set()),
    (b"loop.nsd.test", 554, set()),
    (b"dead.nsd.test", 550, set()),
    (b"halfdead.nsd.test", 451, set()),
    (b"l1.nsd.test", 451, set()),
    (b"broken.test", 451, set()),  # SERVFAIL
    (b"other.test", 451, set()),  # REFUSED: permanent for a blacklist, but mail waits
]


def test_routes(smar: Smar) -> None:
    client = smar.connect()
    for domain, code, ips in CASES:
        (target,) = client.ask(Resolve(20, True, b"u@" + domain)).targets
        assert (domain, target.code, {hop.ip for hop in target.hops}) == (domain, code, ips)
        if not code:
            assert 0 < target.ttl <= 120


def test_order_of_preference(smar: Smar) -> None:
    (target,) = smar.connect().ask(Resolve(20, True, b"u@nsd.test")).targets
    assert [hop.name for hop in target.hops] == ["mx1.nsd.test", "mx1.nsd.test", "mx2.nsd.test"]


def test_truncated_answer(smar: Smar) -> None:
    (target,) = smar.connect().ask(Resolve(20, True, b"u@many.nsd.test")).targets
    assert [hop.name for hop in target.hops] == [f"m{n}.nsd.test" for n in range(64)]  # mx.MX_MAX


def test_checks(smar: Smar) -> None:
    client = smar.connect()
    found = client.ask(CheckConnect(1, "192.0.2.1"))
    assert (found.resolve, found.client_name) == ("ok", "mx1.nsd.test")
    for ip, resolve in (("192.0.2.2", "no"), ("192.0.2.9", "no"), ("192.0.2.4", "tempa"), ("198.51.100.1", "tempptr")):
        assert (ip, client.ask(CheckConnect(1, ip)).resolve) == (ip, resolve)
    for domain, code in ((b"only.nsd.test", 0), (b"nsd.test", 551), (b"none.nsd.test", 553), (b"other.test", 451),
                         (b"ip.nsd.test", 553), (b"null.nsd.test", 550), (b"broken.test", 451)):
        assert (domain, client.ask(CheckMail(True, False, "", b"u@" + domain)).code) == (domain, code)


RULES = {"bl:127.0.0.2": "error:550 5.7.1 listed as open relay", "bl:127.0.0.4": "cont",
         "slow:temp": "error:451 4.7.1 slow", "gone:perm": "error:550 5.7.1 gone", "gone:temp": "error:451 4.7.9 no"}


@pytest.mark.parametrize(("lists", "found"), [
    ("bl", {"192.0.2.1": "listed as open relay", "192.0.2.2": "", "198.51.100.7": "",
            "2001:db8::1": "listed as open relay"}),
    ("gone bl", {"192.0.2.1": "gone", "192.0.2.2": "gone"}),
    ("bl slow gone", {"192.0.2.1": "listed as open relay", "192.0.2.2": "slow", "198.51.100.7": "slow"}),
])
def test_blacklists(tmp_path: Path, port: int, lists: str, found: dict[str, str]) -> None:
    domains = {"bl": "bl.test", "slow": "broken.test", "gone": "other.test"}
    extra = "".join(f"dnsbl {{ domain = {domains[tag]}; tag = {tag}; }} " for tag in lists.split())
    smar = Smar(tmp_path, port, extra=extra)
    smar.map("access.db", RULES)
    with smar:
        client = smar.connect()
        assert {ip: client.ask(CheckConnect(1, ip)).text for ip in found} == found


def test_silent_nameserver(tmp_path: Path, port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        smar = Smar(tmp_path, silent.getsockname()[1], extra="dnsbl { domain = bl.test; tag = slow; }")
        smar.map("access.db", RULES)
        with smar:
            client = smar.connect()
            tags = client.send(Resolve(20, True, b"u@nsd.test"), CheckConnect(1, "192.0.2.1"),
                               CheckMail(True, False, "", b"u@nsd.test"))
            while not all(tag in client.waiting for tag in tags):
                client.receive()
            route, connect, mail = [client.waiting[tag] for tag in tags]
            assert (route.targets[0].code, mail.code) == (451, 451)
            assert (connect.resolve, connect.text) == ("tempptr", "slow")


def test_many_at_once(smar: Smar) -> None:
    client = smar.connect()
    begin, cpu = time.monotonic(), smar.cpu_seconds()
    tags = client.send(*[Resolve(30, True, b"u@h%d.wild.nsd.test" % n) for n in range(3000)])
    while not all(tag in client.waiting for tag in tags):
        client.receive()
    taken, cpu = time.monotonic() - begin, smar.cpu_seconds() - cpu
    print(f"\nuncached: {3000 / taken:.0f} a second, {cpu / 3000 * 1e6:.0f} microseconds of processor time each")
    assert {client.waiting[tag].targets[0].code for tag in tags} == {0}


# behind a validating resolver

TLSA = "3 1 1 " + "ab" * 32
SIGNED = f"""$TTL 120
@ SOA ns hostmaster 1 3600 600 86400 30
@ NS ns
ns A 127.0.0.1
@ MX 10 mx
mx A 192.0.2.1
_25._tcp.mx TLSA {TLSA}
alias CNAME mx
out CNAME only.nsd.test.
www A 192.0.2.65
"""
Ask = Callable[..., DnsAnswer]


@contextmanager
def asking(port: int, *, use_dnssec: bool = True) -> Iterator[Ask]:
    cache: TtlCache[DnsAnswer] = TtlCache(1000)
    conf = DnsConf((("127.0.0.1", port),), 5.0, 1, use_dnssec=use_dnssec, trusted=frozenset({"127.0.0.1"}))
    thread = DnsThread(conf, cache, time.monotonic, random.SystemRandom())
    thread.start()

    def ask(name: str, rtype: int = Rtype.A) -> DnsAnswer:
        answers: list[DnsAnswer] = []
        ready = threading.Event()

        def done(answer: DnsAnswer) -> None:
            answers.append(answer)
            ready.set()

        thread.ask(DnsAsk(name, rtype), done)
        assert ready.wait(20)
        return answers[0]

    try:
        yield ask
    finally:
        thread.stop()


@pytest.fixture(scope="module")
def resolver(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[int]:
    needs_servers("nsd", "unbound", "ldns-keygen", "ldns-signzone")
    folder = tmp_path_factory.mktemp("signed")
    good, good_key = sign(folder, "sec.test", SIGNED)
    bogus, bogus_key = sign(folder, "bogus.test", SIGNED)
    zones = {"sec.test": good, "bogus.test": bogus.replace("192.0.2.65", "192.0.2.66")}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent, Nsd(folder / "nsd", zones) as nsd:
        silent.bind(("127.0.0.1", 0))
        stubs = {"sec.test": nsd.port, "bogus.test": nsd.port, "nsd.test": port, "silent.test": silent.getsockname()[1]}
        with Unbound(folder / "unbound", stubs, [good_key, bogus_key]) as unbound:
            yield unbound.port


def test_validated(resolver: int) -> None:
    with asking(resolver) as ask:
        found = ask("mx.sec.test")
        assert (found.records, found.is_secure) == (("192.0.2.1",), True)
        assert ask("sec.test", Rtype.MX).is_secure
        found = ask("_25._tcp.mx.sec.test", Rtype.TLSA)
        assert (found.tlsa, found.is_secure) == ((Tlsa(3, 1, 1, b"\xab" * 32),), True)
        for name, status in (("nowhere.sec.test", Status.NXDOMAIN), ("mx.sec.test", Status.NODATA)):
            found = ask(name, Rtype.TLSA)
            assert (found.status, found.is_secure) == (status, True)  # RFC 7672 2.1: proof that there is none
        found = ask("alias.sec.test")
        assert (found.records, found.is_secure, found.alias) == (("192.0.2.1",), True, "mx.sec.test")


def test_not_validated(resolver: int, port: int) -> None:
    with asking(resolver) as ask:
        found = ask("only.nsd.test")
        assert (found.records, found.is_secure) == (("192.0.2.3",), False)
        found = ask("out.sec.test")  # the chain leaves the signed zone
        assert (found.records, found.is_secure) == (("192.0.2.3",), False)
    with asking(resolver, use_dnssec=False) as ask:
        assert not ask("mx.sec.test").is_secure
    with asking(port) as ask:  # an authoritative server does not validate
        assert not ask("only.nsd.test").is_secure


def test_bogus_is_a_failure(resolver: int) -> None:
    with asking(resolver) as ask:
        found = ask("www.bogus.test")
        assert (found.status, found.records, found.is_refused) == (Status.TEMP, (), False)
        assert ask("mx.bogus.test").is_secure  # the rest of the zone is as it was signed


def test_process_behind_a_resolver(tmp_path: Path, resolver: int) -> None:
    extra = "dnsbl { domain = silent.test; tag = slow; }"
    smar = Smar(tmp_path, resolver, extra=extra, dns="Use_DNSSEC = true;")
    smar.map("access.db", RULES)
    with smar:
        client = smar.connect()
        for domain, code in ((b"sec.test", 0), (b"alias.sec.test", 0), (b"www.bogus.test", 451), (b"nsd.test", 0)):
            assert (domain, client.ask(Resolve(20, True, b"u@" + domain)).targets[0].code) == (domain, code)
        assert client.ask(CheckConnect(1, "192.0.2.1")).text == "slow"  # unbound waits longer than we do
