"""AQ: transactions and recipients that are being worked on (M1 7.1); pure."""
from meta1g.qmgr.state import Qmgr, Rcpt, RState, Ta


def add(q: Qmgr, ta: Ta) -> None:
    """Take in a transaction with its recipients."""
    q.aq[ta.ta] = ta
    q.aq_rcpts += len(ta.rcpts)


def add_rcpt(q: Qmgr, ta: Ta, rcpt: Rcpt) -> None:
    """One more recipient of a transaction in AQ."""
    ta.rcpts[rcpt.idx] = rcpt
    q.aq_rcpts += 1


def drop_rcpt(q: Qmgr, ta: Ta, rcpt: Rcpt) -> None:
    """A recipient leaves AQ; with the last one the transaction does."""
    if ta.rcpts.pop(rcpt.idx, None) is not None:
        q.aq_rcpts -= 1
        q.verdicts.pop((ta.ta, rcpt.idx), None)
    drop_if_empty(q, ta)


def drop_if_empty(q: Qmgr, ta: Ta) -> None:
    """A transaction without recipients leaves AQ, unless some are on their way to it."""
    if not ta.rcpts and ta.ta not in q.reading:
        q.aq.pop(ta.ta, None)
        q.bouncing.pop(ta.ta, None)


def count_deferred(q: Qmgr, ta: Ta, change: int) -> None:
    """So many of a transaction's recipients more are in DEFEDB."""
    before = ta.deferred
    ta.deferred += change
    q.deferred_rcpts += change
    q.deferred_tas += (ta.deferred > 0) - (before > 0)


def has(q: Qmgr, name: str, idx: int) -> bool:
    """Whether a recipient is in AQ, by transaction and index."""
    ta = q.aq.get(name)
    return ta is not None and idx in ta.rcpts


def room(q: Qmgr) -> int:
    """How many recipients AQ still takes from DEFEDB; half of it is kept for new mail."""
    return q.settings.aq_entries_max // 2 - q.aq_rcpts - q.loading


def is_active(ta: Ta) -> bool:
    """Whether some recipient may still get a result soon, so that a DSN should wait for it."""
    return any(rcpt.state in (RState.ROUTING, RState.EXPANDED, RState.READY, RState.BUSY) for rcpt in ta.rcpts.values())


def add_if_gone(q: Qmgr, ta: Ta) -> None:
    """Keep a transaction whose last recipient is just being replaced."""
    q.aq[ta.ta] = ta
