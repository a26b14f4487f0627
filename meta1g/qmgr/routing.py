"""Finding out where recipients go: SMAR is asked, or the route of the last try is still good; pure (M1 7.2)."""
from typing import Final

from meta1g.mta.logfmt import fields
from meta1g.mta.selection import Picker
from meta1g.proto.msg_ar import Resolve
from meta1g.proto.smtp.params import reports
from meta1g.qmgr import aq, outcome, parking, sched
from meta1g.qmgr.effects import Effect, LogLine, ReadDefedb, SurveyDefedb, Surveyed, Tell
from meta1g.qmgr.state import Qmgr, Rcpt, RState, Ta

MAILERTABLE_TTL: Final = 3600.0  # seconds for which SMAR lets its routes be kept (M1 7.2)
READING: Final = 1.0  # seconds until a recipient is fetched whose transaction is being read for another one
REFILL_RETRY: Final = 60.0  # seconds until DEFEDB is looked at again after an error


def admit(q: Qmgr, ta: Ta, now: float, out: list[Effect]) -> None:
    """Take a transaction whose envelope is durable into AQ, and find out where its recipients go."""
    aq.add(q, ta)
    for rcpt in list(ta.rcpts.values()):
        start(q, ta, rcpt, now, out)


def start(q: Qmgr, ta: Ta, rcpt: Rcpt, now: float, out: list[Effect]) -> None:
    """Begin work on a recipient: to its site if the route is still good (M1 7.2), else to SMAR.

    A route may be older than the mailertable that is in use: for a time after each change SMAR is asked.
    """
    if outcome.end_by_verdict(q, ta, rcpt, now, out):
        return
    if rcpt.params and reports(rcpt.params):
        outcome.expanded(q, ta, rcpt, now)
    elif rcpt.hops and rcpt.route_expires > now >= q.maps_changed + MAILERTABLE_TTL:
        rcpt.hop = 0
        sched.make_ready(q, ta, rcpt, now, out)
    elif parking.is_held(q, rcpt):
        parking.park(q, ta, rcpt, now, out)
    else:
        ta.unrouted += 1
        ask(q, ta, rcpt, now, out)


def ask(q: Qmgr, ta: Ta, rcpt: Rcpt, now: float, out: list[Effect]) -> None:
    """Ask SMAR for a recipient's route; when SMAR is away, `ask_again` does it later."""
    rcpt.state, rcpt.since = RState.ROUTING, now
    if q.smar is None:
        return
    q.next_tag = q.next_tag % 0xFFFFFFF0 + 1
    q.asked[q.next_tag] = (ta.ta, rcpt.idx)
    out.append(Tell(q.smar, Resolve(q.settings.smar_timeout, not rcpt.is_expanded, rcpt.address), q.next_tag))


def ask_again(q: Qmgr, now: float, out: list[Effect]) -> None:
    """SMAR is back: ask for every recipient that has no route."""
    q.asked.clear()
    for ta in q.aq.values():
        for rcpt in ta.rcpts.values():
            if rcpt.state is RState.ROUTING:
                ask(q, ta, rcpt, now, out)


def fetch_due(q: Qmgr, now: float, out: list[Effect]) -> None:
    """Read the recipients whose next-time-to-try has come, and those that are to be ended."""
    found: dict[str, set[int]] = {}
    doomed, q.doomed = q.doomed, []
    q.doomed += [key for key in doomed if not _will_fetch(q, *key, found)]
    free = aq.room(q)
    for entry in q.edbc.due(now, free) if free > 0 and not q.holds.is_all else ():
        if not _will_fetch(q, entry.ta, entry.idx, found):
            q.edbc.postpone(entry._replace(next_try=now + READING))
    for name, idxs in found.items():
        q.loading += len(idxs)
        q.reading[name] = None
        out.append(ReadDefedb(name, tuple(sorted(idxs))))


def hurry_active(q: Qmgr, picker: Picker, now: float) -> int:
    """Those that are on their way to DEFEDB shall be due when they are there, if they are picked; how many."""
    count = 0
    for ta in q.aq.values():
        for rcpt in ta.rcpts.values():
            if rcpt.state is RState.STORING and rcpt.since > now and picker.picks(
                    ta.ta, rcpt.idx, rcpt.address, rcpt.names):
                rcpt.since = now
                count += 1
    return count


def _will_fetch(q: Qmgr, name: str, idx: int, found: dict[str, set[int]]) -> bool:
    """Have a recipient read unless it is in AQ; False if its transaction is being read just now."""
    if name in q.reading:
        return False
    if not aq.has(q, name, idx):
        found.setdefault(name, set()).add(idx)
    return True


def refill(q: Qmgr, now: float, out: list[Effect]) -> None:
    """Go through DEFEDB for those that are due next, if EDBC has not many left."""
    if q.edbc.wants_more and now >= q.refill_at:
        out.append(SurveyDefedb(b"", q.edbc.begin_refill(), None))


def on_surveyed(q: Qmgr, message: Surveyed, now: float, out: list[Effect]) -> None:
    """A piece of DEFEDB was looked at for EDBC."""
    q.edbc.refill(message.found)
    if message.next:
        out.append(SurveyDefedb(message.next, message.since, q.edbc.until))
        return
    q.edbc.end_refill(is_whole=not message.error)
    if message.error:
        q.refill_at = now + REFILL_RETRY
        out.append(LogLine(0, fields(func="q_refill", error=message.error)))
