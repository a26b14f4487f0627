"""The SMTP server's side of a dialog, sans-I/O (RFC 5321, 1870, 2034, 2920, 3030, 3461, 4954, 6152, 6531, 9422).

Rules
    Octets go in by `feed`; `next_event` returns what the caller must decide, None when
    more octets are needed. The caller answers each event that asks with `answer`; then it
    calls `next_event` again. `take_output` returns what must be sent, in one piece.
    The machine itself answers what needs no decision: syntax, order, NOOP, RSET, HELP, VRFY.
    After `Closed` nothing more comes.
    Octets of a BDAT that is refused are taken all the same, so that they are no commands.

States
    See `states.TRANSITIONS`.
"""
from collections.abc import Sequence
from typing import Final

from meta1g.mta import limits
from meta1g.mta.errors import LocalProtocolError
from meta1g.mta.reply import Reply
from meta1g.proto.smtp import replies, xclient
from meta1g.proto.smtp.auth import AuthAsked, AuthDialog, AuthResponse
from meta1g.proto.smtp.command import Bdat, Command, Helo, Mail, Rcpt, Simple, parse_command
from meta1g.proto.smtp.data import ChunkComing, ChunkReader, ContentReader, NormalReader, fault_of
from meta1g.proto.smtp.events import (
    Chunk,
    Closed,
    ContentEnd,
    DataAsked,
    Event,
    MailAsked,
    ProxyAsked,
    RcptAsked,
    Reset,
    TlsAsked,
    UnknownAsked,
    VrfyAsked,
)
from meta1g.proto.smtp.input import Input
from meta1g.proto.smtp.line_ends import LineEnds
from meta1g.proto.smtp.options import ServerOptions
from meta1g.proto.smtp.params import MailParams, Offers, ehlo_words, mail_params, rcpt_params
from meta1g.proto.smtp.states import TRANSITIONS, Ev, State
from meta1g.proto.smtp.tally import Tally

_UNKNOWN: Final = (replies.UNKNOWN_COMMAND, replies.NOT_IMPLEMENTED)


class SmtpServer:
    """One session's machine."""

    def __init__(self, options: ServerOptions, tally: Tally) -> None:
        self._options = options
        self._tally = tally
        self._state = State.START
        self._input = Input()
        self._output: list[bytes] = []
        self._pending: Event | None = None
        self._content: ContentReader | NormalReader | None = None
        self._chunks: ChunkReader | None = None
        self._bdat: ChunkComing | None = None
        self._end: ContentEnd | None = None
        self._mail = MailParams()
        self._rcpts_tried = 0
        self.helo: Helo | None = None
        self.auth = AuthDialog()
        self.is_tls = False
        self.is_trusted = False  # may say XCLIENT and XFORWARD

    @property
    def state(self) -> State:
        """Where the dialog is."""
        return self._state

    @property
    def is_in_content(self) -> bool:
        """Whether a message is coming."""
        return self._state in (State.DATA, State.BDAT)

    @property
    def expects_octets(self) -> bool:
        """Whether what comes next is content, not a command."""
        return self._state is State.DATA or self._bdat is not None

    @property
    def protocol(self) -> str:
        """The word for the Received field (M1 10.5, RFC 3848, RFC 6531 4.3)."""
        how = ("S" if self.is_tls else "") + ("A" if self.auth.is_done else "")
        if self._mail.is_utf8:
            return "UTF8SMTP" + how
        return "ESMTP" + how if self.helo is not None and self.helo.is_ehlo else "SMTP"

    @property
    def has_input(self) -> bool:
        """Whether octets wait to be looked at."""
        return bool(self._input)

    def offer(self, offers: Offers) -> None:
        """What this session is offered from the next EHLO on."""
        self._options = self._options._replace(offers=offers)

    def feed(self, data: bytes) -> None:
        """Octets from the client."""
        self._input.feed(data)

    def take_output(self) -> bytes:
        """All replies since the last call."""
        output, self._output = self._output, []
        return output[0] if len(output) == 1 else b"".join(output)

    def greet(self, text: bytes) -> None:
        """Send the greeting, complete with code and CRLF."""
        self._output.append(text)

    def begin_tls(self) -> None:
        """What was said before counts no more (RFC 3207 4.2)."""
        self.is_tls = True
        self.helo = None
        self.auth.forget()
        if self._state is not State.START:
            self._move(Ev.TLS)

    def close(self, reply: Reply) -> Closed:
        """End the session with this reply, whatever the state."""
        if self._options.soft_bounce and reply.code >= 500:
            reply = reply.softened()._replace(code=421)
        self._output.append(bytes(reply))
        self._state = State.CLOSED
        self._input = Input()
        return Closed(reply)

    def next_event(self) -> Event | None:
        """What happens next; None when octets from the client are needed first."""
        if self._pending is not None:
            raise LocalProtocolError(f"{self._pending} has not been answered")
        while self._state is not State.CLOSED:
            if self._end is not None:
                end, self._end = self._end, None
                return self._ask(end)
            if self._state is State.DATA:
                return self._next_content()
            if self._bdat is not None:
                event = self._next_chunk(self._bdat)
                if event is not None or self._bdat is not None:
                    return event
                continue
            line = self._input.next_line(self._line_max)
            if line is None:
                return None
            event = self._ask(self.auth.response(line)) if self.auth.is_waiting else self._on_line(line)
            if event is not None:
                return event
        return None

    def answer(self, reply: Reply, each: Sequence[Reply] = ()) -> Closed | None:
        """The caller's decision about the last event; Closed if the session is over with it.

        `each` comes before it: at the end of content with PRDR, one reply for each accepted recipient.
        """
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
            case DataAsked(is_bdat=True):
                self._begin_chunks(reply)
                return None
            case DataAsked():
                if self._input:
                    return self.close(replies.PIPELINING)
                if reply.is_positive:
                    self._move(Ev.DATA)
                    self._content = NormalReader() if self._options.normalises else ContentReader()
            case ContentEnd():
                self._move(Ev.END)
                self._tally.transaction_ended(is_accepted=reply.is_positive)
            case VrfyAsked():
                pass
            case UnknownAsked():
                over = self._tally.bad_command()
            case ProxyAsked():
                return self._answer_proxy(event, reply)
            case TlsAsked():
                if reply.is_positive:
                    self.begin_tls()
            case AuthAsked() | AuthResponse():
                self.auth.is_done = reply.is_positive
                over = None if reply.is_positive else self._tally.bad_command()
            case _:
                raise LocalProtocolError("there is nothing to answer")
        for part in (replies.PRDR, *each) if each else ():
            self._put(part)
        self._put(reply)
        return self.close(over) if over is not None else None

    def challenge(self, octets: bytes) -> None:
        """The caller's answer to the last event, in AUTH: the client must say more."""
        self._pending = None
        self._output.append(self.auth.challenge(octets))

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
        content = self._content
        if content is None or not self._input:
            return None
        octets = content.feed(self._input.take_all())
        if content.is_done:
            self._input.feed(content.rest)
            self._content = None
            self._end = ContentEnd(content.size, content.is_8bit, self._fault(content))
        if octets and content.size <= self._options.size_max:
            return Chunk(octets)
        return self.next_event()

    def _begin_chunks(self, reply: Reply) -> None:
        """The first chunk may come, or it is refused, and with it the transaction."""
        assert self._bdat is not None
        if reply.is_positive:
            self._move(Ev.BDAT)
            normalises = self._options.normalises and self._mail.body != b"BINARYMIME"
            self._chunks = ChunkReader(LineEnds(is_stuffed=False) if normalises else None)
        else:
            self._bdat.refusal = reply

    def _next_chunk(self, bdat: ChunkComing) -> Event | None:
        """Octets of a chunk; when all have come, its reply, or with the last one the end of the content."""
        take = self._input.take(bdat.left)
        bdat.left -= len(take)
        if bdat.refusal is not None:
            return None if bdat.left else self._refuse_chunk(bdat.refusal)
        chunks = self._chunks
        assert chunks is not None
        octets = chunks.feed(take) if take else b""
        if not bdat.left:
            self._bdat = None
            if bdat.is_last:
                octets += chunks.finish()
                self._chunks = None
                self._end = ContentEnd(chunks.size, chunks.is_8bit, self._fault(chunks))
            else:
                self._put(Reply(250, "2.0.0", f"{bdat.size} octets received"))
        return Chunk(octets) if octets else None

    def _refuse_chunk(self, reply: Reply) -> Event | None:
        self._bdat = self._chunks = None
        self._put(reply)
        over = self._tally.bad_command()
        if over is not None:
            return self.close(over)
        if self._state not in (State.RCPT, State.BDAT):
            return None
        self._move(Ev.END)  # what came before can't be completed any more
        self._tally.transaction_ended(is_accepted=False)
        return Reset(None)

    def _on_bdat(self, command: Bdat) -> Event | None:
        if not self._options.offers.offers_chunking:
            return self._refuse(replies.NOT_IMPLEMENTED)
        bdat = self._bdat = ChunkComing(command)
        if (self._state, Ev.BDAT) not in TRANSITIONS:
            bdat.refusal = replies.NEED_MAIL if self._state is not State.MAIL else self._no_rcpt()
        elif bdat.size + (self._chunks.size if self._chunks else 0) > self._options.size_max:
            bdat.refusal = replies.TOO_LARGE
        elif self._state is State.RCPT:
            return self._ask(DataAsked(is_bdat=True))
        return None

    def _fault(self, content: ContentReader | ChunkReader) -> Reply | None:
        return fault_of(content, self._options.size_max, is_binary=self._mail.body == b"BINARYMIME")

    # Lines

    def _on_line(self, line: bytes | Reply) -> Event | None:
        if self._state is State.BDAT and isinstance(line, bytes) and line[:4].upper() == b"DATA":
            return self._refuse(replies.BDAT_UNDER_WAY)
        command: Command | Reply = line if isinstance(line, Reply) else parse_command(line, self._options.syntax)
        match command:
            case Reply():
                return self._on_bad_line(line, command)
            case Mail():
                return self._on_mail(command)
            case Rcpt():
                return self._on_rcpt(command)
            case Helo():
                return self._on_helo(command)
            case Bdat():
                return self._on_bdat(command)
            case Simple():
                return self._on_simple(command)

    def _on_bad_line(self, line: bytes | Reply, reply: Reply) -> Event | None:
        if self._options.asks_unknown and isinstance(line, bytes) and reply in _UNKNOWN:
            return self._ask(UnknownAsked(line, reply))
        if reply is replies.BAD_BDAT:
            if self._options.offers.offers_chunking:
                return self.close(reply)
            reply = replies.NOT_IMPLEMENTED
        return self._refuse(reply)

    def _refuse(self, reply: Reply) -> Event | None:
        self._put(reply)
        over = self._tally.bad_command()
        return self.close(over) if over is not None else None

    def _idle(self, reply: Reply) -> Event | None:
        over = self._one_more_nop()
        if over is not None:
            return over
        self._put(reply)
        return None

    def _one_more_nop(self) -> Closed | None:
        over = self._tally.nop_command(in_transaction=self._state in (State.MAIL, State.RCPT, State.BDAT))
        return self.close(over) if over is not None else None

    def _on_helo(self, helo: Helo) -> Event | None:
        over = self._tally.nop_command(in_transaction=False)
        if over is not None:
            return self.close(over)
        self.helo = helo
        self._chunks = None
        self._move(Ev.HELO)
        options = self._options
        words = [f"{options.hostname} Hi there"]
        if helo.is_ehlo:
            most = self._tally.limits
            words += ehlo_words(options.offers, options.size_max, rcpts_max=most.recipients_per_transaction,
                                mails_max=most.transactions, is_tls=self.is_tls, mechanisms=self.auth.mechanisms or ())
            if self.is_trusted:
                words += [f"XCLIENT {' '.join(xclient.XCLIENT)}", f"XFORWARD {' '.join(xclient.XFORWARD)}"]
        self._output.append(bytes(Reply(250, "", "\n".join(words))))
        return Reset(helo)

    def _on_mail(self, mail: Mail) -> Event | None:
        if self._state is State.START and self._options.require_helo:
            return self._refuse(replies.NEED_HELO)
        if (self._state, Ev.MAIL) not in TRANSITIONS:
            return self._refuse(replies.NESTED_MAIL)
        if mail.params and (self.helo is None or not self.helo.is_ehlo):
            return self._refuse(replies.UNKNOWN_PARAMETER)
        params = mail_params(mail.params, self._options.offers, self._options.size_max)
        if isinstance(params, Reply):
            return self._refuse(params)
        if not mail.address.isascii() and not params.is_utf8:
            return self._refuse(replies.NEED_SMTPUTF8)
        over = self._tally.transaction_began()
        if over is not None:
            return self.close(over)
        self._rcpts_tried = 0
        self._mail = params
        return self._ask(MailAsked(mail.address, params, mail.params))

    def _on_rcpt(self, rcpt: Rcpt) -> Event | None:
        if (self._state, Ev.RCPT) not in TRANSITIONS:
            return self._refuse(replies.NEED_MAIL)
        if not rcpt.address.isascii() and not self._mail.is_utf8:
            return self._refuse(replies.NEED_SMTPUTF8)
        if rcpt.params and (self.helo is None or not self.helo.is_ehlo):
            return self._refuse(replies.UNKNOWN_PARAMETER)
        params = rcpt_params(rcpt.params, self._options.offers, is_utf8=self._mail.is_utf8)
        if isinstance(params, Reply):
            return self._refuse(params)
        self._rcpts_tried += 1
        limit = self._tally.rcpt_limit()
        if limit is not None:
            self._put(limit)
            return None
        return self._ask(RcptAsked(rcpt.address, params))

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
                self._chunks = None
                self._move(Ev.RSET)
                return Reset(None)
            case b"NOOP":
                return self._idle(replies.OK)
            case b"HELP":
                return self._idle(replies.HELP)
            case b"XCLIENT" | b"XFORWARD":
                return self._on_proxy(command)
            case b"STARTTLS":
                return self._on_starttls()
            case b"AUTH":
                return self._on_auth(command)
            case _:
                return self._on_vrfy(command.argument)

    def _on_vrfy(self, word: bytes) -> Event | None:
        if not self._options.answers_vrfy:
            return self._refuse(replies.NOT_IMPLEMENTED)
        return self._one_more_nop() or self._ask(VrfyAsked(word))

    def _on_proxy(self, command: Simple) -> Event | None:
        is_for_log = command.verb == b"XFORWARD"
        if not self.is_trusted:
            return self._refuse(replies.NOT_TRUSTED)
        if (self._state, Ev.PROXY) not in TRANSITIONS:
            return self._refuse(replies.IN_TRANSACTION)
        found = xclient.attributes(command.argument, xclient.XFORWARD if is_for_log else xclient.XCLIENT)
        if isinstance(found, Reply):
            return self._refuse(found)
        return self._ask(ProxyAsked(found, is_for_log))

    def _answer_proxy(self, event: ProxyAsked, reply: Reply) -> Closed | None:
        """After XCLIENT the session begins anew, with a greeting that the caller sends (`greet`)."""
        if reply.is_positive and not event.is_for_log:
            self._move(Ev.PROXY)
            self.helo = None
            self.auth.forget()
            return None
        self._put(reply)
        return None

    def _on_starttls(self) -> Event | None:
        if not self._options.offers.offers_starttls:
            return self._refuse(replies.NOT_IMPLEMENTED)
        if self.is_tls:
            return self._refuse(replies.IN_TLS)
        if (self._state, Ev.TLS) not in TRANSITIONS:
            return self._refuse(replies.IN_TRANSACTION)
        if self._input:  # somebody between may have put it there
            return self.close(replies.TLS_PIPELINING)
        return self._one_more_nop() or self._ask(TlsAsked())

    @property
    def _line_max(self) -> int:
        """Octets of the next line."""
        is_auth = self.auth.is_waiting or (self.auth.mechanisms is not None and self._input.begins_with(b"AUTH "))
        return limits.AUTH_LINE if is_auth else limits.COMMAND_LINE_EXTENDED

    def _on_auth(self, command: Simple) -> Event | None:
        if self.auth.mechanisms is None:
            return self._refuse(replies.NOT_IMPLEMENTED)
        if self.helo is None or not self.helo.is_ehlo:
            return self._refuse(replies.NEED_EHLO)
        if self._state is not State.READY:
            return self._refuse(replies.IN_TRANSACTION)
        asked = self.auth.command(command)
        return self._refuse(asked) if isinstance(asked, Reply) else self._ask(asked)

    def _on_data(self) -> Event | None:
        if self._state is State.RCPT and self._mail.body == b"BINARYMIME":
            return self._refuse(replies.NEED_BDAT)  # RFC 3030 3
        if (self._state, Ev.DATA) in TRANSITIONS:
            return self._ask(DataAsked())
        if self._state is not State.MAIL:
            return self._refuse(replies.NEED_MAIL)
        return self._refuse(self._no_rcpt())

    def _no_rcpt(self) -> Reply:
        return replies.NO_VALID_RCPT if self._rcpts_tried else replies.NEED_RCPT
