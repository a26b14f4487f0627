"""The judge against OpenSSL's own DANE, by `openssl s_client`: the same verdict on every chain and record."""
import hashlib
import itertools
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from meta1g.mta.dane import Tlsa, TlsaSet
from meta1g.tls.dane import judge
from tests.lib.certs import Signed, sign

pytestmark = [pytest.mark.peer]
BASE = "mx.good.test"
ROOT = sign("Root", is_ca=True)
BETWEEN = sign("Between", ROOT, is_ca=True)
TWIN = sign("Root", is_ca=True)
LATE_ROOT = sign("Late", is_ca=True, days=-1)
NO_CA = sign("No CA", ROOT)
CERTS = {"root": ROOT, "between": BETWEEN, "twin": TWIN, "late root": LATE_ROOT, "no ca": NO_CA}
LEAVES = {
    "good": sign("", BETWEEN, hosts=(BASE,)), "late": sign("", BETWEEN, hosts=(BASE,), days=-1),
    "wild": sign("", ROOT, hosts=("*.good.test",)), "other": sign("", ROOT, hosts=("mx.other.test",)),
    "cn": sign(BASE, ROOT), "self": sign(BASE, hosts=(BASE,)), "late anchor": sign("", LATE_ROOT, hosts=(BASE,)),
    "by no ca": sign("", NO_CA, hosts=(BASE,)),
}
CHAINS: dict[str, tuple[Signed, ...]] = {name: (leaf,) for name, leaf in LEAVES.items()}
for _name, _leaf in LEAVES.items():
    _above = _leaf.issuer
    while _above is not None:
        CHAINS[_name] += (_above,)
        _above = _above.issuer
CHAINS["forged"] = (LEAVES["self"], BETWEEN, ROOT)
CHAINS["wrong root"] = (LEAVES["good"], BETWEEN, TWIN)
CHAINS["a gap"] = (LEAVES["good"], ROOT)
KINDS = [(3, 0, 1), (3, 1, 2), (2, 0, 0), (2, 0, 1), (2, 1, 1), (2, 1, 2)]


def der(signed: Signed) -> bytes:
    return signed.cert.public_bytes(Encoding.DER)


def record(usage: int, selector: int, matching: int, signed: Signed) -> Tlsa:
    data = der(signed) if selector == 0 else signed.cert.public_key().public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    hashed = (data, hashlib.sha256(data).digest(), hashlib.sha512(data).digest())
    return Tlsa(usage, selector, matching, hashed[matching])


@pytest.fixture(scope="module", params=CHAINS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    folder = tmp_path_factory.mktemp("chain")
    chain = CHAINS[request.param]
    _, key = chain[0].write(folder, "server")
    (folder / "chain.pem").write_bytes(b"".join(one.pem for one in chain))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener, folder / "chain.pem", key), daemon=True).start()
        yield request.param, listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def serve(listener: socket.socket, chain: Path, key: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    while True:
        try:
            sock, _ = listener.accept()
        except OSError:
            return
        try:
            with context.wrap_socket(sock, server_side=True) as inner:
                inner.recv(1)
        except OSError:
            pass


def openssl(port: int, wanted: Tlsa) -> bool:
    """What OpenSSL thinks: usage 3 without names (RFC 7672 3.1.1); it has no other anchors."""
    done = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", BASE, "-dane_tlsa_domain", BASE,
         "-dane_tlsa_rrdata", str(wanted), "-dane_ee_no_namechecks", "-no-CAfile", "-no-CApath", "-no-CAstore",
         "-verify_return_error"],
        input=b"", capture_output=True, timeout=20, check=False)
    return b"Verification: OK" in done.stdout and b"Verified peername" in done.stdout + b"Verified peername" * (
        wanted.usage == 3)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_same_verdict(server: tuple[str, int]) -> None:
    name, port = server
    chain = CHAINS[name]
    now = datetime.now(UTC)
    proved = set()
    for (usage, selector, matching), (who, signed) in itertools.product(KINDS, {**CERTS, "leaf": chain[0]}.items()):
        wanted = record(usage, selector, matching, signed)
        problem, is_proved = judge(TlsaSet(25, True, BASE, BASE, BASE, (wanted,)), tuple(map(der, chain)), now)
        assert is_proved is not bool(problem)
        proved |= {usage} if is_proved else set()
        assert is_proved is openssl(port, wanted), f"{name}, {usage} {selector} {matching} of {who}: {problem}"
    assert proved == ({2, 3} if name in ("good", "wild", "cn", "a gap", "wrong root") else {3})
