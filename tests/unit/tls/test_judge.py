"""Requirements on TLS, met and violated (M1 3.13)."""
from typing import Any

import pytest

from meta1g.conf.opt_tls import TlsRequirements
from meta1g.mta.tls import FAIL, OK, TlsFacts, common_name, encoded, oneline
from meta1g.tls.judge import has_name, is_demanding, violation

FACTS = TlsFacts(
    "TLSv1.3", "TLS_AES_256_GCM_SHA384", 256, OK, subject="/C=US/O=MTA/CN=mx.dom", issuer="/C=US/CN=Some CA (2007)",
    common_name="mx.dom", hostnames=("*.host.tld", "a.b.deep.tld"), fingerprint="AB01CD", root="Root One")


@pytest.mark.parametrize(("wanted", "facts", "reason"), [
    ({}, None, ""), ({}, FACTS, ""), ({"violation": frozenset({"abort"})}, None, ""),
    ({"flags": frozenset({"encrypted"})}, None, "TLS is required"),
    ({"flags": frozenset({"encrypted"})}, FACTS, ""),
    ({"flags": frozenset({"encrypted"})}, FACTS._replace(bits=0), "encryption is required"),
    ({"cipher_bits_min": 256}, FACTS, ""), ({"cipher_bits_min": 257}, FACTS, "257 bits are required"),
    ({"flags": frozenset({"verified"})}, FACTS, ""),
    ({"flags": frozenset({"verified"})}, FACTS._replace(verify=FAIL, reason="expired"), "required: expired"),
    ({"cert_issuer": "/C=US/CN=Some+20CA+20+282007+29/"}, FACTS, ""),
    ({"cert_issuer": "/C=US/CN=Some CA (2007)"}, FACTS, ""),
    ({"cert_issuer": "/C=US/CN=Some+20CA"}, FACTS, "another issuer: /C=US/CN=Some+20CA+20+282007+29"),
    ({"cert_subject": "/C=US/O=MTA/CN=mx.dom"}, FACTS, ""), ({"cert_subject": "/CN=mx.dom"}, FACTS, "another subject"),
    ({"common_name": "mx.dom"}, FACTS, ""), ({"common_name": "mx"}, FACTS, "another common name"),
    ({"common_name": "mx.dom"}, FACTS._replace(common_name=""), "another common name"),
    ({"cert_fps": ("00", "ab:01:cd")}, FACTS, ""), ({"cert_fps": ("00",)}, FACTS, "another fingerprint"),
    ({"root_ca_subjects": ("x", "Root+20One")}, FACTS, ""), ({"root_ca_subjects": ("x",)}, FACTS, "another root"),
    ({"hostnames": ("x.dom", "mx.host.tld")}, FACTS, ""), ({"hostnames": ("x.dom",)}, FACTS, "for other hosts"),
])
def test_requirements(wanted: dict[str, Any], facts: TlsFacts | None, reason: str) -> None:
    found = violation(TlsRequirements(**wanted), facts)
    assert reason in found
    assert bool(reason) == bool(found)
    assert is_demanding(TlsRequirements(**wanted)) is bool(wanted.keys() - {"violation"})


@pytest.mark.parametrize(("wanted", "shown", "fits"), [
    ("host.tld", "host.tld", True), ("HOST.tld.", "host.TLD", True), ("a.host.tld", "*.host.tld", True),
    ("a.b.host.tld", "*.host.tld", False), ("host.tld", "*.host.tld", False), ("host.tld", "*.tld", False),
    (".host.tld", "*.host.tld", True), (".host.tld", "a.b.host.tld", True), (".host.tld", "host.tld", False),
    (".host.tld", ".host.tld", False), ("host.tld", "", False), ("a.host.tld", "*a.host.tld", False),
    ("", "*.", False), (".tld", "*.tld", True),
])
def test_hostnames(wanted: str, shown: str, fits: bool) -> None:
    assert has_name((wanted,), (shown,)) is fits


def test_names_as_the_manual_writes_them() -> None:
    components = [(b"C", b"US"), (b"O", b"Sendmail, Inc."), (b"CN", b"Darth Mail (Cert)"),
                  (b"emailAddress", b"darth+cert@endmail.org")]
    line = oneline(components)
    assert line == "/C=US/O=Sendmail, Inc./CN=Darth Mail (Cert)/emailAddress=darth+cert@endmail.org"
    assert encoded(line).endswith("/CN=Darth+20Mail+20+28Cert+29/emailAddress=darth+2Bcert@endmail.org")
    assert encoded('a<b>"c"+\x00\xe9') == "a+3Cb+3E+22c+22+2B+00+C3+A9"
    assert oneline([(b"CN", b"a\0b\xe9")]) == "/CN=a\\x00b\\xE9"
    assert common_name(components) == "Darth Mail (Cert)"
    assert common_name([(b"CN", b"good.dom\0.evil.dom")]) == "BadCert:ContainsNUL"
    assert common_name([(b"CN", b"x" * 300)]) == "BadCert:TooLong"
    assert common_name([]) == ""
