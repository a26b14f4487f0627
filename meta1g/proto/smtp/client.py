"""The client's side of an SMTP or LMTP dialog, sans-I/O (RFC 5321, 2033, 2920, 1870, 3030, 3207, 6152).

Rules
    `feed` takes octets, `next_event` returns what happened, None when more octets are needed;
    `take_output` returns what must be sent. One transaction runs at a time; `begin` starts it
    when `is_idle`.
    After `ContentWanted` the caller sends the content in wire form and calls `end_content`.
    After `ChunkWanted`, which comes where the server offers CHUNKING, it calls `send_chunk`.
    Every recipient gets exactly one result. With PIPELINING a group of commands leaves in
    one piece; replies are matched to commands by order alone. A small message leaves whole,
    before anything is answered; who has no recipient for it refuses it (RFC 3030 4.2). LMTP
    may have no reply at all then (RFC 2033 4.3), so there recipients are answered first.
"""
from base64 import b64encode
from collections import deque
from typing import Final

from meta1g.mta import addr
from meta1g.mta.errors import LocalProtocolError, RemoteProtocolError
from meta1g.mta.limits import CHUNKS_OPEN, ONE_FLIGHT
from meta1g.mta.reply import Reply
from meta1g.proto.smtp.auth import decoded
from meta1g.proto.smtp.client_events import (
    Answered,
    Ask,
    AuthChallenge,
    AuthWanted,
    Bye,
    ChunkWanted,
    ContentWanted,
    Envelope,
    Event,
    Finished,
    Ready,
    Refused,
    TlsWanted,
)
from meta1g.proto.smtp.params import author_of_mail, dsn_of_mail
from meta1g.proto.smtp.reply_reader import ReplyReader

_TOO_LARGE: Final = Reply(552, "5.3.4", "Message is larger than the next server allows")
_NO_UTF8: Final = Reply(553, "5.6.7", "The next server does not offer SMTPUTF8")  # RFC 6531 3.5
_NO_BINARY: Final = Reply(554, "5.6.3", "The next server does not offer BINARYMIME")  # RFC 3030 3
REPLIES_KEPT: Final = 64  # that nobody has asked for
_NO_BASE64: Final = Reply(454, "4.7.0", "A challenge of AUTH is no base64")
_NO_REPLY: Final = Reply(451, "4.4.2", "Connection lost")


class SmtpClient:
    """One session's machine; LMTP if `is_lmtp`. Extensions that it `ignores` are as if they were not offered.

    `tls_refusal` is what the server said to STARTTLS if that was no yes: then the dialog goes on without.
    Who `must_log_in` authenticates before the first transaction (RFC 4954).
    """

    def __init__(self, hostname: str, *, is_lmtp: bool = False, ignores: frozenset[str] = frozenset()) -> None:
        self._hostname = hostname.encode("ascii", "replace")
        self._is_lmtp = is_lmtp
        self._ignores = ignores
        self._reader = ReplyReader()
        self._output: list[bytes] = []
        self._awaited: deque[tuple[Ask, int]] = deque([(Ask.GREETING, 0)])
        self._greeting = _NO_REPLY
        self._envelope: Envelope | None = None
        self._results: list[Answered | None] = []
        self._accepted: list[int] = []
        self._parts: dict[int, Reply] | None = None
        self._by_chunks = False
        self._chunks_open = 0
        self._queue: deque[Event] = deque()
        self._is_ready = False
        self._answered: deque[Ask] = deque(maxlen=REPLIES_KEPT)
        self._is_tls = False
        self._is_logged_in = False
        self.must_log_in = False
        self.tls_refusal: Reply | None = None
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

    def begin_tls(self) -> None:
        """TLS is there; what the server said before counts no more. RemoteProtocolError."""
        if self._reader.has_input:  # somebody between may have put it there
            raise RemoteProtocolError("data sent before TLS")
        self._is_tls = True
        self.extensions.clear()
        self._hello()

    def authenticate(self, mechanism: str, initial: bytes | None) -> None:
        """Say who the client is; `initial` is its first response, if it is to go with the command."""
        response = b"" if initial is None else b" " + (b64encode(initial) or b"=")
        self._say(Ask.AUTH, b"AUTH " + mechanism.encode("ascii") + response)

    def respond(self, octets: bytes | None) -> None:
        """The answer to a challenge, None to give up."""
        self._say(Ask.AUTH, b"*" if octets is None else b64encode(octets))

    def begin(self, envelope: Envelope) -> None:
        """Start a transaction."""
        if not self.is_idle:
            raise LocalProtocolError("a transaction is running or the session is not ready")
        self._envelope = envelope
        self._results = [None] * len(envelope.rcpts)
        self._accepted = []
        self._parts = {} if self._uses_prdr(envelope) else None
        self._by_chunks = "CHUNKING" in self.extensions and self._parts is None
        self._chunks_open = 0
        refusal = envelope.refusal or self._refusal(envelope)
        if refusal is not None:
            self._fail_rest(Ask.MAIL, refusal, is_said=False)
            self._finish()
            return
        self._say(Ask.MAIL, b"MAIL FROM:" + addr.bracketed(envelope.mail) + self._mail_params(envelope))
        if "PIPELINING" in self.extensions:
            self._say_rcpts()
            if envelope.stop is not None:
                pass
            elif not self._by_chunks:
                self._say(Ask.DATA, b"DATA")
            elif 0 < envelope.size <= ONE_FLIGHT and not self._is_lmtp:
                self._queue.append(ChunkWanted())

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

    def _uses_prdr(self, envelope: Envelope) -> bool:
        """Whether recipients may be accepted one by one after the content: by DATA (PRDR, draft-hall-prdr)."""
        return ("PRDR" in self.extensions and not self._is_lmtp and len(envelope.rcpts) > 1
                and not envelope.is_binary)

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
            return
        self._awaited.append((Ask.CHUNK, 0))
        self._chunks_open += 1
        # RFC 2033 4.3: replies of LMTP can't be told apart if several chunks are open and one fails
        most = CHUNKS_OPEN if "PIPELINING" in self.extensions and not self._is_lmtp else 1
        if self._accepted and self._chunks_open < most:
            self._queue.append(ChunkWanted())

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
        if self._is_logged_in:
            params += author_of_mail(envelope.params)
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
            case Ask.TLS:
                self._on_tls(reply)
            case Ask.AUTH:
                self._on_auth(reply)
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
        self._hello()

    def _hello(self) -> None:
        self._say(Ask.EHLO, (b"LHLO " if self._is_lmtp else b"EHLO ") + self._hostname)

    def _on_tls(self, reply: Reply) -> None:
        if reply.is_positive:
            self._queue.append(TlsWanted())
        else:
            self.tls_refusal = reply
            self._be_ready()

    def _on_auth(self, reply: Reply) -> None:
        if reply.code == 334:
            octets = decoded(reply.text.encode("ascii", "replace"))
            self._queue.append(Refused(Ask.AUTH, _NO_BASE64) if octets is None else AuthChallenge(octets))
        elif reply.code == 235:
            self._is_logged_in = True
            self._be_ready()
        else:
            self._queue.append(Refused(Ask.AUTH, reply))

    def _be_ready(self) -> None:
        if self.must_log_in and not self._is_logged_in:
            self._queue.append(AuthWanted(tuple(self.extensions.get("AUTH", "").upper().split())))
            return
        self._is_ready = True
        self._queue.append(Ready(self._greeting))

    def _on_helo(self, ask: Ask, reply: Reply) -> None:
        if reply.code // 100 == 2:
            if ask is Ask.EHLO:
                for line in reply.text.split("\n")[1:]:
                    word, _, rest = line.strip().partition(" ")
                    if word.upper() not in self._ignores:
                        self.extensions[word.upper()] = rest
            if "STARTTLS" in self.extensions and not self._is_tls:
                self._say(Ask.TLS, b"STARTTLS")
            else:
                self._be_ready()
        elif ask is Ask.EHLO and reply.code >= 500 and not self._is_lmtp:
            self._say(Ask.HELO, b"HELO " + self._hostname)
        else:
            self._queue.append(Refused(ask, reply))

    def _on_mail(self, reply: Reply) -> None:
        if not reply.is_positive:
            self._fail_rest(Ask.MAIL, reply)
        if self._awaited:
            return
        if reply.is_positive:
            self._say_rcpts()
        else:
            self._reset()

    def _on_rcpt(self, at: int, reply: Reply) -> None:
        if reply.is_positive:
            if self._results[at] is None:
                self._accepted.append(at)
        elif self._results[at] is None:
            self._results[at] = Answered(at, Ask.RCPT, reply)
        if self._awaited:
            return
        stop = self._envelope.stop if self._envelope is not None else None
        if stop is not None:
            self._fail_rest(Ask.RCPT, stop, is_said=False)
        if not self._accepted or stop is not None:
            self._reset()
        elif self._by_chunks:
            self._queue.append(ChunkWanted())
        else:
            self._say(Ask.DATA, b"DATA")

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
        """No more is sent after a chunk was refused; those on their way are refused, too (RFC 3030 2)."""
        self._chunks_open -= 1
        if not reply.is_positive:
            self._fail_rest(Ask.CHUNK, reply)
            self._accepted.clear()
        if self._accepted and not self._is_ending:
            self._queue.append(ChunkWanted())
        elif not self._awaited:
            self._reset()

    @property
    def _is_ending(self) -> bool:
        """Whether all of the content has been sent."""
        return bool(self._awaited) and self._awaited[-1][0] is Ask.DOT

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
        if self._awaited:
            return
        if self._by_chunks and reply.code // 100 != 2:
            self._reset()  # RFC 3030 2: what follows a failed chunk is not said for the last one
        else:
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
