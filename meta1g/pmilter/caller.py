"""Calls of one session: messages of SMTPS in, the author's methods called, messages for SMTPS out. No I/O of its own.

Rules
    An exception in a method is logged, and its session gets a temporary failure; everything else goes on. A part of a
    message that could not be looked at spoils the whole: its end is refused for now without a call.
    Changes of a message whose end is refused or thrown away are dropped.
"""
import logging
import traceback
from collections.abc import Callable, Iterator
from typing import Any, Final

from meta1g.mta import logfmt
from meta1g.mta.reply import Reply
from meta1g.pmilter.contexts import Server
from meta1g.pmilter.errors import PolicyError
from meta1g.pmilter.policy import PolicyMilter
from meta1g.pmilter.session import Session, text
from meta1g.pmilter.turn import Turn
from meta1g.proto.pmilter import numbers, texts
from meta1g.proto.pmilter.messages import (
    Answer,
    Connect,
    Helo,
    Mail,
    Msg,
    Piece,
    Rcpt,
    Replaced,
    Step,
    Symbols,
    Unknown,
)
from meta1g.proto.pmilter.numbers import Cap, Pmm
from meta1g.proto.pmilter.numbers import Step as StepKind

_LOG: Final = logging.getLogger("pmilter")
_SESSIONS: Final = 2  # debug level from which sessions are logged
_CALLS: Final = 3  # ... and each call
_FAILED: Final = Answer(numbers.SMTP_R_TEMP, False, b"451 4.3.0 Policy not available, try again later\r\n")
_SYMBOLS: Final = {int(symbol): symbol for symbol in Pmm}
_GO_ON: Final = Answer(numbers.SMTP_R_CONT, False, b"")


class Caller:
    """One SMTP session at a policy."""

    def __init__(self, policy: PolicyMilter, server: Server) -> None:
        self._turn = Turn()
        self.session = Session(server, self._turn)
        self._policy = policy
        self._told = server.told
        self._is_spoiled = False
        self._chunk_answer = _GO_ON
        self._pieces: Iterator[bytes] | None = None
        self._is_closed = False
        self._handlers: dict[type, Callable[[Any], list[Any]]] = {
            Connect: self._connect, Helo: self._helo, Mail: self._mail, Rcpt: self._rcpt, Unknown: self._unknown,
            Msg: self._msg, Step: self._step, Replaced: self._replaced, Symbols: self._symbols,
        }

    def handle(self, message: Any) -> list[Any]:
        """What SMTPS gets for this message, in order."""
        if self._is_closed:
            return []
        return self._handlers[type(message)](message)

    def lose(self) -> None:
        """The SMTP server is gone: end the transaction and the session (M1 15.1.14)."""
        if not self._is_closed:
            self._end("abort")
            self._step(Step(StepKind.CLOSE))

    def _symbols(self, message: Symbols) -> list[Any]:
        for number, value in message.values:
            symbol = _SYMBOLS.get(number)
            if symbol is not None:
                self._turn.symbols[symbol] = text(value)
        return []

    def _connect(self, message: Connect) -> list[Any]:
        session = self.session
        session.client_name, session.client_address = text(message.name), text(message.address)
        session.client_port = message.port
        self._log_session("begins")
        return self._stage(Cap.CONNECT, "connect", session.client_name, session.client_address)

    def _helo(self, message: Helo) -> list[Any]:
        self.session.helo = text(message.name)
        return self._stage(Cap.EHLO, "helo", self.session.helo, message.is_ehlo)

    def _mail(self, message: Mail) -> list[Any]:
        session = self.session
        self._forget()
        session.sender, session.mail_params = text(message.address), [text(param.text) for param in message.params]
        return self._stage(Cap.MAIL, "mail", session.sender, session.mail_params)

    def _rcpt(self, message: Rcpt) -> list[Any]:
        session, address = self.session, text(message.address)
        turn = self._turn
        turn.index = message.idx
        turn.status = texts.parse_reply(message.reply) or Reply(message.code, "", "")
        answers = self._stage(Cap.RCPT, "rcpt", address, [text(param.text) for param in message.params])
        turn.index = turn.status = None
        if message.code < 400 and not any(map(_is_refusal, answers)):
            session.rcpts[message.idx] = address
        return answers

    def _unknown(self, message: Unknown) -> list[Any]:
        return self._stage(Cap.UNKNOWN, "unknown", text(message.line))

    def _msg(self, message: Msg) -> list[Any]:
        if not self._is_spoiled and self._chunk_answer is _GO_ON:
            answer = self._ask("msg", message.octets)
            has_rc = bool(self.session.server.wanted.capabilities & Cap.MSG_RC)
            if has_rc and answer.code != numbers.SMTP_R_CONT:
                self._chunk_answer = answer
            elif answer is _FAILED:
                self._is_spoiled = True
        return [self._chunk_answer] if message.wants_answer else []

    def _step(self, message: Step) -> list[Any]:
        match message.kind:
            case StepKind.DATA:
                return self._stage(Cap.DATA, "data")
            case StepKind.EOM:
                return self._eom()
            case StepKind.MORE:
                return [self._more()]
            case StepKind.ABORT:
                self._end("abort")
                self._end_transaction()
            case _:
                self._is_closed = True
                self._end("close")
                self._log_session("ends")
        return []

    def _eom(self) -> list[Any]:
        if self._told & Cap.EOM:
            self._end_transaction()
            return []
        answer = _FAILED if self._is_spoiled else self._ask("eom")
        changes = list(self._turn.changes)
        if _is_refusal(answer) or answer.code == numbers.SMTP_R_DISCARD:
            changes = []
        if answer.code == numbers.SMTP_R_RPLCMSG:
            try:
                self._pieces = pieces(iter(self._policy.msg_rplc(self.session)))
            except Exception as error:
                changes, answer = [], self._failure("msg_rplc", error)
        if self._pieces is None:
            self._end_transaction()
        return [*changes, answer]

    def _more(self) -> Any:
        """The next piece; it is the last one when it is the first that is not full."""
        try:
            octets = next(self._pieces, b"") if self._pieces is not None else b""
        except Exception as error:
            return self._failure("msg_rplc", error)
        return Piece(len(octets) < numbers.CHUNK_SIZE, octets)

    def _replaced(self, message: Replaced) -> list[Any]:
        self._pieces = None
        self._end("msg_rplc_stat", message.status)
        self._end_transaction()
        return []

    def _end_transaction(self) -> None:
        self._forget()
        self._turn.end_transaction()

    def _forget(self) -> None:
        """What an earlier transaction has left."""
        session = self.session
        session.sender, session.mail_params, session.rcpts = "", [], {}
        self._turn.forget()
        self._is_spoiled, self._chunk_answer, self._pieces = False, _GO_ON, None

    def _stage(self, cap: Cap, what: str, *arguments: object) -> list[Any]:
        return [] if self._told & cap else [self._ask(what, *arguments)]

    def _ask(self, what: str, *arguments: object) -> Answer:
        """The answer of a method that has a result."""
        session, turn = self.session, self._turn
        turn.call, turn.reply = what, b""
        try:
            result = getattr(self._policy, what)(session, *arguments)
            if session.server.process.debug >= _CALLS:
                _LOG.info("%s", logfmt.fields(client=session.client_address, call=what, result=result))
            return _answer(what, result, turn.reply)
        except Exception as error:
            return self._failure(what, error)
        finally:
            turn.call = ""

    def _end(self, what: str, *arguments: object) -> None:
        """A method whose result is of no account."""
        self._turn.call = what
        try:
            getattr(self._policy, what)(self.session, *arguments)
        except Exception as error:
            self._failure(what, error)
        finally:
            self._turn.call = ""

    def _log_session(self, status: str) -> None:
        session = self.session
        if session.server.process.debug >= _SESSIONS:
            _LOG.info("%s", logfmt.fields(
                server=session.server.hostname, client=session.client_address, name=session.client_name, status=status))

    def _failure(self, what: str, error: Exception) -> Answer:
        self._turn.changes = []
        trace = traceback.extract_tb(error.__traceback__)
        where = [frame for frame in trace if "/meta1g/pmilter/" not in frame.filename] or list(trace)
        _LOG.error("%s", logfmt.fields(
            policy=type(self._policy).__name__, call=what, client=self.session.client_address, error=repr(error),
            at=f"{where[-1].filename}:{where[-1].lineno}" if where else None))
        return _FAILED


def _answer(what: str, result: Any, reply: bytes) -> Answer:
    """A result as it goes to SMTPS; PolicyError if it can't be one."""
    if result is None and not reply:
        return _GO_ON
    if result is not None and (isinstance(result, bool) or not isinstance(result, int)):
        raise PolicyError(f"{what}: {result!r} is no result, return one of SMTP_R_*")
    code = (result or 0) & ~numbers.QUICK
    answer = Answer(code, result is not None and bool(result & numbers.QUICK), reply)
    if answer.fault() or (code == numbers.SMTP_R_RPLCMSG and what != "eom"):
        raise PolicyError(f"{what}: {result!r} is no result of it")
    if reply and reply[:3] != b"%d" % code:
        raise PolicyError(f"{what}: setreply said {text(reply[:3])}, but the result is {code}")
    return answer


def _is_refusal(answer: Answer) -> bool:
    return answer.code >= 400


def pieces(given: Iterator[bytes]) -> Iterator[bytes]:
    """The same octets in pieces of CHUNK_SIZE, the last of which is shorter, perhaps empty."""
    held = bytearray()
    for piece in given:
        held += piece
        while len(held) >= numbers.CHUNK_SIZE:
            yield bytes(held[:numbers.CHUNK_SIZE])
            del held[:numbers.CHUNK_SIZE]
    yield bytes(held)
