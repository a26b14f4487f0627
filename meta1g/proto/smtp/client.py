"""The client's side of an SMTP or LMTP dialog, sans-I/O (RFC 5321, 2033, 2920, 1870, 6152).

Rules
    `feed` takes octets, `next_event` returns what happened, None when more octets are needed;
    `take_output` returns what must be sent. One transaction runs at a time; `begin` starts it
    when `is_idle`.
    After `ContentWanted` the caller sends the content in wire form and calls `end_content`.
    Every recipient gets exactly one result. With PIPELINING a group of commands leaves in
    one piece; replies are matched to commands by order alone.
"""
from collections import deque
from enum import Enum, auto
from typing import Final, NamedTuple

from meta1g.mta import addr, limits
from meta1g.mta.errors import LocalProtocolError, RemoteProtocolError
from meta1g.mta.reply import Reply, parse_reply_text
from meta1g.proto.smtp.params import dsn_of_mail, split_onward


class Ask(Enum):
    """What a reply is awaited for."""

    GREETING = auto()
    EHLO = auto()
    HELO = auto()
    MAIL = auto()
    RCPT = auto()
    DATA = auto()
    CHUNK = auto()
    PART = auto()  # PRDR: one recipient's share of the answer to the final dot
    DOT = auto()
    QUIT = auto()
    RSET = auto()


class Envelope(NamedTuple):
    """A transaction to send: `rcpts` are addresses, `size` in octets.

    `params` and `rcpt_params` are the texts of DSN parameters that came with the mail (RFC 3461). With a `refusal` it
    is not sent: that is what becomes of it.
    """

    mail: bytes
    rcpts: tuple[bytes, ...]
    size: int
    is_8bit: bool = False
    is_utf8: bool = False
    params: bytes = b""
    rcpt_params: tuple[bytes, ...] = ()
    refusal: Reply | None = None

    @property
    def is_binary(self) -> bool:
        """Whether only BDAT can carry it (RFC 3030 3)."""
        return split_onward(self.params).get(b"BODY") == b"BINARYMIME" if self.params else False


class Ready(NamedTuple):
    """The server has answered EHLO, LHLO or HELO: transactions may begin."""

    greeting: Reply


class ContentWanted(NamedTuple):
    """Send the content now, then call `end_content`."""


class ChunkWanted(NamedTuple):
    """Call `send_chunk` with the first or the next piece of the content."""


class Answered(NamedTuple):
    """One recipient's fate: `at` is its place in the envelope, `ask` the command that decided.

    `is_said`: the reply is the server's, not our own word.
    """

    at: int
    ask: Ask
    reply: Reply
    is_said: bool = True


class Finished(NamedTuple):
    """All results of the transaction, in order of the recipients."""

    results: tuple[Answered, ...]


class Refused(NamedTuple):
    """The server does not want to talk to us: at greeting, EHLO or by 421."""

    ask: Ask
    reply: Reply


class Bye(NamedTuple):
    """The reply to QUIT."""

    reply: Reply


Event = Ready | ContentWanted | ChunkWanted | Finished | Refused | Bye

_TOO_LARGE: Final = Reply(552, "5.3.4", "Message is larger than the next server allows")
_NO_UTF8: Final = Reply(553, "5.6.7", "The next server does not offer SMTPUTF8")  # RFC 6531 3.5
_NO_BINARY: Final = Reply(554, "5.6.3", "The next server does not offer BINARYMIME")  # RFC 3030 3
REPLIES_KEPT: Final = 64  # that nobody has asked for
_NO_REPLY: Final = Reply(451, "4.4.2", "Connection lost")


class ReplyReader:
    """Octets in, replies out; RemoteProtocolError if the server speaks something else."""

    def __init__(self) -> None:
        self._input = b""
        self._code = 0
        self._lines: list[bytes] = []

    def feed(self, data: bytes) -> None:
        """Octets from the server."""
        self._input = self._input + data if self._input else data

    @property
    def has_input(self) -> bool:
        """Whether octets are left that belong to no complete reply."""
        return bool(self._input)

    def next(self) -> Reply | None:
        """The next complete reply, None if there is none yet."""
        while True:
            end = self._input.find(b"\n")
            if end < 0:
                if len(self._input) > limits.REPLY_LINE:
                    raise RemoteProtocolError("reply line is too long")
                return None
            line, self._input = self._input[:end].rstrip(b"\r"), self._input[end + 1:]
            if self._add(line):
                reply = parse_reply_text(self._code, self._lines)
                self._lines = []
                return reply

    def _add(self, line: bytes) -> bool:
        code, mark = line[:3], line[3:4]
        if len(line) > limits.REPLY_LINE or not code.isdigit() or not b"200" <= code <= b"599" or mark not in b" -":
            raise RemoteProtocolError(f"malformed reply {line[:80]!r}")
        if self._lines and int(code) != self._code:
            raise RemoteProtocolError("codes differ within a multi-line reply")
        self._code = int(code)
        self._lines.append(line[4:])
        if len(self._lines) > limits.REPLY_LINES:
            raise RemoteProtocolError("reply has too many lines")
        return mark != b"-"


class SmtpClient:
    """One session's machine; LMTP if `is_lmtp`."""

    def __init__(self, hostname: str, *, is_lmtp: bool = False) -> None:
        self._hostname = hostname.encode("ascii", "replace")
        self._is_lmtp = is_lmtp
        self._reader = ReplyReader()
        self._output: list[bytes] = []
        self._awaited: deque[tuple[Ask, int]] = deque([(Ask.GREETING, 0)])
        self._greeting = _NO_REPLY
        self._envelope: Envelope | None = None
        self._results: list[Answered | None] = []
        self._accepted: list[int] = []
        self._parts: dict[int, Reply] | None = None
        self._data_sent = False
        self._queue: deque[Event] = deque()
        self._is_ready = False
        self._answered: deque[Ask] = deque(maxlen=REPLIES_KEPT)
        self.extensions: dict[str, str] = {}

    @property
    def is_idle(self) -> bool:
        """Whether a transaction may begin."""
        return self._is_ready and self._envelope is None

    @property
    def awaits(self) -> Ask | None:
        """What the next reply is for, None if nothing is awaited."""
        return self._awaited[0][0] if self._awaited else None

    def feed(self, data: bytes) -> None:
        """Octets from the server."""
        self._reader.feed(data)

    def take_output(self) -> bytes:
        """Octets for the server."""
        output, self._output = self._output, []
        return b"".join(output)

    def next_event(self) -> Event | None:
        """What happened next. RemoteProtocolError: end the session."""
        while not self._queue:
            reply = self._reader.next()
            if reply is None:
                return None
            if not self._awaited:
                if reply.code == 421:
                    return Refused(Ask.RSET, reply)
                raise RemoteProtocolError(f"unasked reply {reply}")
            ask, at = self._awaited.popleft()
            self._on_reply(ask, at, reply)
        return self._queue.popleft()

    def begin(self, envelope: Envelope) -> None:
        """Start a transaction."""
        if not self.is_idle:
            raise LocalProtocolError("a transaction is running or the session is not ready")
        self._envelope = envelope
        self._results = [None] * len(envelope.rcpts)
        self._accepted = []
        self._data_sent = False
        self._parts = {} if self._uses_prdr else None
        refusal = envelope.refusal or self._refusal(envelope)
        if refusal is not None:
            self._fail_rest(Ask.MAIL, refusal, is_said=False)
            self._finish()
            return
        self._say(Ask.MAIL, b"MAIL FROM:" + addr.bracketed(envelope.mail) + self._mail_params(envelope))
        if "PIPELINING" in self.extensions and not envelope.is_binary:
            self._say_rcpts()
            self._say(Ask.DATA, b"DATA")
            self._data_sent = True

    def _refusal(self, envelope: Envelope) -> Reply | None:
        """Why the server, by what it offers, would not take this."""
        largest = self.extensions.get("SIZE", "")
        if largest.isdigit() and 0 < int(largest) < envelope.size:
            return _TOO_LARGE
        if envelope.is_utf8 and "SMTPUTF8" not in self.extensions:
            return _NO_UTF8
        if envelope.is_binary and not {"BINARYMIME", "CHUNKING"} <= self.extensions.keys():
            return _NO_BINARY
        return None

    @property
    def _uses_prdr(self) -> bool:
        """Whether recipients may be accepted one by one after the content (PRDR, draft-hall-prdr)."""
        envelope = self._envelope
        return "PRDR" in self.extensions and not self._is_lmtp and envelope is not None and len(envelope.rcpts) > 1

    def end_content(self) -> None:
        """The content has been sent: send the final dot."""
        self._output.append(b".\r\n")
        self._await_end()

    def send_chunk(self, octets: bytes, *, is_last: bool) -> None:
        """Send octets of the content, which is not in wire form, as one BDAT (RFC 3030 2)."""
        self._output.append(b"BDAT %d%b\r\n" % (len(octets), b" LAST" if is_last else b""))
        self._output.append(octets)
        if is_last:
            self._await_end()
        else:
            self._awaited.append((Ask.CHUNK, 0))

    def _await_end(self) -> None:
        if self._is_lmtp:
            self._awaited.extend((Ask.DOT, at) for at in self._accepted)
        else:
            self._awaited.append((Ask.DOT, -1))

    def quit(self) -> None:
        """Say goodbye."""
        self._say(Ask.QUIT, b"QUIT")

    def abandon(self, reply: Reply, *, is_said: bool = False) -> Finished | None:
        """The connection is gone: what the running transaction came to, None if there is none.

        `is_said`: the server said so itself.
        """
        if self._envelope is None:
            return None
        self._fail_rest(self.awaits or Ask.DOT, reply, is_said=is_said)
        results = tuple(result for result in self._results if result is not None)
        self._envelope = None
        return Finished(results)

    def _say(self, ask: Ask, line: bytes, at: int = 0) -> None:
        self._output.append(line + b"\r\n")
        self._awaited.append((ask, at))

    def _say_rcpts(self) -> None:
        assert self._envelope is not None
        params = self._envelope.rcpt_params if "DSN" in self.extensions else ()
        for at, rcpt in enumerate(self._envelope.rcpts):
            more = b" " + params[at] if params and params[at] else b""
            self._say(Ask.RCPT, b"RCPT TO:" + addr.bracketed(rcpt) + more, at)

    def _mail_params(self, envelope: Envelope) -> bytes:
        params = b""
        if "SIZE" in self.extensions and envelope.size:
            params += b" SIZE=%d" % envelope.size
        if envelope.is_binary:
            params += b" BODY=BINARYMIME"
        elif envelope.is_8bit and "8BITMIME" in self.extensions:
            params += b" BODY=8BITMIME"
        if envelope.is_utf8:
            params += b" SMTPUTF8"
        if self._parts is not None:
            params += b" PRDR"
        if envelope.params and "DSN" in self.extensions:
            params += dsn_of_mail(envelope.params)
        return params

    def take_answered(self) -> list[Ask]:
        """The commands that were answered since this was asked last, REPLIES_KEPT at most."""
        asks = list(self._answered)
        self._answered.clear()
        return asks

    def _on_reply(self, ask: Ask, at: int, reply: Reply) -> None:
        self._answered.append(ask)
        if reply.code == 421 and ask is not Ask.QUIT:
            self._queue.append(Refused(ask, reply))
            return
        match ask:
            case Ask.GREETING:
                self._on_greeting(reply)
            case Ask.EHLO | Ask.HELO:
                self._on_helo(ask, reply)
            case Ask.MAIL:
                self._on_mail(reply)
            case Ask.RCPT:
                self._on_rcpt(at, reply)
            case Ask.DATA:
                self._on_data(reply)
            case Ask.CHUNK:
                self._on_chunk(reply)
            case Ask.PART:
                assert self._parts is not None
                self._parts[at] = reply
            case Ask.DOT:
                self._on_dot(at, reply)
            case Ask.QUIT:
                self._queue.append(Bye(reply))
            case Ask.RSET:
                self._finish()

    def _on_greeting(self, reply: Reply) -> None:
        if reply.code // 100 != 2:
            self._queue.append(Refused(Ask.GREETING, reply))
            return
        self._greeting = reply
        self._say(Ask.EHLO, (b"LHLO " if self._is_lmtp else b"EHLO ") + self._hostname)

    def _on_helo(self, ask: Ask, reply: Reply) -> None:
        if reply.code // 100 == 2:
            if ask is Ask.EHLO:
                for line in reply.text.split("\n")[1:]:
                    word, _, rest = line.strip().partition(" ")
                    self.extensions[word.upper()] = rest
            self._is_ready = True
            self._queue.append(Ready(self._greeting))
        elif ask is Ask.EHLO and reply.code >= 500 and not self._is_lmtp:
            self._say(Ask.HELO, b"HELO " + self._hostname)
        else:
            self._queue.append(Refused(ask, reply))

    def _on_mail(self, reply: Reply) -> None:
        if not reply.is_positive:
            self._fail_rest(Ask.MAIL, reply)
            if not self._data_sent:
                self._reset()
        elif not self._data_sent:
            self._say_rcpts()

    def _on_rcpt(self, at: int, reply: Reply) -> None:
        if reply.is_positive:
            if self._results[at] is None:
                self._accepted.append(at)
        elif self._results[at] is None:
            self._results[at] = Answered(at, Ask.RCPT, reply)
        if self._data_sent or self._awaited:
            return
        if self._accepted and self._envelope is not None and self._envelope.is_binary:
            self._queue.append(ChunkWanted())
        elif self._accepted:
            self._say(Ask.DATA, b"DATA")
        else:
            self._reset()

    def _on_data(self, reply: Reply) -> None:
        if reply.code == 354:
            if self._accepted:
                self._queue.append(ContentWanted())
                return
            # RFC 2920 3.1: the server wants content for nobody; give it none.
            self._output.append(b".\r\n")
            self._awaited.append((Ask.RSET, 0))
            return
        bad = reply if not reply.is_positive else Reply(451, "4.5.0", f"Unexpected reply to DATA: {reply}")
        self._fail_rest(Ask.DATA, bad, is_said=bad is reply)
        self._reset()

    def _on_chunk(self, reply: Reply) -> None:
        if reply.is_positive:
            self._queue.append(ChunkWanted())
            return
        self._fail_rest(Ask.CHUNK, reply)
        self._reset()

    def _on_dot(self, at: int, reply: Reply) -> None:
        if self._parts is not None and not self._parts and reply.code == 353:
            self._awaited.extend((Ask.PART, place) for place in self._accepted)
            self._awaited.append((Ask.DOT, -1))
            return
        if self._parts:
            self._end_parts(reply)
            return
        for place in self._accepted if at < 0 else [at]:
            self._results[place] = Answered(place, Ask.DOT, reply)
        if not self._awaited:
            self._finish()

    def _end_parts(self, reply: Reply) -> None:
        """All recipients were answered, and then the transaction: who was refused is, the others share its fate."""
        assert self._parts is not None
        for place, part in self._parts.items():
            decides = part if reply.is_positive or not part.is_positive else reply
            self._results[place] = Answered(place, Ask.DOT, decides)
        self._finish()

    def _reset(self) -> None:
        self._say(Ask.RSET, b"RSET")

    def _fail_rest(self, ask: Ask, reply: Reply, *, is_said: bool = True) -> None:
        for at, result in enumerate(self._results):
            if result is None:
                self._results[at] = Answered(at, ask, reply, is_said)

    def _finish(self) -> None:
        self._fail_rest(Ask.DATA, _NO_REPLY, is_said=False)
        results = tuple(result for result in self._results if result is not None)
        self._envelope = None
        self._queue.append(Finished(results))
