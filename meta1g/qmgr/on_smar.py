"""SMAR's answers: routes, failures, and what an alias expands to; pure."""
from meta1g.mta.reply import Reply
from meta1g.proto.msg_ar import Hop, Resolved, Target
from meta1g.qmgr import aq, outcome, routing, sched
from meta1g.qmgr.effects import Effect, WriteDefedb, WriteIbdb
from meta1g.qmgr.state import Home, Qmgr, Rcpt, RState, Ta
from meta1g.shim.defedb import Change
from meta1g.shim.records import DeferredRcpt, DeferredTa, RcptRec, RcptsAdded

_LOCAL = (Hop(0, "", ""),)  # the local mailer's socket, which SMTPC knows (M1 3.11 item 2)


def on_resolved(q: Qmgr, message: Resolved, tag: int, now: float, out: list[Effect]) -> None:
    """The answer to a question of `routing.ask`."""
    name, idx = q.asked.pop(tag, ("", 0))
    ta = q.aq.get(name)
    rcpt = ta.rcpts.get(idx) if ta is not None else None
    if ta is None or rcpt is None or rcpt.state is not RState.ROUTING:
        return
    ta.unrouted -= 1
    targets = message.targets
    if len(targets) == 1 and not targets[0].has_sender and targets[0].address == rcpt.address:
        _route(q, ta, rcpt, targets[0], now, out)
    else:
        _expand(q, ta, rcpt, targets, now, out)


def _route(q: Qmgr, ta: Ta, rcpt: Rcpt, target: Target, now: float, out: list[Effect]) -> None:
    if target.code:
        outcome.failed(q, ta, rcpt, Reply(target.code, target.estat, target.text), now, out)
        return
    rcpt.protocol = target.protocol
    rcpt.hops = target.hops or _LOCAL
    rcpt.hop = 0
    rcpt.route_expires = now + target.ttl
    sched.make_ready(q, ta, rcpt, now, out)


def _expand(q: Qmgr, ta: Ta, rcpt: Rcpt, targets: tuple[Target, ...], now: float, out: list[Effect]) -> None:
    """The recipient ends and its successors begin, in one record."""
    aq.drop_rcpt(q, ta, rcpt)
    aq.add_if_gone(q, ta)
    added = []
    for target in targets:
        heir = Rcpt(ta.next_idx, target.address, rcpt.params, target.sender if target.has_sender else rcpt.sender,
                    is_expanded=True, home=rcpt.home, since=now)
        ta.next_idx += 1
        aq.add_rcpt(q, ta, heir)
        added.append((heir, target))
    _write_expansion(q, ta, rcpt, [heir for heir, _ in added], now, out)
    for heir, target in added:
        _route(q, ta, heir, target, now, out)


def _write_expansion(q: Qmgr, ta: Ta, rcpt: Rcpt, heirs: list[Rcpt], now: float, out: list[Effect]) -> None:
    if rcpt.home is Home.IBDB:
        ta.ibdb_open += len(heirs) - 1
        records = tuple(
            RcptRec(heir.idx, heir.sender is not None, True, heir.address, heir.params, heir.sender or b"")
            for heir in heirs)
        out.append(WriteIbdb((RcptsAdded(rcpt.idx, ta.ta, records),)))
        return
    q.edbc.count[ta.ta] += len(heirs) - 1
    puts: list[DeferredTa | DeferredRcpt] = [outcome.deferred_ta(ta)]
    puts.extend(outcome.deferred_rcpt(ta, heir, now) for heir in heirs)
    out.append(WriteDefedb(Change(tuple(puts), ((ta.ta, rcpt.idx),))))


def on_up(q: Qmgr, peer: object, now: float, out: list[Effect]) -> None:
    """SMAR is there: ask what could not be asked."""
    q.smar = peer
    routing.ask_again(q, now, out)


def on_down(q: Qmgr) -> None:
    """SMAR is gone; recipients without a route wait for it."""
    q.smar = None
    q.asked.clear()
