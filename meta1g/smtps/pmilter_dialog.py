"""One session at the policy milter (M1 15.1): what SMTPS asks as a filter, in the words of the protocol.

Rules
    What the milter only wants to be told waits and leaves with the next question.
    A milter that can't be asked any more, or that says what makes no sense, has nothing more to say about the session:
    that goes on without it, or ends with 421 (M1 3.10 item 19.3).
    Octets of a message wait until there are enough for a piece of the protocol's size.
"""
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from meta1g.mta import logfmt
from meta1g.mta.errors import LinkDown, StoreError
from meta1g.mta.reply import Reply
from meta1g.proc.log import Log
from meta1g.proto.dkim.fields import Field
from meta1g.proto.pmilter import numbers
from meta1g.proto.pmilter.messages import (
    TO_MILTER,
    Connect,
    Helo,
    Mail,
    Msg,
    Param,
    Piece,
    Rcpt,
    Replaced,
    Replies,
    Step,
    Symbol,
    Symbols,
    Unknown,
)
from meta1g.proto.pmilter.messages import Answer as Word
from meta1g.proto.pmilter.numbers import Cap, Pmm, Stage
from meta1g.proto.pmilter.numbers import Step as StepKind
from meta1g.smtps.filter import GO_ON, Act, Answer, Change, Facts, ReplaceMessage, Spool
from meta1g.smtps.pmilter_changes import Nonsense, answer_of, changes_of, replies_of
from meta1g.smtps.pmilter_wire import Heard, Question, Wire
from meta1g.st.sched import TimedOut, now

_HELD: Final = 16 * 1024  # octets that wait for the next question
_AWAY: Final = Reply(421, "4.3.2", "Policy not available, try again later")
_DONE: Final = Answer(Act.SKIP)  # of the session or the content it need not hear
_FACTS: Final = {
    Pmm.SRVHOSTNAME: "hostname", Pmm.SEID: "session_id", Pmm.CLIENT_RESOLVE: "client_resolve",
    Pmm.MAIL_TAID: "transaction_id", Pmm.DOT_MSGID: "message_id", Pmm.TLS_VERSION: "tls_version",
    Pmm.TLS_CIPHER_SUITE: "cipher", Pmm.TLS_CIPHER_BITS: "cipher_bits", Pmm.TLS_ALG_BITS: "alg_bits",
    Pmm.TLS_VRFY: "tls_verify", Pmm.TLS_CERT_SUBJECT: "cert_subject", Pmm.TLS_CERT_ISSUER: "cert_issuer",
    Pmm.TLS_CN_SUBJECT: "cn_subject", Pmm.TLS_CN_ISSUER: "cn_issuer", Pmm.AUTH_TYPE: "auth_type",
    Pmm.AUTH_AUTHEN: "auth_authen", Pmm.AUTH_AUTHOR: "auth_author", Pmm.HOPS: "hops",
}
_NUMBERS: Final = frozenset({Pmm.TLS_CIPHER_BITS, Pmm.TLS_ALG_BITS})  # 0: there is no TLS


class Terms(NamedTuple):
    """What holds for all sessions: `timeout` in seconds for an answer, `aborts`: a session needs the milter."""

    timeout: float
    aborts: bool
    log: Log
    name: str = "policy_milter"


class _Lost(Exception):
    """The milter has nothing more to say about the session; the text says why."""


class PmilterDialog:
    """A filter of one session; `wire` is None if the milter is not there."""

    def __init__(self, terms: Terms, wire: Wire | None, facts: Facts) -> None:
        self._terms = terms
        self._wire = wire
        self._facts = facts
        self._symbols = {entry.stage: entry.symbols for entry in wire.wants.stages} if wire is not None else {}
        self._number = 0  # as long as nothing was sent
        self._held = bytearray()
        self._is_in_ta = False
        self._is_replacing = False  # the message, by one that it has begun to give
        self._valid: dict[int, bytes] = {}  # recipients that it has not refused, by index
        self._content = bytearray()
        self._unheard = 0  # octets of content that it need not have taken yet
        self._verdict: Answer | None = None  # about the message, before its end

    def on_connect(self) -> Answer:
        """A client is there."""
        if self._wire is None:
            return self._without()
        if not self._wire.capabilities:
            return _DONE
        facts = self._facts
        return self._stage(Cap.CONNECT, Stage.CONNECT, Connect(
            int(facts.symbol("client_port") or 0), facts.symbol("client_name")[:numbers.NAME_MAX],
            facts.symbol("client_ip")))

    def on_helo(self, name: bytes) -> Answer:
        """HELO or EHLO."""
        return self._stage(Cap.EHLO, Stage.EHLO, Helo(bool(self._facts.symbol("is_ehlo")), name))

    def on_mail(self, address: bytes, params: Sequence[bytes]) -> Answer:
        """A transaction begins."""
        self._is_in_ta = True
        self._valid = {}
        self._forget_content()
        return self._stage(Cap.MAIL, Stage.MAIL, Mail(address, _params(params)))

    def on_rcpt(self, address: bytes, params: Sequence[bytes], index: int, refused: Reply | None) -> Answer:
        """A recipient; with `refused` only for its information."""
        if refused is not None and not (self._wire and self._wire.capabilities & Cap.RCPT_ST):
            return GO_ON
        reply = bytes(refused) if refused is not None else b""
        answer = self._stage(Cap.RCPT, Stage.RCPT, Rcpt(
            index, refused.code if refused is not None else numbers.SMTP_R_OK, address,
            reply if len(reply) <= numbers.REPLY_MAX else b"", _params(params)))
        if answer.act is Act.DISCARD and not answer.is_quick:
            return answer._replace(act=Act.DISCARD_RCPT)
        if refused is None and answer.act in (Act.GO_ON, Act.ACCEPT):
            self._valid[index] = address
        return answer

    def on_data(self) -> Answer:
        """DATA, or the first BDAT."""
        return self._stage(Cap.DATA, Stage.DATA, Step(StepKind.DATA))

    def on_unknown(self, line: bytes) -> Answer:
        """A command that this server does not know."""
        return self._stage(Cap.UNKNOWN, None, Unknown(line))

    def on_header(self, fields: Sequence[Field]) -> Answer:
        """The header; the empty line behind it is the first thing that follows."""
        if self._wire is None:
            return self._without()
        if not self._wire.capabilities & Cap.MSG:
            return _DONE
        return self.on_body(b"".join([field.octets for field in fields]) + b"\r\n")

    def on_body(self, octets: bytes) -> Answer:
        """A piece of the body; they go on in pieces of the protocol's size."""
        if self._wire is None:
            return self._without()
        self._content += octets
        try:
            while len(self._content) >= numbers.CHUNK_SIZE and self._verdict is None:
                self._send_content(numbers.CHUNK_SIZE)
        except _Lost as lost:
            return self._lose(lost)
        return GO_ON if self._verdict is None else _DONE

    def on_end(self) -> tuple[Answer, Sequence[Change]]:
        """The message is complete."""
        self._is_in_ta = False
        try:
            if self._wire is None:
                return self._without(), ()
            if self._content and self._verdict is None:
                self._send_content(len(self._content))
            return (self._verdict, ()) if self._verdict is not None else self._end()
        except _Lost as lost:
            answer = self._lose(lost)
            # it has said that the message must not go as it is
            return Answer(Act.TEMPFAIL) if self._is_replacing and answer is _DONE else answer, ()
        finally:
            self._is_replacing = False
            self._forget_content()

    def on_abort(self) -> None:
        """The transaction will not be completed."""
        if not self._is_in_ta or self._wire is None:
            return
        self._is_in_ta = False
        if self._number:
            self._wire.tell_later(self._take_held() + TO_MILTER.frame(Step(StepKind.ABORT), self._number))

    def on_close(self) -> None:
        """The session is over."""
        wire, self._wire = self._wire, None
        if wire is None or not self._number:
            return
        wire.tell_later(self._take_held() + TO_MILTER.frame(Step(StepKind.CLOSE), self._number))

    # Asking

    def _stage(self, cap: Cap, stage: Stage | None, message: Any) -> Answer:
        """Tell of a stage, or ask."""
        wire = self._wire
        if wire is None:
            return self._without()
        if not wire.capabilities & cap:
            return GO_ON
        octets = self._symbols_of(stage) + TO_MILTER.frame(message, self._its_number())
        try:
            if wire.wants.misc & cap:
                self._tell(octets)
                return GO_ON
            return answer_of(self._word(octets))
        except (_Lost, Nonsense) as lost:
            return self._lose(lost)

    def _symbols_of(self, stage: Stage | None) -> bytes:
        asked = self._symbols.get(stage, b"") if stage is not None else b""
        values = []
        for number in asked:
            name = _FACTS.get(Pmm(number)) if number in _KNOWN else None
            value = self._facts.symbol(name)[:numbers.VALUE_MAX] if name else b""
            if value and not (value == b"0" and number in _NUMBERS):
                values.append(Symbol(number, value))
        return TO_MILTER.frame(Symbols(tuple(values)), self._its_number()) if values else b""

    def _its_number(self) -> int:
        if not self._number and self._wire is not None:
            self._number = self._wire.number()
        return self._number

    def _tell(self, octets: bytes) -> None:
        """Let it wait for the next question, unless too much waits."""
        self._held += octets
        if len(self._held) > _HELD and self._wire is not None:
            try:
                self._wire.tell(self._take_held(), self._terms.timeout)
            except (LinkDown, TimedOut) as error:
                raise _Lost(str(error) or "timeout") from None

    def _take_held(self) -> bytes:
        held, self._held = bytes(self._held), bytearray()
        return held

    def _ask(self, octets: bytes, question: Question, timeout: float) -> Heard:
        wire = self._wire
        assert wire is not None
        try:
            return wire.ask(self._number, self._take_held() + octets, question, timeout)
        except (LinkDown, TimedOut) as error:
            raise _Lost(str(error) or "timeout") from None

    def _word(self, octets: bytes) -> Word:
        answer = self._ask(octets, Question.STAGE, self._terms.timeout).answer
        assert isinstance(answer, Word)
        return answer

    # The message

    def _send_content(self, size: int) -> None:
        """The next octets of the content: a question if the milter answers each, or has not been heard for long."""
        wire = self._wire
        assert wire is not None
        octets = bytes(self._content[:size])
        del self._content[:size]
        self._unheard += size
        is_asked = bool(wire.capabilities & Cap.MSG_RC) or self._unheard >= numbers.WINDOW
        frame = TO_MILTER.frame(Msg(is_asked, octets), self._its_number())
        if not is_asked:
            self._tell(frame)
            return
        self._unheard = 0
        word = self._word(frame)
        if word.code != numbers.SMTP_R_CONT:
            try:
                self._verdict = answer_of(word)
            except Nonsense as nonsense:
                raise _Lost(str(nonsense)) from None

    def _end(self) -> tuple[Answer, Sequence[Change]]:
        wire = self._wire
        assert wire is not None
        if not wire.capabilities & Cap.EOM:
            return GO_ON, ()
        octets = self._symbols_of(Stage.DOT) + TO_MILTER.frame(Step(StepKind.EOM), self._its_number())
        if wire.wants.misc & Cap.EOM:
            self._tell(octets)
            return GO_ON, ()
        word, given = self._ask(octets, Question.END, self._terms.timeout)
        assert isinstance(word, Word)
        try:
            answer = answer_of(word)
            each = replies_of([part for part in given if isinstance(part, Replies)], len(self._valid))
            changes = changes_of(given, self._valid)
        except Nonsense as nonsense:
            raise _Lost(str(nonsense)) from None
        if word.code == numbers.SMTP_R_RPLCMSG:
            self._is_replacing = True
            changes.append(ReplaceMessage(self._replacement()))
        return answer._replace(each=each), changes

    def _replacement(self) -> Spool:
        """The message that the milter gives in place of the other. StoreError if it can't be kept."""
        wire = self._wire
        assert wire is not None
        spool, end = self._facts.spool(), now() + self._terms.timeout
        more, status = TO_MILTER.frame(Step(StepKind.MORE), self._number), 1
        try:
            is_last = False
            while not is_last:
                piece = self._ask(more, Question.PIECE, max(end - now(), 0.0)).answer
                if not isinstance(piece, Piece):
                    raise StoreError("replace", self._terms.name, "the policy milter gave it up")
                if not piece.is_last and len(piece.octets) < numbers.CHUNK_SIZE:
                    raise _Lost("a piece is too small")
                spool.append(piece.octets)
                is_last = piece.is_last
            status = 0
        except ValueError as error:
            raise StoreError("replace", self._terms.name, str(error)) from None
        finally:
            wire.tell_later(TO_MILTER.frame(Replaced(status), self._number))
        return spool

    def _forget_content(self) -> None:
        self._content, self._unheard, self._verdict = bytearray(), 0, None

    # Without it

    def _lose(self, why: Exception) -> Answer:
        """The milter is lost for this session, or it says nonsense and so for all."""
        wire = self._wire
        if wire is not None and isinstance(why, Nonsense):
            wire.drop(str(why))
        self._terms.log.error(logfmt.fields(
            func="smtps", ss_se=self._facts.symbol("session_id"), policy_milter=self._terms.name,
            status="session aborted" if self._terms.aborts else "session goes on without it", reason=str(why)))
        self._held = bytearray()
        if wire is not None and wire.is_up and self._is_in_ta:
            self._held += TO_MILTER.frame(Step(StepKind.ABORT), self._number)
        self.on_close()
        return self._without()

    def _without(self) -> Answer:
        return Answer(Act.CLOSE, _AWAY) if self._terms.aborts else _DONE


_KNOWN: Final = frozenset(int(symbol) for symbol in Pmm)


def _params(given: Sequence[bytes]) -> tuple[Param, ...]:
    return tuple([Param(text) for text in given[:numbers.PARAMS_MAX]])
