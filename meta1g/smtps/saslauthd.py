"""saslauthd: it is told a name and a password, and says OK or NO.

Peers
    saslauthd's socket mux; a connection for each question.
"""
import socket
from typing import Final

from meta1g.mta.errors import RemoteProtocolError
from meta1g.proto import saslauthd
from meta1g.proto.sasl.step import SERVICE, ScramKeys
from meta1g.smtps.keeper import KeeperAway
from meta1g.st.netfd import connect, reason_of
from meta1g.st.sched import TimedOut, now

SOCKET: Final = "/var/run/saslauthd/mux"  # of Cyrus SASL, unless saslauthd has -m


class Saslauthd:
    """The server at one socket; `realm` is that of names without @, `timeout` in seconds."""

    mechanisms = possible = frozenset({"PLAIN", "LOGIN"})

    def __init__(self, path: str, realm: str, timeout: float) -> None:
        self._path = path
        self._realm = realm
        self._timeout = timeout

    def check(self, user: str, password: bytes) -> bool:
        """Whether saslauthd takes the password; a name's realm is told apart, as Cyrus SASL does. KeeperAway."""
        name, at, realm = user.rpartition("@")
        if not at:
            name, realm = user, self._realm
        try:
            return self._ask(saslauthd.request(name.encode(), password, SERVICE.encode(), realm.encode()))
        except (OSError, TimedOut, RemoteProtocolError) as error:
            raise KeeperAway(f"saslauthd at {self._path}: {reason_of(error)}") from None

    def _ask(self, request: bytes) -> bool:
        deadline = now() + self._timeout
        netfd = connect(socket.AF_UNIX, self._path, self._timeout)
        try:
            netfd.write(request, self._timeout, in_all=True)
            octets = b""
            while (answer := saslauthd.read_reply(octets)) is None:
                more = netfd.read(saslauthd.REPLY_MAX, max(deadline - now(), 0.0))
                if not more:
                    raise RemoteProtocolError("connection closed")
                octets += more
            return answer
        finally:
            netfd.close()

    def password(self, user: str) -> str | None:
        """It keeps that to itself."""
        raise KeeperAway("saslauthd tells no passwords")

    def scram(self, user: str, name: str) -> ScramKeys:
        """It has none."""
        raise KeeperAway("saslauthd has no keys")
