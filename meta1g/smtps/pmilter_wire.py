"""A connection to a policy milter's library, shared by all sessions of this process (docs/pmilter-protocol.md).

Rules
    One green thread reads and hands each answer to the session that asked. What sessions send in one turn of the loop
    leaves in one write.
    Who breaks the protocol is dropped: no answer of it is worth anything. So is who says nothing at all for a while
    after a session has waited in vain; a session that waits too long is on its own otherwise.
"""
import os
import socket
from collections.abc import Callable, Iterator
from enum import Enum, auto
from typing import Any, Final, NamedTuple

from meta1g.mta import limits, logfmt
from meta1g.mta.errors import FrameError, LinkDown
from meta1g.proc.log import Log
from meta1g.proto.pmilter import numbers
from meta1g.proto.pmilter.messages import (
    TO_MILTER,
    TO_SERVER,
    Answer,
    Change,
    HdrChange,
    MailRplc,
    Offer,
    Piece,
    Ping,
    RcptAdd,
    RcptDel,
    Reader,
    Refuse,
    Replies,
    Wants,
)
from meta1g.proto.pmilter.numbers import Cap, Fct
from meta1g.proto.rcb import Hello
from meta1g.st.netfd import NetFd, connect, reason_of
from meta1g.st.outbox import Outbox
from meta1g.st.sched import Slot, TimedOut, give_way, now, sleep, spawn

_IDLE: Final = 10**8  # a milter may be silent for as long as nobody asks
_LATER: Final = 0.05  # seconds until the milter hears that a session has ended, if nothing else is to be said
_PULSE: Final = 5.0  # seconds in which a milter that was silent must answer Ping
_LATE_MAX: Final = 10_000  # sessions whose answers are not waited for any more
_FUNCTIONS: Final[dict[type, Fct]] = {
    MailRplc: Fct.MAIL_RPLC, RcptAdd: Fct.RCPT_ADD, RcptDel: Fct.RCPT_DEL, HdrChange: Fct.HDR_MOD,
    Replies: Fct.REPLIES,
}


class Question(Enum):
    """What kind of answer is awaited: at the end of a message changes may come before it."""

    STAGE = auto()
    END = auto()
    PIECE = auto()


class Heard(NamedTuple):
    """An answer."""

    answer: Answer | Piece
    changes: list[Change]


class _Waiting:
    """A question that is open."""

    __slots__ = ("changes", "octets", "question", "slot")

    def __init__(self, question: Question) -> None:
        self.question = question
        self.slot = Slot()
        self.changes: list[Change] = []
        self.octets = 0


class Wire:
    """One connection after both sides have agreed; `wants` is what the milter wants."""

    def __init__(self, netfd: NetFd, wants: Wants, timeout: float, log: Log) -> None:
        self.wants = wants
        self.capabilities = Cap(wants.capabilities)
        self._netfd = netfd
        self._timeout = timeout
        self._log = log
        self._outbox = Outbox(netfd, timeout, limits.PEER_BACKLOG, self.drop)
        self._waiting: dict[int, _Waiting] = {}
        self._later = b""
        self._late: set[int] = set()
        self._number = 0
        self._heard = now()
        self._pulse: Slot | None = None
        self._reason = ""
        self.on_down: Callable[[], Any] = lambda: None

    @property
    def is_up(self) -> bool:
        """Whether it can be used."""
        return not self._reason

    def number(self) -> int:
        """The number of a new session."""
        self._number = self._number % numbers.WORD_MAX + 1
        return self._number

    def tell_later(self, octets: bytes) -> None:
        """Send frames that need no answer with the next that do, or in a moment."""
        if not self._later and not self._reason:
            spawn(self._send_later)
        self._later += octets

    def tell(self, octets: bytes, timeout: float) -> None:
        """Send frames that need no answer; while the milter is slow to read, wait. LinkDown, TimedOut."""
        if self._reason:
            raise LinkDown(self._reason)
        self._put(octets)
        if not self._outbox.wait_drained(timeout):
            raise TimedOut

    def ask(self, number: int, octets: bytes, question: Question, timeout: float) -> Heard:
        """Send frames of session `number`, the last being a question, and wait for its answer. LinkDown, TimedOut."""
        if self._reason:
            raise LinkDown(self._reason)
        waiting = self._waiting[number] = _Waiting(question)
        since = now()
        self._put(octets)
        is_heard = False
        try:
            answer = waiting.slot.get(timeout)
            is_heard = True
            return Heard(answer, waiting.changes)
        except TimedOut:
            if self._heard < since and self._pulse is None:
                spawn(self._feel_pulse)
            raise
        finally:
            if not is_heard and self._waiting.pop(number, None) is not None:
                self._late.add(number)
                if len(self._late) > _LATE_MAX:
                    self.drop("too many answers are late")

    def _put(self, octets: bytes) -> None:
        later, self._later = self._later, b""
        self._outbox.put(later + octets)

    def _send_later(self) -> None:
        sleep(_LATER)
        if self._later and not self._reason:
            self._put(b"")

    def drop(self, reason: str) -> None:
        """The milter is of no use any more: whoever waits for it need not."""
        if self._reason:
            return
        self._end(reason)
        self._log.error(logfmt.fields(func="smtps", policy_milter=self.wants.name, status="dropped", reason=reason))
        self._netfd.sock.shutdown(socket.SHUT_RDWR)

    def serve(self) -> None:
        """Read until the connection ends; this closes it."""
        reader = Reader(TO_SERVER)
        reader.feed(TO_SERVER.frame(_hello()))  # the milter's has been read
        reason = "closed"
        try:
            while data := self._read():
                self._heard = now()
                for message, number in reader.feed(data):
                    self._take(message, number)
                if len(data) == limits.LINK_READ:
                    give_way()
        except FrameError as error:
            self.drop(str(error))
        except (OSError, TimedOut) as error:
            reason = reason_of(error)
        finally:
            if not self._reason:
                self._end(reason)
                self._log.error(logfmt.fields(
                    func="smtps", policy_milter=self.wants.name, status="down", reason=reason))
            self._netfd.close()

    def _read(self) -> bytes:
        self._netfd.await_input(_IDLE)  # there is hardly ever something at once
        return self._netfd.read(limits.LINK_READ, _IDLE)

    def _take(self, message: Any, number: int) -> None:
        if isinstance(message, Ping):
            if self._pulse is None:
                raise FrameError("Ping was not asked for")
            self._pulse.put(message)
            return
        waiting = self._waiting.get(number)
        if type(message) in _FUNCTIONS:
            self._change(message, number, waiting)
        elif waiting is not None and type(message) in _ANSWERS[waiting.question]:
            del self._waiting[number]
            waiting.slot.put(message)
        elif waiting is None and number in self._late and isinstance(message, Answer | Piece):
            self._late.discard(number)
        else:
            raise FrameError(f"{type(message).__name__} answers nothing")

    def _change(self, message: Change, number: int, waiting: _Waiting | None) -> None:
        if waiting is None and number in self._late:
            return
        if waiting is None or waiting.question is not Question.END:
            raise FrameError(f"{type(message).__name__} is no answer")
        if not self.wants.functions & _FUNCTIONS[type(message)]:
            raise FrameError(f"{type(message).__name__} was not negotiated")
        waiting.octets += sum(len(part) for part in message if isinstance(part, bytes))
        if len(waiting.changes) == numbers.CHANGES_MAX or waiting.octets > numbers.CHANGES_OCTETS:
            raise FrameError("too many changes of one message")
        waiting.changes.append(message)

    def _feel_pulse(self) -> None:
        """A session has waited in vain, and nothing else was heard: is anybody there?"""
        self._pulse = Slot()
        self._outbox.put(TO_MILTER.frame(Ping(1)))
        try:
            self._pulse.get(min(_PULSE, self._timeout))
        except TimedOut:
            self.drop("timeout")
        except LinkDown:
            pass
        finally:
            self._pulse = None

    def _end(self, reason: str) -> None:
        self._reason = reason
        self._outbox.close()
        waiting, self._waiting = self._waiting, {}
        for found in waiting.values():
            found.slot.fail(LinkDown(reason))
        if self._pulse is not None:
            self._pulse.fail(LinkDown(reason))
        self.on_down()


_ANSWERS: Final[dict[Question, tuple[type, ...]]] = {
    Question.STAGE: (Answer,), Question.END: (Answer,), Question.PIECE: (Piece, Answer),
}


def open_wire(family: int, address: Any, offer: Offer, timeout: float, log: Log) -> Wire:
    """Connect and agree with the milter, in `timeout` seconds altogether; its thread runs then.

    LinkDown with the reason if that can't be.
    """
    end = now() + timeout
    try:
        netfd = connect(family, address, timeout)
    except (OSError, TimedOut) as error:
        raise LinkDown(reason_of(error)) from None
    try:
        netfd.write(TO_MILTER.frame(_hello()) + TO_MILTER.frame(offer), max(end - now(), 0.0), in_all=True)
        wants = _wants(netfd, end)
        if wants.capabilities & ~offer.capabilities or wants.functions & ~offer.functions:
            raise FrameError("it wants more than was offered")
    except (OSError, TimedOut, FrameError, LinkDown) as error:
        netfd.close()
        raise LinkDown(reason_of(error)) from None
    wire = Wire(netfd, wants, timeout, log)
    spawn(wire.serve)
    return wire


def _hello() -> Hello:
    return Hello(numbers.VERSION, os.getpid(), 0, "smtps")


def _wants(netfd: NetFd, end: float) -> Wants:
    for message in _messages(netfd, end):
        match message:
            case Wants():
                return message
            case Refuse():
                raise LinkDown("it refuses: " + logfmt.clean(message.reason))
            case Hello():
                pass
            case _:
                raise FrameError(f"{type(message).__name__} came instead of Wants")
    raise LinkDown("closed")


def _messages(netfd: NetFd, end: float) -> Iterator[Any]:
    """What comes; behind Wants nothing may come unasked."""
    reader = Reader(TO_SERVER)
    while data := netfd.read(limits.LINK_READ, max(end - now(), 0.0)):
        for message, _ in reader.feed(data):
            yield message
