"""The map of passwords: who may read it, what it offers, what unknown users look like."""
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from meta1g.conf.cyrusfile import CyrusFile, parse_cyrus
from meta1g.mta.errors import StoreError
from meta1g.proto.sasl.entry import new_secret
from meta1g.shim.mapfile import write_map
from meta1g.shim.secretfile import SecretError
from meta1g.smtps.keeper import KeeperAway
from meta1g.smtps.passwords import PasswordMap

SALT = b"0123456789abcdef"


class Users:
    """A map in a file."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "passwords.db"
        self.complaints: list[str] = []
        self.log = cast(Any, SimpleNamespace(error=self.complaints.append))

    def write(self, mode: int = 0o600, **users: str) -> None:
        write_map(str(self.path), [(name.encode(), text.encode()) for name, text in users.items()], kind="hash",
                  mode=mode, nul=False, owner=None)

    def open(self, realm: str | None = None) -> PasswordMap:
        return PasswordMap(str(self.path), realm, "h.test", self.log)


@pytest.fixture
def users(tmp_path: Path) -> Users:
    made = Users(tmp_path)
    made.write(joe=new_secret("PLAIN", "secret", SALT), ann=new_secret("SCRAM-SHA-256", "pw", SALT))
    return made


def test_passwords(users: Users) -> None:
    keeper = users.open()
    assert keeper.check("joe", b"secret")
    assert keeper.check("JOE@h.test", b"secret")
    assert not keeper.check("joe@other", b"secret")
    assert not keeper.check("joe", b"Secret")
    assert not keeper.check("joe", b"\xff")
    assert not keeper.check("who", b"secret")
    assert keeper.check("ann", b"pw")
    assert (keeper.password("joe"), keeper.password("ann"), keeper.password("who")) == ("secret", None, None)


def test_offered_is_what_all_can_use(users: Users) -> None:
    assert users.open().mechanisms == {"PLAIN", "LOGIN", "SCRAM-SHA-256"}
    assert users.open().possible == {"PLAIN", "LOGIN", "CRAM-MD5", "DIGEST-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256"}
    users.write()
    assert users.open().mechanisms == {"PLAIN", "LOGIN"}


def test_unknown_users_look_like_others(users: Users) -> None:
    keeper = users.open()
    real, other, again = keeper.scram("ann", "sha256"), keeper.scram("who", "sha256"), keeper.scram("WHO", "sha256")
    assert real.is_real
    assert not other.is_real
    assert other == again
    assert (len(other.salt), other.iterations) == (len(real.salt), real.iterations)
    assert other.salt != keeper.scram("she", "sha256").salt
    assert not keeper.scram("ann", "sha1").is_real


def test_a_new_file_counts_at_once(users: Users) -> None:
    keeper = users.open()
    users.write(joe=new_secret("PLAIN", "changed", SALT))
    assert keeper.check("joe", b"changed")
    assert "CRAM-MD5" in keeper.mechanisms
    users.path.unlink()
    with pytest.raises(KeeperAway, match="No such file"):
        keeper.check("joe", b"changed")


def test_a_slow_hash_is_made_once_for_what_is_right(users: Users, monkeypatch: pytest.MonkeyPatch) -> None:
    users.write(joe=new_secret("SCRYPT", "secret", SALT))
    keeper = users.open()
    made: list[Any] = []
    run = keeper._run
    monkeypatch.setattr(keeper, "_run", lambda *args: (made.append(args), run(*args))[1])
    assert [keeper.check("joe", b"secret") for _ in range(3)] == [True] * 3
    assert len(made) == 1
    assert [keeper.check("joe", b"wrong") for _ in range(2)] == [False] * 2
    assert len(made) == 3
    users.write(joe=new_secret("SCRYPT", "changed", SALT))
    assert not keeper.check("joe", b"secret")


def test_logins_that_wait_are_bounded(users: Users) -> None:
    users.write(joe=new_secret("SCRYPT", "secret", SALT))
    keeper = users.open()
    keeper._waiting = 50
    with pytest.raises(KeeperAway, match="too many logins"):
        keeper.check("who", b"secret")


def test_entries_that_cannot_be_read_are_named_without_their_secret(users: Users) -> None:
    users.write(joe=new_secret("PLAIN", "secret", SALT), bad="topsecret")
    keeper = users.open()
    assert not keeper.check("bad", b"topsecret")
    assert users.complaints
    assert all("user=bad" in line and "topsecret" not in line for line in users.complaints)
    assert "CRAM-MD5" in keeper.mechanisms


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o601])
def test_others_may_not_read_it(users: Users, mode: int) -> None:
    os.chmod(users.path, mode)
    with pytest.raises(SecretError, match=r"makes it no secret; chmod 6[04]0 /.*db$"):
        users.open()
    os.chmod(users.path, 0o600)
    keeper = users.open()
    os.chmod(users.path, mode)
    with pytest.raises(KeeperAway):
        keeper.check("joe", b"secret")


def test_no_map(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        Users(tmp_path).open()


@pytest.mark.parametrize(("text", "found"), [
    ("", CyrusFile()), ("mech_list: plain login\n", CyrusFile(("PLAIN", "LOGIN"))), ("mech_list:\n", CyrusFile(())),
    ("# mech_list: plain\npwcheck_method: SaslAuthd\nauxprop_plugin: sasldb\nx\n", CyrusFile(None, "saslauthd")),
    (" MECH_LIST : PLAIN\nmech_list: login", CyrusFile(("LOGIN",))),
])
def test_file_of_cyrus_sasl(text: str, found: CyrusFile) -> None:
    assert parse_cyrus(text) == found
