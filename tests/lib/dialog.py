"""The SMTP server's machine in memory, with the policy of tests/transcripts/README.md."""
from functools import cache
from types import SimpleNamespace
from typing import Any, cast

from meta1g.conf.load import load_text
from meta1g.mta.errors import RemoteProtocolError
from meta1g.mta.reply import Reply
from meta1g.proto import proxy
from meta1g.proto.smtp import replies
from meta1g.proto.smtp.auth import AuthAsked, AuthResponse
from meta1g.proto.smtp.command import Syntax
from meta1g.proto.smtp.events import (
    Chunk,
    Closed,
    ContentEnd,
    DataAsked,
    MailAsked,
    ProxyAsked,
    RcptAsked,
    Reset,
    TlsAsked,
    UnknownAsked,
    VrfyAsked,
)
from meta1g.proto.smtp.options import ServerOptions
from meta1g.proto.smtp.params import Offers
from meta1g.proto.smtp.server import SmtpServer
from meta1g.proto.smtp.tally import Tally, TallyLimits
from meta1g.smtps.authentication import Authentication
from meta1g.smtps.keeper import Peer
from meta1g.smtps.main import setting_of
from meta1g.smtps.setting import Setting, is_in
from meta1g.smtps.trace import HeaderScanner

OFFERS = Offers(offers_smtputf8=True, offers_chunking=True, offers_dsn=True)
OPTIONS = ServerOptions("host.test", 1 << 20, OFFERS, syntax=Syntax(utf8=True))  # as a real server has them
FLAGS = "flags = { 8bitmime, access, require_EHLO_before_MAIL }"  # as meta1g-ctl init writes them
CLIENT = "127.0.0.1"


@cache
def setting(text: str, hostname: str = "local.test") -> Setting:
    """What a real server makes of this text of section smtps."""
    config = load_text(f"smtps {{ {FLAGS}\n{text} }}", "f")
    (conf,) = config.services
    log = SimpleNamespace(write=lambda *_: None, error=lambda *_: None)
    started = SimpleNamespace(conf=conf.conf, config=config, hostname=hostname, log=log, trusted_domains=(),
                              or_end=lambda option, make: make())
    nothing = cast(Any, None)
    return setting_of(cast(Any, started), nothing, nothing, nothing, nothing)


class Client:
    """Talks with a machine of its own; `messages` are those that were accepted."""

    def __init__(self, options: ServerOptions | None = None, limits: TallyLimits | None = None,
                 setting: Setting | None = None) -> None:
        self.machine = SmtpServer(options or OPTIONS, Tally(limits or TallyLimits()))
        self._setting = setting
        self._scanner = HeaderScanner()
        self.content = b""
        self.messages: list[bytes] = []
        self.closed = False
        self.lines: list[bytes] = []
        self._header: bytes | None = None
        self._is_prdr, self._accepted = False, 0
        self._auth = Authentication(setting.auth if setting is not None else None)
        self.machine.auth.mechanisms = self._auth.anew(None)
        self._is_greeted = setting is None
        if setting is None:
            self.machine.greet(b"220 host.test\r\n")
        else:
            self._header = b"" if is_in(CLIENT, setting.proxies) else None
            self.machine.is_trusted = is_in(CLIENT, setting.xclient_peers)

    @classmethod
    def of(cls, text: str) -> "Client":
        """A client of a server with this text in its section."""
        made = setting(text)
        return cls(made.options, made.tally_limits, made)

    def send(self, octets: bytes) -> None:
        if self._header is not None and not self._is_greeted:
            self._header += octets
        elif not self.closed:
            self.machine.feed(octets)

    def read_line(self) -> bytes | None:
        self.run()
        return self.lines.pop(0) if self.lines else None

    def run(self) -> None:
        """Handle what was sent; `lines` are the answers."""
        if not self._is_greeted and not self.closed:
            self._greet()
        while self._is_greeted and not self.closed and (event := self.machine.next_event()) is not None:
            self.closed = self._handle(event) is not None
        self.lines += self.machine.take_output().split(b"\r\n")[:-1]

    def _greet(self) -> None:
        """As smtps/session.py does."""
        assert self._setting is not None
        if self._header is not None:
            try:
                behind = proxy.parse(self._header)
            except RemoteProtocolError:
                self.closed = True
                return
            if behind is None:
                return
            self.machine.feed(behind.rest)
        self._is_greeted = True
        if self._is_early:
            self.closed = True
            self.machine.close(replies.EARLY_TALKER)
        else:
            self.machine.greet(self._setting.greeting)

    @property
    def _is_early(self) -> bool:
        return self._setting is not None and self.machine.has_input and not self._setting.allows_early_data

    def _handle(self, event: object) -> Closed | None:
        machine = self.machine
        match event:
            case MailAsked():
                self._is_prdr, self._accepted = event.params.is_prdr, 0
                return machine.answer(replies.MAIL_OK)
            case RcptAsked():
                reply = self._rcpt(event.address)
                self._accepted += reply.is_positive
                return machine.answer(reply)
            case DataAsked():
                self.content, self._scanner = b"", HeaderScanner()
                return machine.answer(replies.START_DATA)
            case UnknownAsked():
                return machine.answer(event.reply)
            case VrfyAsked():
                return machine.answer(replies.VRFY)
            case ProxyAsked():
                closed = machine.answer(replies.OK)
                if event.is_for_log:
                    return closed
                if self._is_early:
                    return machine.close(replies.EARLY_TALKER)
                machine.greet(self._setting.greeting if self._setting else b"220 host.test\r\n")
            case AuthAsked() | AuthResponse():
                said = self._auth.answer_to(event, Peer("", CLIENT, None))
                if isinstance(said, Reply):
                    return machine.answer(said)
                machine.challenge(said)
            case TlsAsked():
                return machine.answer(replies.NO_TLS)
            case Reset():
                self.content = b""
            case Chunk():
                self.content += event.octets
                self._scanner.feed(event.octets)
            case ContentEnd():
                reply = event.fault or self._header_fault() or replies.OK
                if reply.is_positive:
                    self.messages.append(self.content)
                is_each = self._is_prdr and reply.is_positive
                return machine.answer(reply, [replies.RCPT_OK] * self._accepted if is_each else [])
            case Closed():
                return event
        return None

    def _header_fault(self) -> Reply | None:
        if self._scanner.is_too_large:
            return replies.HEADER_TOO_LARGE
        is_loop = self._setting is not None and self._scanner.facts().hops > self._setting.hops_max
        return replies.TOO_MANY_HOPS if is_loop else None

    @staticmethod
    def _rcpt(address: bytes) -> Reply:
        if address.startswith(b"nobody@"):
            return replies.UNKNOWN_USER
        is_local = address == b"postmaster" or address.lower().endswith(b"@local.test")
        return replies.RCPT_OK if is_local else replies.RELAYING_DENIED
