"""Aliases (M1 3.9.3, 4.3.2): which addresses an address stands for; pure.

Rules
    RHS ::= "local:" | address | "<" address ">" { " " "<" address ">" }
    `local:` says that the address itself is a mailbox. An address without a domain gets
    this host's name, or with preserve_domain the domain of the address it came from.
    An alias may name aliases, five levels deep. An address is expanded once: a list that
    contains itself adds nothing new, and an alias that leads to nothing but itself is an
    error; `user: user` is a mailbox.
    Mail to `list` gets the sender `owner-list` in list's domain if there is such an alias,
    and a return path for each recipient if there is an alias `verp-list` (M1 3.14).
    A map that cannot be asked fails the whole expansion for now, so that nobody gets the
    mail twice.
"""
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from meta1g.maps import macros, order
from meta1g.maps.map import Found, PermFail, Result, TempFail
from meta1g.mta import addr
from meta1g.mta.reply import Reply
from meta1g.smar.ask import ALIASES, LOCAL_USERS, Work, look, note
from meta1g.smar.route import MAP_FAILED, NO_REPLY, Route, find_entry, is_lmtp
from meta1g.smar.setup import Setup

NESTING_MAX: Final = 5  # M1 3.9.3: aliases can be nested up to 5 levels
MEMBERS_MAX: Final = 50_000  # of one expansion: what a frame between processes holds (limits.FRAME)
LOCAL: Final = b"local:"  # M1 4.3.2
OWNER: Final = b"owner-"
VERP: Final = b"verp-"  # M1 3.14
POSTMASTER: Final = b"postmaster"  # RFC 5321 4.5.1: always exists

_MEMBER: Final = re.compile(rb'\s*(?:<([^<>]*)>|([^\s<>]+))')
_LOOP: Final = Reply(554, "5.4.6", "the alias leads to itself")
_DEEP: Final = Reply(554, "5.4.6", f"aliases are nested deeper than {NESTING_MAX} levels")
_LARGE: Final = Reply(554, "5.3.4", f"the alias has more than {MEMBERS_MAX} members")
_BAD: Final = Reply(554, "5.3.5", "the alias is malformed")


class AliasError(ValueError):
    """The RHS breaks the grammar; the text says how."""


class Member(NamedTuple):
    """One address that mail goes to; `sender` replaces the envelope's unless None. A reply says why it fails.

    `is_verp`: it came through a list that is marked so.
    """

    address: bytes
    sender: bytes | None = None
    reply: Reply = NO_REPLY
    is_verp: bool = False


class _Step(NamedTuple):
    address: bytes
    sender: bytes | None
    depth: int
    is_verp: bool = False


def parse(rhs: bytes) -> list[bytes]:
    """The members of an RHS, `local:` among them as it is; AliasError if it is malformed."""
    members = []
    at = 0
    rhs = rhs.strip()
    while at < len(rhs):
        match = _MEMBER.match(rhs, at)
        if match is None:
            raise AliasError(f"cannot read `{rhs[at:at + 20].decode('utf-8', 'replace')}`")
        at = match.end()
        member = match[1].strip() if match[1] is not None else match[2]
        if match[2] is not None and member.lower() == LOCAL:
            members.append(LOCAL)
        elif member:
            members.append(_checked(member))
    if not members:
        raise AliasError("there is no address")
    return members


def _checked(member: bytes) -> bytes:
    is_good = addr.parse_mailbox(member, utf8=True) if b"@" in member else addr.is_local_part(member, utf8=True)
    if not is_good:
        hint = " (members are separated by spaces, not commas)" if b"," in member else ""
        raise AliasError(f"not an address: `{member.decode('utf-8', 'replace')}`{hint}")
    return member


def complete(address: bytes, domain: bytes) -> bytes:
    """An address with `domain` if it has none."""
    return address if b"@" in address else address + b"@" + domain


def alias_keys(setup: Setup, address: bytes, *, is_local: bool) -> tuple[bytes, ...]:
    """The keys under which an alias for this address may stand."""
    flags = setup.aliases
    return tuple(_keys(setup, address, flags.all_domains or (flags.local_domains and is_local),
                       flags.localpart and is_local))


def _keys(setup: Setup, address: bytes, is_qualified: bool, is_localpart: bool) -> Iterator[bytes]:
    if is_qualified:
        yield from order.address_keys(address, setup.delimiters, setup.alias_qualified)
    if is_localpart:
        yield from order.address_keys(addr.split(address)[0], setup.delimiters, setup.alias_localpart)


def find_alias(setup: Setup, address: bytes, *, is_local: bool) -> Work[Result]:
    """The aliases map's entry for an address."""
    result = yield from look(ALIASES, alias_keys(setup, address, is_local=is_local))
    return result


def exists(setup: Setup, address: bytes) -> Work[bool | Reply]:
    """Whether a local address is valid (M1 4.3.2); a reply if a map cannot be asked."""
    local = addr.split(address)[0]
    if local.lower() == POSTMASTER or not (setup.has_aliases or setup.has_local_users):
        return True
    if setup.has_local_users:
        result = yield from look(LOCAL_USERS, tuple(order.address_keys(local, setup.delimiters, setup.local_users)))
        if isinstance(result, TempFail | PermFail):
            return MAP_FAILED
        if isinstance(result, Found):
            return True
    if setup.has_aliases:
        result = yield from find_alias(setup, address, is_local=True)
        if isinstance(result, TempFail | PermFail):
            return MAP_FAILED
        return isinstance(result, Found)
    return False


def expand(setup: Setup, address: bytes) -> Work[list[Member]]:
    """The addresses that `address` (with a domain) stands for; itself if it is no alias."""
    final: dict[bytes, Member] = {}
    seen: set[bytes] = set()
    todo = [_Step(address, None, 0)]
    while todo:
        step = todo.pop()
        key = step.address.lower()
        if key in seen:
            continue
        seen.add(key)
        if len(seen) > MEMBERS_MAX:
            return [Member(address, reply=_LARGE)]
        outcome = yield from _expand_one(setup, step)
        if isinstance(outcome, Reply):
            return [Member(address, reply=outcome)]
        for item in outcome:
            if isinstance(item, Member):
                final.setdefault(item.address.lower(), item)
        todo += reversed([item for item in outcome if isinstance(item, _Step)])
    return list(final.values()) or [Member(address, reply=_LOOP)]


def _expand_one(setup: Setup, step: _Step) -> Work[list[Member | _Step] | Reply]:
    """Members that are final and steps to go on with; a reply fails the whole expansion."""
    entry = yield from find_entry(setup, step.address)
    if isinstance(entry, Route):
        return entry.reply
    result = yield from find_alias(setup, step.address, is_local=is_lmtp(entry))
    if isinstance(result, TempFail | PermFail):
        return MAP_FAILED
    own = Member(step.address, step.sender, is_verp=step.is_verp)
    if not isinstance(result, Found):
        return [own]
    try:
        members = members_of(setup, step.address, result)
    except AliasError as error:
        yield from note(f"aliases, key={result.key.decode('utf-8', 'replace')}, reason={error}")
        return [own._replace(reply=_BAD)]
    if members == [LOCAL]:
        return [own]
    if step.depth >= NESTING_MAX:
        return [own._replace(reply=_DEEP)]
    owner = yield from _marked(setup, OWNER, step.address, is_local=is_lmtp(entry))
    verp = yield from _marked(setup, VERP, step.address, is_local=is_lmtp(entry))
    if isinstance(owner, Reply) or isinstance(verp, Reply):
        return MAP_FAILED
    own = own._replace(sender=owner or step.sender, is_verp=step.is_verp or verp is not None)
    return [
        own if member == LOCAL or member.lower() == step.address.lower()
        else _Step(member, own.sender, step.depth + 1, own.is_verp)
        for member in members
    ]


def members_of(setup: Setup, address: bytes, found: Found) -> list[bytes]:
    """The addresses, each with a domain, and `local:` in an entry that was found for `address`; AliasError."""
    rhs = found.value
    if setup.aliases.replace_macros:
        rhs = macros.replace(rhs, address, found.key, delimiters=setup.delimiters)
    domain = addr.split(address)[1] if setup.aliases.preserve_domain else setup.hostname
    return [member if member == LOCAL else complete(member, domain) for member in parse(rhs)]


def _marked(setup: Setup, prefix: bytes, address: bytes, *, is_local: bool) -> Work[bytes | Reply | None]:
    """The address of the alias that marks this list, `owner-list` or `verp-list`, None if there is none."""
    local, domain = addr.split(address)
    user = addr.split_detail(local, setup.delimiters)[0]
    marked = prefix + user + b"@" + domain
    result = yield from find_alias(setup, marked, is_local=is_local)
    if isinstance(result, TempFail | PermFail):
        return MAP_FAILED
    # a key without the prefix is an entry for the whole domain, which says nothing about this list
    return marked if isinstance(result, Found) and result.key.startswith(prefix) else None
