"""Targets: the protocol of policy milters at both ends, and what SMTPS makes of a milter's words."""
import logging
from typing import Any, Final

from meta1g.mta.errors import FrameError
from meta1g.pmilter import SMTP_R_RPLCMSG, Cap, PolicyMilter, Server, Session
from meta1g.pmilter.caller import Caller
from meta1g.pmilter.testing import Rig
from meta1g.proto.pmilter import messages, numbers, texts
from meta1g.proto.pmilter.messages import TO_MILTER, TO_SERVER, Reader
from meta1g.proto.rcb import Hello
from meta1g.smtps.filter import AddRcpt, ChangeSender, InsertField, ReplaceField
from meta1g.smtps.pmilter_changes import Nonsense, answer_of, changes_of, replies_of
from tests.fuzz.source import Source, pieces

_HELLO: Final = Hello(numbers.VERSION, 1, 0, "x")
_LOG: Final = logging.getLogger("pmilter")


class _Careless(PolicyMilter):
    """Does what it is told with whatever it gets."""

    def negotiate(self, server: Server) -> None:
        server.wanted.capabilities |= Cap.RCPT_ST | Cap.MSG_RC

    def mail(self, session: Session, sender: str, params: list[str]) -> int:
        return len(params)

    def rcpt(self, session: Session, recipient: str, params: list[str]) -> int:
        return session.refuse(recipient)

    def unknown(self, session: Session, command: str) -> None:
        session.setreply(command)

    def msg(self, session: Session, chunk: bytes) -> int:
        return chunk[0]

    def eom(self, session: Session) -> int:
        session.add_header("X", session.sender)
        session.rcpt_add(session.helo)
        return SMTP_R_RPLCMSG

    def msg_rplc(self, session: Session) -> list[bytes]:
        return [session.sender.encode()]


def pmilter_frames(data: bytes) -> None:
    """What is heard can be said again; what can't be heard is refused, in whatever pieces it comes."""
    source = Source(data)
    vocabulary, most, octets = source.one_of((TO_MILTER, TO_SERVER)), source.number(9), source.rest()
    found, reader = [], Reader(vocabulary)
    reader.feed(vocabulary.frame(_HELLO))
    try:
        for piece in pieces(octets, most):
            found += reader.feed(piece)
    except FrameError:
        return
    again = b"".join(vocabulary.frame(message, number) for message, number in found)
    assert octets.startswith(again)


def policy_calls(data: bytes) -> None:
    """Whatever an SMTP server says within the protocol, a policy answers within it."""
    _LOG.disabled = True  # each mistake of this policy is an error in its log
    try:
        _call(Source(data))
    finally:
        _LOG.disabled = False


def _call(source: Source) -> None:
    reader, answers = Reader(TO_MILTER), Reader(TO_SERVER)
    reader.feed(TO_MILTER.frame(_HELLO))
    answers.feed(TO_SERVER.frame(_HELLO))
    caller = Caller(_Careless(), Rig(_Careless()).server)
    while source:
        try:
            [(message, _)] = reader.feed(TO_MILTER.frame(_said(source), 1))
        except FrameError:
            return
        for answer in caller.handle(message):
            answers.feed(TO_SERVER.frame(answer, 1))


def _said(source: Source) -> Any:
    kind, text = source.number(9), source.octets(source.number(40))
    params = (messages.Param(text),) * (kind % 3)
    return (messages.Helo(True, text), messages.Mail(text, params), messages.Rcpt(kind, 250 + kind, text, text, params),
            messages.Unknown(text), messages.Msg(bool(kind % 2), text + b"x"), messages.Step(source.number(7)),
            messages.Replaced(kind), messages.Symbols((messages.Symbol(kind, text),)),
            messages.Connect(kind, text, text))[kind]


def milter_words(data: bytes) -> None:
    """What SMTPS takes from a milter can stand in a reply, an envelope and a header."""
    source = Source(data)
    code, text = source.one_of((0, 2, 250, 421, 451, 550, 552)), source.octets(source.number(60))
    given: list[messages.Change] = []
    while source:
        kind, more = source.number(6), source.octets(source.number(30))
        given.append((
            messages.MailRplc(more, b""), messages.RcptAdd(more, text), messages.RcptDel(kind, more),
            messages.HdrChange(1 + len(more) % 5, kind, more + b"\r\n"), messages.HdrChange(4, kind, b""),
            messages.Replies((messages.RcptReply(code or 250, more),)))[kind])
    try:
        answer = answer_of(messages.Answer(code, False, text))
        each = replies_of([part for part in given if isinstance(part, messages.Replies)], 1)
        changes = changes_of(given, {0: b"a@b.c", 2: b"d@e.f"})
    except Nonsense:
        return
    for reply in (answer.reply, *each):
        octets = bytes(reply) if reply is not None else b"250 \r\n"
        assert octets.endswith(b"\r\n") and all(line[:3].isdigit() for line in octets[:-2].split(b"\r\n"))
    for change in changes:
        if isinstance(change, AddRcpt | ChangeSender):
            assert b"\r" not in change.address + change.params and b">" not in change.address
        if isinstance(change, InsertField | ReplaceField) and change.octets:
            assert texts.field_name(change.octets) and b"\r\n\r\n" not in change.octets
