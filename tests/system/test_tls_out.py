"""TLS on the way out: real processes to Python's ssl and to Postfix; requirements met and violated, broken servers."""
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes

from tests.lib.certs import sign
from tests.lib.instance import BIN, Instance, give, other_user, run
from tests.lib.postfix import Postfix, needs_postfix
from tests.lib.sink import Sink
from tests.lib.wait import until

pytestmark = [pytest.mark.system]
ROOT = sign("Test CA", is_ca=True)
MX = sign("mx.good.test", ROOT, hosts=("mx.good.test", "*.more.test"))
CLIENT = sign("mail.test", ROOT)
SELF = sign("self.test")
WANTED = {  # by the local part that the access map has it for
    "encrypted": "flags = { encrypted }; violation = tempfail;",
    "verified": "flags = { verified };",
    "bits": "cipher_bits_min = 512; violation = tempfail;",
    "named": 'common_name = "mx.good.test"; violation = permfail;',
    "issued": 'cert_issuer = "/CN=Test+20CA";',
    "subject": 'cert_subject = "/CN=mx.good.test";',
    "hosts": "hostnames = { other.test, a.more.test };",
    "rooted": 'root_ca_subjects = { "Test+20CA" };',
    "printed": f"cert_fps = {{ {MX.cert.fingerprint(hashes.SHA1()).hex()} }};",
    "delayed": "flags = { verified }; violation = { tempfail, delay };",
}
MET = {name: {"good"} for name in WANTED} | {"encrypted": {"good", "self"}, "bits": set()}


class World:
    """An instance and three servers: a good certificate, one of its own making, no TLS."""

    def __init__(self, folder: Path) -> None:
        self.sinks = {"good": Sink(tls=MX.context(folder, "good")),
                      "self": Sink(tls=SELF.context(folder, "self")), "plain": Sink()}
        self.mail = made = Instance("mail.test", user=other_user())
        etc = made.base / "etc"
        ROOT.write(etc, "ca")
        for path in CLIENT.write(etc, "client"):
            give(path)
        made.edit("\nsmtpc {", f"\nsmtpc {{ tls {{ cert_file = {etc}/client.pem; key_file = {etc}/client.key; "
                               f"CAcert_file = {etc}/ca.pem; }}\n"
                               "  session_features notls { flags = { no_starttls } }\n")
        made.edit("\nqmgr {", "\nqmgr {\n  retry_delay_min = 10m; retry_delay_max = 1h;\n"
                              "  DSN_handling { merge_delay_max = 1; }\n"
                              "  smtpc { flags = { lookup_rcpt_conf, lookup_session_conf } }")
        for name, sink in self.sinks.items():
            made.add("mt", f"{name}.test {{ port={sink.port}; ip={{127.0.0.1}} }}\n")
            made.add("access", f"to:@{name}.test relay\n")

        made.add("access", "".join(f"smtpc_rcpt_conf:{name}@{domain}.test tls_requirements {{ {text} }}\n"
                                   for name, text in WANTED.items() for domain in self.sinks))

    def send(self, address: str) -> Sink:
        """A message; the server that it should go to, which has forgotten what came before."""
        sink = self.sinks[address.partition("@")[2].removesuffix(".test")]
        sink.messages.clear()
        sink.versions.clear()
        self.mail.send(address, f"Subject: {address}\n\nx\n", sender="root@mail.test")
        return sink

    def close(self) -> None:
        for sink in self.sinks.values():
            sink.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("servers"))
    with made.mail:
        yield made
    made.close()


@pytest.mark.parametrize(("domain", "versions", "said"), [
    ("good", ["TLSv1.3"], "starttls=TLSv1.3, cipher=TLS_AES_256_GCM_SHA384, bits=256, verify=OK"),
    ("self", ["TLSv1.3"], "verify=FAIL, reason=self-signed"), ("plain", [], "status=connected"),
])
def test_tls_where_it_is_offered(world: World, domain: str, versions: list[str], said: str) -> None:
    """Mail goes by TLS wherever it can, and by plain SMTP where it can't."""
    sink = world.send(f"r@{domain}.test")
    until(lambda: len(sink.messages) == 1)
    assert sink.versions == versions
    assert said in world.mail.log("smtpc")


@pytest.mark.parametrize("name", WANTED)
@pytest.mark.parametrize("domain", ["good", "self", "plain"])
def test_requirements_for_recipients(world: World, name: str, domain: str) -> None:
    """A violation returns the mail, or keeps it, with the reason; other recipients get theirs."""
    address = f"{name}@{domain}.test"
    before = len(world.mail.mail("root"))
    sink = world.send(address)
    if domain in MET[name]:
        until(lambda: len(sink.messages) == 1)
        return
    if "tempfail" in WANTED[name]:
        until(lambda: "451 4.7.1 TLS: " in str(world.mail.queue()), 30)
        run(BIN / "meta1g", "qmgrctl", "-f", world.mail.conf, "delete", "--to", address)
    else:
        until(lambda: len(world.mail.mail("root")) > before, 30)
        text = max(world.mail.mail("root"), key=lambda path: path.stat().st_mtime).read_text()
        assert address in text
        assert "550 5.7.1 " in text
        assert "TLS: " in text
    until(world.mail.is_empty, 30)
    assert sink.messages == []


def test_one_violation_does_not_keep_others_back(world: World) -> None:
    sink = world.sinks["self"]
    sink.messages.clear()
    world.mail.send(["verified@self.test", "free@self.test"], "Subject: two\n\nx\n", sender="root@mail.test")
    until(lambda: len(sink.messages) == 1)
    until(world.mail.is_empty, 30)
    assert "verified" not in str(sink.messages[0])


def test_delay_names_the_recipient_and_sends_nothing(world: World) -> None:
    """A server that greylists gets to know the recipient; the whole message waits (M1 3.11.1)."""
    sink = world.sinks["self"]
    sink.messages.clear()
    seen: list[str] = []
    sink.mischief = lambda where: seen.append(where) or ""
    world.mail.send(["delayed@self.test", "free@self.test"], "Subject: two\n\nx\n", sender="root@mail.test")
    until(lambda: str(world.mail.queue()).count("451 4.7.1 TLS: ") == 2, 30)
    sink.mischief = lambda where: ""
    assert seen == ["rcpt", "rcpt"]
    assert sink.messages == []
    run(BIN / "meta1g", "qmgrctl", "-f", world.mail.conf, "delete", "--site", "self.test")
    until(world.mail.is_empty, 30)


def test_requirements_for_a_server(world: World) -> None:
    """By the configuration map; a reload takes them up."""
    def configure(text: str) -> None:
        run(BIN / "meta1g", "createmap", "-F", world.mail.base / "etc" / "qmgr_conf.db", input=text)
        world.mail.ctl("reload")

    configure("smtpc_session_conf:127.0.0.1 tls_requirements { hostnames = { .good.test }; violation = tempfail; }\n")
    good = world.send("r@good.test")
    until(lambda: len(good.messages) == 1, 30)
    sink = world.send("r@self.test")
    until(lambda: "certificate is for other hosts" in str(world.mail.queue()), 30)
    assert sink.messages == []
    configure("smtpc_session_conf:127.0.0.1 session_feature = notls;\n")
    world.mail.flush()
    until(lambda: len(sink.messages) == 1, 30)
    assert sink.versions == ["TLSv1.3"], "not again"
    configure("")


def test_a_server_whose_tls_is_broken(world: World, tmp_path: Path) -> None:
    """TLS 1.3 fails, then TLS 1.2, then it goes without; and again at once, as that is remembered (M1 14.1)."""
    sink = world.sinks["self"]
    world.mail.wait_idle()
    good, sink.tls = sink.tls, SELF.broken(tmp_path)
    try:
        world.send("r@self.test")
        until(lambda: len(sink.messages) == 1, 30)
        assert sink.versions == ["", ""]
        world.mail.wait_idle()
        world.send("r@self.test")
        until(lambda: len(sink.messages) == 1, 30)
        assert sink.versions == []
        before = len(world.mail.mail("root"))
        world.send("verified@self.test")
        until(lambda: len(world.mail.mail("root")) > before, 30)
        assert sink.messages == []
    finally:
        sink.tls = good
    assert "starttls=failed" in world.mail.log("smtpc")


def test_nothing_is_injected(world: World) -> None:
    """What the server, or who stands between, says before TLS is not taken for what it says in TLS."""
    sink = world.sinks["good"]
    world.mail.wait_idle()
    sink.injects = b"250 evil\r\n"
    world.send("injected@good.test")
    until(lambda: "data sent before TLS" in str(world.mail.queue()), 30)
    sink.injects = b""
    world.mail.flush()
    until(lambda: len(sink.messages) == 1, 30)


@pytest.mark.peer
def test_postfix_as_server(world: World, tmp_path: Path) -> None:
    """It asks for our certificate, verifies it, and says so in its Received field."""
    needs_postfix()
    tmp_path.chmod(0o755)
    cert, key = MX.write(tmp_path, "postfix")
    ROOT.write(tmp_path, "root")
    sink = Sink()
    extra = (f"smtpd_tls_cert_file = {cert}\nsmtpd_tls_key_file = {key}\nsmtpd_tls_security_level = encrypt\n"
             f"smtpd_tls_CAfile = {tmp_path}/root.pem\nsmtpd_tls_ask_ccert = yes\nsmtpd_tls_received_header = yes\n")
    with Postfix(sink.port, extra=extra) as postfix:
        world.mail.add("mt", f"postfix.test {{ port={postfix.port}; ip={{127.0.0.1}} }}\n")
        world.mail.add("access", "to:@postfix.test relay\n")
        world.mail.ctl("reload")
        world.mail.send("r@postfix.test", "Subject: x\n\nx\n")
        until(lambda: len(sink.messages) == 1, 60)
        text = " ".join(sink.messages[0].decode().split())
        assert "using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384" in text
        assert '(Client CN "mail.test", Issuer "Test CA" (verified OK))' in text
    sink.close()
