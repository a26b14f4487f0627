"""Certificates judged by TLSA records: each usage, selector and matching type, what is forged, late or garbage."""
import hashlib
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from meta1g.mta.dane import Tlsa, TlsaSet
from meta1g.tls.dane import judge, public_key, usable
from tests.lib.certs import Signed, sign

NOW = datetime.now(UTC)
BASE, DOMAIN = "mx.good.test", "good.test"
ROOT = sign("Root", is_ca=True)
BETWEEN = sign("Between", ROOT, is_ca=True)
LEAF = sign("", BETWEEN, hosts=(BASE,), is_rsa=True)
OTHER = sign("Other", is_ca=True)
SELF = sign("self.signed")
RSA = sign("Rsa", is_ca=True, is_rsa=True)
LATE = sign("", BETWEEN, hosts=(BASE,), days=-1)
LATE_ROOT = sign("Late Root", is_ca=True, days=-1)
NO_CA = sign("No CA", ROOT)


def der(signed: Signed) -> bytes:
    return signed.cert.public_bytes(Encoding.DER)


def key_of(signed: Signed) -> bytes:
    return signed.cert.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def record(usage: int, selector: int, matching: int, signed: Signed) -> Tlsa:
    data = key_of(signed) if selector else der(signed)
    hashed = {0: data, 1: hashlib.sha256(data).digest(), 2: hashlib.sha512(data).digest()}
    return Tlsa(usage, selector, matching, hashed[matching])


def verdict(chain: tuple[Signed, ...], *records: Tlsa, is_secure: bool = True) -> tuple[str, bool]:
    return judge(TlsaSet(25, is_secure, "mx", BASE, DOMAIN, records), tuple(map(der, chain)), NOW)


@pytest.mark.parametrize("matching", [0, 1, 2])
@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize(("usage", "meant", "other"), [(3, LEAF, OTHER), (2, BETWEEN, OTHER), (2, ROOT, OTHER)])
def test_every_kind(usage: int, selector: int, matching: int, meant: Signed, other: Signed) -> None:
    chain = (LEAF, BETWEEN, ROOT)
    assert verdict(chain, record(usage, selector, matching, meant)) == ("", True)
    problem, is_proved = verdict(chain, record(usage, selector, matching, other))
    assert problem
    assert not is_proved
    both = record(usage, selector, matching, other), record(usage, selector, matching, meant)
    assert verdict(chain, *both) == ("", True), "one match is enough"


@pytest.mark.parametrize("leaf", [SELF, LATE, sign("", hosts=("elsewhere.test",), days=-5), RSA])
def test_usage_3_ignores_names_dates_and_issuers(leaf: Signed) -> None:
    assert verdict((leaf,), record(3, 1, 1, leaf)) == ("", True)
    assert verdict((leaf, OTHER), record(3, 0, 1, leaf)) == ("", True)
    assert verdict((LEAF, leaf), record(3, 0, 1, leaf)) == (f"no TLSA record of {BASE} matches", False)


@pytest.mark.parametrize(("chain", "anchor", "reason"), [
    ((LATE, BETWEEN, ROOT), ROOT, "expired"),
    ((sign("", LATE_ROOT, hosts=(BASE,)), LATE_ROOT), LATE_ROOT, "expired"),
    ((sign("", sign("Root", is_ca=True), hosts=(BASE,)), ROOT), ROOT, "does not vouch"),  # by another of that name
    ((sign(BASE, hosts=(BASE,)), BETWEEN, ROOT), ROOT, "does not vouch"),  # the anchor is only shown
    ((LEAF, ROOT), ROOT, "does not vouch"),  # one between is missing
    ((sign("", NO_CA, hosts=(BASE,)), NO_CA, ROOT), ROOT, "does not vouch"),
    ((sign("", NO_CA, hosts=(BASE,)), NO_CA, ROOT), NO_CA, "does not vouch"),
    ((LEAF,), LEAF, "matches"), ((SELF,), SELF, "matches"), ((SELF, SELF), SELF, "matches"),  # it vouches for itself
    ((sign("", ROOT, hosts=("mx.other.test",)), ROOT), ROOT, "other hosts"),
    ((sign(BASE, ROOT, hosts=("mx.other.test",)), ROOT), ROOT, "other hosts"),  # CN counts only without names
    ((sign("", ROOT), ROOT), ROOT, "other hosts"),
])
def test_usage_2_in_vain(chain: tuple[Signed, ...], anchor: Signed, reason: str) -> None:
    for matching in (0, 1):
        problem, is_proved = verdict(chain, record(2, 0, matching, anchor))
        assert reason in problem
        assert not is_proved


@pytest.mark.parametrize("leaf", [
    sign("", ROOT, hosts=("x.test", DOMAIN)), sign("", ROOT, hosts=("*.good.test",)), sign(BASE, ROOT),
])
def test_names_for_usage_2(leaf: Signed) -> None:
    """The TLSA base domain or the next-hop domain; a wildcard; the common name if there is nothing else."""
    assert verdict((leaf, ROOT), record(2, 1, 1, ROOT)) == ("", True)


def test_an_anchor_that_only_the_record_has() -> None:
    assert verdict((LEAF, BETWEEN), record(2, 0, 0, ROOT)) == ("", True)
    assert "matches" in verdict((LEAF, BETWEEN), record(2, 0, 1, ROOT))[0], "RFC 7672 3.1.2: it must be shown"
    assert "vouch" in verdict((LEAF, BETWEEN), record(2, 0, 0, OTHER))[0]


def test_nothing_usable() -> None:
    """TLS without knowing to whom (RFC 7672 2.2)."""
    for bad in (record(0, 0, 1, ROOT), record(1, 1, 1, LEAF), record(3, 0, 1, LEAF)._replace(selector=2),
                record(3, 0, 1, LEAF)._replace(matching=3), record(3, 1, 1, LEAF)._replace(data=b"short"),
                Tlsa(3, 0, 0, b"junk"), Tlsa(2, 1, 0, b"junk"), Tlsa(255, 255, 255, b"")):
        assert usable((bad,)) == ()
        assert verdict((SELF,), bad) == ("", False)
        assert verdict((), bad) == ("", False)
        assert verdict((SELF,), bad, record(3, 1, 1, LEAF))[0], "a usable one is what counts"


def test_the_strongest_digest_counts() -> None:
    weak, strong = record(3, 1, 1, LEAF), record(3, 1, 2, OTHER)
    assert usable((weak, strong)) == (strong,)
    assert verdict((LEAF,), weak, strong)[0]
    others = (record(3, 0, 1, LEAF), record(3, 1, 0, LEAF), record(2, 1, 1, ROOT))
    assert usable((*others, strong)) == (*others, strong), "of one usage and selector"


def test_without_dnssec_nothing_is_proved() -> None:
    assert verdict((LEAF,), record(3, 1, 1, LEAF), is_secure=False) == ("", False)
    assert verdict((LEAF,), record(3, 1, 1, OTHER), is_secure=False)[0]


def test_no_certificate() -> None:
    assert verdict((), record(3, 1, 1, LEAF)) == ("no certificate was presented", False)


@pytest.mark.parametrize("signed", [LEAF, ROOT, SELF, RSA])
def test_public_key(signed: Signed) -> None:
    assert public_key(der(signed)) == key_of(signed)


RECORDS = st.lists(st.builds(Tlsa, st.integers(0, 4), st.integers(0, 2), st.integers(0, 3),
                             st.binary(max_size=70) | st.just(der(LEAF)[:200])), max_size=4)


CHAINS = st.lists(st.binary(max_size=40) | st.sampled_from([der(LEAF), der(BETWEEN), der(LEAF)[:-9]]), max_size=3)


@given(RECORDS, CHAINS)
def test_garbage_proves_nothing(records: list[Tlsa], chain: list[bytes]) -> None:
    """Whatever a zone or a server says: no error, and no match by chance."""
    problem, is_proved = judge(TlsaSet(25, True, "mx", BASE, DOMAIN, tuple(records)), tuple(chain), NOW)
    assert not is_proved
    assert bool(problem) is bool(usable(tuple(records)))


@given(st.binary(max_size=100), st.integers(0, 100))
def test_any_octets_have_a_key_or_none(octets: bytes, cut: int) -> None:
    assert len(public_key(octets)) <= len(octets)
    public_key(der(LEAF)[:cut] + octets)
