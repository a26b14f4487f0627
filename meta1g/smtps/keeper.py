"""Who knows the users' passwords and tokens, as sessions see it."""
from typing import TYPE_CHECKING, NamedTuple, Protocol

from meta1g.mta.errors import MtaError
from meta1g.mta.tls import TlsFacts
from meta1g.proto.sasl.step import ScramKeys, Success

if TYPE_CHECKING:  # it loads all mechanisms
    from meta1g.proto.sasl.mechanisms import Virtues


class Peer(NamedTuple):
    """Whom a session is with; `tls` is None without TLS."""

    se: str
    ip: str
    tls: TlsFacts | None


class KeeperAway(MtaError):
    """Nobody can say now: which one, and why."""


class Keeper(Protocol):
    """The passwords for this server's own mechanisms. Each call may wait, and may raise KeeperAway."""

    @property
    def mechanisms(self) -> frozenset[str]:
        """Those that all users can use."""
        ...

    @property
    def possible(self) -> frozenset[str]:
        """Those that some may use."""
        ...

    def check(self, user: str, password: bytes) -> bool:
        """Whether it is the user's password."""
        ...

    def password(self, user: str) -> str | None:
        """The password itself."""
        ...

    def scram(self, user: str, name: str) -> ScramKeys:
        """The keys for a hash; for an unknown user such as fit nothing."""
        ...


class Owners(Protocol):
    """Who knows whose a token is."""

    def owner(self, token: bytes) -> str:
        """The user's name, empty if there is none; KeeperAway."""
        ...


class Exchange(Protocol):
    """One dialog of a mechanism, here or elsewhere. AuthFailed, KeeperAway."""

    def begin(self) -> bytes | Success:
        """The first challenge, or the end."""
        ...

    def respond(self, octets: bytes) -> bytes | Success:
        """The next one."""
        ...

    def end(self) -> None:
        """It is not wanted any more."""
        ...


class Elsewhere(Protocol):
    """A server that has mechanisms of its own. KeeperAway."""

    def offered(self) -> "dict[str, Virtues]":
        """Its mechanisms; may wait."""
        ...

    def exchange(self, mechanism: str, initial: bytes | None, ip: str, *, is_tls: bool) -> Exchange:
        """A dialog with it."""
        ...
