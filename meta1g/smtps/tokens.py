"""Whose a token is, asked of somebody else's program as a map of type socket (M1 10.2; RFC 7662 is its matter).

Peers
    A Unix socket: `oauth TOKEN` is asked, `OK user`, `NOTFOUND` or `TEMP reason` is answered, all as netstrings.
"""
from typing import Final

from meta1g.maps.m_socket import SocketMap
from meta1g.maps.map import Found, TempFail
from meta1g.proto.sasl.step import AuthFailed, name_of
from meta1g.smtps.keeper import KeeperAway
from meta1g.st.block import Blocking

_THREADS: Final = 4  # questions at once
_WAITING_MAX: Final = 50  # logins that wait for that
_MAP: Final = "oauth"


class TokenSocket:
    """The program at one socket; `timeout` in seconds."""

    def __init__(self, path: str, timeout: float) -> None:
        self._map = SocketMap(_MAP, _MAP, path, timeout)
        self._threads = Blocking(_THREADS)
        self._waiting = 0

    def owner(self, token: bytes) -> str:
        """The user's name, empty if the token is nobody's; KeeperAway."""
        if self._waiting >= _WAITING_MAX:
            raise KeeperAway("token_socket: too many logins at once")
        self._waiting += 1
        try:
            result = self._threads.run(self._map.lookup, token)
        finally:
            self._waiting -= 1
        if isinstance(result, TempFail):
            raise KeeperAway(f"token_socket: {result.reason}")
        try:
            return name_of(result.value) if isinstance(result, Found) else ""
        except AuthFailed:
            raise KeeperAway("token_socket: it answers no user name") from None
