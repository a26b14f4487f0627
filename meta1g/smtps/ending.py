"""The end of a message: whether it is accepted, its signature, the way into the queue (design 5)."""
import time

from meta1g.mta.errors import StoreError
from meta1g.mta.reply import Reply
from meta1g.proto.smtp.events import ContentEnd
from meta1g.smtps import prdr
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
    visit.set.counts.octets += end.size
    refused: prdr.Refused = {}
    try:
        if filters is not None and not visit.policy.discards and ta.rcpts and any(filters.active):
            refusal = Review(visit, ta, filters).run()
            if refusal is not None:
                return refusal
            if not filters.discards:
                refused = prdr.refuse(visit, ta, filters.each)
        reply = prdr.refusal_of_all(ta, refused) or _store(visit, ta, end, filters)
    except StoreError as error:
        reply = visit.store_trouble(error)
    ta.each = prdr.answers(ta, refused, reply)
    return reply


def _store(visit: Visit, ta: Transaction, end: ContentEnd, filters: Filters | None) -> Reply:
    """Put the message on stable storage, and have QMGR commit it. StoreError."""
    assert ta.incoming is not None
    accepted = (filters.said if filters is not None else None) or Reply(250, "2.0.0", f"Ok, id {ta.ta}")
    setting, counts, now = visit.set, visit.set.counts, time.time()
    if visit.policy.discards or not ta.rcpts or (filters is not None and filters.discards):
        counts.ta_discarded += 1
        visit.log(ta=ta.ta, status="discarded")
        return accepted
    ta.quarantine = filters.quarantine if filters is not None else ""
    refusal = ta.sign(setting, visit.se)
    if refusal is not None:
        return refusal
    content = ta.incoming.commit()
    ack = setting.qmgr.commit(ta.message(visit.se, visit.ip, now, end, content))
    setting.store.release(content)
    if ack.code:
        # If the answer was lost QMGR may have the envelope, so the content stays for it to judge.
        return Reply(ack.code, ack.estat, ack.text)
    counts.ta_accepted += 1
    ta.incoming = None
    return accepted
