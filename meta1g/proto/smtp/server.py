"""The SMTP server's side of a dialog, sans-I/O (RFC 5321, 1870, 2034, 2920, 6152).

Rules
    Octets go in by `feed`; `next_event` returns what the caller must decide, None when
    more octets are needed. The caller answers each event that asks with `answer`; then it
    calls `next_event` again. `take_output` returns what must be sent, in one piece.
    The machine itself answers what needs no decision: syntax, order, NOOP, RSET, HELP, VRFY.
    After `Closed` nothing more comes.

States
    TRANSITIONS is the whole truth about the order of commands.
"""
from enum import Enum, auto
from typing import Final, NamedTuple

from meta1g.mta import limits
from meta1g.mta.errors import LocalProtocolError
from meta1g.mta.reply import Reply
from meta1g.proto.smtp import replies
from meta1g.proto.smtp.command import Helo, Mail, Rcpt, Simple, Syntax, parse_command
from meta1g.proto.smtp.data import ContentReader
from meta1g.proto.smtp.tally import Tally


class State(Enum):
    """Where in the dialog the session is."""

    START = auto()  # no EHLO yet
    READY = auto()
    MAIL = auto()
    RCPT = auto()
    DATA = auto()  # content is coming
    CLOSED = auto()


class Ev(Enum):
    """Accepted commands that move the state."""

    HELO = auto()
    MAIL = auto()
    RCPT = auto()
    DATA = auto()
    END = auto()  # of content
    RSET = auto()
    QUIT = auto()


TRANSITIONS: Final[dict[tuple[State, Ev], State]] = {
    (State.START, Ev.HELO): State.READY,
    (State.READY, Ev.HELO): State.READY,
    (State.MAIL, Ev.HELO): State.READY,
    (State.RCPT, Ev.HELO): State.READY,
    (State.START, Ev.MAIL): State.MAIL,  # unless require_EHLO_before_MAIL
    (State.READY, Ev.MAIL): State.MAIL,
    (State.MAIL, Ev.RCPT): State.RCPT,
    (State.RCPT, Ev.RCPT): State.RCPT,
    (State.RCPT, Ev.DATA): State.DATA,
    (State.DATA, Ev.END): State.READY,
    (State.START, Ev.RSET): State.START,
    (State.READY, Ev.RSET): State.READY,
    (State.MAIL, Ev.RSET): State.READY,
    (State.RCPT, Ev.RSET): State.READY,
    (State.START, Ev.QUIT): State.CLOSED,
    (State.READY, Ev.QUIT): State.CLOSED,
    (State.MAIL, Ev.QUIT): State.CLOSED,
    (State.RCPT, Ev.QUIT): State.CLOSED,
}


class ServerOptions(NamedTuple):
    """What the server offers and allows, the same for all its sessions."""

    hostname: str
    size_max: int
    offers_8bitmime: bool = True
    require_helo: bool = False
    soft_bounce: bool = False
    syntax: Syntax = Syntax()


class MailAsked(NamedTuple):
    """May this sender begin a transaction? `size` is the declared one, 0 if none."""

    address: bytes
    size: int
    is_8bit: bool
    params: tuple[tuple[bytes, bytes], ...]


class RcptAsked(NamedTuple):
    """May mail go to this recipient?"""

    address: bytes
    params: tuple[tuple[bytes, bytes], ...]


class DataAsked(NamedTuple):
    """May the content come? Answer with START_DATA or an error."""


class Chunk(NamedTuple):
    """A piece of content; needs no answer."""

    octets: bytes


class ContentEnd(NamedTuple):
    """The final dot: `fault` is the reply if the content can't be accepted as it is."""

    size: int
    is_8bit: bool
    fault: Reply | None


class Reset(NamedTuple):
    """The transaction, if there was one, is void (RSET, EHLO, HELO); needs no answer."""

    helo: Helo | None


class Closed(NamedTuple):
    """Send the output and close: QUIT was given or the peer asked for too much; `reply` says which."""

    reply: Reply


Event = MailAsked | RcptAsked | DataAsked | Chunk | ContentEnd | Reset | Closed


class SmtpServer:
    """One session's machine."""

    def __init__(self, options: ServerOptions, tally: Tally) -> None:
        self._options = options
        self._tally = tally
        self._state = State.START
        self._input = b""
        self._output: list[bytes] = []
        self._pending: Event | None = None
        self._content: ContentReader | None = None
        self._end: ContentEnd | None = None
        self._rcpts_tried = 0
        self._is_skipping = False
        self.helo: Helo | None = None

    @property
    def state(self) -> State:
        """Where the dialog is."""
        return self._state

    @property
    def protocol(self) -> str:
        """The word for the Received field (M1 10.5, RFC 3848)."""
        return "ESMTP" if self.helo is not None and self.helo.is_ehlo else "SMTP"

    @property
    def has_input(self) -> bool:
        """Whether octets wait to be looked at."""
        return bool(self._input)

    def feed(self, data: bytes) -> None:
        """Octets from the client."""
        self._input = self._input + data if self._input else data

    def take_output(self) -> bytes:
        """All replies since the last call."""
        output, self._output = self._output, []
        return output[0] if len(output) == 1 else b"".join(output)

    def greet(self, text: bytes) -> None:
        """Send the greeting, complete with code and CRLF."""
        self._output.append(text)

    def close(self, reply: Reply) -> Closed:
        """End the session with this reply, whatever the state."""
        self._output.append(bytes(reply))
        self._state = State.CLOSED
        self._input = b""
        return Closed(reply)

    def next_event(self) -> Event | None:
        """What happens next; None when octets from the client are needed first."""
        if self._pending is not None:
            raise LocalProtocolError(f"{self._pending} has not been answered")
        while self._state is not State.CLOSED:
            if self._state is State.DATA:
                return self._next_content()
            line = self._next_line()
            if line is None:
                return None
            event = self._on_line(line)
            if event is not None:
                return event
        return None

    def answer(self, reply: Reply) -> Closed | None:
        """The caller's decision about the last event; Closed if the session is over with it."""
        event, self._pending = self._pending, None
        if reply.code == 421:
            return self.close(reply)
        over: Reply | None = None
        match event:
            case MailAsked():
                if reply.is_positive:
                    self._move(Ev.MAIL)
            case RcptAsked():
                if reply.is_positive:
                    self._move(Ev.RCPT)
                    self._tally.rcpt_accepted()
                elif reply.code >= 500:
                    over = self._tally.rcpt_refused()
            case DataAsked():
                if self._input:
                    return self.close(replies.PIPELINING)
                if reply.is_positive:
                    self._move(Ev.DATA)
                    self._content = ContentReader()
            case ContentEnd():
                self._move(Ev.END)
                self._tally.transaction_ended(is_accepted=reply.is_positive)
            case _:
                raise LocalProtocolError("there is nothing to answer")
        self._put(reply)
        return self.close(over) if over is not None else None

    def answer_each(self, each: list[Reply]) -> None:
        """LMTP's decision about content: one reply for each accepted recipient, in order (RFC 2033 4.2)."""
        if not isinstance(self._pending, ContentEnd):
            raise LocalProtocolError("there is no content to answer for")
        self._pending = None
        self._move(Ev.END)
        self._tally.transaction_ended(is_accepted=any(reply.is_positive for reply in each))
        for reply in each:
            self._put(reply)

    def _put(self, reply: Reply) -> None:
        if self._options.soft_bounce:
            reply = reply.softened()
        self._output.append(bytes(reply))

    def _move(self, event: Ev) -> None:
        self._state = TRANSITIONS[self._state, event]

    def _ask(self, event: Event) -> Event:
        self._pending = event
        return event

    # Content

    def _next_content(self) -> Event | None:
        if self._end is not None:
            end, self._end = self._end, None
            return self._ask(end)
        content = self._content
        if content is None or not self._input:
            return None
        data, self._input = self._input, b""
        octets = content.feed(data)
        if content.is_done:
            self._input, self._content = content.rest, None
            self._end = ContentEnd(content.size, content.is_8bit, self._fault(content))
        if octets and content.size <= self._options.size_max:
            return Chunk(octets)
        return self._next_content()

    def _fault(self, content: ContentReader) -> Reply | None:
        if content.has_bare_line_end:
            return replies.BARE_LINE_END
        if content.size > self._options.size_max:
            return replies.TOO_LARGE
        if content.longest_line > limits.TEXT_LINE_LENIENT:
            return replies.CONTENT_LINE_TOO_LONG
        return None

    # Lines

    def _next_line(self) -> bytes | Reply | None:
        """The next line without CRLF, a reply for an impossible one, None if it is not complete."""
        end = self._input.find(b"\n")
        if end < 0:
            if len(self._input) > limits.COMMAND_LINE_EXTENDED:
                self._is_skipping, self._input = True, self._input[-1:]
            return None
        if end == 0 or self._input[end - 1] != 13:
            # What follows a wrong line end up to the next right one may be a smuggled command.
            after = self._input.find(b"\r\n", end)
            self._input = self._input[after + 2:] if after >= 0 else b""
            self._is_skipping = False
            return replies.BAD_LINE_END
        line, self._input = self._input[: end - 1], self._input[end + 1:]
        if self._is_skipping or len(line) + 2 > limits.COMMAND_LINE_EXTENDED:
            self._is_skipping = False
            return replies.LINE_TOO_LONG
        return line

    def _on_line(self, line: bytes | Reply) -> Event | None:
        command = line if isinstance(line, Reply) else parse_command(line, self._options.syntax)
        match command:
            case Reply():
                return self._refuse(command)
            case Mail():
                return self._on_mail(command)
            case Rcpt():
                return self._on_rcpt(command)
            case Helo():
                return self._on_helo(command)
            case Simple():
                return self._on_simple(command)

    def _refuse(self, reply: Reply) -> Event | None:
        self._put(reply)
        over = self._tally.bad_command()
        return self.close(over) if over is not None else None

    def _idle(self, reply: Reply) -> Event | None:
        over = self._tally.nop_command(in_transaction=self._state in (State.MAIL, State.RCPT))
        if over is not None:
            return self.close(over)
        self._put(reply)
        return None

    def _on_helo(self, helo: Helo) -> Event | None:
        over = self._tally.nop_command(in_transaction=False)
        if over is not None:
            return self.close(over)
        self.helo = helo
        self._move(Ev.HELO)
        options = self._options
        if helo.is_ehlo:
            words = [f"{options.hostname} Hi there", "PIPELINING", f"SIZE {options.size_max}"]
            if options.offers_8bitmime:
                words.append("8BITMIME")
            self._output.append(bytes(Reply(250, "", "\n".join([*words, "ENHANCEDSTATUSCODES", "HELP"]))))
        else:
            self._output.append(bytes(Reply(250, "", f"{options.hostname} Hi there")))
        return Reset(helo)

    def _on_mail(self, mail: Mail) -> Event | None:
        if self._state is State.START and self._options.require_helo:
            return self._refuse(replies.NEED_HELO)
        if (self._state, Ev.MAIL) not in TRANSITIONS:
            return self._refuse(replies.NESTED_MAIL)
        asked = self._mail_params(mail)
        if isinstance(asked, Reply):
            return self._refuse(asked)
        over = self._tally.transaction_began()
        if over is not None:
            return self.close(over)
        self._rcpts_tried = 0
        return self._ask(asked)

    def _mail_params(self, mail: Mail) -> MailAsked | Reply:
        size, is_8bit = 0, False
        if mail.params and (self.helo is None or not self.helo.is_ehlo):
            return replies.UNKNOWN_PARAMETER
        for keyword, value in mail.params:
            if keyword == b"SIZE":
                if not value.isdigit() or len(value) > 20:  # RFC 1870 3
                    return replies.BAD_PARAMETER
                size = int(value)
                if size > self._options.size_max:
                    return replies.TOO_LARGE
            elif keyword == b"BODY" and self._options.offers_8bitmime:
                if value.upper() not in (b"7BIT", b"8BITMIME"):
                    return replies.BAD_PARAMETER
                is_8bit = value.upper() == b"8BITMIME"
            else:
                return replies.UNKNOWN_PARAMETER
        return MailAsked(mail.address, size, is_8bit, mail.params)

    def _on_rcpt(self, rcpt: Rcpt) -> Event | None:
        if (self._state, Ev.RCPT) not in TRANSITIONS:
            return self._refuse(replies.NEED_MAIL)
        if rcpt.params:
            return self._refuse(replies.UNKNOWN_PARAMETER)
        self._rcpts_tried += 1
        limit = self._tally.rcpt_limit()
        if limit is not None:
            self._put(limit)
            return None
        return self._ask(RcptAsked(rcpt.address, rcpt.params))

    def _on_simple(self, command: Simple) -> Event | None:
        match command.verb:
            case b"DATA":
                return self._on_data()
            case b"QUIT":
                self._move(Ev.QUIT)
                return self.close(replies.BYE)
            case b"RSET":
                event = self._idle(replies.OK)
                if event is not None:
                    return event
                self._move(Ev.RSET)
                return Reset(None)
            case b"NOOP":
                return self._idle(replies.OK)
            case b"HELP":
                return self._idle(replies.HELP)
            case _:
                return self._idle(replies.VRFY)

    def _on_data(self) -> Event | None:
        if (self._state, Ev.DATA) in TRANSITIONS:
            return self._ask(DataAsked())
        if self._state is not State.MAIL:
            return self._refuse(replies.NEED_MAIL)
        return self._refuse(replies.NO_VALID_RCPT if self._rcpts_tried else replies.NEED_RCPT)
