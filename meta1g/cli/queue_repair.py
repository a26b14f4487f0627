"""Envelopes that were lost, from content and logs (M1 4.11.2); pure.

Rules
    SMTPS logs `mail=` and each `rcpt=` of a transaction and its end with `stat=0` when it was accepted;
    QMGR logs how each recipient ended. What was accepted and has not ended is put back.
"""
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from meta1g.mta import logfmt
from meta1g.mta.ids import rcpt_index
from meta1g.proto.msg_ss import Content
from meta1g.shim.records import RcptRec, TaNew

_FIELDS: Final = re.compile(r"(?:^| )(?=(?:ss_se|func)=)")
_ENDS: Final = ("q_upd_rcpt_ok", "q_upd_rcpt_fail")
_ANGLES: Final = re.compile(r"^<(.*)>$")


@dataclass(slots=True)
class Envelope:
    """What the logs say of a transaction."""

    mail: bytes | None = None
    rcpts: dict[int, bytes] = field(default_factory=dict)
    is_accepted: bool = False
    ended: set[int] = field(default_factory=set)

    @property
    def open(self) -> dict[int, bytes]:
        """Recipients that nothing is known of since."""
        return {idx: rcpt for idx, rcpt in self.rcpts.items() if idx not in self.ended}


def envelopes(lines: Iterable[str], wanted: set[str]) -> dict[str, Envelope]:
    """The envelopes of the transactions `wanted`, from log lines in any order."""
    found: dict[str, Envelope] = {ta: Envelope() for ta in wanted}
    for line in lines:
        named = _named(line)
        if named.get("func") in _ENDS and "rcpt_id" in named:
            _ended(found, named["rcpt_id"])
        elif named.get("ss_ta") in found and named.get("stat") == "0" and "func" not in named:
            _received(found[named["ss_ta"]], named)
    return found


def _named(line: str) -> dict[str, str]:
    """The fields of a line, whichever log_format it has."""
    if line.startswith("{"):
        try:
            found = json.loads(line)
        except ValueError:
            return {}  # it was cut off
        return {name: value for name, value in found.items() if isinstance(value, str)}
    start = _FIELDS.search(line)
    return logfmt.parse(line[start.end():].rstrip("\n")) if start is not None else {}


def _ended(found: dict[str, Envelope], text: str) -> None:
    try:
        ta, idx = rcpt_index(text)
    except ValueError:
        return
    if ta in found:
        found[ta].ended.add(idx)


def _received(envelope: Envelope, named: dict[str, str]) -> None:
    if "mail" in named and "rcpt" not in named:
        envelope.mail = _bare(named["mail"])
    elif "rcpt" in named and named.get("status") != "discarded":
        envelope.rcpts[int(named.get("idx", len(envelope.rcpts)))] = _bare(named["rcpt"])
    elif "size" in named:
        envelope.is_accepted = True


def _bare(text: str) -> bytes:
    match = _ANGLES.match(text)
    return (match[1] if match else text).encode("utf-8", "surrogateescape")


def record(ta: str, envelope: Envelope, place: Content, received: float) -> TaNew:
    """The record that puts a transaction back; `received` in seconds since 1970."""
    rcpts = tuple(RcptRec(idx, False, False, rcpt, b"", b"") for idx, rcpt in sorted(envelope.open.items()))
    return TaNew(received, place.length, True, False, ta, "", envelope.mail or b"", b"", "", rcpts, (place,), ())
