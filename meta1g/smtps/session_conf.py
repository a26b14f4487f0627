"""What the access map's configuration entries say about one session or recipient (M1 3.10 item 25, 3.10.1).

Diagnostics
    func=smtps, tag=smtps_session_conf, value=..., status=...: the entry has a mistake or names a class that no
    section session_features declares. Its client gets 451 until it is mended.
"""
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from meta1g.conf.errors import ConfError, ConfErrors, Position, nearest
from meta1g.conf.opt_smtps import SessionEntry
from meta1g.conf.opt_tls import TlsRequirements
from meta1g.conf.parse import parse
from meta1g.conf.spec import bind
from meta1g.proto.smtp.params import Offers

if TYPE_CHECKING:
    from meta1g.tls.ends import ServerEnd

_ENTRY: Final = "smtps_session_conf"


class Features(NamedTuple):
    """A class of session features: what is offered, and TLS of its own if it has such (M1 3.10 item 25)."""

    offers: Offers
    tls: "ServerEnd | None" = None


class Wishes(NamedTuple):
    """What an entry says: `features` are None if nothing is said of them."""

    features: Features | None
    required: TlsRequirements


NOTHING: Final = Wishes(None, TlsRequirements())


def wishes_of(text: str, classes: Mapping[str, Features]) -> Wishes:
    """What an entry wants; `classes` are those of `session_features`. ConfErrors names what is wrong with it."""
    root, errors = parse(text, _ENTRY)
    conf = bind(SessionEntry, root, errors)
    if not errors and conf.session_feature not in ("", *classes):
        errors = [ConfError(Position(_ENTRY, 1, 1), f"there is no session_features {conf.session_feature}",
                            nearest(conf.session_feature, classes))]
    if errors:
        raise ConfErrors(errors)
    return Wishes(classes.get(conf.session_feature), conf.tls_requirements)
