"""PRDR: which recipients of a complete message are refused, and what the client is told of each (M1 3.10 item 4.17).

Rules
    Who is refused has no part in the message before that is put on stable storage; all others share its fate.
    There is an answer for each recipient unless the message as a whole is refused: then one says it all
    (draft-hall-prdr).
"""
from collections.abc import Mapping, Sequence

from meta1g.mta import addr
from meta1g.mta.reply import Reply
from meta1g.proto.smtp import replies
from meta1g.smtps.transaction import Transaction
from meta1g.smtps.visit import Visit

Refused = Mapping[int, Reply]  # by index of the recipient


def refuse(visit: Visit, ta: Transaction, each: Sequence[Reply]) -> Refused:
    """Take out of the transaction who is refused by these replies, one for each recipient in their order."""
    if not ta.params.is_prdr:
        return {}
    there = [idx for idx in ta.accepted if idx is not None]
    refused = {idx: reply for idx, reply in zip(there, each, strict=False) if not reply.is_positive}
    for rcpt in ta.rcpts:
        if rcpt.idx in refused:
            visit.log(ta=ta.ta, rcpt=addr.bracketed(rcpt.address), idx=rcpt.idx, stat=refused[rcpt.idx])
    ta.rcpts = [rcpt for rcpt in ta.rcpts if rcpt.idx not in refused]
    return refused


def refusal_of_all(ta: Transaction, refused: Refused) -> Reply | None:
    """The reply to the transaction if nobody is left in it: for now, if it is so for one of them."""
    if not refused or any(idx not in refused for idx in ta.accepted):
        return None
    return min(refused.values(), key=lambda reply: reply.code)


def answers(ta: Transaction, refused: Refused, reply: Reply) -> tuple[Reply, ...]:
    """What is said before `reply`, to the transaction."""
    if not ta.params.is_prdr or not (refused or reply.is_positive):
        return ()
    other = replies.RCPT_OK if reply.is_positive else reply
    return tuple(refused.get(idx, other) if idx is not None else other for idx in ta.accepted)
