"""The end of a message: whether it is accepted, its signature, the way into the queue (design 5)."""
import time

from meta1g.mta.errors import StoreError
from meta1g.mta.reply import Reply
from meta1g.proto.smtp.events import ContentEnd
from meta1g.smtps.filters import Filters
from meta1g.smtps.review import Review
from meta1g.smtps.transaction import Transaction
from meta1g.smtps.visit import Visit, stat


def finish(visit: Visit, ta: Transaction, end: ContentEnd, filters: Filters | None) -> Reply:
    """The reply to the final dot; a positive one says that the message is ours."""
    facts = ta.facts()
    reply = (ta.fault(end, facts, visit.set.hops_max)
             or visit.checks.on_end(end.size, facts.hops, facts.message_id) or _commit(visit, ta, end, filters))
    if not reply.is_positive:
        visit.set.counts.ta_refused += 1
    visit.log(ta=ta.ta, msgid=facts.message_id or None, size=end.size, stat=stat(reply))
    return reply


def _commit(visit: Visit, ta: Transaction, end: ContentEnd, filters: Filters | None) -> Reply:
    assert ta.incoming is not None
    accepted = Reply(250, "2.0.0", f"Ok, id {ta.ta}")
    setting = visit.set
    counts = setting.counts
    counts.octets += end.size
    now = time.time()
    try:
        if filters is not None and not visit.policy.discards and ta.rcpts:
            refusal = Review(visit, ta, filters).run()
            if refusal is not None:
                return refusal
        if visit.policy.discards or not ta.rcpts or (filters is not None and filters.discards):
            counts.ta_discarded += 1
            visit.log(ta=ta.ta, status="discarded")
            return accepted
        ta.quarantine = filters.quarantine if filters is not None else ""
        refusal = ta.sign(setting, visit.se)
        if refusal is not None:
            return refusal
        content = ta.incoming.commit()
    except StoreError as error:
        return visit.store_trouble(error)
    ack = setting.qmgr.commit(ta.message(visit.se, visit.ip, now, end, content))
    setting.store.release(content)
    if ack.code:
        # If the answer was lost QMGR may have the envelope, so the content stays for it to judge.
        return Reply(ack.code, ack.estat, ack.text)
    counts.ta_accepted += 1
    ta.incoming = None
    return accepted
