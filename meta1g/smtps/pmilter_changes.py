"""What a policy milter says, as a filter's answers and changes; pure (M1 15.1.7 to 15.1.13).

Rules
    The milter's library has looked at all of it, but it may be another one: everything is looked at again.
"""
from collections.abc import Mapping, Sequence
from typing import Final

from meta1g.mta.reply import Reply
from meta1g.proto.pmilter import messages, numbers, texts
from meta1g.proto.pmilter.messages import HdrChange, MailRplc, RcptAdd, RcptDel, Replies
from meta1g.proto.pmilter.numbers import HdrMod
from meta1g.proto.smtp import replies
from meta1g.smtps.filter import (
    Act,
    AddRcpt,
    Answer,
    Change,
    ChangeSender,
    DeleteRcpt,
    InsertField,
    ReplaceField,
)

_SPECIAL: Final = {
    numbers.SMTP_R_CONT: Act.GO_ON, numbers.SMTP_R_OK: Act.GO_ON, numbers.SMTP_R_RPLCMSG: Act.GO_ON,
    numbers.SMTP_R_ACCEPT: Act.ACCEPT, numbers.SMTP_R_DISCARD: Act.DISCARD, numbers.SMTP_R_SSD: Act.CLOSE,
}


class Nonsense(Exception):
    """The milter says what can't be; the text says what."""


def answer_of(word: messages.Answer) -> Answer:
    """An answer. Nonsense."""
    act = _SPECIAL.get(word.code) or (Act.TEMPFAIL if word.code < 500 else Act.REJECT)
    return Answer(act, _reply(word.code, word.reply), word.is_quick)


def _reply(code: int, octets: bytes) -> Reply | None:
    """The reply that a code comes with, None for a usual one."""
    if octets:
        reply = texts.parse_reply(octets)
        if reply is None or reply.code != code:
            raise Nonsense(f"a reply does not fit the code {code}")
        return reply
    if code in (numbers.SMTP_R_SSD, numbers.SMTP_R_TEMP, numbers.SMTP_R_PERM) or code < 400:
        return None
    usual = replies.FILTER_TEMPFAIL if code < 500 else replies.FILTER_REJECT
    return usual._replace(code=code)


def replies_of(given: Sequence[Replies], count: int) -> tuple[Reply, ...]:
    """PRDR's replies, for so many recipients. Nonsense."""
    if not given:
        return ()
    each = given[-1].each
    if any(part.code == numbers.SMTP_R_SSD for part in each):
        raise Nonsense("421 is no reply for a recipient")
    if len(each) != count:
        raise Nonsense(f"{len(each)} replies for {count} recipients")
    usual = {numbers.SMTP_R_TEMP: replies.FILTER_TEMPFAIL, numbers.SMTP_R_PERM: replies.FILTER_REJECT,
             numbers.SMTP_R_OK: replies.RCPT_OK}
    return tuple(_reply(part.code, part.reply) or usual[part.code] for part in each)


def changes_of(given: Sequence[messages.Change], valid: Mapping[int, bytes]) -> list[Change]:
    """The changes of a message with these recipients, in the order in which they are made. Nonsense."""
    found: list[Change] = []
    gone: set[int] = set()
    for change in given:
        match change:
            case MailRplc(address, params):
                found.append(ChangeSender(_path(address, may_be_null=True), _params(params)))
            case RcptAdd(address, params):
                found.append(AddRcpt(_path(address, may_be_null=False), _params(params)))
            case RcptDel(idx, address):
                if idx not in valid:
                    raise Nonsense(f"there is no recipient {idx}")
                gone.add(idx)
                found.append(DeleteRcpt(_path(address, may_be_null=False), idx))
            case _:
                pass
    if gone and gone == set(valid) and not any(isinstance(change, AddRcpt) for change in found):
        raise Nonsense("no recipient is left")
    return [*found, *_fields([change for change in given if isinstance(change, HdrChange)])]


def _fields(given: Sequence[HdrChange]) -> list[Change]:
    """Positions are those of the mail as it came, so the last one's turn is first."""
    replaced: dict[int, bytes] = {}
    inserted: dict[int, list[bytes]] = {}
    ends: list[Change] = []
    for kind, position, field in given:
        if kind != HdrMod.REMOVE and texts.field_name(field) is None:
            raise Nonsense("a header field is malformed")
        match kind:
            case HdrMod.INSERT:
                inserted.setdefault(position, []).append(field)
            case HdrMod.REPLACE:
                replaced[position] = field
            case HdrMod.REMOVE:
                replaced[position] = b""
            case HdrMod.PREPEND:
                ends.append(InsertField(0, field))
            case _:
                ends.append(InsertField(None, field))
    found: list[Change] = []
    for position in sorted({*replaced, *inserted}, reverse=True):
        if position in replaced:
            found.append(ReplaceField(position, replaced[position]))
        found += [InsertField(position, field) for field in reversed(inserted.get(position, []))]
    return [*found, *ends]


def _path(octets: bytes, *, may_be_null: bool) -> bytes:
    found = texts.parse_path(octets, may_be_null=may_be_null)
    if found is None:
        raise Nonsense("an address is malformed")
    return found


def _params(octets: bytes) -> bytes:
    if not texts.is_params(octets):
        raise Nonsense("parameters are malformed")
    return octets
