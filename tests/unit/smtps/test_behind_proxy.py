"""What a session's TLS says of a client that a trusted proxy has introduced (XCLIENT)."""
from typing import Any

from meta1g.conf.opt_tls import TlsRequirements
from meta1g.mta.tls import OK, TlsFacts
from meta1g.smtps.auth import certified
from meta1g.smtps.secure import Security


def test_the_certificate_of_a_proxy_is_nobody_elses() -> None:
    """The connection is as safe as it was; but nobody is EXTERNAL's user, or verified, by it."""
    log: Any = None
    security = Security(None, "permfail", log)
    security.forget_client()
    assert security.facts is None
    security.facts = TlsFacts("TLSv1.3", "AES", 256, OK, common_name="proxy.test", fingerprint="AA")
    assert certified(security.facts) == "proxy.test" and security.is_verified
    security.forget_client()
    assert security.facts == TlsFacts("TLSv1.3", "AES", 256)
    assert not certified(security.facts) and not security.is_verified
    assert security.refusal(TlsRequirements(flags=frozenset({"encrypted"}))) is None
    assert security.refusal(TlsRequirements(flags=frozenset({"verified"}))) is not None
