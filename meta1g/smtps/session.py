"""One connection of a client: octets to the machine, its questions to policy and the other processes."""
import ipaddress
import time
from typing import TYPE_CHECKING

from meta1g import __version__
from meta1g.conf.errors import ConfErrors
from meta1g.mta import addr, logfmt
from meta1g.mta.errors import LinkDown, RemoteProtocolError, StoreError
from meta1g.mta.reply import Reply
from meta1g.proc.log import DETAIL, SESSION
from meta1g.proto.msg_ar import (
    Action,
    CheckCert,
    CheckConnect,
    CheckEhlo,
    CheckGrey,
    CheckMail,
    CheckRcpt,
    Verdict,
    Want,
)
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
    VrfyAsked,
)
from meta1g.proto.smtp.server import SmtpServer
from meta1g.proto.smtp.tally import Tally
from meta1g.smtps import behind, session_conf
from meta1g.smtps.authentication import Authentication, Peer
from meta1g.smtps.check import SessionChecks
from meta1g.smtps.pace import Pace
from meta1g.smtps.policy import Decision, Policy, rejection
from meta1g.smtps.secure import Security
from meta1g.smtps.session_conf import NOTHING, Features, Wishes
from meta1g.smtps.setting import Setting, client_ip_of, is_in
from meta1g.smtps.trace import Client, received
from meta1g.smtps.transaction import Transaction
from meta1g.st.netfd import NetFd
from meta1g.st.sched import Interrupted, TimedOut, give_way, now

if TYPE_CHECKING:
    from meta1g.tls.stream import TlsFd

_READ_COMMANDS = 4096  # octets at once: a batch of pipelined commands that is larger lets others in between
_READ_CONTENT = 64 * 1024
_BURST = 32  # commands or pieces of content in a row, 1 or 2 ms of work: then others have their turn


class Session:
    """Serves one client from greeting to end."""

    def __init__(self, netfd: NetFd, setting: Setting) -> None:
        self._plain = netfd
        self._netfd: NetFd | TlsFd = netfd
        self._set = setting
        self._machine = SmtpServer(setting.options, Tally(setting.tally_limits))
        self._policy = Policy(setting.policy_flags)
        self._pace = Pace(setting.io_timeout, setting.session_time_max, setting.data_rate_min, now())
        self._ip = client_ip_of(netfd)
        self._machine.is_trusted = is_in(self._ip, setting.xclient_peers)
        self._security = Security(setting.tls, setting.tls_violation, setting.log)
        self._auth = Authentication(setting.auth)
        self._checks = SessionChecks(setting.checks, setting.log, setting.options.hostname)
        self._client_name = ""
        self._ta: Transaction | None = None
        self._se = ""
        self._is_counted = False  # by QMGR
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
            self._auth.forget()
            self._close_session()
            self._netfd.end()
            if self._se:
                self._set.log.write(logfmt.fields(
                    ss_se=self._se, client_ip=self._ip, status="end", reason=reason), DETAIL)

    def _unproxy(self) -> None:
        """If a proxy says who is behind it, that is the client from now on. RemoteProtocolError."""
        netfd, gate = self._plain, self._set.gate
        if gate is not None and gate.is_smtpp(netfd, self._ip):
            try:
                found = behind.introduced(netfd, gate)
            except (RemoteProtocolError, TimedOut) as error:
                self._set.log.warning(logfmt.fields(
                    func="smtps", client_ip=self._ip, status="proxy refused", reason=str(error) or "timeout"))
                raise RemoteProtocolError("proxy refused") from None
        elif is_in(self._ip, self._set.proxies):
            found = behind.balanced(netfd)
        else:
            return
        if found:
            self._ip = found
            self._machine.is_trusted = is_in(found, self._set.xclient_peers)

    def _greet(self, name_said: str | None = None) -> str | None:
        """Greet the client, whose name a trusted one may have said; a reason if the session ends here."""
        setting = self._set
        is_late = not setting.qmgr.wants_names  # a client that is too many shall cost no DNS lookup
        try:
            self._se = setting.ids.take()
            refusal = None if is_late else self._check_client(name_said)
        except LinkDown:
            refusal = replies.NO_QMGR
        is_limit = False
        if refusal is None:
            refusal = self._open_session()
            is_limit = refusal is not None
        if refusal is None and is_late:
            refusal = self._check_client(name_said)
        if refusal is None and not setting.allows_early_data and (
                self._machine.has_input or self._netfd.has_input()):
            refusal = replies.EARLY_TALKER
        name = self._client_name or ("" if setting.policy_flags.use_access else "Hostname_Not_Determined")
        stat = refusal or 0
        setting.log.write(
            logfmt.fields(ss_se=self._se, client_ip=self._ip, client_name=name or None, stat=stat), SESSION)
        if refusal is not None:
            setting.counts.refuse(refusal, is_limit=is_limit)
            return self._last_words(refusal)
        if name_said is None:
            setting.counts.sessions += 1
        self._machine.auth.mechanisms = self._auth.anew(self._security.facts)
        self._machine.greet(setting.greeting)
        return None

    def _open_session(self) -> Reply | None:
        """Have QMGR count the session; its refusal if there are too many."""
        try:
            ack = self._set.qmgr.open_session(self._se, self._ip, self._client_name)
        except (LinkDown, TimedOut):
            return replies.NO_QMGR
        self._is_counted = not ack.code
        return Reply(ack.code, ack.estat, ack.text) if ack.code else None

    def _close_session(self) -> None:
        if self._is_counted:
            self._is_counted = False
            self._set.qmgr.close_session(self._se, self._ip)

    def _check_client(self, name_said: str | None) -> Reply | None:
        """The access map's word on the client, if it is in use, and then the configuration's checks."""
        refusal, resolve = None, ""
        if self._set.policy_flags.use_access:
            verdict = self._set.smar.ask(CheckConnect(self._set.policy_flags.wants, self._ip))
            self._client_name = verdict.client_name if name_said is None else name_said
            refusal, resolve = self._policy.on_connect(verdict).reply or self._configure(verdict.conf), verdict.resolve
        return refusal or self._checks.on_connect(self._se, self._ip, self._client_name, resolve)

    def _configure(self, conf: str) -> Reply | None:
        """Give the session the features that an entry of the access map wants it to have (M1 3.10 item 25)."""
        wishes = self._wishes(conf) if conf else NOTHING
        if wishes is None:
            return replies.ENTRY_BAD
        features = wishes.features or Features(self._set.options.offers)
        self._security.end = features.tls or self._set.tls
        self._security.required = wishes.required
        self._machine.offer(features.offers)
        return None

    def _wishes(self, conf: str) -> Wishes | None:
        """What an entry says, None if it has a mistake."""
        try:
            return session_conf.wishes_of(conf, self._set.classes)
        except ConfErrors as error:
            self._set.log.error(logfmt.fields(
                func="smtps", tag="smtps_session_conf", value=conf, status=f"{error}"))
            return None

    def _begin_tls(self) -> None:
        """Shake hands; what the client is allowed by its certificate it is from now on. RemoteProtocolError."""
        security = self._security
        self._netfd = security.shake_hands(self._plain, self._se, self._set.io_timeout)
        facts = security.facts
        assert facts is not None
        self._checks.on_tls(facts)
        may_relay = security.is_trusted
        if not may_relay and security.asks_access_map:
            may_relay = self._set.smar.ask(CheckCert(facts.issuer, facts.subject)).action == Action.RELAY
        self._policy.is_authenticated = may_relay
        self._machine.auth.mechanisms = self._auth.anew(facts)

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
            case VrfyAsked():
                self._machine.answer(self._on_vrfy(event.word))
            case ProxyAsked():
                return self._on_proxy(event)
            case TlsAsked():
                return self._on_starttls()
            case AuthAsked() | AuthResponse():
                return self._on_auth(event)
            case ContentEnd():
                self.is_busy = True
                try:
                    return self._machine.answer(self._on_end(event))
                finally:
                    self.is_busy = False
                    self._drop_transaction()
            case Reset():
                self._drop_transaction()
                if event.helo is not None:
                    self._on_helo(event.helo.name)
            case Closed():
                return event
        return None

    def _on_starttls(self) -> Closed | None:
        machine = self._machine
        if self._security.end is None:
            return machine.answer(replies.NO_TLS)
        closed = machine.answer(replies.START_TLS)
        self._netfd.write(machine.take_output(), self._set.io_timeout, in_all=True)
        self._begin_tls()
        return closed

    def _on_auth(self, said: AuthAsked | AuthResponse) -> Closed | None:
        auth = self._auth
        answer = auth.answer_to(said, Peer(self._se, self._ip, self._security.facts))
        if isinstance(answer, bytes):
            self._machine.challenge(answer)
            return None
        if answer.is_positive:
            self._policy.is_authenticated = self._policy.is_authenticated or auth.may_relay
            self._checks.on_auth(auth.mechanism, auth.user)
        return self._machine.answer(answer)

    def _on_helo(self, name: bytes) -> None:
        setting = self._set
        if name.lower() == setting.options.hostname.lower().encode() and not self._may_be_us:
            self._log(ta="", helo=name, status="Identity_Theft")  # M1 6.3.2
        if setting.policy_flags.use_access and setting.smar.may_have("ehlo"):
            self._policy.on_ehlo(setting.smar.ask(CheckEhlo(name)))

    @property
    def _may_be_us(self) -> bool:
        """Whether the client may call itself by our name: it is on this machine, or trusted."""
        return self._ip == "local" or ipaddress.ip_address(self._ip).is_loopback or self._policy.skips_mail_checks

    def _on_vrfy(self, word: bytes) -> Reply:
        """252, or what SMAR knows of a local address (RFC 5321 3.5.1)."""
        address = word.strip(b"<> ")
        if self._set.vrfy != "local" or not addr.is_mailbox(address):
            return replies.VRFY
        verdict = self._set.smar.ask(CheckRcpt(0, "", b"", self._qualified(address)))
        if verdict.code or not verdict.is_local:
            return replies.VRFY
        return replies.KNOWN_USER if verdict.exists else replies.UNKNOWN_USER

    def _qualified(self, address: bytes) -> bytes:
        """With our name as its domain if it has none, as <postmaster> may (RFC 5321 4.5.1)."""
        return address if b"@" in address else address + b"@" + self._set.options.hostname.encode("ascii", "replace")

    def _on_proxy(self, asked: ProxyAsked) -> Closed | None:
        """XFORWARD is noted; after XCLIENT the session begins anew with another client."""
        said = {name: value or None for name, value in asked.attributes.items()}
        self._set.log.write(logfmt.fields(
            ss_se=self._se, client_ip=self._ip, status="xforward" if asked.is_for_log else "xclient", **said), SESSION)
        closed = self._machine.answer(replies.OK)
        if asked.is_for_log:
            return closed
        self._close_session()
        self._ip = asked.attributes.get("ADDR") or self._ip
        self._policy = Policy(self._set.policy_flags)
        refusal = self._greet(asked.attributes.get("NAME"))
        return None if refusal is None else Closed(Reply(421, "4.7.0", refusal))

    def _on_mail(self, asked: MailAsked) -> Reply:
        try:
            ta = self._set.ids.take()
        except LinkDown:
            return replies.NO_QMGR
        reply = (self._checks.on_mail(ta, asked.address, asked.params.author)
                 or self._security.refusal(self._security.required) or self._check_mail(asked.address)
                 or self._set.refusal or replies.MAIL_OK)
        self._log(ta=ta, mail=addr.bracketed(asked.address), stat=_stat(reply))
        if reply.is_positive:
            self._ta = Transaction(ta, asked, self._checks.author)
        else:
            self._set.counts.ta_refused += 1
        return reply

    def _check_mail(self, address: bytes) -> Reply | None:
        if not address:
            return self._policy.on_null_sender().reply
        question = CheckMail(
            self._set.policy_flags.wants & Want.ACCESS, self._policy.skips_mail_checks, self._ip, address)
        return self._policy.on_mail(self._set.smar.ask(question)).reply

    def _on_rcpt(self, asked: RcptAsked) -> Reply:
        ta = self._ta
        assert ta is not None
        address = self._qualified(asked.address)
        refusal = self._checks.on_rcpt(address)
        decision = Decision(refusal) if refusal else self._judge_rcpt(ta, asked.address, address)
        reply = decision.reply or replies.RCPT_OK
        self._checks.on_rcpt_answered(reply)
        self._set.counts.rcpt(reply, is_discarded=decision.is_discarded)
        index = len(ta.rcpts)
        self._log(ta=ta.ta, rcpt=addr.bracketed(address), idx=index, stat=_stat(reply),
                  status="discarded" if decision.is_discarded else None)
        if reply.is_positive and not decision.is_discarded:
            ta.rcpts.append(Rcpt(index, address, asked.params))
        return reply

    def _judge_rcpt(self, ta: Transaction, given: bytes, address: bytes) -> Decision:
        verdict = self._set.smar.ask(self._rcpt_question(ta, address))
        decision = self._policy.on_rcpt(given, verdict)
        if decision.reply or decision.is_discarded:
            return decision
        return decision._replace(reply=self._check_tls(verdict) or self._check_grey(ta, address, verdict))

    def _check_tls(self, verdict: Verdict) -> Reply | None:
        """What the access map requires of TLS for a recipient (M1 3.10.1)."""
        if "tls_requirements" not in verdict.conf:
            return None
        wishes = self._wishes(verdict.conf)
        return self._security.refusal(wishes.required) if wishes is not None else replies.ENTRY_BAD

    def _rcpt_question(self, ta: Transaction, address: bytes) -> CheckRcpt:
        """Sender and client only where the answer depends on them, so that it can be kept."""
        wants = self._set.policy_flags.wants
        if wants & Want.PROTECTED and self._set.smar.may_have("protectedrcpt"):
            return CheckRcpt(wants, self._ip, ta.mail, address)
        return CheckRcpt(wants, "", b"", address)

    def _check_grey(self, ta: Transaction, address: bytes, verdict: Verdict) -> Reply | None:
        """The reply to a greylisted client (M1 3.9.4), None if it may go on for now."""
        if not self._policy.is_greylisted(verdict):
            return None
        flags = self._set.policy_flags
        mail, rcpt = (ta.mail, address) if flags.fullgreylisting else (b"", b"")
        reply = rejection(self._set.smar.ask(CheckGrey(flags.fullgreylisting, self._ip, mail, rcpt)))
        if reply is not None and flags.delay_greylisting:
            ta.greylisted = reply
            return None
        return reply

    def _on_data(self) -> Reply:
        ta, setting = self._ta, self._set
        assert ta is not None
        refusal = self._checks.on_data() or ta.greylisted or setting.refusal
        if refusal is not None:
            setting.counts.ta_refused += 1
            return refusal
        helo = self._machine.helo
        client = Client(helo.name if helo else b"", self._client_name, self._ip, self._security.facts)
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
            ta.error = self._store_trouble(error)

    def _on_end(self, end: ContentEnd) -> Reply:
        ta = self._ta
        assert ta is not None
        facts = ta.facts()
        reply = (ta.fault(end, facts, self._set.hops_max)
                 or self._checks.on_end(end.size, facts.hops, facts.message_id) or self._commit(ta, end))
        if not reply.is_positive:
            self._set.counts.ta_refused += 1
        self._log(ta=ta.ta, msgid=facts.message_id or None, size=end.size, stat=_stat(reply))
        return reply

    def _commit(self, ta: Transaction, end: ContentEnd) -> Reply:
        assert ta.incoming is not None
        accepted = Reply(250, "2.0.0", f"Ok, id {ta.ta}")
        counts = self._set.counts
        counts.octets += end.size
        if self._policy.discards or not ta.rcpts:
            counts.ta_discarded += 1
            self._log(ta=ta.ta, status="discarded")
            return accepted
        now = time.time()
        try:
            refusal = ta.sign(self._set, self._se)
            if refusal is not None:
                return refusal
            content = ta.incoming.commit()
        except StoreError as error:
            return self._store_trouble(error)
        ack = self._set.qmgr.commit(ta.message(self._se, self._ip, now, end, content))
        self._set.store.release(content)
        if ack.code:
            # If the answer was lost QMGR may have the envelope, so the content stays for it to judge.
            return Reply(ack.code, ack.estat, ack.text)
        counts.ta_accepted += 1
        ta.incoming = None
        return accepted

    def _store_trouble(self, error: StoreError) -> Reply:
        self._set.log.error(f"func=smtps, ss_se={self._se}, status={logfmt.clean(error)}")
        return replies.NO_SPACE if error.is_full else replies.LOCAL_ERROR

    def _drop_transaction(self) -> None:
        ta, self._ta = self._ta, None
        if ta is not None:
            ta.abort()

    def _last_words(self, reply: Reply) -> str:
        self._machine.close(reply._replace(code=421) if reply.is_temporary else reply)
        try:
            self._netfd.write(self._machine.take_output(), 1.0)
        except (OSError, TimedOut):
            pass
        return str(reply)

    def _log(self, ta: str, **named: object) -> None:
        if self._set.log.wants(SESSION):
            self._set.log.write(logfmt.fields(ss_se=self._se, ss_ta=ta or None, **named), SESSION)


def _stat(reply: Reply) -> object:
    return 0 if reply.is_positive else reply
