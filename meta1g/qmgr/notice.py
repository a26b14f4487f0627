"""What a DSN says, and which delays are worth one; pure (M1 3.8 items 5, 13.2, RFC 3461, 3464).

Rules
    The whole message comes back once to each addressee, then its header only; RET=FULL asks for all
    of it each time. A report without a failure has the header only (RFC 3461 4.3, 6.2).
    A delay is reported once, when a try fails at that age; never to the null sender or the double
    bounce address, nor where NOTIFY does not ask for it.
"""
from collections.abc import Sequence
from email.utils import formatdate

from meta1g.proto import dsn, dsn_parts
from meta1g.proto.dsn import Action, Form, Frame, Notice, Report
from meta1g.proto.msg_ar import Protocol
from meta1g.proto.msg_da import Stage
from meta1g.proto.smtp.params import notifies, reports, split_onward
from meta1g.qmgr import verp
from meta1g.qmgr.state import Qmgr, Rcpt, RState, Ta

_FORMATS = {Form.PLAIN: dsn.plain, Form.MIME: dsn_parts.mixed, Form.RFC: dsn_parts.report}


def frame(q: Qmgr, ta: Ta, rcpts: Sequence[Rcpt], to: bytes, name: str, now: float, *, whole: bool) -> Frame:
    """The DSN `name` about these recipients, which have one sender, to be put around the original."""
    wishes = split_onward(ta.mail_params)
    has_owner = rcpts[0].sender is not None  # who did not choose the envelope's id (RFC 3461 5.2.7.3)
    return _FORMATS[q.settings.dsn_form](Notice(
        q.settings.hostname, to, name, _date(now), [_report(ta, rcpt) for rcpt in rcpts], q.token(),
        b"" if has_owner else wishes.get(b"ENVID", b""), _date(ta.received),
        _date(ta.received + min(return_after(q, rcpt) for rcpt in rcpts)), not whole, ta.is_8bit, ta.is_utf8))


def return_after(q: Qmgr, rcpt: Rcpt) -> float:
    """Seconds in the queue after which a recipient that fails as it did last is given up (M1 3.8 item 13)."""
    return q.settings.dane_return if rcpt.stage == Stage.DANE else q.settings.queue_return


def _report(ta: Ta, rcpt: Rcpt) -> Report:
    orcpt = split_onward(rcpt.params).get(b"ORCPT", b"") if rcpt.params else b""
    return Report(rcpt.address, rcpt.reply, "" if rcpt.is_success else Stage.NAMES[rcpt.stage], _action(rcpt),
                  rcpt.said, orcpt, _date(rcpt.since))


def _action(rcpt: Rcpt) -> Action:
    if rcpt.state is RState.WARNING:
        return Action.DELAYED
    if not rcpt.is_success:
        return Action.FAILED
    if rcpt.params and (action := reports(rcpt.params)):
        return Action(action)
    return Action.RELAYED if rcpt.protocol == Protocol.ESMTP else Action.DELIVERED


def _date(when: float) -> str:
    return formatdate(when, localtime=True)


def returns_whole(q: Qmgr, ta: Ta, rcpts: Sequence[Rcpt], to: bytes) -> bool:
    """Whether the whole message comes back with the report."""
    wishes = split_onward(ta.mail_params)
    wish = wishes.get(b"RET", b"").upper()
    if q.settings.dsn_header_only or not ta.mail or wish == b"HDRS":
        return False
    if b"BODY" in wishes:  # binary content could not go by DATA
        return False
    if all(_action(rcpt) is not Action.FAILED for rcpt in rcpts):
        return False
    return wish == b"FULL" or to not in ta.returned


def is_delay_due(q: Qmgr, ta: Ta, rcpt: Rcpt, now: float) -> bool:
    """Whether the sender shall hear now that this recipient, about to be deferred, has to wait.

    Without a server that could write it there is none; the next failed try asks again.
    """
    settings = q.settings
    after = settings.dane_delay if rcpt.stage == Stage.DANE else settings.dsn_delay
    if not after or rcpt.is_warned or now - ta.received < after:
        return False
    if rcpt.protocol != Protocol.ESMTP and not settings.dsn_delay_by_lmtp:
        return False
    sender = verp.sender_of(settings.verp, ta, rcpt)
    is_wanted = b"DELAY" in notifies(rcpt.params) and sender not in (b"", settings.double_bounce_address)
    return is_wanted and bool(q.smtps and q.dsn_next)
