"""Recipients that an administrator has given up: deleted, or returned to their senders; or released; pure (M1 4.7.3).

Rules
    A verdict waits for a recipient until `outcome.end_by_verdict` may carry it out: who is in DEFEDB is loaded for
    that, an attempt that is under way comes to its result first. Who is delivered by then is delivered.
"""
from collections.abc import Iterable

from meta1g.mta.selection import Picker
from meta1g.qmgr import outcome
from meta1g.qmgr.effects import Effect
from meta1g.qmgr.state import Qmgr, RState, Verdict


def pass_on_active(q: Qmgr, picker: Picker, verdict: Verdict, now: float, out: list[Effect]) -> int:
    """Give up those in AQ that are picked, now or when they come to a result; how many there are."""
    chosen = [(ta.ta, rcpt.idx) for ta in q.aq.values() for rcpt in ta.rcpts.values()
              if rcpt.state is not RState.BOUNCING and picker.picks(ta.ta, rcpt.idx, rcpt.address, rcpt.names)]
    _pass(q, chosen, verdict)
    for site in list(q.sites.values()) if chosen else ():
        for batch, rcpt in site.waiting.take_if(lambda batch, rcpt: (batch.ta, rcpt.idx) in q.verdicts):
            outcome.end_by_verdict(q, q.aq[batch.ta], rcpt, now, out)
        q.ready[site.key] = None  # the scheduler forgets it if nothing is left
    return len(chosen)


def pass_on_deferred(q: Qmgr, chosen: set[tuple[str, int]], verdict: Verdict) -> None:
    """Give up these recipients in DEFEDB, by transaction and index."""
    _pass(q, chosen, verdict)
    q.doomed += sorted(chosen)


def _pass(q: Qmgr, chosen: Iterable[tuple[str, int]], verdict: Verdict) -> None:
    """A release changes nothing about who is to end."""
    for key in chosen:
        if verdict is not Verdict.RELEASE or key not in q.verdicts:
            q.verdicts[key] = verdict
