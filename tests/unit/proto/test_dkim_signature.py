"""Signatures: RFC 8463's example in both methods, keys, and the form of the field."""
import base64
import hashlib

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, rsa

from meta1g.proto.dkim import key
from meta1g.proto.dkim.canon import CanonicalBody, canonical_field
from meta1g.proto.dkim.fields import Choice, Unsignable, fields_of, signed
from meta1g.proto.dkim.key import BadKey, new_key, read_key, record
from meta1g.proto.dkim.signature import FIELD_MAX, Draft, Forms, Signatory, canonical_header, names_to_sign
from meta1g.proto.smtp import replies

# RFC 8463 appendix A: keys, message, signatures.
ED25519_PEM = b"""-----BEGIN PRIVATE KEY-----
%s
-----END PRIVATE KEY-----
""" % base64.b64encode(bytes.fromhex("302e020100300506032b657004220420")
                       + base64.b64decode("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="))
RSA_PEM = b"""-----BEGIN RSA PRIVATE KEY-----
MIICXQIBAAKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQi
Y/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqM
KrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB
AoGAH0cxOhFZDgzXWhDhnAJDw5s4roOXN4OhjiXa8W7Y3rhX3FJqmJSPuC8N9vQm
6SVbaLAE4SG5mLMueHlh4KXffEpuLEiNp9Ss3O4YfLiQpbRqE7Tm5SxKjvvQoZZe
zHorimOaChRL2it47iuWxzxSiRMv4c+j70GiWdxXnxe4UoECQQDzJB/0U58W7RZy
6enGVj2kWF732CoWFZWzi1FicudrBFoy63QwcowpoCazKtvZGMNlPWnC7x/6o8Gc
uSe0ga2xAkEA8C7PipPm1/1fTRQvj1o/dDmZp243044ZNyxjg+/OPN0oWCbXIGxy
WvmZbXriOWoSALJTjExEgraHEgnXssuk7QJBALl5ICsYMu6hMxO73gnfNayNgPxd
WFV6Z7ULnKyV7HSVYF0hgYOHjeYe9gaMtiJYoo0zGN+L3AAtNP9huqkWlzECQE1a
licIeVlo1e+qJ6Mgqr0Q7Aa7falZ448ccbSFYEPD6oFxiOl9Y9se9iYHZKKfIcst
o7DUw1/hz2Ck4N5JrgUCQQCyKveNvjzkkd8HjYs0SwM0fPjK16//5qDZ2UiDGnOe
uEzxBDAr518Z8VFbR41in3W4Y3yCDgQlLlcETrS+zYcL
-----END RSA PRIVATE KEY-----
"""
RECORDS = {
    "ed25519": "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
    "rsa": "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jL"
           "QiY/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2"
           "kryOTIKT+l/K4w3QIDAQAB",
}
HEADER = b"""From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>
""".replace(b"\n", b"\r\n")
BODY = b"Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n\r\n"
BODY_HASH = "2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8="
SIGNATURES = {
    ED25519_PEM: (b"""DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=brisbane; t=1528637909; h=from : to :
 subject : date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=""", "/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11BusFa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw=="),
    RSA_PEM: (b"""DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=test; t=1528637909; h=from : to : subject :
 date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=""", "F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefO"
            "sk2JzdA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8="),
}


def body_digest() -> bytes:
    found = hashlib.sha256()
    body = CanonicalBody(found.update, is_relaxed=True)
    body.feed(BODY)
    body.finish()
    return found.digest()


@pytest.mark.parametrize("pem", SIGNATURES, ids=["ed25519", "rsa"])
def test_example_of_rfc_8463(pem: bytes) -> None:
    head, expected = SIGNATURES[pem]
    assert base64.b64encode(body_digest()).decode() == BODY_HASH
    names = b"from to subject date message-id from subject date".split()
    text = [canonical_field(field, is_relaxed=True) for field in signed(fields_of(HEADER), names)]
    own = canonical_field(head.replace(b"\n", b"\r\n"), is_relaxed=True).removesuffix(b"\r\n")
    digest = hashlib.sha256(b"".join([*text, own])).digest()
    assert base64.b64encode(read_key(pem).sign(digest, "sha256")).decode() == expected


def test_keys_of_rfc_8463() -> None:
    for pem in (ED25519_PEM, RSA_PEM):
        found = read_key(pem)
        assert record(found) == RECORDS[found.name]


def field_of(names: int) -> bytes:
    """RSA's field for the example, over-signed, with so many fields more."""
    fields = fields_of(HEADER + b"".join(b"X-%d: x\r\n" % number for number in range(names)))
    chosen = names_to_sign(fields, Choice(over=(b"from", b"cc")))
    forms = Forms(True, True)
    draft = Draft(Signatory(read_key(RSA_PEM), "rsa-sha256", "example.org", "sel"), forms, chosen, 1700000000)
    made = draft.complete(canonical_header(fields, chosen, forms), body_digest())
    assert len(made) == draft.size
    return made


def test_form_of_the_field() -> None:
    made = field_of(0)
    assert made.startswith(
        b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;\r\n\td=example.org;\r\n\ts=sel; t=1700000000;\r\n"
        b"\th=from:to:subject:date:message-id:from:cc;\r\n\tbh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n\tb=")
    assert made.endswith(b"=\r\n")
    for line in field_of(60).split(b"\r\n")[:-1]:
        assert len(line) <= 78


@pytest.mark.parametrize("method", ["rsa-sha256", "rsa-sha1", "ed25519-sha256"])
@pytest.mark.parametrize("forms", [Forms(), Forms(True, True), Forms(True), Forms(False, True)], ids=str)
@pytest.mark.parametrize("names", [0, 100])
def test_dkimpy_agrees(method: str, forms: Forms, names: int) -> None:
    found = read_key(ED25519_PEM if method.startswith("ed") else RSA_PEM)
    extra = b"".join(b"X-%d: x\r\n" % number for number in range(names))
    hasher = hashlib.new("sha1" if method == "rsa-sha1" else "sha256")
    body = CanonicalBody(hasher.update, is_relaxed=forms.is_body_relaxed)
    body.feed(BODY)
    body.finish()
    fields = fields_of(HEADER + extra)
    chosen = names_to_sign(fields, Choice())
    draft = Draft(Signatory(found, method, "example.org", "sel"), forms, chosen, 1700000000)
    made = draft.complete(canonical_header(fields, chosen, forms), hasher.digest())
    message = made + HEADER + extra + b"\r\n" + BODY
    assert dkim.verify(message, dnsfunc=lambda name, timeout=5: record(found).encode())
    assert not dkim.verify(message.replace(b"game", b"gane"), dnsfunc=lambda name, timeout=5: record(found).encode())


def test_from_is_always_signed() -> None:
    assert names_to_sign(fields_of(b"To: a\r\n"), Choice()) == [b"to", b"from"]


def test_too_many_fields() -> None:
    with pytest.raises(Unsignable) as caught:
        field_of(1000)
    assert caught.value.reply == replies.TOO_MANY_FIELDS
    assert len(field_of(500)) < FIELD_MAX


def pem_of(key: rsa.RSAPrivateKey | dsa.DSAPrivateKey, password: bytes = b"") -> bytes:
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def test_bad_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    good = rsa.generate_private_key(65537, 2048)
    for text, why in [
            (b"", "no private key"), (b"\0" * 100, "no private key"), (pem_of(good, b"x"), "needs a password"),
            (RSA_PEM[:300], "no private key"), (pem_of(dsa.generate_private_key(1024)), "neither an RSA nor")]:
        with pytest.raises(BadKey, match=why):
            read_key(text)
    monkeypatch.setattr(key, "RSA_MAX", 1024)
    with pytest.raises(BadKey, match="2048 bits; it must have 1024 to 1024"):
        read_key(pem_of(good))


@pytest.mark.parametrize("bits", [0, 2048])
def test_new_key(bits: int) -> None:
    text, made = new_key(bits)
    assert record(read_key(text)) == record(made)
    assert made.bits == (bits or 256)
