"""Map type `redis`: a hash in a Redis server, asked with HGET; meta1g's own addition.

Rules
    `mapname` is the key under which the server has the hash, the map's own name if there is
    none: one hash is one map, which RENAME replaces at once.
    The package is the extra `redis`. A connection that turns out to be closed is replaced
    once for each lookup. Every wait has a timeout.
    The server is asked without a password: it is reached over a Unix socket, whose mode says
    who may, or on a network that is safe.
"""
from typing import Any, Final

from meta1g.maps.m_socket import Address
from meta1g.maps.map import NOT_FOUND, Found, Result, TempFail
from meta1g.shim import extra

TIMEOUT: Final = 5.0  # seconds to connect, and for an answer; together what a socket map has


class RedisMap:
    """A hash in a Redis server."""

    is_stable = False
    is_slow = True

    def __init__(self, name: str, mapname: str, address: Address, timeout: float = TIMEOUT) -> None:
        """Nothing is connected yet; MissingExtra if the package is not installed."""
        self.name = name
        self._hash = (mapname or name).encode("utf-8")
        self._timeout = timeout
        self._library = extra.load("redis")
        self._client = self._connect(address)

    def _connect(self, address: Address) -> Any:
        retry = extra.load("redis.retry").Retry(
            extra.load("redis.backoff").NoBackoff(), 1, (self._library.exceptions.ConnectionError,))
        where = {"unix_socket_path": address} if isinstance(address, str) else {"host": address[0], "port": address[1]}
        return self._library.Redis(
            **where, socket_timeout=self._timeout, socket_connect_timeout=self._timeout, retry=retry, protocol=2)

    def lookup(self, key: bytes) -> Result:
        """The entry for `key`."""
        try:
            value = self._client.hget(self._hash, key)
        except self._library.exceptions.TimeoutError:
            return TempFail(f"map {self.name}: no answer in {self._timeout:g} s")
        except (self._library.exceptions.RedisError, OSError) as error:
            return TempFail(f"map {self.name}: {error}")
        if value is None:
            return NOT_FOUND
        return Found(key, value) if isinstance(value, bytes) else TempFail(f"map {self.name}: not a server of Redis")

    def reopen(self) -> str:
        """Forget the connections; the next lookup makes a new one."""
        self._client.connection_pool.disconnect(inuse_connections=False)
        return ""
