"""Recipients that are held wait in DEFEDB, untried; pure (M1 4.7.3).

Rules
    No new attempt of a held recipient begins, what is under way ends. A hold costs no try, and nobody grows
    too old by it: the age counts again with the first try after it. Bounces are written, and then held as other
    mail is. While all is held DEFEDB is left alone; who waits for a site's release is looked at now and then.
    A message that a filter wants to be kept back is held by a mark that its recipients bring with them, so it is on
    record from the first moment. A release of the message takes the mark away.
"""
from meta1g.mta import addr
from meta1g.mta.ids import rcpt_id
from meta1g.mta.logfmt import fields
from meta1g.mta.reply import Reply
from meta1g.proto.smtp.params import quarantine
from meta1g.qmgr import outcome
from meta1g.qmgr.effects import Effect, LogLine
from meta1g.qmgr.holds import Holds
from meta1g.qmgr.state import Qmgr, Rcpt, Ta


def is_held(q: Qmgr, rcpt: Rcpt) -> bool:
    """Whether no attempt of this recipient may begin now."""
    return (bool(q.holds) and q.holds.covers(rcpt.address, rcpt.names)) or (
        bool(rcpt.params) and quarantine(rcpt.params) is not None)


def park(q: Qmgr, ta: Ta, rcpt: Rcpt, now: float, out: list[Effect]) -> None:
    """Put a held recipient into DEFEDB as it is."""
    rcpt.requeued = 0
    why = quarantine(rcpt.params)
    if why is not None:
        rcpt.reply = Reply(450, "4.7.0", f"Quarantine: {why}")
    out.append(LogLine(9, fields(func="q_hold", rcpt_id=rcpt_id(ta.ta, rcpt.idx), rcpt=addr.bracketed(rcpt.address),
                                 status="held", reason=why)))
    again = now if q.holds.is_all else now + q.settings.retry_delay_max
    outcome.store_deferred(q, ta, rcpt, again, out)


def apply(q: Qmgr, holds: Holds, now: float, out: list[Effect]) -> None:
    """These holds count from now on: what waits for a session is parked if it is held."""
    q.holds = holds
    for site in list(q.sites.values()) if holds else ():
        for batch, rcpt in site.waiting.take_if(lambda batch, rcpt: is_held(q, rcpt)):
            park(q, q.aq[batch.ta], rcpt, now, out)
        q.ready[site.key] = None  # the scheduler forgets it if nothing is left
