"""Targets: the server's machine, with any octets and with commands from a grammar."""
import re
from typing import Final

from meta1g.mta import limits
from meta1g.proto.smtp import replies
from meta1g.proto.smtp.auth import AuthAsked, AuthResponse
from meta1g.proto.smtp.command import Syntax
from meta1g.proto.smtp.data import stuff, unstuff
from meta1g.proto.smtp.events import Chunk, Closed, ContentEnd, MailAsked, ProxyAsked, VrfyAsked
from meta1g.proto.smtp.options import ServerOptions
from meta1g.proto.smtp.params import Offers
from meta1g.proto.smtp.states import State
from meta1g.proto.smtp.tally import TallyLimits
from tests.fuzz.source import Source, pieces
from tests.lib.dialog import Client

_LINE: Final = re.compile(rb"(?:[245][0-9]{2}[- ]|354 |334(?= ))[ -~]+")
_SMALL: Final = TallyLimits(*([2] * len(TallyLimits._fields)))
_SIZES: Final = (1 << 20, 1024, 40, 0)
_DEPENDS_ON_CUTS: Final = re.compile(rb"DATA|XCLIENT|(?<!\r)\n", re.IGNORECASE)  # what has come behind them counts
_OUTPUT_MAX: Final = 600  # octets of answers to a line: EHLO's is the longest, but for a response that is sent back


class Watched(Client):
    """A client that looks at every event: what may never happen is an AssertionError."""

    def __init__(self, options: ServerOptions, tally: TallyLimits, *, is_trusted: bool) -> None:
        super().__init__(options, tally)
        self.machine.is_trusted = is_trusted
        self.machine.auth.mechanisms = ("PLAIN", "LOGIN") if options.offers.offers_auth else None
        self._size_max = options.size_max
        self.asked: list[object] = []
        self._body = b""
        self.faults = 0

    def _handle(self, event: object) -> Closed | None:
        if isinstance(event, MailAsked):
            self._body = event.params.body
        if isinstance(event, Chunk):
            assert event.octets
        elif isinstance(event, ContentEnd):
            self._judge(event)
        else:
            self.asked.append(event)
        if isinstance(event, ProxyAsked):
            assert self.machine.is_trusted
        if isinstance(event, AuthAsked):
            assert not self.machine.auth.is_done
            self.machine.challenge(event.initial or b"")
            return None
        if isinstance(event, AuthResponse):
            is_right = event.octets == b"ok"
            return self.machine.answer(event.fault or (replies.AUTH_OK if is_right else replies.AUTH_FAILED))
        return super()._handle(event)

    def _judge(self, end: ContentEnd) -> None:
        if end.fault is not None:
            self.faults += 1
            assert not end.fault.is_positive
            return
        assert end.size <= self._size_max
        assert end.size - 2 <= len(unstuff(self.content)) <= end.size + 2  # BDAT may lack a line end
        assert not self.content or self.content.endswith(b"\r\n")
        assert b"\r\n.\r\n" not in b"\r\n" + self.content
        if self._body != b"BINARYMIME":
            bare = self.content.replace(b"\r\n", b"")
            assert not re.search(rb"[\r\n\0]", bare)

    def talk(self, octets: bytes, most: int = 0) -> list[bytes]:
        """Send in pieces; the answers."""
        known = len(self.lines)
        for piece in pieces(octets, most):
            self.send(piece)
            self.run()
            if not self.closed:
                assert len(self.machine._input._data) <= limits.AUTH_LINE + 1
        found = self.lines[known:]
        assert all(_LINE.fullmatch(line) for line in found), found
        size = sum(len(line) for line in found if not line.startswith(b"334 "))
        assert size <= _OUTPUT_MAX * (octets.count(b"\n") + 2)
        return found


def _made(source: Source) -> Watched:
    offers = Offers(*(source.number(256) >> bit & 1 == 1 for bit in range(len(Offers._fields))))
    bits = source.number(256)
    syntax = Syntax(bits & 1 > 0, bits & 2 > 0, bits & 4 > 0, offers.offers_smtputf8)
    options = ServerOptions("host.test", source.one_of(_SIZES), offers, require_helo=bits & 8 > 0,
                            soft_bounce=bits & 16 > 0, answers_vrfy=bits & 32 > 0, syntax=syntax)
    return Watched(options, _SMALL if bits & 64 else TallyLimits(), is_trusted=bits & 128 > 0)


_CHOICES: Final = 8  # octets that _made takes


def server(data: bytes) -> None:
    """Any octets in any cuts: they are answered, and cuts make no difference."""
    source = Source(data)
    client, most, stream = _made(Source(source.octets(_CHOICES))), source.number(20), source.rest()
    client.run()
    found = client.talk(stream, most)
    if client.closed:
        client.talk(b"NOOP\r\n")
        assert not client.machine.take_output()
    is_skipped = any(b"Lines must end in CRLF" in line for line in found)  # with what has come behind the wrong end
    if most and not is_skipped and not _DEPENDS_ON_CUTS.search(stream):
        other = _made(Source(data[:_CHOICES]))
        other.run()
        assert other.talk(stream) == found
        assert other.messages == client.messages
        assert other.asked == client.asked


_COMMANDS: Final = (
    b"EHLO c", b"HELO c", b"LHLO c", b"MAIL FROM:<a@c>", b"MAIL FROM:<> SIZE=40", b"MAIL FROM:<> BODY=BINARYMIME",
    b"MAIL FROM:<\xc3\xa4@c> SMTPUTF8", b"MAIL FROM:<> RET=HDRS ENVID=x XVERP", b"MAIL FROM:<> FOO=BAR",
    b"RCPT TO:<b@local.test>", b"RCPT TO:<nobody@local.test>", b"RCPT TO:<x@far.test>",
    b"RCPT TO:<\xc3\xa4@local.test>",
    b"RCPT TO:<b@local.test> NOTIFY=SUCCESS ORCPT=rfc822;x", b"RCPT TO: <postmaster>", b"RSET", b"NOOP", b"HELP",
    b"EXPN x",
    b"STARTTLS", b"XCLIENT ADDR=192.0.2.1", b"XFORWARD NAME=x", b"NOOP \xff", b"NOOP\nNOOP", b"FOO", b"",
    b"AUTH PLAIN", b"AUTH PLAIN =", b"AUTH LOGIN b2s=", b"b2s=", b"*", b"AUTH", b"MAIL FROM:<> AUTH=<>",
    b"AUTH PLAIN " + b"A" * 3000,
)
_COMMANDS_MAX: Final = 40  # in a dialog: longer ones take time and reach no more
_TEXTS: Final = (b"x\r\n", b".\r\n", b".", b"\r\n", b"\r", b"\n", b"\0", b"QUIT\r\n", b"VRFY x\r\n", b"\xe4", b"\r\n.",
                 b"\r\n.\r\n", b"a" * 100)


def dialog(data: bytes) -> None:
    """Commands, content and chunks: content comes out as it went in or not at all, and is never taken for commands."""
    source = Source(data)
    client = _made(source)
    client.run()
    chunks: list[bytes] = []
    for _ in range(_COMMANDS_MAX):
        if client.closed or not source:
            break
        choice = source.number(2 + len(_COMMANDS) // 2)
        if choice == 0:
            _content(client, source)
        elif choice == 1:
            _chunk(client, source, chunks)
        else:
            client.talk(source.one_of(_COMMANDS) + b"\r\n", source.number(4))
        assert client.machine.state is not State.DATA
    assert not any(line.startswith(b"221") for line in client.lines)
    assert not any(isinstance(event, VrfyAsked) for event in client.asked)


def _text(source: Source) -> bytes:
    return b"".join(source.one_of(_TEXTS) for _ in range(source.number(12)))


def _content(client: Watched, source: Source) -> None:
    text, most, accepted = stuff(_text(source)), source.number(9), len(client.messages)
    client.talk(b"DATA\r\n")
    if client.machine.state is not State.DATA:
        return
    faults = client.faults
    client.talk(text + b".\r\n", most)
    assert client.messages[accepted:] == ([text] if client.faults == faults else [])


def _chunk(client: Watched, source: Source, before: list[bytes]) -> None:
    text, is_last, most = _text(source), source.flag(), source.number(9)
    if not client.machine._options.offers.offers_chunking:
        return  # then the octets are commands
    if client.machine.auth.is_waiting:
        return  # then the line is a response, and the octets are commands
    if client.machine.state is not State.BDAT:
        before.clear()
    accepted, faults = len(client.messages), client.faults
    is_allowed = client.machine.state in (State.RCPT, State.BDAT)
    answers = client.talk(b"BDAT %d%b\r\n%b" % (len(text), b" LAST" if is_last else b"", text), most)
    before.append(text)
    is_accepted = answers[0].startswith(b"250")
    assert not is_accepted or is_allowed
    assert len(answers) == 1 or client.closed
    expected = [stuff(b"".join(before))] if is_last and is_accepted else []
    assert client.messages[accepted:] == expected
    assert not (is_last and is_accepted) or client.faults == faults


