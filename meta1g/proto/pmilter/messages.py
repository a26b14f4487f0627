"""The messages between SMTPS and a policy milter; docs/pmilter-protocol.md has their octets.

Rules
    The tag of a frame is the number of the SMTP session, 0 where the whole connection is meant.
    Both sides say Hello at once. SMTPS sends Offer, the milter answers Wants or Refuse; then sessions may begin.
    In a session SMTPS has one question open at a time: all its messages but Symbols, Msg without `wants_answer`,
    the Steps ABORT and CLOSE, and what the milter wants only to be told (`misc` of Wants). The milter answers with
    Answer; at the end of a message its changes come before that, in their order. It answers MORE with Piece, and
    Ping with Ping of the same number. CLOSE ends each session that was mentioned, ABORT each such transaction that
    does not come to its end.
    `fault` of a message says what is wrong with its values, empty if nothing is. Whoever sends a wrong one is dropped.
"""
from typing import Any, Final, NamedTuple

from meta1g.mta import limits
from meta1g.mta.errors import FrameError
from meta1g.proto.pmilter import numbers
from meta1g.proto.pmilter.numbers import HdrMod, Stage
from meta1g.proto.pmilter.numbers import Step as StepKind
from meta1g.proto.rcb import FrameReader, Hello, Vocabulary

_WORD: Final = range(numbers.WORD_MAX + 1)
_CODES: Final = range(400, 600)
_STAGES: Final = frozenset(Stage)
_STEPS: Final = frozenset(StepKind)
_HDR_MODS: Final = frozenset(HdrMod)
_LINE: Final = limits.COMMAND_LINE_EXTENDED  # an address or parameter is a part of one


class Offer(NamedTuple):
    """SMTPS: what it can pass on, do and has (M1 15.1.3)."""

    capabilities: int
    functions: int
    features: int
    misc: int
    hostname: bytes

    def fault(self) -> str:
        """What is wrong."""
        return _first(_words(self), len(self.hostname) > numbers.NAME_MAX and "hostname is too long")


class StageSymbols(NamedTuple):
    """A part of Wants: the symbols of one stage, an octet for the number of each."""

    stage: int
    symbols: bytes


class Wants(NamedTuple):
    """The milter: which of it all it wants."""

    capabilities: int
    functions: int
    features: int
    misc: int
    name: bytes
    stages: tuple[StageSymbols, ...]

    def fault(self) -> str:
        """What is wrong."""
        asked = [entry.stage for entry in self.stages]
        return _first(
            _words(self), len(self.name) > numbers.NAME_MAX and "name is too long",
            bool(self.misc & ~numbers.TELLABLE) and "misc has what can't be told",
            not (set(asked) <= _STAGES and len(set(asked)) == len(asked)) and "stages of symbols are wrong",
            any(len(entry.symbols) > numbers.MACROS_MAX for entry in self.stages) and "too many symbols")


class Refuse(NamedTuple):
    """The milter: it can't work with what was offered."""

    reason: bytes

    def fault(self) -> str:
        """What is wrong."""
        return _first(len(self.reason) > numbers.VALUE_MAX and "reason is too long")


class Ping(NamedTuple):
    """Are you there? The answer is the same."""

    number: int

    def fault(self) -> str:
        """What is wrong: nothing can be."""
        return ""


class Symbol(NamedTuple):
    """The value of a symbol."""

    number: int
    value: bytes


class Symbols(NamedTuple):
    """SMTPS: values of the stage whose question comes next."""

    values: tuple[Symbol, ...]

    def fault(self) -> str:
        """What is wrong."""
        return _first(
            len(self.values) > numbers.MACROS_MAX and "too many symbols",
            any(len(symbol.value) > numbers.VALUE_MAX for symbol in self.values) and "value is too long")


class Connect(NamedTuple):
    """A client has come: its port, its name if that is known, its IP address or `local`."""

    port: int
    name: bytes
    address: bytes

    def fault(self) -> str:
        """What is wrong."""
        return _first(
            not 0 <= self.port <= 0xFFFF and "port is wrong",
            max(len(self.name), len(self.address)) > numbers.NAME_MAX and "name is too long")


class Helo(NamedTuple):
    """EHLO or HELO."""

    is_ehlo: bool
    name: bytes

    def fault(self) -> str:
        """What is wrong."""
        return _first(len(self.name) > _LINE and "name is too long")


class Param(NamedTuple):
    """A parameter of MAIL or RCPT, KEYWORD or KEYWORD=value."""

    text: bytes


class Mail(NamedTuple):
    """MAIL: an address without angle brackets, empty for the null sender."""

    address: bytes
    params: tuple[Param, ...]

    def fault(self) -> str:
        """What is wrong."""
        return _path_fault(self.address, self.params)


class Rcpt(NamedTuple):
    """RCPT: `idx` counts the transaction's recipients that were not refused before.

    `code` is that of the reply so far, and `reply` all of it if it is a refusal (SM_SCAP_PM_RCPT_ST).
    """

    idx: int
    code: int
    address: bytes
    reply: bytes
    params: tuple[Param, ...]

    def fault(self) -> str:
        """What is wrong."""
        return _path_fault(self.address, self.params) or _first(
            not 0 <= self.idx < limits.RECIPIENT_INDEX and "index is wrong",
            not 200 <= self.code <= 599 and "code is wrong",
            len(self.reply) > numbers.REPLY_MAX and "reply is too long")


class Unknown(NamedTuple):
    """A command that SMTPS does not know, without CRLF."""

    line: bytes

    def fault(self) -> str:
        """What is wrong."""
        return _first(len(self.line) > _LINE and "line is too long")


class Msg(NamedTuple):
    """A piece of the message, without transparency dots."""

    wants_answer: bool
    octets: bytes

    def fault(self) -> str:
        """What is wrong."""
        return _first(len(self.octets) > numbers.CHUNK_SIZE and "piece is too long")


class Step(NamedTuple):
    """What needs no more words, see `numbers.Step`."""

    kind: int

    def fault(self) -> str:
        """What is wrong."""
        return _first(self.kind not in _STEPS and "there is no such step")


class Replaced(NamedTuple):
    """How the replacement of the message went: 0 for well (M1 15.1.10)."""

    status: int

    def fault(self) -> str:
        """What is wrong: nothing can be."""
        return ""


class Answer(NamedTuple):
    """The milter's word: `code` is one of SMTP_R_*, `reply` a whole reply with CRLF, empty for the usual one."""

    code: int
    is_quick: bool
    reply: bytes

    def fault(self) -> str:
        """What is wrong."""
        return _first(
            not (self.code in numbers.SPECIAL or self.code == numbers.SMTP_R_OK or self.code in _CODES)
            and "code is wrong", len(self.reply) > numbers.REPLY_MAX and "reply is too long")


class MailRplc(NamedTuple):
    """Another sender."""

    address: bytes
    params: bytes

    def fault(self) -> str:
        """What is wrong."""
        return _path_fault(self.address, (Param(self.params),))


class RcptAdd(NamedTuple):
    """One more recipient."""

    address: bytes
    params: bytes

    def fault(self) -> str:
        """What is wrong."""
        return _path_fault(self.address, (Param(self.params),))


class RcptDel(NamedTuple):
    """One recipient less, by its index."""

    idx: int
    address: bytes

    def fault(self) -> str:
        """What is wrong."""
        return _path_fault(self.address, ()) or _first(
            not 0 <= self.idx < limits.RECIPIENT_INDEX and "index is wrong")


class HdrChange(NamedTuple):
    """A change of the header: `field` is whole, with CRLF; it is empty for REMOVE."""

    kind: int
    position: int
    field: bytes

    def fault(self) -> str:
        """What is wrong."""
        return _first(
            self.kind not in _HDR_MODS and "there is no such change",
            not 0 <= self.position <= 0xFFFF and "position is wrong",
            len(self.field) > numbers.FIELD_MAX and "field is too long")


class RcptReply(NamedTuple):
    """A part of Replies: the code, and the whole reply with CRLF or nothing for the usual one."""

    code: int
    reply: bytes


class Replies(NamedTuple):
    """PRDR: a reply for each recipient (M1 15.1.12)."""

    each: tuple[RcptReply, ...]

    def fault(self) -> str:
        """What is wrong."""
        return _first(any(len(part.reply) > numbers.REPLY_MAX for part in self.each) and "reply is too long",
                      any(part.code != numbers.SMTP_R_OK and part.code not in _CODES for part in self.each)
                      and "code is wrong")


class Piece(NamedTuple):
    """A piece of the message that replaces the other."""

    is_last: bool
    octets: bytes

    def fault(self) -> str:
        """What is wrong."""
        return _first(len(self.octets) > numbers.CHUNK_SIZE and "piece is too long")


TO_MILTER: Final = Vocabulary(
    {1: Offer, 2: Ping, 3: Symbols, 4: Connect, 5: Helo, 6: Mail, 7: Rcpt, 8: Unknown, 9: Msg, 10: Step, 11: Replaced},
    numbers.FRAME_MAX)
TO_SERVER: Final = Vocabulary(
    {1: Wants, 2: Ping, 3: Refuse, 4: Answer, 5: MailRplc, 6: RcptAdd, 7: RcptDel, 8: HdrChange, 9: Replies, 10: Piece},
    numbers.FRAME_MAX)
Change = MailRplc | RcptAdd | RcptDel | HdrChange | Replies


class Reader:
    """Octets of a connection in; messages with their sessions' numbers out."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._frames = FrameReader(vocabulary)
        self._greeted = False

    def feed(self, data: bytes) -> list[tuple[Any, int]]:
        """All messages that are complete now, the first of a connection being Hello; FrameError on nonsense."""
        found = self._frames.feed(data)
        if not self._greeted and found:
            check_hello(found[0][0])
            self._greeted = True
            return [found[0], *_checked(found[1:])]
        return _checked(found)


def check_hello(message: Any) -> Hello:
    """The other side's Hello; FrameError with the reason if it is none or speaks another version."""
    if not isinstance(message, Hello):
        raise FrameError(f"{type(message).__name__} came before Hello")
    if message.version != numbers.VERSION:
        raise FrameError(f"version {message.version} of the protocol is spoken there, {numbers.VERSION} here")
    if len(message.name) > numbers.NAME_MAX:
        raise FrameError("Hello: name is too long")
    return message


def _checked(found: list[tuple[Any, int]]) -> list[tuple[Any, int]]:
    for message, _ in found:
        fault = "came twice" if isinstance(message, Hello) else message.fault()
        if fault:
            raise FrameError(f"{type(message).__name__}: {fault}")
    return found


def _first(*faults: str | bool) -> str:
    return next((fault for fault in faults if isinstance(fault, str) and fault), "")


def _words(message: Offer | Wants) -> str:
    return "" if all(word in _WORD for word in message[:4]) else "a word has more than 32 bits"


def _path_fault(address: bytes, params: tuple[Param, ...]) -> str:
    return _first(len(address) > _LINE and "address is too long",
                  len(params) > numbers.PARAMS_MAX and "too many parameters",
                  any(len(param.text) > _LINE for param in params) and "parameter is too long")
