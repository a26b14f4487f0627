"""Entries of a map of passwords."""
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta1g.proto.sasl.entry import SCHEMES, BadEntry, new_secret, parse_entry

SALT = b"0123456789abcdef"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_is_made_fits(scheme: str) -> None:
    entry = parse_entry(new_secret(scheme, "pässword", SALT).encode())
    assert entry.fits("pässword")
    assert not entry.fits("pässworD")
    assert not entry.fits("")


def test_several_schemes_serve_more_mechanisms() -> None:
    text = " ".join(new_secret(scheme, "a b", SALT) for scheme in ("SCRYPT", "SCRAM-SHA-1", "SCRAM-SHA-256"))
    entry = parse_entry(text.encode())
    assert entry.mechanisms == {"PLAIN", "LOGIN", "SCRAM-SHA-1", "SCRAM-SHA-256"}
    assert entry.fits("a b")
    assert entry.plain is None
    plain = parse_entry(f"{text} {new_secret('PLAIN', 'a b', SALT)}".encode())
    assert plain.plain == "a b"
    assert plain.mechanisms >= {"CRAM-MD5", "DIGEST-MD5"}
    keys = parse_entry(b"{PLAIN}a b").scram_keys("sha256", SALT)
    assert keys is not None
    assert keys.salt == SALT


def test_dovecot_and_other_programs_are_understood() -> None:
    """`doveadm pw -s SCRAM-SHA-256 -p pencil`, and RFC 7914 12's third vector in PHC's form."""
    dovecot = (b"{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,"
               b"wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=")
    assert parse_entry(dovecot).fits("pencil")
    vector = (b"{SCRYPT}$scrypt$ln=14,r=8,p=1$U29kaXVtQ2hsb3JpZGU$cCO9yzr9c0hGHAbNgf046/2o+7qQT44+qbVD9lRdofLVQylVYT"
              b"8Pz2LUlwUkKpr55h6F3A1lHkDfzwF7RVdYhw")
    assert parse_entry(vector).fits("pleaseletmein")


@pytest.mark.parametrize("value", [
    b"", b" ", b"secret", b"{MD5}x", b"{PLAIN", b"\xff", b"{SCRYPT}", b"{SCRYPT}$scrypt$ln=30,r=8,p=1$c2FsdA$aGFzaA",
    b"{SCRYPT}$scrypt$ln=14,r=8,p=1$c2FsdA$aGFzaA", b"{SCRYPT}$scrypt$ln=14,r=0,p=1$c2FsdA$" + b"A" * 43,
    b"{SCRAM-SHA-1}4096,QSXCR+Q6sek8bf92,a,b", b"{SCRAM-SHA-1}", b"{SCRAM-SHA-1}1,c2FsdA==," + b"A" * 27 + b"=,x",
    b"{SCRAM-SHA-1}99999999999,a,b,c", b"{SCRAM-SHA-1}4096,!,b,c",
])
def test_bad_entries(value: bytes) -> None:
    with pytest.raises(BadEntry) as bad:
        parse_entry(value)
    assert b"secret" not in str(bad.value).encode()


@given(st.binary(max_size=100))
def test_any_octets(value: bytes) -> None:
    for text in (value, b"{SCRYPT}" + value, b"{SCRAM-SHA-256}4096," + value):
        try:
            parse_entry(text)
        except BadEntry as error:
            assert str(error)
