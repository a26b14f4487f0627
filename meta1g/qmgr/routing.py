"""Finding out where recipients go: SMAR is asked, or the route of the last try is still good; pure (M1 7.2)."""
from meta1g.proto.msg_ar import Resolve
from meta1g.proto.smtp.params import reports
from meta1g.qmgr import aq, outcome, parking, sched
from meta1g.qmgr.effects import Effect, ReadDefedb, Tell
from meta1g.qmgr.state import Qmgr, Rcpt, RState, Ta


def admit(q: Qmgr, ta: Ta, now: float, out: list[Effect]) -> None:
    """Take a transaction whose envelope is durable into AQ, and find out where its recipients go."""
    aq.add(q, ta)
    for rcpt in list(ta.rcpts.values()):
        start(q, ta, rcpt, now, out)


def start(q: Qmgr, ta: Ta, rcpt: Rcpt, now: float, out: list[Effect]) -> None:
    """Begin work on a recipient: to its site if the route is still good (M1 7.2), else to SMAR."""
    if rcpt.params and reports(rcpt.params):
        outcome.expanded(q, ta, rcpt, now)
    elif rcpt.hops and rcpt.route_expires > now:
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
    """Read the recipients whose next-time-to-try has come."""
    free = aq.room(q)
    if free <= 0 or q.holds.is_all:
        return
    for ta, idxs in q.edbc.due(now, free).items():
        q.loading += len(idxs)
        out.append(ReadDefedb(ta, tuple(idxs)))
