"""To whom a client tells a password: what a server proves by TLS is the key of the account's entry."""
from types import SimpleNamespace
from typing import Any

import pytest

from meta1g.mta.tls import DANE_SEC, OK, TlsFacts
from meta1g.proto.msg_ar import Hop
from meta1g.smtpc.login import LoginFailed, Logins

ADDRESS = "192.0.2.1"


def logins(key: str) -> Logins:
    found = Logins.__new__(Logins)
    table: Any = SimpleNamespace(refresh=lambda: False, table={key.encode(): b"joe:secret"})
    found._db, found._path, found._listed = table, "map", ("PLAIN",)
    found._conf, found._blocking = SimpleNamespace(plaintext="verified"), None  # type: ignore[assignment]
    return found


@pytest.mark.parametrize(("key", "name", "shown", "verify", "is_told"), [
    ("smart.test:587", "Smart.test.", "smart.test", OK, True),
    ("smart.test", "smart.test", "other.test", DANE_SEC, True),
    ("smart.test", "smart.test", "other.test", OK, False),
    # a domain of somebody else's whose MX has the address of the account's server, and who sits in the way there
    (ADDRESS, "mx.evil.test", "mx.evil.test", OK, False),
    (ADDRESS + ":587", "mx.evil.test", "mx.evil.test", DANE_SEC, False),
    (ADDRESS, "mx.evil.test", ADDRESS, OK, True),
    (ADDRESS, "", ADDRESS, OK, True),
    (ADDRESS, f"[{ADDRESS}]", "mx.evil.test", DANE_SEC, False),
])
def test_who_is_told(key: str, name: str, shown: str, verify: str, is_told: bool) -> None:
    login = logins(key).at(Hop(587, ADDRESS, name), 587)
    assert login is not None
    facts = TlsFacts("TLSv1.3", "AES", 256, verify, hostnames=(shown,))
    if is_told:
        assert login._usable(("PLAIN",), facts) == ["PLAIN"]
    else:
        with pytest.raises(LoginFailed):
            login._usable(("PLAIN",), facts)


def test_an_entry_of_another_port_does_not_count() -> None:
    assert logins("smart.test:25").at(Hop(587, ADDRESS, "smart.test"), 587) is None
