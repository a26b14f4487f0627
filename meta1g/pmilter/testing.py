"""A policy without an MTA: drive a dialog in memory, and look at what the policy says.

    client = Rig(MyPolicy()).client("192.0.2.1", "client.example")
    assert client.rcpt("nobody@example.org", refused="550 5.1.1 User unknown").is_go_on
    end = client.message(b"Subject: hi\\r\\n\\r\\nhello\\r\\n")
    assert end.code == 250 and end.fields == ["X-Seen: yes"]

Rules
    What the policy has not asked for in `negotiate` it does not get, as with a real server. A call that fails raises
    the author's own exception here, where a server gets a temporary failure.
"""
from typing import Any, NamedTuple

from meta1g.pmilter.caller import Caller
from meta1g.pmilter.contexts import Process, Server
from meta1g.pmilter.negotiation import negotiate
from meta1g.pmilter.policy import PolicyMilter
from meta1g.pmilter.session import Session, octets, text
from meta1g.proto.pmilter import numbers
from meta1g.proto.pmilter.messages import (
    TO_MILTER,
    TO_SERVER,
    Answer,
    Connect,
    HdrChange,
    Helo,
    Mail,
    MailRplc,
    Msg,
    Offer,
    Param,
    Rcpt,
    RcptAdd,
    RcptDel,
    Reader,
    Refuse,
    Replaced,
    Replies,
    Step,
    Symbol,
    Symbols,
    Unknown,
)
from meta1g.proto.pmilter.numbers import Cap, Fct, Feat, Pmm
from meta1g.proto.pmilter.numbers import Step as StepKind
from meta1g.proto.rcb import Hello


class Said(NamedTuple):
    """An answer: one of SMTP_R_*, whether it is quick, the reply that was set."""

    code: int = numbers.SMTP_R_CONT
    is_quick: bool = False
    reply: str = ""

    @property
    def is_go_on(self) -> bool:
        """Nobody is refused."""
        return self.code in (numbers.SMTP_R_CONT, numbers.SMTP_R_OK, numbers.SMTP_R_ACCEPT)

    @property
    def is_refusal(self) -> bool:
        """It is 4yz or 5yz."""
        return self.code >= 400


class End(NamedTuple):
    """What a policy made of a message: `added` and `deleted` are recipients, `each` PRDR's codes.

    `headers` are the changes of the header as (kind, position, field), `message` is the one that replaces it.
    """

    said: Said = Said()
    sender: str | None = None
    added: tuple[str, ...] = ()
    deleted: tuple[int, ...] = ()
    headers: tuple[tuple[int, int, str], ...] = ()
    each: tuple[int, ...] = ()
    message: bytes | None = None

    @property
    def code(self) -> int:
        """That of the answer."""
        return self.said.code

    @property
    def fields(self) -> list[str]:
        """The fields that were put anywhere into the header, without CRLF at their end."""
        return [field.removesuffix("\r\n") for _, _, field in self.headers if field]


class Rig:
    """An SMTP server in memory that offers this."""

    def __init__(self, policy: PolicyMilter, own: Any = None, *, prdr: bool = False,
                 capabilities: Cap = numbers.EVERYTHING, functions: Fct = numbers.EVERY_FUNCTION) -> None:
        self.policy = policy
        offer = Offer(int(capabilities), int(functions), int(Feat.PRDR) if prdr else 0, 0, b"mail.test")
        found, answer = negotiate(policy, Process(own), offer)
        self.is_refused = isinstance(answer, Refuse)
        self.server: Server = found

    def client(self, address: str = "192.0.2.1", name: str = "client.example",
               helo: str = "client.example") -> "Client":
        """A client that has connected and said EHLO; look at `client.said` for the answers to both."""
        return Client(self, address, name, helo)


class Client:
    """A session; transactions begin by themselves."""

    def __init__(self, rig: Rig, address: str, name: str, helo: str) -> None:
        self._rig = rig
        self._caller = _Strict(rig.policy, rig.server)
        self._reader = Reader(TO_MILTER)
        self._answers = Reader(TO_SERVER)
        for reader, vocabulary in ((self._reader, TO_MILTER), (self._answers, TO_SERVER)):
            reader.feed(vocabulary.frame(Hello(numbers.VERSION, 0, 0, "testing")))
        self._wanted = rig.server.wanted.capabilities
        self._next = 0
        connected = self._ask(Cap.CONNECT, Connect(1025, octets(name), octets(address)))
        self.said = connected, self._ask(Cap.EHLO, Helo(True, octets(helo)))

    @property
    def session(self) -> Session:
        """The session as the policy sees it."""
        return self._caller.session

    def symbols(self, **values: str) -> None:
        """Give values to symbols, by their lower-case names; those that were not asked for are not sent."""
        found = {numbers.symbol_of(name): value for name, value in values.items()}
        self._send(Symbols(tuple(
            Symbol(int(symbol), octets(value)) for symbol, value in found.items()
            if symbol is not None and self._rig.server.is_asked(Pmm(symbol)))))

    def mail(self, sender: str = "sender@example.net", *params: str) -> Said:
        """MAIL."""
        self._next = 0
        return self._ask(Cap.MAIL, Mail(octets(sender), _params(params)))

    def rcpt(self, address: str = "user@example.org", *params: str, refused: str = "") -> Said:
        """RCPT; `refused` is the reply with which the server has refused it already."""
        if refused and not self._wanted & Cap.RCPT_ST:
            return Said()
        reply = octets(refused + "\r\n") if refused else b""
        said = self._ask(Cap.RCPT, Rcpt(
            self._next, int(refused[:3]) if refused else 250, octets(address), reply, _params(params)))
        self._next += not refused and not said.is_refusal
        return said

    def data(self) -> Said:
        """DATA."""
        return self._ask(Cap.DATA, Step(StepKind.DATA))

    def unknown(self, command: str) -> Said:
        """A command that the server does not know."""
        return self._ask(Cap.UNKNOWN, Unknown(octets(command)))

    def message(self, content: bytes, chunk: int = numbers.CHUNK_SIZE) -> End:
        """The message in pieces of this size, and its end."""
        has_rc = bool(self._wanted & Cap.MSG_RC)
        for at in range(0, len(content), chunk) if self._wanted & Cap.MSG else ():
            answers = self._send(Msg(has_rc, content[at:at + chunk]))
            if answers and answers[-1].code != numbers.SMTP_R_CONT:
                return End(_said(answers[-1]))
        return self._end()

    def abort(self) -> None:
        """The transaction ends early."""
        self._send(Step(StepKind.ABORT))

    def close(self) -> None:
        """The session ends."""
        self._send(Step(StepKind.CLOSE))

    def _end(self) -> End:
        if not self._wanted & Cap.EOM:
            return End()
        answers = self._send(Step(StepKind.EOM))
        if not answers:
            return End()
        *changes, answer = answers
        found = End(
            _said(answer),
            sender=next((text(found.address) for found in reversed(changes) if isinstance(found, MailRplc)), None),
            added=tuple(text(found.address) for found in changes if isinstance(found, RcptAdd)),
            deleted=tuple(found.idx for found in changes if isinstance(found, RcptDel)),
            headers=tuple((found.kind, found.position, text(found.field))
                          for found in changes if isinstance(found, HdrChange)),
            each=tuple(part.code for found in changes if isinstance(found, Replies) for part in found.each))
        if answer.code == numbers.SMTP_R_RPLCMSG:
            found = found._replace(message=self._replacement())
        return found

    def _replacement(self) -> bytes:
        whole: bytes = b""
        while True:
            [(is_last, octets)] = self._send(Step(StepKind.MORE))
            whole += octets
            if is_last:
                self._send(Replaced(0))
                return whole

    def _ask(self, cap: Cap, message: Any) -> Said:
        answers = self._send(message) if self._wanted & cap else []
        return _said(answers[-1]) if answers else Said()

    def _send(self, message: Any) -> list[Any]:
        """Through the frames, there and back, as it is on the way."""
        [(message, _)] = self._reader.feed(TO_MILTER.frame(message, 1))
        answers = self._caller.handle(message)
        return [found for answer in answers for found, _ in self._answers.feed(TO_SERVER.frame(answer, 1))]


class _Strict(Caller):
    """Lets exceptions through."""

    def _failure(self, what: str, error: Exception) -> Answer:
        raise error


def _params(params: tuple[str, ...]) -> tuple[Param, ...]:
    return tuple(Param(octets(param)) for param in params)


def _said(answer: Answer) -> Said:
    return Said(answer.code, answer.is_quick, text(answer.reply).removesuffix("\r\n"))
