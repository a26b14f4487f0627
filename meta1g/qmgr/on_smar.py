"""SMAR's answers: routes, failures, and what an alias expands to; pure."""
from meta1g.mta.reply import Reply
from meta1g.proto.dsn import Action
from meta1g.proto.msg_ar import Hop, Resolved, Target
from meta1g.proto.msg_da import Stage
from meta1g.proto.smtp.params import for_members, notifies, reporting
from meta1g.qmgr import aq, outcome, routing, sched, verp
from meta1g.qmgr.effects import Effect, Expanded, WriteDefedb, WriteIbdb
from meta1g.qmgr.state import Home, Qmgr, Rcpt, RState, Ta
from meta1g.shim.defedb import Change
from meta1g.shim.records import DeferredRcpt, DeferredTa, RcptRec, RcptsAdded

_NOBODY = Reply(550, "5.1.1", "Alias leads to nobody")
_LOCAL = (Hop(0, "", ""),)  # the local mailer's socket, which SMTPC knows (M1 3.11 item 2)


def on_resolved(q: Qmgr, message: Resolved, tag: int, now: float, out: list[Effect]) -> None:
    """The answer to a question of `routing.ask`."""
    name, idx = q.asked.pop(tag, ("", 0))
    ta = q.aq.get(name)
    rcpt = ta.rcpts.get(idx) if ta is not None else None
    if ta is None or rcpt is None or rcpt.state is not RState.ROUTING:
        return
    ta.unrouted -= 1
    if outcome.end_by_verdict(q, ta, rcpt, now, out):
        return
    targets = message.targets
    if not targets:
        outcome.failed(q, ta, rcpt, _NOBODY, now, out)
    elif len(targets) == 1 and not targets[0].has_sender and targets[0].address == rcpt.address:
        _route(q, ta, rcpt, targets[0], now, out)
    else:
        _expand(q, ta, rcpt, targets, now, out)


def _route(q: Qmgr, ta: Ta, rcpt: Rcpt, target: Target, now: float, out: list[Effect]) -> None:
    if target.code:
        rcpt.stage = Stage.CONNECT  # what was wrong with TLSA records last time is not what fails now
        outcome.failed(q, ta, rcpt, Reply(target.code, target.estat, target.text), now, out)
        return
    rcpt.protocol = target.protocol
    rcpt.hops = target.hops or _LOCAL
    rcpt.hop = 0
    rcpt.conf = target.conf if q.settings.looks_up_rcpts else ""
    rcpt.dane = target.dane
    rcpt.route_expires = now + target.ttl
    sched.make_ready(q, ta, rcpt, now, out)


def _expand(q: Qmgr, ta: Ta, rcpt: Rcpt, targets: tuple[Target, ...], now: float, out: list[Effect]) -> None:
    """The recipient ends and its successors begin, in one record; one of them only reports that, if it is wanted."""
    aq.drop_rcpt(q, ta, rcpt)
    aq.add_if_gone(q, ta)
    heirs = []
    for target in targets:
        # a list with an owner has reports of its own; the sender's wishes end there (RFC 3461 5.2.7)
        params = b"" if target.has_sender else rcpt.params if len(targets) == 1 else for_members(rcpt.params)
        sender = verp.sender_of_member(q.settings.verp, ta, rcpt, target)
        heirs.append(_heir(q, ta, rcpt, target.address, params=params, sender=sender, now=now))
    ta.unrouted += len(heirs)
    led = tuple((heir.idx, target) for heir, target in zip(heirs, targets, strict=True))
    action = _reported(ta, rcpt, targets)
    if action is not None:
        heirs.append(_heir(
            q, ta, rcpt, rcpt.address, params=reporting(rcpt.params, action), sender=rcpt.sender, now=now))
    then = Expanded(ta.ta, led, tuple(heir.idx for heir in heirs[len(led):]))
    _write_expansion(q, ta, rcpt, heirs, then, now, out)


def _heir(
    q: Qmgr, ta: Ta, of: Rcpt, address: bytes, *, params: bytes, sender: bytes | None, now: float
) -> Rcpt:
    heir = Rcpt(ta.next_idx, address, params, sender, is_expanded=True, home=of.home, state=RState.EXPANDED, since=now)
    ta.next_idx += 1
    aq.add_rcpt(q, ta, heir)
    return heir


def _reported(ta: Ta, rcpt: Rcpt, targets: tuple[Target, ...]) -> Action | None:
    """What the sender hears who wants to know of success: nothing more comes from the members (RFC 3461 5.2.7)."""
    if not rcpt.params or not ta.mail or b"SUCCESS" not in notifies(rcpt.params):
        return None
    if any(target.has_sender for target in targets):
        return Action.DELIVERED  # to a list, which has reports of its own
    return Action.EXPANDED if len(targets) > 1 else None


def on_expanded(q: Qmgr, then: Expanded, now: float, out: list[Effect]) -> None:
    """The successors are on record: if one of them came to DEFEDB before, a crash would expand the alias again."""
    ta = q.aq[then.ta]
    ta.unrouted -= len(then.heirs)
    for idx, target in then.heirs:
        _route(q, ta, ta.rcpts[idx], target, now, out)
    for idx in then.reporting:
        outcome.expanded(q, ta, ta.rcpts[idx], now)


def _write_expansion(
    q: Qmgr, ta: Ta, rcpt: Rcpt, heirs: list[Rcpt], then: Expanded, now: float, out: list[Effect]
) -> None:
    if rcpt.home is Home.IBDB:
        ta.ibdb_open += len(heirs) - 1
        records = tuple(
            RcptRec(heir.idx, heir.sender is not None, True, heir.address, heir.params, heir.sender or b"")
            for heir in heirs)
        if ta.deferred:  # indices are never used twice: a DSN's record may end the earlier one
            out.append(WriteDefedb(Change((outcome.deferred_ta(ta),))))
        out.append(WriteIbdb((RcptsAdded(rcpt.idx, ta.ta, records),), then, is_urgent=True))
        return
    aq.count_deferred(q, ta, len(heirs) - 1)
    puts: list[DeferredTa | DeferredRcpt] = [outcome.deferred_ta(ta)]
    puts.extend(outcome.deferred_rcpt(ta, heir, now) for heir in heirs)
    out.append(WriteDefedb(Change(tuple(puts), ((ta.ta, rcpt.idx),)), then))


def on_up(q: Qmgr, peer: object, now: float, out: list[Effect]) -> None:
    """SMAR is there: ask what could not be asked."""
    q.smar = peer
    routing.ask_again(q, now, out)


def on_down(q: Qmgr) -> None:
    """SMAR is gone; recipients without a route wait for it."""
    q.smar = None
    q.asked.clear()
