"""DANE: zones signed by ldns on a real nsd behind a validating unbound, real processes, servers with certificates."""
import hashlib
import json
import re
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.lib.certs import Signed, sign
from tests.lib.instance import BIN, Instance, other_user, run
from tests.lib.realdns import Nsd, Unbound, needs_servers
from tests.lib.realdns import sign as sign_zone
from tests.lib.sink import Sink
from tests.lib.wait import until

pytestmark = [pytest.mark.system, pytest.mark.peer]
ROOT = sign("Test CA", is_ca=True)
BETWEEN = sign("Between", ROOT, is_ca=True)
SERVER = sign("", BETWEEN, hosts=("mx.ta.sec.test", "*.wild.sec.test"))
SELF = sign("nobody.knows", days=-3)  # and expired
OTHER = sign("Other", is_ca=True)


def tlsa(usage: int, selector: int, matching: int, signed: Signed) -> str:
    octets = (signed.cert.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) if selector
              else signed.cert.public_bytes(Encoding.DER))
    hashed = {0: octets, 1: hashlib.sha256(octets).digest(), 2: hashlib.sha512(octets).digest()}
    return f"TLSA {usage} {selector} {matching} {hashed[matching].hex()}"


class Case:
    """A domain: its records, the server, and whether mail gets there, with which `verify`."""

    def __init__(self, server: str, records: str, verify: str = "", reply: str = "") -> None:
        self.server, self.records, self.verify, self.reply = server, records, verify, reply


def host(name: str, *records: str) -> str:
    """A domain with one MX host and TLSA records for it at the server's port, which stands for PORT."""
    return f"{name} MX 10 mx.{name}\nmx.{name} A 127.0.0.1\n" + "".join(
        f"_PORT._tcp.mx.{name} {record}\n" for record in records)


CASES = {
    "ee": Case("self", host("ee", tlsa(3, 1, 1, SELF)), "DANE_SEC"),
    "ee0": Case("self", host("ee0", tlsa(3, 0, 2, SELF)), "DANE_SEC"),
    "full": Case("self", host("full", tlsa(3, 1, 0, SELF)), "DANE_SEC"),
    "roll": Case("self", host("roll", tlsa(3, 1, 1, OTHER), tlsa(3, 1, 1, SELF)), "DANE_SEC"),
    "bad": Case("self", host("bad", tlsa(3, 1, 1, OTHER)), reply="no TLSA record of mx.bad.sec.test matches"),
    "plain": Case("plain", host("plain", tlsa(3, 1, 1, SELF)), reply="TLS is required for mx.plain.sec.test"),
    "none": Case("self", host("none"), "FAIL"),
    "noneplain": Case("plain", host("noneplain")),
    "unusable": Case("self", host("unusable", tlsa(1, 1, 1, SELF)), "FAIL"),
    "unusableplain": Case("plain", host("unusableplain", tlsa(0, 1, 1, SELF)), reply="TLS is required"),
    "ta": Case("chain", host("ta", tlsa(2, 0, 1, BETWEEN)), "DANE_SEC"),
    "taroot": Case("chain", host("taroot", tlsa(2, 1, 1, ROOT)), reply="certificate is for other hosts than mx.taroot"),
    "a.wild": Case("chain", "a.wild MX 10 b.wild\nb.wild A 127.0.0.1\n_PORT._tcp.b.wild " + tlsa(2, 1, 2, ROOT) + "\n",
                   "DANE_SEC"),
    "notours": Case("chain", host("notours", tlsa(2, 0, 0, OTHER)), reply="trust anchor of mx.notours.sec.test"),
    "cname": Case("chain", "cname MX 10 alias\nalias CNAME mx.ta\n", "DANE_SEC"),
    "cname2": Case("self", "cname2 MX 10 alias2\nalias2 CNAME mx.none\n_PORT._tcp.alias2 " + tlsa(3, 1, 1, SELF) + "\n",
                   "DANE_SEC"),
    "tlsacname": Case("self", host("tlsacname") + "_PORT._tcp.mx.tlsacname CNAME _PORT._tcp.mx.ee\n", "DANE_SEC"),
    "bare": Case("self", "bare A 127.0.0.1\n_PORT._tcp.bare " + tlsa(3, 1, 1, SELF) + "\n", "DANE_SEC"),
    "name": Case("named", host("name", tlsa(3, 1, 1, SELF)), "DANE_SEC"),  # who asks for another name sees OTHER
    "name2": Case("named", host("name2", tlsa(3, 1, 1, SELF)), reply="no TLSA record of mx.name2.sec.test"),
    "next": Case("self", "next MX 10 mx.bad\nnext MX 20 mx.ee\n", "DANE_SEC"),
    "nextbogus": Case("self", "nextbogus MX 10 mx.ee.bogus.test.\nnextbogus MX 20 mx.ee\n", "DANE_SEC"),
    "mx": Case("self", "mx MX 10 mx.ee.insecure.test.\n", "FAIL"),  # a host nobody vouches for
}
INSECURE = host("ee", tlsa(3, 1, 1, OTHER))
BOGUS = host("ee", tlsa(3, 1, 1, SELF)) + host("none")


class World:
    """A resolver, an instance that believes it, and servers."""

    def __init__(self, folder: Path) -> None:
        self.sinks = {"self": Sink(tls=SELF.context(folder, "self", with_chain=True)), "plain": Sink(),
                      "chain": Sink(tls=SERVER.context(folder, "chain", with_chain=True)),
                      "named": Sink(tls=named(folder))}
        head = "$TTL 120\n@ SOA ns hostmaster 1 3600 600 86400 30\n@ NS ns\nns A 127.0.0.1\n"
        ports = {name: str(sink.port) for name, sink in self.sinks.items()}
        good, good_key = sign_zone(folder, "sec.test", head + "".join(
            case.records.replace("PORT", ports[case.server]) for case in CASES.values()))
        broken = head + BOGUS.replace("PORT", ports["self"])
        bogus, bogus_key = sign_zone(folder, "bogus.test", broken)
        late, late_key = sign_zone(folder, "late.test", broken, "-i", "20200101", "-e", "20200201")
        zones = {"sec.test": good, "late.test": late, "insecure.test": "$ORIGIN insecure.test.\n" + head +
                 INSECURE.replace("PORT", ports["self"]), "bogus.test": tampered(bogus)}
        self.nsd = Nsd(folder / "nsd", zones)
        self.unbound = Unbound(folder / "unbound", dict.fromkeys(zones, self.nsd.port), [good_key, bogus_key, late_key])
        self.mail = made = Instance("mail.test", user=other_user())
        made.edit("\nsmar {", f"\nsmar {{ DNS {{ nameservers = {{ 127.0.0.1 }}; port = {self.unbound.port}; "
                              "Use_DNSSEC = true; }\n")
        made.edit("\nqmgr {", "\nqmgr {\n  retry_delay_min = 10m; retry_delay_max = 1h;\n")
        for name, case in CASES.items():
            made.add("mt", f"{name}.sec.test {{ host={name}.sec.test; port={ports[case.server]}; }}\n")
        for name in ("ee.bogus.test", "none.bogus.test", "ee.late.test", "ee.insecure.test"):
            made.add("mt", f"{name} {{ host={name}; port={ports['self']}; }}\n")
        made.add("access", "to:@.test relay\n")

    def send(self, domain: str, server: str) -> Sink:
        sink = self.sinks[server]
        sink.messages.clear()
        sink.versions.clear()
        self.mail.send(f"u@{domain}", f"Subject: {domain}\n\nx\n", sender="root@mail.test")
        return sink

    def waits(self, domain: str, reply: str) -> None:
        """A recipient is deferred with this reply, and ended then."""
        until(lambda: any(reply in json.dumps(one) for one in self.mail.queue() if domain in json.dumps(one)), 30,
              f"{domain}: {reply}")
        run(BIN / "meta1g", "qmgrctl", "-f", self.mail.conf, "delete", "--to", f"u@{domain}")
        until(self.mail.is_empty, 30)

    def handshakes(self) -> list[str]:
        """What SMTPC's log says of them."""
        return re.findall(r"starttls=TLSv.*", self.mail.log("smtpc"))


def named(folder: Path) -> ssl.SSLContext:
    """A server that shows one certificate by a name, and another to everybody else."""
    made, by_name = OTHER.context(folder, "other", with_chain=True), SELF.context(folder, "named", with_chain=True)

    def choose(sock: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        if name == "mx.name.sec.test":
            sock.context = by_name

    made.sni_callback = choose
    return made


def tampered(zone: str) -> str:
    """A signed zone whose TLSA records are others: the signatures over them are wrong."""
    digest = tlsa(3, 1, 1, SELF).split()[-1]
    assert digest in zone.lower()
    return re.sub(digest, "ab" * 32, zone, flags=re.IGNORECASE)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    needs_servers("nsd", "unbound", "ldns-keygen", "ldns-signzone")
    made = World(tmp_path_factory.mktemp("dane"))
    with made.nsd, made.unbound, made.mail:
        yield made
    for sink in made.sinks.values():
        sink.close()


@pytest.mark.parametrize("name", CASES)
def test_case(world: World, name: str) -> None:
    case, before = CASES[name], len(world.handshakes())
    sink = world.send(f"{name}.sec.test", case.server)
    if case.reply:
        world.waits(f"{name}.sec.test", f"451 4.7.5 DANE: {case.reply}")
        assert sink.messages == []
        return
    until(lambda: len(sink.messages) == 1, 30)
    until(world.mail.is_empty, 30)
    if case.verify:
        fresh = world.handshakes()[before:]
        assert not fresh or f"verify={case.verify}," in fresh[-1]
        assert f"verify={case.verify}," in "".join(world.handshakes())


@pytest.mark.parametrize("domain", ["ee.bogus.test", "ee.late.test"])
def test_bogus_and_expired(world: World, domain: str) -> None:
    """Somebody has changed the records, or the signatures have expired: mail waits, and nobody is asked to take it."""
    sink = world.send(domain, "self")
    world.waits(domain, "451 4.7.5 DANE: TLSA lookup of" if "bogus" in domain else "451 4.4.3 DNS lookup for")
    assert sink.versions == []


def test_insecure_records_are_not_believed(world: World) -> None:
    sink = world.send("ee.insecure.test", "self")
    until(lambda: len(sink.messages) == 1, 30)


def test_nothing_in_plain(world: World) -> None:
    """No server without TLS, or with the wrong certificate, has heard of a recipient."""
    seen: list[str] = []
    for sink in world.sinks.values():
        sink.on_rcpt = seen.append
    for name in ("plain", "bad"):
        world.send(f"{name}.sec.test", CASES[name].server)
        world.waits(f"{name}.sec.test", "451 4.7.5 DANE: ")
    assert seen == []


def test_recipients_of_several_domains_at_one_address(world: World) -> None:
    """One message: each recipient is judged by the records of its own domain."""
    sink = world.sinks["self"]
    sink.messages.clear()
    rcpts = ["u@ee.sec.test", "u@bad.sec.test", "u@none.sec.test"]
    world.mail.send(rcpts, "Subject: x\n\nx\n", sender="root@mail.test")
    until(lambda: len(sink.messages) == 2, 30)
    world.waits("bad.sec.test", "no TLSA record of mx.bad.sec.test matches")


def test_names_at_one_address(world: World) -> None:
    """A message for both: each gets a session of its own, and only one of them the right certificate."""
    sink = world.sinks["named"]
    sink.messages.clear()
    world.mail.send(["u@name2.sec.test", "u@name.sec.test"], "Subject: x\n\nx\n", sender="root@mail.test")
    until(lambda: len(sink.messages) == 1, 30)
    world.waits("name2.sec.test", "no TLSA record of mx.name2.sec.test matches")


def test_broken_tls_is_not_left_out(world: World, tmp_path: Path) -> None:
    """Without TLSA records the mail would go without TLS; and so it does to the same address (M1 14.1)."""
    sink = world.sinks["self"]
    world.mail.wait_idle()
    good, sink.tls = sink.tls, SELF.broken(tmp_path)
    try:
        world.send("ee.sec.test", "self")
        world.waits("ee.sec.test", "451 4.7.5 TLS handshake failed")
        assert sink.versions == ["", ""]
        assert sink.messages == []
        world.send("none.sec.test", "self")
        until(lambda: len(sink.messages) == 1, 30)
        assert sink.versions == []
    finally:
        sink.tls = good


def test_a_session_is_not_taken_up(world: World) -> None:
    """What another certificate proved must not count: each session shows its own."""
    before = len(world.handshakes())
    for _ in range(2):
        sink = world.send("ee.sec.test", "self")
        until(lambda sink=sink: len(sink.messages) == 1, 30)
        until(lambda: json.loads(run(BIN / "meta1g", "qmgrctl", "-f", world.mail.conf, "--json").stdout)[
            "connections"]["smtpc"] == 0, 30, "sessions have ended")
    fresh = world.handshakes()[before:]
    assert len(fresh) >= 1
    assert not any("resumed" in line for line in fresh)


def test_lookup_shows_the_records(world: World) -> None:
    said = run(BIN / "meta1g", "lookup", "route", "u@ee.sec.test", "-f", world.mail.conf).stdout
    record = tlsa(3, 1, 1, SELF).removeprefix("TLSA ")
    assert f"TLSA: ok {record} (TTL" in said
    assert f"mx.ee.sec.test must be as TLSA says: {record} (base mx.ee.sec.test, secure)" in said


def test_never(world: World) -> None:
    """DANE = never, after a reload: mail goes where it did not."""
    world.mail.edit("\nsmar {", "\nsmar { DANE = never;\n")
    world.mail.ctl("reload")
    for name in ("bad", "plain"):
        sink = world.send(f"{name}.sec.test", CASES[name].server)
        until(lambda sink=sink: len(sink.messages) == 1, 30)
    world.mail.edit("\nsmar { DANE = never;\n", "\nsmar {")


def test_always(world: World) -> None:
    """Without DNSSEC records count, but prove nothing."""
    world.mail.edit("\nsmar {", "\nsmar { DANE = always;\n")
    world.mail.edit("Use_DNSSEC = true;", "Use_DNSSEC = false;")
    world.mail.ctl("reload")
    world.send("bad.sec.test", "self")
    world.waits("bad.sec.test", "no TLSA record of mx.bad.sec.test matches")
    sink = world.send("ee.sec.test", "self")
    until(lambda: len(sink.messages) == 1, 30)
    assert "verify=FAIL," in world.handshakes()[-1]
