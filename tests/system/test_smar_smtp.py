"""What a client is told over SMTP when DNS says this or that: a whole instance that asks nsd."""
import smtplib
import socket
from collections.abc import Iterator

import pytest

from tests.lib.instance import Instance
from tests.lib.realdns import Nsd, needs_servers

pytestmark = [pytest.mark.system, pytest.mark.peer]

HEAD = "$TTL 120\n@ SOA ns.nsd.test. hostmaster.nsd.test. 1 3600 600 86400 30\n@ NS ns.nsd.test.\n"
ZONE = HEAD + """
ns A 127.0.0.1
good MX 10 mx
mx A 192.0.2.1
bare A 192.0.2.1
null MX 0 .
ip MX 10 192.0.2.7.
bad MX 10 badmx
badmx A 192.0.2.66
c1 A 127.0.0.1
c2 A 127.0.0.2
c4 A 192.0.2.4
c6 A 127.0.0.6
"""
REVERSE = HEAD + "5 PTR c5.broken.test.\n" + "".join(f"{n} PTR c{n}.nsd.test.\n" for n in (1, 2, 4, 6))
LIST = HEAD + "2.0.0.127 A 127.0.0.2\n6.0.0.127 A 127.0.0.3\n"
ZONES = {"nsd.test": ZONE, "0.0.127.in-addr.arpa": REVERSE, "bl.test": LIST, "broken.test": ""}
ACCESS = """
bl:127.0.0.2         error:550 5.7.1 listed at bl.test as open relay
mxbadip:192.0.2.66   error:551 5.7.1 Bad IP address in MX/A list
cltresolve:ok        cont
cltresolve:no        error:450 4.7.1 who are you
cltresolve:tempptr   error:451 4.7.1 reverse lookup failed
cltresolve:tempa     error:451 4.7.2 forward lookup failed
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    needs_servers("nsd")
    with Nsd(tmp_path_factory.mktemp("nsd"), ZONES) as nsd:
        instance = Instance("local.test")
        instance.edit("smar {\n", f"smar {{\n  DNS {{ nameservers = {{ 127.0.0.1 }}; port = {nsd.port}; timeout = 2; "
                                  "retries = 1; }\n  dnsbl { domain = bl.test; tag = bl; }\n")
        (instance.base / "etc" / "access").write_text("")  # without what init lets this host do
        instance.add("access", ACCESS)
        with instance:
            yield instance


SENDERS = [
    ("a@good.nsd.test", 250, ""),
    ("a@bare.nsd.test", 250, ""),
    ("", 250, ""),
    ("a@none.nsd.test", 553, "5.1.8 Sender address does not exist"),
    ("a@ip.nsd.test", 553, "5.1.8 Sender address does not exist"),  # M1 6.3.1
    ("a@null.nsd.test", 550, "5.7.27"),
    ("a@broken.test", 451, "4.1.8"),
    ("a@bad.nsd.test", 551, "5.7.1 Bad IP address in MX/A list"),
]


@pytest.mark.parametrize(("sender", "code", "text"), SENDERS)
def test_sender(server: Instance, sender: str, code: int, text: str) -> None:
    with smtplib.SMTP("127.0.0.1", server.port, timeout=30) as smtp:
        smtp.ehlo()
        found, said = smtp.mail(sender)
        assert (found, said.decode().startswith(text)) == (code, True), said


CLIENTS = [  # a greeting that rejects for now is 421 (RFC 5321 3.8)
    ("127.0.0.1", b"220"),
    ("127.0.0.2", b"550 5.7.1 listed at bl.test as open relay"),
    ("127.0.0.3", b"421 4.7.1 who are you"),  # no name
    ("127.0.0.4", b"421 4.7.1 who are you"),  # a name with another address
    ("127.0.0.5", b"421 4.7.2 forward lookup failed"),
    ("127.0.0.6", b"220"),  # listed in a way that the access map does not care about
    ("127.0.1.1", b"421 4.7.1 reverse lookup failed"),
]


@pytest.mark.parametrize(("client", "said"), CLIENTS)
def test_client(server: Instance, client: str, said: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 30, (client, 0)) as sock:
        assert sock.recv(4096).startswith(said)
