"""Which hosts of a route have TLSA records, and may be used only as these say (M1 14.2, RFC 7672 2.2); pure.

Rules
    TLSA records are asked for where DNSSEC confirms that the domain's mail goes to this host, and the host's addresses
    too: elsewhere they prove nothing, and some nameservers don't answer (RFC 7672 2.1.3, 2.2.1).
    If the host's name is an alias, what it stands for comes first, then the name itself (RFC 7672 2.2.2, 2.2.3). If
    only the alias is secure, not what it stands for, the name itself is all.
    A host whose TLSA records can't be had is left out: whoever can suppress them must not gain by it (RFC 7672 2.1.2).
    With DANE = always nothing has to be secure; failures then count only where it is.
"""
from typing import Final, NamedTuple

from meta1g.mta.dane import Tlsa, TlsaSet
from meta1g.mta.reply import Reply
from meta1g.smar.ask import DnsAnswer, DnsAsk, Rtype, Status, Work, dns

SECURE: Final = "secure"  # the values of the option DANE
NEVER: Final = "never"
ALWAYS: Final = "always"
SMTP_PORT: Final = 25  # RFC 5321 4.5.4.2
RECORDS_MAX: Final = 32  # of one host: more than two for each key and anchor in a rollover are a mistake, or an attack
OCTETS_MAX: Final = 8192  # of one host's records, which each recipient carries: four certificates, or 128 digests


class Candidate(NamedTuple):
    """A host that may have TLSA records.

    `expanded` is what its name is an alias for, else empty. `is_mx_secure`: it is securely known to be the host;
    `is_secure`: its addresses are confirmed, the alias included.
    """

    host: str
    port: int
    domain: str
    expanded: str
    is_mx_secure: bool
    is_secure: bool


class Findings(NamedTuple):
    """Records by host, hosts that can't be used with the reason, and until when all this holds."""

    sets: tuple[TlsaSet, ...]
    failed: dict[str, str]
    expires: float


class _Look(NamedTuple):
    """One TLSA question about a host."""

    of: Candidate
    base: str
    is_secure: bool

    @property
    def ask(self) -> DnsAsk:
        return DnsAsk(f"_{self.of.port}._tcp.{self.base}", Rtype.TLSA)  # RFC 6698 3


def candidate(domain: str, host: str, port: int, answers: list[DnsAnswer], *, is_mx_secure: bool) -> Candidate:
    """A host with the answers that gave it addresses."""
    found = [answer for answer in answers if answer.records]
    best = next((answer for answer in found if answer.is_secure), found[0])
    return Candidate(host, port, domain, best.alias, is_mx_secure, best.is_secure)


def find(mode: str, candidates: tuple[Candidate, ...], expires: float) -> Work[Findings]:
    """The TLSA records of hosts; `mode` is the option DANE."""
    if mode != ALWAYS:
        candidates = tuple(one for one in candidates if one.is_mx_secure and (one.is_secure or one.expanded))
    if mode == NEVER or not candidates:
        return Findings((), {}, expires)
    sets: list[TlsaSet] = []
    failed: dict[str, str] = {}
    looks = [_Look(one, one.expanded or one.host, one.is_mx_secure and one.is_secure)
             for one in candidates if one.is_secure or mode == ALWAYS]
    rest, expires = yield from _look(mode, looks, sets, failed, expires)
    aliases = [one for one in candidates if one.expanded and (one in rest or not (one.is_secure or mode == ALWAYS))]
    plain, expires = yield from _secure_aliases(mode, aliases, failed, expires)
    _, expires = yield from _look(mode, plain, sets, failed, expires)
    return Findings(tuple(sets), failed, expires)


def _secure_aliases(
    mode: str, aliases: list[Candidate], failed: dict[str, str], expires: float
) -> Work[tuple[list[_Look], float]]:
    """The names themselves, where they are secure: if what they stand for is not, CNAME tells (RFC 7672 2.1.3)."""
    asks = [DnsAsk(one.host, Rtype.CNAME) for one in aliases if not one.is_secure]
    answers = dict(zip(asks, (yield from dns(*asks)), strict=True)) if asks else {}
    looks = []
    for one in aliases:
        answer = answers.get(DnsAsk(one.host, Rtype.CNAME))
        if answer is not None:
            expires = min(expires, answer.expires)
        if answer is not None and answer.status is Status.TEMP and mode != ALWAYS:
            failed[one.host] = f"CNAME lookup of {one.host}: {answer.reason or 'no answer'}"
        elif one.is_secure or mode == ALWAYS or (answer is not None and answer.is_secure):
            is_secure = one.is_mx_secure and (one.is_secure or (answer is not None and answer.is_secure))
            looks.append(_Look(one, one.host, is_secure))
    return looks, expires


def _look(
    mode: str, looks: list[_Look], sets: list[TlsaSet], failed: dict[str, str], expires: float
) -> Work[tuple[list[Candidate], float]]:
    """Ask; the answer is those that have no records there, and how long it holds."""
    answers = (yield from dns(*[look.ask for look in looks])) if looks else []
    without = []
    for look, answer in zip(looks, answers, strict=True):
        one = look.of
        expires = min(expires, answer.expires)
        if answer.status is Status.TEMP:
            if look.is_secure:
                failed[one.host] = f"TLSA lookup of {look.ask.name}: {answer.reason or 'no answer'}"
        elif answer.tlsa and (answer.is_secure or mode == ALWAYS):
            sets.append(TlsaSet(one.port, look.is_secure and answer.is_secure, one.host, look.base, one.domain,
                                bounded(answer.tlsa)))
        else:
            without.append(one)
    return without, expires


def bounded(records: tuple[Tlsa, ...]) -> tuple[Tlsa, ...]:
    """As many as a recipient may carry, the short ones first. There is always one, so that TLS stays mandatory."""
    kept: list[Tlsa] = []
    room = OCTETS_MAX
    for record in sorted(records, key=lambda record: len(record.data))[:RECORDS_MAX]:
        room -= len(record.data)
        if room >= 0:
            kept.append(record)
    return tuple(kept) or (records[0]._replace(data=b""),)


def unusable(failed: dict[str, str]) -> Reply:
    """Why no host is left."""
    return Reply(451, "4.7.5", f"DANE: {next(iter(failed.values()))}")
