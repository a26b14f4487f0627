"""Sections tls of a configuration, made into the ends of a server or client (M1 3.10 items 24, 25; 3.11 items 4, 5)."""
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from typing import Any, Final, NamedTuple, TypeVar

from meta1g.conf.opt_tls import TlsConf
from meta1g.tls.context import PathOf
from meta1g.tls.ends import ClientEnd, ServerEnd

E = TypeVar("E", ServerEnd, ClientEnd)
_WARN: Final = 14 * 86400.0  # seconds before the end of a certificate
_OF_A_CLASS: Final = ("cert_file", "key_file", "flags", "options", "cipherlist", "ciphersuites")  # M1 3.11 item 5.2


class Ends(NamedTuple):
    """The end for all sessions, and those of classes of session features that have their own."""

    of_all: ServerEnd
    of_class: Mapping[str, ServerEnd]

    def expiring(self) -> list[str]:
        """Files of certificates that end soon, or have ended."""
        before = time.time() + _WARN
        return sorted({path for end in (self.of_all, *self.of_class.values()) for path in end.expiring(before)})


def server_ends(conf: TlsConf, features: Iterable[Any], path_of: PathOf) -> Ends:
    """What a server's section tls and its session_features say; TlsError."""
    return Ends(ServerEnd(conf, path_of), _of_classes(conf, features, path_of, ServerEnd))


def client_ends(
    conf: TlsConf | None, features: Iterable[Any], path_of: PathOf, *, is_old: bool = False
) -> tuple[ClientEnd, dict[str, ClientEnd]]:
    """A client's, if it `is_old` for TLS 1.2 only; it needs no certificate, so there is always one. TlsError."""
    conf = conf or TlsConf()
    if is_old:
        conf = replace(conf, options=(*conf.options, "NO_TLSv1_3"))
    return ClientEnd(conf, path_of), _of_classes(conf, features, path_of, ClientEnd)


def _of_classes(
    conf: TlsConf, features: Iterable[Any], path_of: PathOf, make: Callable[[TlsConf, PathOf], E]
) -> dict[str, E]:
    return {feature.name: make(_merged(conf, feature.tls), path_of) for feature in features if feature.tls is not None}


def _merged(conf: TlsConf, of_class: TlsConf) -> TlsConf:
    """The section for all, with what a class says otherwise."""
    default = TlsConf()
    given = {item.name: getattr(of_class, item.name) for item in fields(TlsConf) if item.name in _OF_A_CLASS}
    return replace(conf, **{name: value for name, value in given.items() if value != getattr(default, name)})
