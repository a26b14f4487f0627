"""Protected recipients: who may write to them (M1 3.10.3); pure.

Rules
    RHS ::= { "from:" sender | "cltaddr:" IP | "list:" alias | "temp:" }, separated by blanks.
    One that matches suffices. `from:` and `list:` count if the server allows by sender,
    `cltaddr:` if it allows by client. A list is not expanded further.
    By default items must be equal. With generic_lookup an item matches if it is one of the
    keys under which M1 3.12.1 would look the sender or client up.
"""
from dataclasses import replace
from typing import Final, NamedTuple

from meta1g.maps import order
from meta1g.maps.map import Found, PermFail, TempFail
from meta1g.mta.reply import Reply
from meta1g.proto.msg_ar import CheckRcpt, Want
from meta1g.smar.alias import AliasError, complete, find_alias, members_of
from meta1g.smar.ask import ACCESS, Work, look, note
from meta1g.smar.route import ENTRY_BAD, MAP_FAILED, Route, find_entry, is_lmtp
from meta1g.smar.setup import Setup

TAG: Final = b"protectedrcpt"
DENIED: Final = Reply(550, "5.7.1", "You may not send to this recipient")
DENIED_FOR_NOW: Final = Reply(450, "4.7.1", "You may not send to this recipient now")
_KINDS: Final = {b"from": Want.BY_SENDER, b"list": Want.BY_SENDER, b"cltaddr": Want.BY_CLIENT}


class Restriction(NamedTuple):
    """One way in: `kind` is from, list or cltaddr."""

    kind: bytes
    item: bytes


def parse(rhs: bytes) -> tuple[list[Restriction], bool]:
    """The restrictions, and whether others are refused for now only; ValueError names what can't be read."""
    found, is_temporary = [], False
    for word in rhs.split():
        kind, colon, item = word.partition(b":")
        item = item.removeprefix(b"<").removesuffix(b">").lower()
        if colon and kind.lower() == b"temp" and not item:
            is_temporary = True
        elif colon and kind.lower() in _KINDS:
            found.append(Restriction(kind.lower(), item))
        else:
            raise ValueError(f"from:, cltaddr:, list: and temp: are known, not `{word.decode('utf-8', 'replace')}`")
    return found, is_temporary


def protection(setup: Setup, ask: CheckRcpt, address: bytes) -> Work[Reply | None]:
    """The reply to a sender who may not write to `address`, None if anybody or this one may."""
    if not (ask.wants & Want.ACCESS and ask.wants & Want.PROTECTED) or not setup.may_have(TAG):
        return None
    keys = order.address_keys(address, setup.delimiters, order.ADDRESS)
    result = yield from look(ACCESS, tuple(TAG + b":" + key for key in keys))
    if isinstance(result, TempFail | PermFail):
        return MAP_FAILED
    if not isinstance(result, Found):
        return None
    try:
        restrictions, is_temporary = parse(result.value)
    except ValueError as error:
        yield from note(f"access, key={result.key.decode('utf-8', 'replace')}, reason={error}")
        return ENTRY_BAD
    for restriction in restrictions:
        outcome = yield from _allows(setup, ask, restriction)
        if isinstance(outcome, Reply):
            return outcome
        if outcome:
            return None
    return DENIED_FOR_NOW if is_temporary else DENIED


def _allows(setup: Setup, ask: CheckRcpt, restriction: Restriction) -> Work[bool | Reply]:
    if not ask.wants & _KINDS[restriction.kind]:
        return False
    if restriction.kind == b"cltaddr":
        return restriction.item in _client_keys(ask)
    senders = _sender_keys(setup, ask)
    if restriction.kind == b"from":
        return restriction.item in senders
    members = yield from _members(setup, restriction.item)
    return members if isinstance(members, Reply) else any(member.lower() in senders for member in members)


def _client_keys(ask: CheckRcpt) -> tuple[bytes, ...]:
    keys = order.client_parts(ask.client_ip)
    return keys if ask.wants & (Want.GENERIC | Want.DETAIL) else keys[:1]


def _sender_keys(setup: Setup, ask: CheckRcpt) -> list[bytes]:
    """What an item may say to mean the sender; the null sender is the empty item."""
    mail = complete(ask.mail, setup.hostname).lower() if ask.mail else b""
    if not mail or not ask.wants & (Want.GENERIC | Want.DETAIL):
        return [mail]
    how = replace(order.ADDRESS, implicit_detail=bool(ask.wants & Want.DETAIL))
    return order.address_keys(mail, setup.delimiters, how)


def _members(setup: Setup, name: bytes) -> Work[list[bytes] | Reply]:
    """The addresses in an alias, one level deep."""
    address = complete(name, setup.hostname)
    entry = yield from find_entry(setup, address)
    if isinstance(entry, Route):
        return entry.reply
    result = yield from find_alias(setup, address, is_local=is_lmtp(entry))
    if isinstance(result, TempFail | PermFail):
        return MAP_FAILED
    if not isinstance(result, Found):
        return []
    try:
        return members_of(setup, address, result)
    except AliasError as error:
        yield from note(f"aliases, key={result.key.decode('utf-8', 'replace')}, reason={error}")
        return ENTRY_BAD
