"""Entries of the access map: what it says under a tag, as a rule or as configuration; pure (M1 3.9.3)."""
from collections.abc import Iterable
from typing import Final

from meta1g.maps import order
from meta1g.maps.map import Found, PermFail, TempFail
from meta1g.maps.order import Order
from meta1g.maps.rhs import NO_REPLY, AccessRule, parse_access
from meta1g.mta.reply import Reply
from meta1g.proto.msg_ar import Action
from meta1g.smar.ask import ACCESS, Work, look, note
from meta1g.smar.route import ENTRY_BAD, MAP_FAILED
from meta1g.smar.setup import Setup

NOTHING: Final = AccessRule(Action.NONE, False, NO_REPLY)


def rejection(reply: Reply) -> AccessRule:
    """A rule that rejects with this reply; it may be delayed."""
    return AccessRule(Action.REJECT, False, reply)


def is_decision(rule: AccessRule) -> bool:
    """Whether a rule ends the checks of its stage."""
    return rule.action not in (Action.NONE, Action.CONT)


def access(tag: bytes, parts: Iterable[bytes]) -> Work[AccessRule]:
    """What the access map says under `tag` about the first of `parts` that it knows.

    A map that cannot be read gives 451 4.3.0, so that nothing passes unchecked.
    """
    prefix = tag.lower() + b":"
    result = yield from look(ACCESS, tuple(prefix + part for part in parts))
    if isinstance(result, Found):
        rule = parse_access(result.value)
        if rule is None:
            value = result.value.decode("utf-8", "replace")
            yield from note(f"access, key={result.key.decode('utf-8', 'replace')}, value={value}, reason=unknown value")
            return rejection(ENTRY_BAD)
        return rule
    if isinstance(result, TempFail | PermFail):
        return rejection(MAP_FAILED)
    return NOTHING


def configuration(setup: Setup, tag: bytes, parts: Iterable[bytes]) -> Work[str | Reply]:
    """The text of a configuration entry, empty if there is none; a reply if the map cannot be asked."""
    if not setup.may_have(tag):
        return ""
    result = yield from look(ACCESS, tuple(tag + b":" + part for part in parts))
    if isinstance(result, Found):
        return result.value.decode("utf-8", "replace")
    return MAP_FAILED if isinstance(result, TempFail | PermFail) else ""


def rcpt_conf(setup: Setup, tag: bytes, address: bytes, lookups: Order = order.ADDRESS) -> Work[str | Reply]:
    """The configuration entry for a recipient."""
    return (yield from configuration(setup, tag, order.address_keys(address, setup.delimiters, lookups)))
