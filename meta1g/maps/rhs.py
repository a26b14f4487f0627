"""RHS grammar of the access map (M1 3.9.3); pure.

Rules
    RHS ::= ["quick:"] ("relay" | "ok" | "reject" | "discard" | "cont" | "error:" reply)
    Words are recognised without case. `reject` is error:550 5.7.0 Rejected.
    A reply without a valid code is refused with 550 5.7.1 and the text as it stands: who
    wrote `error:` wants a rejection.
"""
from typing import Final, NamedTuple

from meta1g.mta.reply import Reply, parse_reply
from meta1g.proto.msg_ar import Action

_WORDS: Final = {
    b"relay": Action.RELAY,
    b"ok": Action.OK,
    b"reject": Action.REJECT,
    b"discard": Action.DISCARD,
    b"cont": Action.CONT,
}
NO_REPLY: Final = Reply(0, "", "")
REJECTED: Final = Reply(550, "5.7.0", "Rejected.")  # M1 3.9.3: `reject`


class AccessRule(NamedTuple):
    """What an entry says: one of `Action`, the modifier quick:, and the reply of a rejection."""

    action: int
    quick: bool
    reply: Reply


def parse_access(rhs: bytes) -> AccessRule | None:
    """The rule in an RHS, None if it is none of those that the manual knows."""
    text = rhs.strip()
    quick = text[:6].lower() == b"quick:"
    if quick:
        text = text[6:].lstrip()
    if text[:6].lower() == b"error:":
        return AccessRule(Action.REJECT, quick, _reply(text[6:].strip()))
    action = _WORDS.get(text.lower())
    if action is None:
        return None
    return AccessRule(action, quick, REJECTED if action == Action.REJECT else NO_REPLY)


def _reply(text: bytes) -> Reply:
    plain = "".join(c if c.isprintable() else "?" for c in text.decode("utf-8", "replace"))
    reply = parse_reply(plain)
    if reply is None or reply.code < 400:
        return Reply(550, "5.7.1", plain or "Rejected.")
    if not reply.text:
        return Reply(reply.code, reply.estat, "Rejected.")
    return reply
