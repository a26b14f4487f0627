"""The contexts of the process and of an SMTP server (M1 15.1.1); each has room for the author's own object.

Rules
    `own` is that object (sm_pmfi_set_ctx_g, sm_pmfi_set_ctx_ss); `server.process` leads upwards.
    A call at a wrong time, or with what can't be done, raises PolicyError; that is the author's mistake, so the client
    is refused for now and the log says where.
"""
from typing import Any, Final

from meta1g.pmilter.errors import PolicyError
from meta1g.proto.pmilter import numbers
from meta1g.proto.pmilter.numbers import Cap, Fct, Feat, Pmm, Stage

_THREADS_SOFT: Final = 2
_THREADS_HARD: Final = 6
_BACKLOG: Final = 64
_TIMEOUT: Final = 60.0  # seconds; that of SMTPS is the same by default


class Process:
    """The global context, of which a process has one; options may be set until it starts (M1 15.1.2)."""

    def __init__(self, own: Any = None) -> None:
        self.own = own
        self.connection = ""
        self.backlog = _BACKLOG
        self.timeout = _TIMEOUT
        self.debug = 0
        self.threads_soft = _THREADS_SOFT  # kept while there is nothing to do
        self.threads_hard = _THREADS_HARD  # at most

    def setconn(self, where: str) -> None:
        """The socket: a path, or `inet:port@host`; sm_pmfi_setconn."""
        self.connection = where

    def setbacklog(self, backlog: int) -> None:
        """The backlog of listen(2); sm_pmfi_setbacklog."""
        self.backlog = _at_least(1, backlog)

    def settimeout(self, seconds: float) -> None:
        """How long an SMTP server may take for its part of a dialog; sm_pmfi_settimeout."""
        self.timeout = _at_least(1, seconds)

    def setdbg(self, level: int) -> None:
        """How much is logged: 0 errors, 1 connections, 2 sessions, 3 each call; sm_pmfi_setdbg."""
        self.debug = level

    def setthreads(self, soft: int, hard: int) -> None:
        """How many threads make calls: usually, and at most while others wait."""
        self.threads_soft, self.threads_hard = _at_least(1, soft), _at_least(soft, hard)

    @staticmethod
    def version() -> tuple[int, int, int]:
        """Major, minor and patch level of the library; sm_pmfi_version."""
        return numbers.LIBRARY


class Words:
    """The four words of pmfi_negotiate (M1 15.1.3)."""

    def __init__(self, capabilities: Cap, functions: Fct, features: Feat = Feat(0), misc: int = 0) -> None:  # noqa: B008
        self.capabilities = capabilities
        self.functions = functions
        self.features = features
        self.misc = misc


class Server:
    """The context of an SMTP server that has connected."""

    def __init__(self, process: Process, offered: Words, wanted: Words, hostname: str = "") -> None:
        self.process = process
        self.own: Any = None
        self.offered = offered
        self.wanted = wanted
        self.hostname = hostname
        self._stages: dict[Stage, tuple[Pmm, ...]] = {}
        self._asked: frozenset[Pmm] = frozenset()
        self.is_negotiating = False
        self.told = Cap(0)  # stages that are never answered

    def setmaclist(self, where: Stage, *symbols: Pmm | str) -> None:
        """Ask for symbols at a stage, in `negotiate`, once for each stage; sm_pmfi_setmaclist and its kin.

        A symbol is a Pmm or its lower-case name (`tls_cn_issuer`); Pmm.END at the end may be left out.
        """
        if not self.is_negotiating:
            raise PolicyError("setmaclist: only in negotiate")
        if where in self._stages:
            raise PolicyError(f"setmaclist: {Stage(where).name} has a list already")
        found = tuple(dict.fromkeys(_symbol(symbol) for symbol in symbols if symbol != Pmm.END))
        if len(found) > numbers.MACROS_MAX:
            raise PolicyError(f"setmaclist: more than {numbers.MACROS_MAX} symbols")
        self._stages[Stage(where)] = found
        self._asked |= frozenset(found)

    addmacsbyname = setmaclist

    @property
    def stages(self) -> dict[Stage, tuple[Pmm, ...]]:
        """The symbols that were asked for."""
        return dict(self._stages)

    @property
    def has_prdr(self) -> bool:
        """Whether the server offers PRDR to its clients."""
        return bool(self.offered.features & Feat.PRDR)

    def is_asked(self, symbol: Pmm) -> bool:
        """Whether this symbol is in a list."""
        return symbol in self._asked


def _symbol(given: Pmm | str) -> Pmm:
    found = numbers.symbol_of(given) if isinstance(given, str) else Pmm(given)
    if found is None:
        raise PolicyError(f"setmaclist: there is no symbol {given}")
    return found


def _at_least(least: Any, value: Any) -> Any:
    if value < least:
        raise PolicyError(f"{value} is less than {least}")
    return value
