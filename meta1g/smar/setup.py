"""What decisions have to know of the configuration; pure values.

A new Setup replaces the old one when maps are reopened (M1 4.8), since a map may be there
now that was not before.
"""
from dataclasses import dataclass, field
from typing import NamedTuple

from meta1g.maps.order import CLIENT_CONF, LOCALPART, MAILERTABLE, QUALIFIED, Order
from meta1g.smar.dane import SECURE, SMTP_PORT
from meta1g.smar.mt import Family


class Dnsbl(NamedTuple):
    """One DNS blacklist (M1 3.9.2 item 5)."""

    domain: str
    tag: str


@dataclass(frozen=True, slots=True)
class AliasFlags:
    """Flags of the aliases map (M1 3.9.2 item 3.3)."""

    localpart: bool = True
    local_domains: bool = False
    all_domains: bool = False
    replace_macros: bool = False
    preserve_domain: bool = False


@dataclass(frozen=True, slots=True)
class Setup:
    """The configuration as decisions see it.

    `hostname` completes unqualified addresses; `own_names` are cut out of MX lists. `has_aliases`
    and `has_local_users` say whether those maps are there to be asked. `rules_on_users`: some `to:` entry
    of the access map may name a local part. `tags` are the access map's, None if that is not known.
    `grey_mask` is greylisting's netmask, None without greylisting. `dane` is the option DANE, `smtp_port` that
    to which mail goes unless the mailertable names another. `client_conf` is how smtpc_rcpt_conf is looked up.
    """

    hostname: bytes
    own_names: frozenset[str] = frozenset()
    delimiters: bytes = b"+"
    mailertable: Order = MAILERTABLE
    has_aliases: bool = False
    aliases: AliasFlags = field(default_factory=AliasFlags)
    alias_qualified: Order = QUALIFIED
    alias_localpart: Order = LOCALPART
    has_local_users: bool = False
    local_users: Order = LOCALPART
    family: Family = Family.IPV4_PREFERRED
    dnsbls: tuple[Dnsbl, ...] = ()
    rules_on_users: bool = True
    tags: frozenset[bytes] | None = None
    grey_mask: int | None = None
    dane: str = SECURE
    smtp_port: int = SMTP_PORT
    client_conf: Order = CLIENT_CONF

    def may_have(self, tag: bytes) -> bool:
        """Whether the access map may have entries with this tag."""
        return self.tags is None or tag in self.tags
