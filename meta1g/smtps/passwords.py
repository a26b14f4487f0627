"""The map of passwords: users and their secrets (M1 3.10 item 1 leaves that to Cyrus SASL).

Rules
    A slow hash is made once in an hour for a password that is right: who sends mail often is not slowed, nor by those
    who guess. What is kept for that is a digest of it with the map's entry, by a key that only this process has.

Files
    A Berkeley DB map that createmap made; keys are users, `user` or `user@realm`, values as proto/sasl/entry says.
    A new file is used with the next login.

Diagnostics
    func=smtps, password_map=..., user=..., status=...: this entry can't be used.
"""
import hmac
import itertools
import os
import secrets
from collections.abc import Callable
from typing import Any, Final

from meta1g.mta import logfmt
from meta1g.mta.errors import MtaError, StoreError
from meta1g.proc.log import Log
from meta1g.proto.sasl.entry import SALT_SIZE, SCRAM_ITERATIONS, SCRYPT, BadEntry, Entry, Scrypt, parse_entry
from meta1g.proto.sasl.identity import keys_of
from meta1g.proto.sasl.prep import Unprepared, prepared
from meta1g.proto.sasl.step import ScramKeys
from meta1g.shim.secretdb import SecretDb
from meta1g.smtps.keeper import KeeperAway
from meta1g.st.block import Blocking
from meta1g.st.sched import now

_THREADS: Final = 2  # hashes at once: 32 MB and one processor each
_WAITING_MAX: Final = 50  # logins that wait for that: 5 seconds
_LOOKED_AT: Final = 10_000  # entries that say which mechanisms are of use
_KEEP: Final = 3600.0  # seconds for which a password that was right is known again
_KEPT_MAX: Final = 10_000  # of them: 1.5 MB
_ALWAYS: Final = frozenset({"PLAIN", "LOGIN"})


class PasswordMap:
    """The passwords in a map; `realm` and `host` are for names as proto/sasl/identity says."""

    possible = Entry(plain="").mechanisms

    def __init__(self, path: str, realm: str | None, host: str, log: Log) -> None:
        """Open it; SecretError, StoreError."""
        self._path, self._realm, self._host, self._log = path, realm, host, log
        self._db = SecretDb(path)
        self._threads = Blocking(_THREADS)
        self._waiting = 0
        self._right: dict[bytes, float] = {}  # digests of what was right, and until when, in that order
        self._salts = secrets.token_bytes(32)  # of which those for unknown users are made
        self._nobody = Entry(Scrypt(SCRYPT, os.urandom(SALT_SIZE), os.urandom(32)))
        self._typical = self._nobody  # an entry, as which nobody looks
        self._mechanisms = self._common()

    @property
    def mechanisms(self) -> frozenset[str]:
        """Those that every user can use, as far as they were looked at."""
        return self._mechanisms

    def _common(self) -> frozenset[str]:
        """A client takes the best that is offered, so one that fits only some users shuts others out."""
        common: frozenset[str] | None = None
        try:
            items = list(itertools.islice(self._db.table.items(), _LOOKED_AT + 1))
        except StoreError:
            return _ALWAYS
        for key, value in items:
            entry = self._parsed(key, value)
            if entry is not None:
                self._typical = entry
                common = entry.mechanisms if common is None else common & entry.mechanisms
        return _ALWAYS if common is None or len(items) > _LOOKED_AT else common

    def _parsed(self, key: bytes, value: bytes) -> Entry | None:
        try:
            return parse_entry(value)
        except BadEntry as error:
            self._log.error(logfmt.fields(func="smtps", password_map=self._path, user=key, status=error))
            return None

    def _entry(self, user: str) -> Entry | None:
        try:
            if self._db.refresh():
                self._mechanisms = self._common()
            for key in keys_of(user, self._realm, self._host):
                value = self._db.table.get(key)
                if value is not None:
                    return self._parsed(key, value)
        except MtaError as error:
            raise KeeperAway(f"password_map: {error}") from None
        return None

    def check(self, user: str, password: bytes) -> bool:
        """Whether it is the user's password; takes as long for unknown users."""
        entry = self._entry(user)
        try:
            text = prepared(password)
        except Unprepared:
            return False
        if entry is None:
            self._run(self._nobody.fits, text)
            return False
        if entry.plain is not None:
            return entry.fits(text)
        seen = hmac.digest(self._salts, entry.source + b"\0" + text.encode(), "sha256")
        if self._right.get(seen, 0.0) > now():
            return True
        if not self._run(entry.fits, text):
            return False
        self._remember(seen)
        return True

    def _remember(self, seen: bytes) -> None:
        self._right.pop(seen, None)
        self._right[seen] = now() + _KEEP
        if len(self._right) > _KEPT_MAX:
            del self._right[next(iter(self._right))]

    def password(self, user: str) -> str | None:
        """The password itself, if it is kept."""
        entry = self._entry(user)
        return None if entry is None else entry.plain

    def scram(self, user: str, name: str) -> ScramKeys:
        """Keys of the user, or such as fit nothing, the same each time and after the same time."""
        entry = self._entry(user)
        salt = hmac.digest(self._salts, user.lower().encode(), "sha256")[:SALT_SIZE]
        keys: ScramKeys | None = self._run((entry or self._typical).scram_keys, name, salt)
        if entry is not None and keys is not None:
            return keys
        return ScramKeys(salt, keys.iterations if keys is not None else SCRAM_ITERATIONS, b"", b"", is_real=False)

    def _run(self, function: Callable[..., Any], *args: Any) -> Any:
        """On a native thread, if it is not too far until that is free."""
        if self._waiting >= _WAITING_MAX:
            raise KeeperAway("too many logins at once")
        self._waiting += 1
        try:
            return self._threads.run(function, *args)
        finally:
            self._waiting -= 1
