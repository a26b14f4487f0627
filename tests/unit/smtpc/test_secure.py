"""For whom the TLS of a session is as it must be: entries of maps and TLSA records (M1 3.11.1, 14.2)."""
import hashlib

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from meta1g.mta.dane import Tlsa, TlsaSet
from meta1g.mta.tls import DANE_SEC, FAIL, OK, TlsFacts
from meta1g.proto.msg_da import Stage
from meta1g.smtpc.secure import Proof
from tests.lib.certs import sign

CHAIN = (sign("x").cert.public_bytes(Encoding.DER),)
FACTS = TlsFacts("TLSv1.3", "AES", 256, FAIL, reason="self-signed", chain=CHAIN)
VERIFIED = "tls_requirements { flags = { verified }; violation = tempfail; }"


def records(data: bytes = CHAIN[0], *, usage: int = 3, is_secure: bool = True) -> TlsaSet:
    return TlsaSet(25, is_secure, "mx", "mx.test", "test", (Tlsa(usage, 0, 1, hashlib.sha256(data).digest()),))


@pytest.mark.parametrize(("facts", "dane", "text", "reply", "stage"), [
    (FACTS, (), "", "", 0), (None, (), "", "", 0),
    (FACTS, (records(),), "", "", 0), (FACTS, (records(),), VERIFIED, "", 0),
    (FACTS, (), VERIFIED, "451 4.7.1 TLS: a verified certificate is required: self-signed", Stage.EHLO),
    (FACTS, (records(is_secure=False),), "", "", 0),
    (FACTS, (records(is_secure=False),), VERIFIED, "451 4.7.1 TLS: a verified", Stage.EHLO),
    (FACTS, (records(usage=1),), "", "", 0), (FACTS, (records(usage=1),), VERIFIED, "451 4.7.1 TLS", Stage.EHLO),
    (None, (records(usage=1),), "", "451 4.7.5 DANE: TLS is required for mx.test", Stage.EHLO),
    (None, (records(),), "", "451 4.7.5 DANE: TLS is required for mx.test", Stage.EHLO),
    (FACTS, (records(b"other"),), "", "451 4.7.5 DANE: no TLSA record of mx.test matches", Stage.DANE),
    (FACTS._replace(verify=OK), (records(b"other"),), VERIFIED, "451 4.7.5 DANE: no TLSA", Stage.DANE),
    (FACTS._replace(chain=(), is_resumed=True), (records(),), "", "451 4.7.5 DANE: no certificate", Stage.DANE),
    (FACTS, (records(),), "nonsense", "451 4.3.5", Stage.EHLO),
])
def test_missing(facts: TlsFacts | None, dane: tuple[TlsaSet, ...], text: str, reply: str, stage: int) -> None:
    for texts in ((text, ""), ("", text)):
        found = Proof(facts).missing(texts, dane, "permfail")
        assert (found is None) is not bool(reply)
        if found is not None:
            assert str(found.reply).startswith(reply)
            assert found.stage == stage


def test_what_is_logged() -> None:
    proof = Proof(FACTS)
    shown = proof.facts_for((records(),))
    assert shown is not None
    assert (shown.verify, shown.reason) == (DANE_SEC, "")
    for dane in ((), (records(b"other"),), (records(is_secure=False),)):
        assert proof.facts_for(dane) == FACTS
    assert Proof().facts_for((records(),)) is None
