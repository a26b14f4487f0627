"""What the access map's configuration entries say about one session (M1 3.10 item 25, 3.10.1).

Diagnostics
    func=smtps, tag=smtps_session_conf, value=..., status=...: the entry has a mistake or names a class that no
    section session_features declares. Its client gets 451 until it is mended.
"""
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from meta1g.conf import kinds
from meta1g.conf.errors import ConfError, ConfErrors, Position, nearest
from meta1g.conf.parse import parse
from meta1g.conf.spec import bind, opt
from meta1g.proto.smtp.params import Offers

_ENTRY: Final = "smtps_session_conf"


@dataclass(frozen=True)
class SessionConf:
    """The right hand side of an entry."""

    session_feature: str = opt("session_feature", kinds.STRING, "", m1="3.10(25)", help="a class of session features")


def offers_of(text: str, classes: Mapping[str, Offers]) -> Offers | None:
    """What the session is offered, None if the entry does not say so; `classes` are those of `session_features`.

    ConfErrors names what is wrong with the entry.
    """
    root, errors = parse(text, _ENTRY)
    conf = bind(SessionConf, root, errors)
    if not errors and conf.session_feature not in ("", *classes):
        errors = [ConfError(Position(_ENTRY, 1, 1), f"there is no session_features {conf.session_feature}",
                            nearest(conf.session_feature, classes))]
    if errors:
        raise ConfErrors(errors)
    return classes.get(conf.session_feature)
