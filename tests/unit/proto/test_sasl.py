"""SASL mechanisms: the RFCs' own dialogs, wrong answers, and any octets."""
import base64
import hashlib
import hmac
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta1g.proto.sasl.identity import canonical, is_same, keys_of
from meta1g.proto.sasl.mechanisms import MECHANISMS, Virtues
from meta1g.proto.sasl.prep import Unprepared, prepared
from meta1g.proto.sasl.scram import salted
from meta1g.proto.sasl.step import (
    AuthFailed,
    Challenge,
    CheckPassword,
    CheckToken,
    GetPassword,
    GetScram,
    Scene,
    ScramKeys,
    Success,
)

HOST = Scene("postoffice.reston.mci.net", "realm.test", "1896", 697170952)
NOBODY = ScramKeys(b"salt", 4096, b"", b"", is_real=False)


class Talk:
    """A mechanism's dialog with somebody who knows these passwords, salts and tokens."""

    def __init__(self, name: str, initial: bytes | None = None, *, scene: Scene = HOST,
                 passwords: dict[str, str] | None = None, salt: bytes = b"salt", tokens: dict[bytes, str] | None = None,
                 ) -> None:
        self.passwords, self.salt, self.tokens = passwords or {}, salt, tokens or {}
        self._dialog = MECHANISMS[name].begin(scene, initial)
        self.said = self.say(None)

    def say(self, answer: Any) -> bytes | Success:
        """The next challenge, or the success; AuthFailed."""
        try:
            while not isinstance(step := self._dialog.send(answer), Challenge):
                match step:
                    case CheckPassword():
                        answer = self.passwords.get(step.user, "").encode() == step.password
                    case GetPassword():
                        answer = self.passwords.get(step.user)
                    case GetScram():
                        password = self.passwords.get(step.user)
                        answer = NOBODY if password is None else salted(password, step.hash, self.salt, 4096)
                    case CheckToken():
                        answer = self.tokens.get(step.token, "")
        except StopIteration as end:
            assert isinstance(end.value, Success)
            return end.value
        return step.octets


@pytest.mark.parametrize(("initial", "expected"), [
    (b"\0tim\0tanstaaftanstaaf", Success("tim")),  # RFC 4616 4
    (b"Ursel\0Kurt\0xipj3plmq", Success("Kurt", "Ursel")),
    (b"\0tim\0wrong", "wrong password or unknown user"),
    (b"\0who\0tanstaaftanstaaf", "wrong password or unknown user"),
    (b"", "malformed response"), (b"tim\0tanstaaftanstaaf", "malformed response"),
    (b"\0tim\0a\0b", "malformed response"),
    (b"\0\0tanstaaftanstaaf", "bad user name"), (b"\0tim\0", "bad password"), (b"\0t\xff\0x", "bad user name"),
    (b"\0t\x07\0x", "bad user name"), (b"\0" + b"t" * 256 + b"\0x", "bad user name"),
    (b"\0tim\0" + b"x" * 1025, "bad password"),
])
def test_plain(initial: bytes, expected: Success | str) -> None:
    passwords = {"tim": "tanstaaftanstaaf", "Kurt": "xipj3plmq"}
    if isinstance(expected, Success):
        assert Talk("PLAIN", initial, passwords=passwords).said == expected
        late = Talk("PLAIN", passwords=passwords)
        assert (late.said, late.say(initial)) == (b"", expected)
        return
    with pytest.raises(AuthFailed, match=f"^{expected}$"):
        Talk("PLAIN", initial, passwords=passwords)


def test_login() -> None:
    talk = Talk("LOGIN", passwords={"tim": "tanstaaf"})
    assert talk.said == b"Username:"
    assert talk.say(b"tim") == b"Password:"
    assert talk.say(b"tanstaaf") == Success("tim")
    at_once = Talk("LOGIN", b"tim", passwords={"tim": "tanstaaf"})
    assert at_once.said == b"Password:"
    with pytest.raises(AuthFailed, match="wrong password") as failed:
        at_once.say(b"x")
    assert failed.value.user == "tim"


def test_cram_md5() -> None:
    """RFC 2195 2; its challenge has digits and a dot before @."""
    talk = Talk("CRAM-MD5", passwords={"tim": "tanstaaftanstaaf"})
    assert talk.said == b"<1896.697170952@postoffice.reston.mci.net>"
    assert talk.say(b"tim b913a602c7eda7a495b4e6e7334d3890") == Success("tim")


@pytest.mark.parametrize("response", [
    b"tim b913a602c7eda7a495b4e6e7334d3891", b"who b913a602c7eda7a495b4e6e7334d3890", b"tim", b"", b"tim ",
    b"who " + hmac.new(b"", b"<1896.697170952@postoffice.reston.mci.net>", "md5").hexdigest().encode(),
])
def test_cram_md5_refused(response: bytes) -> None:
    talk = Talk("CRAM-MD5", passwords={"tim": "tanstaaftanstaaf"})
    with pytest.raises(AuthFailed):
        talk.say(response)


DIGEST = Scene("elwood.innosoft.com", "elwood.innosoft.com", "OA6MG9tEQGm2hh", service="imap")
CHRIS = (b'charset=utf-8,username="chris",realm="elwood.innosoft.com",nonce="OA6MG9tEQGm2hh",nc=00000001,'
         b'cnonce="OA6MHXh6VqTrRk",digest-uri="imap/elwood.innosoft.com",response=%b,qop=auth')
CHRIS_DIGEST = b"d388dad90d4bbd760a152321f2143af7"


def test_digest_md5() -> None:
    """RFC 2831 4, both examples."""
    talk = Talk("DIGEST-MD5", scene=DIGEST, passwords={"chris": "secret"})
    assert talk.said == (b'realm="elwood.innosoft.com",nonce="OA6MG9tEQGm2hh",qop="auth",charset=utf-8,'
                         b'algorithm=md5-sess')
    assert talk.say(CHRIS % CHRIS_DIGEST) == b"rspauth=ea40f60335c427b5527b84dbabcdfffd"
    assert talk.say(b"") == Success("chris")
    acap = Scene("elwood.innosoft.com", "elwood.innosoft.com", "OA9BSXrbuRhWay", service="acap")
    talk = Talk("DIGEST-MD5", scene=acap, passwords={"chris": "secret"})
    assert talk.say(
        b'username="chris",realm="elwood.innosoft.com",nonce="OA9BSXrbuRhWay",nc=00000001,cnonce="OA9BSuZWMSpW8m",'
        b'digest-uri="acap/elwood.innosoft.com",response=6084c6db3fede7352c551284490fd0fc,qop=auth'
    ) == b"rspauth=2f0b3d7c3c2e486600ef710726aa2eae"


@pytest.mark.parametrize(("old", "new"), [
    (b"", b""),  # a wrong digest
    (b"imap/", b"pop/"), (b"nc=00000001", b"nc=00000002"), (b"hh\",nc", b"hi\",nc"), (b"qop=auth", b"qop=auth-int"),
    (b"username=\"chris\",", b""), (b"username=\"chris\"", b"username=\"chris"), (b"charset", b"nc=00000001,charset"),
    (b"chris", b"who"), (b"charset=utf-8,username=\"chris", b"charset=utf-8,username=\"\xff"), (b",qop", b",,qop"),
    (b"username", b"x=" + b"y" * 5000 + b",username"),
])
def test_digest_md5_refused(old: bytes, new: bytes) -> None:
    talk = Talk("DIGEST-MD5", scene=DIGEST, passwords={"chris": "secret"})
    with pytest.raises(AuthFailed):
        talk.say((CHRIS % (CHRIS_DIGEST if old else b"0" * 32)).replace(old, new))


SCRAM1 = Scene("h", "h", "3rfcNHYJY1ZVvWVs7j")
SCRAM256 = Scene("h", "h", "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")


def scram(name: str, scene: Scene, salt: str, client_first: bytes) -> Talk:
    return Talk(name, client_first, scene=scene, passwords={"user": "pencil"}, salt=base64.b64decode(salt))


def test_scram_sha_1() -> None:
    """RFC 5802 5."""
    talk = scram("SCRAM-SHA-1", SCRAM1, "QSXCR+Q6sek8bf92", b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL")
    assert talk.said == b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096"
    assert talk.say(b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="
                    ) == b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ="
    assert talk.say(b"") == Success("user")


FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
SALT = "W22ZaJ0SNY7soEsUEjb6gQ=="
FINAL = (b"c=biws,r=rOprNGfwEbeRWgbNEkqO%%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=%b")
PROOF = b"dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="


def test_scram_sha_256() -> None:
    """RFC 7677 3."""
    talk = scram("SCRAM-SHA-256", SCRAM256, SALT, FIRST)
    assert talk.say(FINAL % PROOF) == b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    with pytest.raises(AuthFailed, match="an empty response"):
        talk.say(b"x")


@pytest.mark.parametrize("first", [
    b"p=tls-unique,,n=user,r=abc", b"n,n=user,r=abc", b"n,,n=,r=abc", b"n,,n=us=er,r=abc", b"n,,n=user", b"",
    b"n,,m=x,n=user,r=abc", b"x,,n=user,r=abc", b"n,,n=user,r=a b", b"n,,n=\xff,r=abc", b"n,,r=abc,n=user",
])
def test_scram_first_refused(first: bytes) -> None:
    with pytest.raises(AuthFailed):
        scram("SCRAM-SHA-256", SCRAM256, SALT, first)


@pytest.mark.parametrize("final", [
    FINAL % base64.b64encode(b"0" * 32), FINAL % base64.b64encode(b"0" * 31), FINAL % b"dHz", FINAL % b"",
    (FINAL % PROOF).replace(b"biws", b"eSws"), (FINAL % PROOF).replace(b"r=rO", b"r=xO"), b"", b"p=" + PROOF,
    (FINAL % PROOF).replace(b"k0,p", b"k,p"), (FINAL % PROOF).replace(b",p=", b",p"),
])
def test_scram_final_refused(final: bytes) -> None:
    talk = scram("SCRAM-SHA-256", SCRAM256, SALT, FIRST)
    with pytest.raises(AuthFailed):
        talk.say(final)


def proof(password: str, name: str, header: bytes, bare: bytes, server_first: bytes) -> bytes:
    """A client's last message."""
    parts = dict(part.split(b"=", 1) for part in server_first.split(b","))
    secret = hashlib.pbkdf2_hmac(name, password.encode(), base64.b64decode(parts[b"s"]), int(parts[b"i"]))
    key = hmac.digest(secret, b"Client Key", name)
    without = b"c=%b,r=%b" % (base64.b64encode(header), parts[b"r"])
    signature = hmac.digest(hashlib.new(name, key).digest(), b",".join((bare, server_first, without)), name)
    return without + b",p=" + base64.b64encode(bytes(a ^ b for a, b in zip(key, signature, strict=True)))


def test_scram_for_a_name_with_comma_and_somebody_else() -> None:
    """A client that could bind to the channel says so (`y`), and is right that the server can't."""
    header, bare = b"y,a=b=2Cc,", b"n=b=3D=2Cc,r=abc"
    talk = Talk("SCRAM-SHA-256", header + bare, passwords={"b=,c": "pw"})
    assert isinstance(talk.said, bytes)
    assert isinstance(talk.say(proof("pw", "sha256", header, bare, talk.said)), bytes)
    assert talk.say(b"") == Success("b=,c", "b,c")


def test_scram_for_nobody_fails_at_the_end() -> None:
    talk = Talk("SCRAM-SHA-1", b"n,,n=who,r=abc")
    assert isinstance(talk.said, bytes)
    with pytest.raises(AuthFailed, match="unknown user") as failed:
        talk.say(proof("", "sha1", b"n,,", b"n=who,r=abc", talk.said))
    assert failed.value.user == "who"


def test_external() -> None:
    scene = HOST._replace(certificate_user="friend.test")
    assert Talk("EXTERNAL", b"", scene=scene).said == Success("friend.test")
    assert Talk("EXTERNAL", b"other", scene=scene).said == Success("friend.test", "other")
    late = Talk("EXTERNAL", scene=scene)
    assert (late.said, late.say(b"")) == (b"", Success("friend.test"))
    with pytest.raises(AuthFailed, match="certificate"):
        Talk("EXTERNAL", b"")


TOKENS = {b"vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==": "user@example.com"}
BEARER = b"n,a=user@example.com,\x01host=server.example.com\x01port=587\x01auth=Bearer %b\x01\x01" % next(iter(TOKENS))
XOAUTH2 = b"user=user@example.com\x01auth=Bearer %b\x01\x01" % next(iter(TOKENS))


@pytest.mark.parametrize(("name", "initial"), [
    ("OAUTHBEARER", BEARER), ("XOAUTH2", XOAUTH2), ("OAUTHBEARER", BEARER.replace(b"a=user@example.com", b"")),
])
def test_token(name: str, initial: bytes) -> None:
    """RFC 7628 4.1."""
    assert Talk(name, initial, tokens=TOKENS).said == Success("user@example.com")


@pytest.mark.parametrize(("name", "initial"), [
    ("OAUTHBEARER", BEARER.replace(b"vF9", b"vF8")), ("XOAUTH2", XOAUTH2.replace(b"vF9", b"vF8")),
    ("OAUTHBEARER", BEARER.replace(b"a=user", b"a=resu")), ("XOAUTH2", XOAUTH2.replace(b"=user", b"=resu")),
])
def test_token_refused(name: str, initial: bytes) -> None:
    talk = Talk(name, initial, tokens=TOKENS)
    assert isinstance(talk.said, bytes)
    assert talk.said.startswith(b'{"status":')
    with pytest.raises(AuthFailed, match="token is"):
        talk.say(b"\x01")


@pytest.mark.parametrize(("name", "initial"), [
    ("OAUTHBEARER", b""), ("OAUTHBEARER", b"n,,"), ("OAUTHBEARER", b"p=x,,\x01auth=Bearer x\x01\x01"),
    ("OAUTHBEARER", b"n,,\x01auth=Basic x\x01\x01"), ("OAUTHBEARER", b"n,,\x01auth=Bearer x\x01auth=Bearer y\x01\x01"),
    ("OAUTHBEARER", b"n,,\x01\x01"), ("XOAUTH2", b""), ("XOAUTH2", b"user=x\x01auth=Bearer a b\x01\x01"),
    ("XOAUTH2", b"user=\xff\x01auth=Bearer x\x01\x01"),
])
def test_token_malformed(name: str, initial: bytes) -> None:
    with pytest.raises(AuthFailed):
        Talk(name, initial, tokens={b"x": "x", b"y": "y"})


@given(name=st.sampled_from(sorted(MECHANISMS)), lines=st.lists(st.binary(max_size=200), min_size=1, max_size=4),
       is_initial=st.booleans())
def test_any_octets_end_in_a_failure(name: str, lines: list[bytes], *, is_initial: bool) -> None:
    mechanism = MECHANISMS[name]
    try:
        talk = Talk(name, lines.pop(0) if is_initial and mechanism.is_client_first else None)
        for line in lines:
            talk.say(line)
    except AuthFailed as error:
        assert str(error)


@given(st.data())
def test_a_changed_proof_fails(data: st.DataObject) -> None:
    final = bytearray(FINAL % PROOF)
    at = data.draw(st.integers(0, len(final) - 1))
    final[at] = data.draw(st.integers(0, 255).filter(lambda octet: octet != final[at]))
    talk = scram("SCRAM-SHA-256", SCRAM256, SALT, FIRST)
    with pytest.raises(AuthFailed):
        talk.say(bytes(final))


@pytest.mark.parametrize(("octets", "expected"), [  # RFC 4013 3
    ("I\u00adX".encode(), "IX"), (b"user", "user"), (b"USER", "USER"), ("\u00aa".encode(), "a"),
    ("\u2168".encode(), "IX"), (b"\x07", None), ("\u06271".encode(), None), ("a\u00a0b".encode(), "a b"),
    (b"\xff", None), ("\u0221".encode(), None), (b"", ""), ("\u0627\u0628".encode(), "\u0627\u0628"),
])
def test_saslprep(octets: bytes, expected: str | None) -> None:
    if expected is None:
        with pytest.raises(Unprepared):
            prepared(octets)
    else:
        assert prepared(octets) == expected


def test_names_and_realms() -> None:
    assert keys_of("Joe", None, "h.test") == [b"joe", b"joe@h.test"]
    assert keys_of("joe@h.test", None, "h.test") == [b"joe@h.test", b"joe"]
    assert keys_of("joe", "r.test", "h.test") == [b"joe@r.test", b"joe"]
    assert keys_of("joe@other", "r.test", "h.test") == [b"joe@other"]
    assert keys_of("joe", "", "h.test") == [b"joe"]
    assert keys_of("joe@", "", "h.test") == [b"joe@"]
    assert canonical("joe", "r.test") == "joe@r.test"
    assert canonical("joe", None) == "joe"
    assert is_same("joe", "JOE@h.test", None, "h.test")
    assert not is_same("joe", "joe@r.test", None, "h.test")


def test_virtues() -> None:
    names = {name for name, found in MECHANISMS.items() if found.virtues.has_all_of(Virtues(noplaintext=True))}
    assert names == {"EXTERNAL", "SCRAM-SHA-256", "SCRAM-SHA-1", "DIGEST-MD5", "CRAM-MD5"}
