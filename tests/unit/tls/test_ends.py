"""Handshakes between both ends over real sockets: what each side learns, what is refused, what files may do."""
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from meta1g.conf.kinds import PathValue
from meta1g.conf.opt_tls import DhConf, TlsConf
from meta1g.mta.errors import MtaError
from meta1g.mta.tls import FAIL, NO, NOT, OK, TlsFacts
from meta1g.st.netfd import NetFd
from meta1g.st.sched import Slot, TimedOut, spawn
from meta1g.tls import ends
from meta1g.tls.ends import ClientEnd, ServerEnd
from meta1g.tls.stream import HandshakeFailed, TlsFd
from tests.lib.certs import revoked, sign

ROOT = sign("Root (1)", org="Test, Inc.", is_ca=True)
BETWEEN = sign("Between", ROOT, is_ca=True)
SERVER = sign("mx.test", BETWEEN, hosts=("mx.test", "*.mail.test"))
CLIENT = sign("client.test", BETWEEN, is_rsa=True)
OTHER_ROOT = sign("Other", is_ca=True)


def path_of(value: PathValue) -> str:
    return value.text


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("certs")
    for name, signed in (("server", SERVER), ("client", CLIENT), ("old", sign("mx.test", ROOT, days=-1)),
                         ("self", sign("self.test")), ("stranger", sign("x.test", OTHER_ROOT))):
        signed.write(found, name, with_chain=True)
    ROOT.write(found, "root")
    OTHER_ROOT.write(found, "other")
    return found


def conf(folder: Path, name: str = "", **more: Any) -> TlsConf:
    """A section tls with this certificate."""
    files = {"cert_file": f"{name}.pem", "key_file": f"{name}.key"} if name else {}
    given = {key: PathValue(str(folder / value)) if key.endswith(("_file", "_directory")) else value
             for key, value in {**files, **more}.items()}
    return TlsConf(**{"flags": frozenset({"request_cert", "use_chain"}), "cache_size": 10, **given})


class Met(NamedTuple):
    server: tuple[TlsFd, TlsFacts]
    client: tuple[TlsFd, TlsFacts]


def meet(server: ServerEnd, client: ClientEnd, ip: str = "192.0.2.1", *, shows_chain: bool = False) -> Met:
    """Both shake hands; what either raises is raised."""
    left, right = socket.socketpair()
    slot = Slot()
    def serve() -> None:
        try:
            slot.put(server.shake_hands(NetFd(left), 5))
        except (OSError, TimedOut) as error:
            slot.fail(error)
            left.close()
    spawn(serve)
    mine = client.shake_hands(NetFd(right), ip, 25, "mx.test", 5, shows_chain=shows_chain)
    return Met(slot.get(5), mine)


def say(sender: TlsFd, receiver: TlsFd, octets: bytes) -> bytes:
    done = Slot()
    def write() -> None:
        sender.write(octets, 5, in_all=True)
        done.put(True)
    spawn(write)
    found = b""
    while len(found) < len(octets):
        piece = receiver.read(100_000, 5)
        assert piece
        found += piece
    done.get(5)
    return found


def test_both_sides_learn_who_the_other_is(folder: Path) -> None:
    server = ServerEnd(conf(folder, "server", cacert_file="root.pem"), path_of)
    client = ClientEnd(conf(folder, "client", cacert_file="root.pem", digest="sha256"), path_of)
    met = meet(server, client)
    facts = met.client[1]
    assert (facts.version, facts.bits >= 128, facts.verify, facts.is_resumed) == ("TLSv1.3", True, OK, False)
    assert (facts.subject, facts.issuer, facts.common_name) == ("/CN=mx.test", "/CN=Between", "mx.test")
    assert facts.hostnames == ("mx.test", "*.mail.test")
    assert facts.root == "Root (1)"
    assert len(facts.fingerprint) == 64
    theirs = met.server[1]
    assert (theirs.verify, theirs.subject, len(theirs.fingerprint)) == (OK, "/CN=client.test", 40)
    assert str(theirs) == f"TLS=TLSv1.3, cipher={theirs.cipher}, bits={theirs.bits}, verify=OK"
    large = os.urandom(1_000_000)
    assert say(met.client[0], met.server[0], large) == large
    assert say(met.server[0], met.client[0], b"220 ok\r\n") == b"220 ok\r\n"
    assert not met.server[0].has_input()
    met.client[0].close()
    assert met.server[0].read(100, 5) == b""
    met.server[0].close()


@pytest.mark.parametrize(("server_name", "client_name", "server_verify", "client_verify", "reason"), [
    ("server", "", NO, OK, ""), ("old", "client", OK, FAIL, "expired"), ("self", "self", FAIL, FAIL, "self-signed"),
    ("stranger", "stranger", FAIL, FAIL, "self-signed certificate in its chain"),
])
def test_verification(folder: Path, server_name: str, client_name: str, server_verify: str, client_verify: str,
                      reason: str) -> None:
    """What can't be verified is said, and the session goes on."""
    met = meet(ServerEnd(conf(folder, server_name, cacert_file="root.pem"), path_of),
               ClientEnd(conf(folder, client_name, cacert_file="root.pem"), path_of))
    assert (met.server[1].verify, met.client[1].verify, met.client[1].reason) == (server_verify, client_verify, reason)
    assert say(met.client[0], met.server[0], b"x") == b"x"


def test_no_certificate_is_asked_for(folder: Path) -> None:
    met = meet(ServerEnd(conf(folder, "server", flags=frozenset()), path_of),
               ClientEnd(conf(folder, "client", cacert_file="root.pem"), path_of))
    assert met.server[1].verify == NOT
    assert met.client[1].verify == FAIL, "without use_chain the one between is missing"


def test_revoked(folder: Path) -> None:
    (folder / "crl.pem").write_bytes(revoked(BETWEEN, CLIENT) + revoked(ROOT))
    server = ServerEnd(conf(folder, "server", cacert_file="root.pem", crl_file="crl.pem"), path_of)
    met = meet(server, ClientEnd(conf(folder, "client"), path_of))
    assert (met.server[1].verify, met.server[1].reason) == (FAIL, "revoked")


@pytest.mark.parametrize("options", [(), ("SSL_OP_NO_TLSv1_3",)])
def test_resumed_sessions_keep_their_verdict(folder: Path, options: tuple[str, ...]) -> None:
    """Both ends have what the first handshake proved, also that it proved nothing."""
    for name, verify in (("client", OK), ("self", FAIL)):
        server = ServerEnd(conf(folder, "server", cacert_file="root.pem", options=options), path_of)
        client = ClientEnd(conf(folder, name, cacert_file="root.pem"), path_of)
        met = meet(server, client)
        assert say(met.server[0], met.client[0], b"x") == b"x"
        met.client[0].close()
        again = meet(server, client)
        assert again.client[1] == met.client[1]._replace(is_resumed=True)
        assert again.server[1] == met.server[1]._replace(is_resumed=True)
        assert again.server[1].verify == verify
        assert not meet(server, client, "192.0.2.2").client[1].is_resumed
        server._verdicts.clear()
        assert meet(server, client).server[1].verify == FAIL, "nobody knows what was proved"


def test_a_chain_is_from_this_handshake(folder: Path) -> None:
    """Who wants to see it takes up no session and leaves none."""
    server, client = ServerEnd(conf(folder, "server"), path_of), ClientEnd(conf(folder), path_of)
    for shows_chain, is_resumed in ((True, False), (False, False), (True, False), (False, True)):
        met = meet(server, client, shows_chain=shows_chain)
        assert met.client[1].is_resumed is is_resumed
        chain = tuple(signed.cert.public_bytes(Encoding.DER) for signed in (SERVER, BETWEEN, ROOT))
        assert met.client[1].chain == (chain if shows_chain else ())
        assert say(met.server[0], met.client[0], b"x") == b"x"
        met.client[0].close()


def test_no_cache_no_resumption(folder: Path) -> None:
    server = ServerEnd(conf(folder, "server", cache_size=0), path_of)
    client = ClientEnd(conf(folder), path_of)
    met = meet(server, client)
    say(met.server[0], met.client[0], b"x")
    met.client[0].close()
    assert not meet(server, client).client[1].is_resumed


def test_both_kinds_of_keys(folder: Path) -> None:
    """RSA for one client, EC for another."""
    sign("rsa.test", is_rsa=True).write(folder, "rsa")
    sign("ec.test").write(folder, "ec")
    server = ServerEnd(conf(folder, "rsa", ec_cert_file="ec.pem", ec_key_file="ec.key",
                            dhparam=DhConf(bits=2048), ec_curve=("prime256v1", "secp384r1")), path_of)
    names = set()
    for ciphers in ("ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES256-GCM-SHA384", "DHE-RSA-AES256-GCM-SHA384"):
        client = ClientEnd(conf(folder, cipherlist=ciphers, options=("no_tlsv1_3",)), path_of)
        facts = meet(server, client).client[1]
        assert (facts.cipher, facts.version) == (ciphers, "TLSv1.2")
        names.add(facts.common_name)
    assert names == {"rsa.test", "ec.test"}


def test_no_common_cipher(folder: Path) -> None:
    server = ServerEnd(conf(folder, "server", options=("NO_TLSv1_3",), cipherlist="ECDHE-ECDSA-AES128-GCM-SHA256"),
                       path_of)
    client = ClientEnd(conf(folder, options=("NO_TLSv1_3",), cipherlist="ECDHE-ECDSA-AES256-GCM-SHA384"), path_of)
    with pytest.raises(HandshakeFailed, match="TLS: "):
        meet(server, client)


@pytest.mark.parametrize("octets", [b"", b"EHLO x\r\n", b"\x16\x03\x01", b"\x16\x03\x01\x40\x00" + bytes(16384),
                                    b"\x80\x2e\x01\x00\x02" + bytes(40)])
def test_no_tls_at_all(folder: Path, octets: bytes) -> None:
    """Garbage, a cut handshake, silence: an error in time."""
    server = ServerEnd(conf(folder, "server"), path_of)
    left, right = socket.socketpair()
    right.sendall(octets)
    right.shutdown(socket.SHUT_WR)
    with pytest.raises(HandshakeFailed, match="TLS: "):
        server.shake_hands(NetFd(left), 2)
    left, right = socket.socketpair()
    with pytest.raises(TimedOut):
        server.shake_hands(NetFd(left), 0.05)


def test_new_files_are_taken_up(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ends, "LOOK", 0.0)
    sign("one.test").write(tmp_path, "server")
    server, client = ServerEnd(conf(tmp_path, "server"), path_of), ClientEnd(conf(folder), path_of)
    assert server.refresh() == ""
    (tmp_path / "server.pem").write_bytes(sign("two.test").pem)
    assert "certificate and key do not go together" in server.refresh()
    assert server.refresh() == "", "said once"
    assert meet(server, client).client[1].common_name == "one.test"
    (tmp_path / "server.key").unlink()
    sign("three.test").write(tmp_path, "server")
    assert server.refresh() == ""
    assert meet(server, client).client[1].common_name == "three.test"


def test_expiring(folder: Path) -> None:
    server = ServerEnd(conf(folder, "server"), path_of)
    expires = SERVER.cert.not_valid_after_utc.timestamp()
    assert server.expiring(expires - 10) == []
    assert server.expiring(expires + 10) == [str(folder / "server.pem")]


def write(name: str, text: bytes, mode: int = 0o600) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / name).write_bytes(text)
        (folder / name).chmod(mode)
    return make


@pytest.mark.parametrize(("change", "more", "message"), [
    (write("server.key", b"x", 0o644), {}, "makes it no secret; chmod 640"),
    (write("server.key", b"junk"), {}, "no private key in PEM"),
    (write("server.pem", b"junk"), {}, "no certificate in PEM"),
    (lambda folder: None, {"key_file": None}, "is missing"),
    (lambda folder: (folder / "server.pem").unlink(), {}, "No such file"),
    (lambda folder: None, {"cert_file": None, "key_file": None}, "a server needs cert_file"),
    (lambda folder: None, {"options": ("NO_TLSv1_9",)}, "did you mean"),
    (lambda folder: None, {"cipherlist": "nonsense"}, "CipherList: OpenSSL takes none of nonsense"),
    (lambda folder: None, {"ciphersuites": "nonsense"}, "CipherSuites"),
    (lambda folder: None, {"ec_curve": ("nonsense",)}, "EC_curve"),
    (write("ca.pem", b"x"), {"cacert_file": "ca.pem"}, "no certificate in PEM"),
    (lambda folder: None, {"cacert_directory": "nowhere"}, "no folder of certificates"),
    (write("crl.pem", b"x"), {"crl_file": "crl.pem"}, "no list of revoked"),
    (write("dh.pem", b"x"), {"dhparam": DhConf(file=PathValue("dh.pem"))}, "no DH parameters"),
])
def test_what_is_wrong_is_named(tmp_path: Path, change: Callable[[Path], Any], more: dict[str, Any],
                                message: str) -> None:
    sign("one.test").write(tmp_path, "server")
    change(tmp_path)
    given = conf(tmp_path, "server")
    for key, value in more.items():
        is_path = isinstance(value, str) and key.endswith(("_file", "_directory"))
        given = TlsConf(**{**vars(given), key: PathValue(str(tmp_path / value)) if is_path else value})
    with pytest.raises(MtaError, match=message):
        ServerEnd(given, lambda value: str(tmp_path / value.text))
