"""One connection of a client: octets to the machine, its questions to policy and the other processes."""
import ipaddress
import time
from typing import TYPE_CHECKING, Final

from meta1g import __version__
from meta1g.mta import addr, logfmt
from meta1g.mta.errors import LinkDown, RemoteProtocolError, StoreError
from meta1g.mta.reply import Reply
from meta1g.proc.log import DETAIL, SESSION
from meta1g.proto.msg_ar import Action, CheckCert, CheckEhlo
from meta1g.proto.msg_ss import Rcpt
from meta1g.proto.smtp import replies
from meta1g.proto.smtp.auth import AuthAsked, AuthResponse
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
from meta1g.proto.smtp.server import SmtpServer
from meta1g.proto.smtp.tally import Tally
from meta1g.smtps import ending, judge
from meta1g.smtps.authentication import Peer
from meta1g.smtps.filters import Filters
from meta1g.smtps.pace import Pace
from meta1g.smtps.policy import Decision, Policy
from meta1g.smtps.setting import Setting, client_ip_of, is_in
from meta1g.smtps.symbols import Symbols
from meta1g.smtps.trace import Client, received
from meta1g.smtps.transaction import Transaction
from meta1g.smtps.visit import Visit, stat
from meta1g.smtps.welcome import Welcome, unproxied
from meta1g.st.netfd import NetFd
from meta1g.st.sched import Interrupted, TimedOut, give_way, now

if TYPE_CHECKING:
    from meta1g.tls.stream import TlsFd

_READ_COMMANDS: Final = 4096  # octets at once: a batch of pipelined commands that is larger lets others in between
_READ_CONTENT: Final = 64 * 1024
_BURST: Final = 32  # commands or pieces of content in a row, 1 or 2 ms of work: then others have their turn


class Session:
    """Serves one client from greeting to end."""

    def __init__(self, netfd: NetFd, setting: Setting) -> None:
        self._plain = netfd
        self._netfd: NetFd | TlsFd = netfd
        self._set = setting
        self._machine = SmtpServer(setting.options, Tally(setting.tally_limits))
        self._pace = Pace(setting.io_timeout, setting.session_time_max, setting.data_rate_min, now())
        self._visit = Visit(setting, client_ip_of(netfd))
        self._machine.is_trusted = is_in(self._visit.ip, setting.xclient_peers)
        self._welcome = Welcome(self._visit)
        self._filters: Filters | None = None
        self._ta: Transaction | None = None
        self.is_busy = False

    @property
    def is_in_content(self) -> bool:
        """Whether a transaction is so far that an orderly stop should let it end."""
        return self.is_busy or self._machine.is_in_content

    def run(self) -> None:
        """The whole session; returns when the connection may be closed."""
        reason = "error"
        try:
            self._unproxy()
            if self._set.is_tls_first:
                self._begin_tls()
                self._machine.begin_tls()
            reason = self._greet() or self._dialog()
        except RemoteProtocolError as error:
            reason = str(error)
        except TimedOut:
            reason = self._last_words(replies.TIMEOUT)
        except Interrupted:
            reason = self._last_words(replies.SHUTDOWN)
        except OSError as error:
            reason = f"{error.strerror}"
        finally:
            self._drop_transaction()
            self._end_filters()
            self._visit.auth.forget()
            self._welcome.leave()
            self._netfd.end()
            visit = self._visit
            if visit.se:
                self._set.log.write(logfmt.fields(
                    ss_se=visit.se, client_ip=visit.ip, status="end", reason=reason), DETAIL)

    def _unproxy(self) -> None:
        """If a proxy says who is behind it, that is the client from now on. RemoteProtocolError."""
        visit = self._visit
        found = unproxied(self._plain, visit.ip, self._set)
        if found != visit.ip:
            visit.ip = found
            self._machine.is_trusted = is_in(found, self._set.xclient_peers)

    def _greet(self, name_said: str | None = None) -> str | None:
        """Greet the client, whose name a trusted one may have said; a reason if the session ends here."""
        visit, machine = self._visit, self._machine
        refusal = self._welcome.refusal(name_said, lambda: machine.has_input or self._netfd.has_input())
        if refusal is None and self._set.filters:
            refusal = self._begin_filters()
            if refusal is not None and name_said is None:
                self._set.counts.refuse_by_filter()
        if refusal is not None:
            return self._last_words(refusal)
        machine.offer(visit.offers)
        machine.auth.mechanisms = visit.auth.anew(visit.security.facts)
        machine.greet(self._set.greeting)
        return None

    def _begin_filters(self) -> Reply | None:
        """Let the filters know of the client; their refusal."""
        sock = self._plain.sock
        symbols = Symbols(self._visit, sock.getsockname(), self._plain.peer)
        self._filters = Filters(self._set.filters, self._visit, symbols)
        return self._filters.on_connect()

    def _end_filters(self) -> None:
        filters, self._filters = self._filters, None
        if filters is not None:
            filters.close()

    def _begin_tls(self) -> None:
        """Shake hands; what the client is allowed by its certificate it is from now on. RemoteProtocolError."""
        visit = self._visit
        security = visit.security
        self._netfd = security.shake_hands(self._plain, visit.se, self._set.io_timeout)
        facts = security.facts
        assert facts is not None
        visit.checks.on_tls(facts)
        may_relay = security.is_trusted
        if not may_relay and security.asks_access_map:
            may_relay = self._set.smar.ask(CheckCert(facts.issuer, facts.subject)).action == Action.RELAY
        visit.policy.is_authenticated = may_relay
        self._machine.auth.mechanisms = visit.auth.anew(facts)

    def _dialog(self) -> str:
        machine, timeout, pace = self._machine, self._set.io_timeout, self._pace
        burst = 0
        while True:
            event = machine.next_event()
            if event is not None:
                closed = self._handle(event)
                if closed is not None:
                    self._netfd.write(machine.take_output(), timeout, is_last=True, in_all=True)
                    return str(closed.reply)
                burst += 1
                if burst == _BURST:
                    burst = 0
                    give_way()
                continue
            output = machine.take_output()
            if output:
                self._netfd.write(output, timeout, in_all=True)
                pace.command(now())
                burst = 0  # the next read waits
            if self._set.is_stopping and not machine.is_in_content:
                raise Interrupted
            left = pace.left(now())
            if left <= 0:
                raise TimedOut
            data = self._netfd.read(_READ_CONTENT if machine.expects_octets else _READ_COMMANDS, left)
            if not data:
                return "connection closed by client"
            if machine.is_in_content:
                pace.octets(len(data), now())
            machine.feed(data)

    def _handle(self, event: Event) -> Closed | None:
        match event:
            case Chunk():
                self._on_chunk(event.octets)
            case MailAsked():
                return self._machine.answer(self._on_mail(event))
            case RcptAsked():
                return self._machine.answer(self._on_rcpt(event))
            case DataAsked():
                return self._machine.answer(self._on_data())
            case UnknownAsked():
                return self._machine.answer(self._filter_unknown(event.line) or event.reply)
            case VrfyAsked():
                self._machine.answer(judge.vrfy(self._visit, event.word))
            case ProxyAsked():
                return self._on_proxy(event)
            case TlsAsked():
                return self._on_starttls()
            case AuthAsked() | AuthResponse():
                return self._on_auth(event)
            case ContentEnd():
                self.is_busy = True
                try:
                    assert self._ta is not None
                    reply = ending.finish(self._visit, self._ta, event, self._filters)
                    return self._machine.answer(reply, self._ta.each)
                finally:
                    self.is_busy = False
                    self._drop_transaction()
            case Reset():
                self._drop_transaction()
                if event.helo is not None:
                    self._visit.is_ehlo = event.helo.is_ehlo
                    self._on_helo(event.helo.name)
            case Closed():
                return event
        return None

    def _on_starttls(self) -> Closed | None:
        machine = self._machine
        if self._visit.security.end is None:
            return machine.answer(replies.NO_TLS)
        closed = machine.answer(replies.START_TLS)
        self._netfd.write(machine.take_output(), self._set.io_timeout, in_all=True)
        self._begin_tls()
        return closed

    def _on_auth(self, said: AuthAsked | AuthResponse) -> Closed | None:
        visit = self._visit
        auth = visit.auth
        answer = auth.answer_to(said, Peer(visit.se, visit.ip, visit.security.facts))
        if isinstance(answer, bytes):
            self._machine.challenge(answer)
            return None
        if answer.is_positive:
            visit.policy.is_authenticated = visit.policy.is_authenticated or auth.may_relay
            visit.checks.on_auth(auth.mechanism, auth.user)
        return self._machine.answer(answer)

    def _on_helo(self, name: bytes) -> None:
        setting = self._set
        if name.lower() == setting.options.hostname.lower().encode() and not self._may_be_us:
            self._visit.log(ta="", helo=name, status="Identity_Theft")  # M1 6.3.2
        if setting.policy_flags.use_access and setting.smar.may_have("ehlo"):
            self._visit.policy.on_ehlo(setting.smar.ask(CheckEhlo(name)))
        if self._filters is not None:
            self._filters.on_helo(name)

    @property
    def _may_be_us(self) -> bool:
        """Whether the client may call itself by our name: it is on this machine, or trusted."""
        ip = self._visit.ip
        return ip == "local" or ipaddress.ip_address(ip).is_loopback or self._visit.policy.skips_mail_checks

    def _on_proxy(self, asked: ProxyAsked) -> Closed | None:
        """XFORWARD is noted; after XCLIENT the session begins anew with another client."""
        visit = self._visit
        said = {name: value or None for name, value in asked.attributes.items()}
        self._set.log.write(logfmt.fields(
            ss_se=visit.se, client_ip=visit.ip, status="xforward" if asked.is_for_log else "xclient", **said), SESSION)
        closed = self._machine.answer(replies.OK)
        if asked.is_for_log:
            return closed
        self._end_filters()
        self._welcome.leave()
        visit.ip = asked.attributes.get("ADDR") or visit.ip
        visit.policy = Policy(self._set.policy_flags)
        visit.security.forget_client()
        refusal = self._greet(asked.attributes.get("NAME"))
        return None if refusal is None else Closed(Reply(421, "4.7.0", refusal))

    def _on_mail(self, asked: MailAsked) -> Reply:
        try:
            ta = self._set.ids.take()
        except LinkDown:
            return replies.NO_QMGR
        visit = self._visit
        reply = (visit.checks.on_mail(ta, asked.address, asked.params.author)
                 or visit.security.refusal(visit.security.required) or judge.mail(visit, asked.address)
                 or self._set.refusal or self._filter_mail(ta, asked) or self._said or replies.MAIL_OK)
        visit.log(ta=ta, mail=addr.bracketed(asked.address), stat=stat(reply))
        if reply.is_positive:
            self._ta = Transaction(ta, asked, visit.checks.author)
        else:
            self._set.counts.ta_refused += 1
        return reply

    def _filter_mail(self, ta: str, asked: MailAsked) -> Reply | None:
        if self._filters is None:
            return None
        words = [keyword + (b"=" + value if value else b"") for keyword, value in asked.given]
        return self._filters.on_mail(ta, asked.address, words)

    def _filter_unknown(self, line: bytes) -> Reply | None:
        """What filters say to it; between two BDAT they expect content, and libmilter would give the session up."""
        return self._filters.on_unknown(line) if self._filters is not None and not self._machine.is_in_content else None

    @property
    def _said(self) -> Reply | None:
        """What the filters want to be said instead of the usual yes."""
        return self._filters.said if self._filters is not None else None

    def _on_rcpt(self, asked: RcptAsked) -> Reply:
        ta, visit = self._ta, self._visit
        assert ta is not None
        address = visit.qualified(asked.address)
        refusal = visit.checks.on_rcpt(address)
        decision = Decision(refusal) if refusal else judge.rcpt(visit, ta, asked.address, address)
        index = len(ta.rcpts)
        if self._filters is not None and not decision.is_discarded:
            refusal = self._filters.on_rcpt(address, asked.params.split(), index, decision.reply)
            refusal = refusal or decision.reply
            decision = Decision(refusal, self._filters.discards_rcpt and refusal is None)
        reply = decision.reply or self._said or replies.RCPT_OK
        visit.checks.on_rcpt_answered(reply)
        self._set.counts.rcpt(reply, is_discarded=decision.is_discarded)
        visit.log(ta=ta.ta, rcpt=addr.bracketed(address), idx=index, stat=stat(reply),
                  status="discarded" if decision.is_discarded else None)
        if reply.is_positive:
            ta.add(Rcpt(index, address, asked.params), is_discarded=decision.is_discarded)
        return reply

    def _on_data(self) -> Reply:
        ta, setting, visit = self._ta, self._set, self._visit
        assert ta is not None
        refusal = visit.checks.on_data() or ta.greylisted or setting.refusal
        if refusal is None and self._filters is not None:
            refusal = self._filters.on_data()
        if refusal is not None:
            setting.counts.ta_refused += 1
            return refusal
        helo = self._machine.helo
        client = Client(helo.name if helo else b"", visit.client_name, visit.ip, visit.security.facts)
        field = received(client, setting.options.hostname, __version__, self._machine.protocol, ta.ta,
                         setting.dates.text(time.time()))
        ta.begin(setting.store, field, setting.signing)
        return replies.START_DATA

    def _on_chunk(self, octets: bytes) -> None:
        ta = self._ta
        assert ta is not None
        if ta.error is not None:
            return
        try:
            ta.take(octets)
        except StoreError as error:
            ta.error = self._visit.store_trouble(error)

    def _drop_transaction(self) -> None:
        ta, self._ta = self._ta, None
        if ta is not None:
            ta.abort()
            if self._filters is not None:
                self._filters.abort()

    def _last_words(self, reply: Reply) -> str:
        self._machine.close(reply._replace(code=421) if reply.is_temporary else reply)
        try:
            self._netfd.write(self._machine.take_output(), 1.0)
        except (OSError, TimedOut):
            pass
        return str(reply)
