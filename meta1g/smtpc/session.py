"""One session with a server: connect, talk, report each task's results (M1 3.11, 8.6)."""
import socket
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from meta1g.mta import addr, limits, logfmt
from meta1g.mta.dane import TlsaSet
from meta1g.mta.errors import CorruptRecord, RemoteProtocolError, StoreError
from meta1g.mta.ids import da_id
from meta1g.mta.reply import Reply
from meta1g.mta.tls import HandshakeFailed, log_fields
from meta1g.proc.log import SESSION
from meta1g.proto.msg_ar import Hop, Protocol
from meta1g.proto.msg_da import DaRcpt, Deliver, Delivered, Result, SessionEnded, Stage, TlsLevel, TlsSeen
from meta1g.proto.smtp.client import SmtpClient
from meta1g.proto.smtp.client_events import (
    Answered,
    Ask,
    AuthWanted,
    ChunkWanted,
    ContentWanted,
    Finished,
    Ready,
    Refused,
    TlsWanted,
)
from meta1g.proto.smtpp import Wanted
from meta1g.smtpc.fitting import chunks, fit
from meta1g.smtpc.login import Login, LoginFailed
from meta1g.smtpc.secure import Missing, Proof
from meta1g.smtpc.setting import Setting
from meta1g.smtpc.through import NoProxy, NotThrough
from meta1g.smtpc.timing import Timing
from meta1g.st.netfd import NetFd, connect, family_of, reason_of, why_not_bound
from meta1g.st.sched import Flag, TimedOut

if TYPE_CHECKING:
    from meta1g.tls.stream import TlsFd

_READ_SIZE = 32 * 1024
_IDLE_CHECK = 3600.0  # QMGR ends idle sessions; this is only a bound
_STAGES = {
    Ask.GREETING: Stage.GREETING, Ask.EHLO: Stage.EHLO, Ask.HELO: Stage.EHLO, Ask.TLS: Stage.EHLO,
    Ask.AUTH: Stage.AUTH, Ask.MAIL: Stage.MAIL, Ask.RCPT: Stage.RCPT, Ask.DATA: Stage.DATA,
    Ask.CHUNK: Stage.CONTENT, Ask.PART: Stage.DOT, Ask.DOT: Stage.DOT,
    Ask.RSET: Stage.MAIL, Ask.QUIT: Stage.SESSION,
}
_MYSELF = Reply(550, "5.4.6", "Server greets with our own name: mail would loop")


class SessionLost(Exception):
    """The session can't go on: `reply` says why, `stage` when, and `is_ours` that it is no fault of the host."""

    def __init__(self, reply: Reply, stage: int, *, is_ours: bool = False) -> None:
        super().__init__(str(reply))
        self.reply = reply
        self.stage = stage
        self.is_ours = is_ours


class Refusal(SessionLost):
    """The server itself ended the session, by 421."""


class NoTls(Exception):
    """The handshake failed: another session may try it in another way."""


class Session:
    """A session that QMGR opened; tasks come one after another."""

    def __init__(self, first: Deliver, setting: Setting) -> None:
        self.number = first.session
        self._set = setting
        self._protocol = first.protocol
        self._hop: Hop = first.hop[0]
        self._local_ip = first.source
        self._features = setting.classes.get(first.feature, setting.features)
        self._timing = Timing(time.monotonic) if self._features.is_timed else None
        self._name = da_id(first.session, setting.process, first.session)
        self._tasks: deque[Deliver] = deque([first])
        self._has_work = Flag()
        self._is_closing = False
        self._netfd: NetFd | TlsFd | None = None
        self._first = first
        self._dane = self._dane_of(first.rcpts[0])
        self._proof = Proof()
        self._refused: list[Result] = []  # of the running task, for recipients that the server is not told of
        ignores = self._features.ignores
        if first.tls_level == TlsLevel.NONE or first.protocol == Protocol.LMTP_UNIX:
            ignores |= {"STARTTLS"}
        self._machine = SmtpClient(setting.hostname, is_lmtp=first.protocol != Protocol.ESMTP, ignores=ignores)
        self._login: Login | None = None
        self._current: Deliver | None = None
        self._done = 0

    def add(self, task: Deliver) -> None:
        """One more task."""
        self._tasks.append(task)
        self._has_work.raise_()

    def close(self) -> None:
        """Say QUIT when there is nothing left to do."""
        self._is_closing = True
        self._has_work.raise_()

    def run(self) -> None:
        """The whole session; reports to QMGR whatever happens."""
        is_lost, has_no_tls = True, False
        try:
            self._look_for_account()
            self._connect()
            if self._features.begins_with_tls:
                self._begin_tls()
            self._await_ready()
            while self._wait_for_task():
                self._current = self._tasks.popleft()
                self._deliver(self._current)
                self._current = None
            self._quit()
            is_lost = False
        except NoTls:
            is_lost, has_no_tls = False, True
        except SessionLost as lost:
            self._report_lost(lost)
            is_lost = False
        finally:
            if self._netfd is not None:
                self._netfd.close()
            self._set.report(SessionEnded(self.number, is_lost, has_no_tls))

    def _wait_for_task(self) -> bool:
        while not self._tasks and not self._is_closing:
            self._has_work.lower()
            self._has_work.wait(_IDLE_CHECK)
        return bool(self._tasks)

    # Beginning

    def _look_for_account(self) -> None:
        setting, hop = self._set, self._hop
        if setting.logins is None or self._protocol == Protocol.LMTP_UNIX:
            return
        try:
            self._login = setting.logins.at(hop, hop.port or setting.remote_port)
        except LoginFailed as failed:
            raise SessionLost(failed.reply, Stage.CONNECT, is_ours=True) from None
        self._machine.must_log_in = self._login is not None

    def _connect(self) -> None:
        setting, hop = self._set, self._hop
        try:
            if self._protocol == Protocol.LMTP_UNIX:
                where = hop.ip or setting.lmtp_socket
                self._netfd = connect(socket.AF_UNIX, where, setting.io_timeout)
            else:
                where = self._connect_to(setting.connect_only_to or hop.ip, hop.port or setting.remote_port)
        except (OSError, TimedOut, NotThrough) as error:
            reason = reason_of(error)
            self._log(status="not connected", addr=hop.ip, port=hop.port, host=hop.name or None, reason=reason)
            raise SessionLost(Reply(451, "4.4.1", f"Connect to {_shown(hop)}: {reason}"), Stage.CONNECT,
                              is_ours=isinstance(error, NoProxy)) from None
        self._set.log.write(f"da_se={self._name}, status=connected, addr={where}", SESSION)
        self._step("t_connect")

    def _connect_to(self, ip: str, port: int) -> str:
        """Connect by TCP; where to, for the log. Local mailers are reached without the proxy."""
        setting, proxy = self._set, self._set.proxy
        if proxy is not None and self._protocol == Protocol.ESMTP:
            self._netfd = proxy.connect(Wanted(ip, port, self._local_ip), setting.io_timeout)
            return f"{ip}, port={port}, through=proxy"
        self._netfd = connect(family_of(ip), (ip, port), setting.io_timeout, self._source())
        return f"{ip}, port={port}"

    def _source(self) -> tuple[str, int] | None:
        """The local address to bind to; if that can't be, mail goes out by any (M1 3.8 item 16.9.1)."""
        if not self._local_ip:
            return None
        reason = why_not_bound(self._local_ip)
        if reason:
            self._set.log.warning(logfmt.fields(
                da_se=self._name, source=self._local_ip, status="not bound", reason=reason))
            return None
        return self._local_ip, 0

    def _step(self, name: str) -> None:
        if self._timing is not None:
            self._timing.step(name)

    def _await_ready(self) -> None:
        event = self._next()
        if isinstance(event, TlsWanted):
            self._begin_tls()
            try:
                self._machine.begin_tls()
            except RemoteProtocolError as error:
                raise SessionLost(Reply(451, "4.7.5", f"{_shown(self._hop)}: {error}"), Stage.EHLO) from None
            event = self._next()
        if isinstance(event, AuthWanted):
            event = self._log_in(event)
        if isinstance(event, Refused):
            raise Refusal(event.reply, _STAGES[event.ask])
        assert isinstance(event, Ready)
        first_word = event.greeting.text.split(" ", 1)[0].lower()
        is_smtp = self._protocol == Protocol.ESMTP
        if is_smtp and not self._features.talks_to_itself and first_word == self._set.hostname.lower():
            raise SessionLost(_MYSELF, Stage.GREETING)

    def _begin_tls(self) -> None:
        """Shake hands; NoTls."""
        assert isinstance(self._netfd, NetFd)
        setting, first, hop = self._set, self._first, self._hop
        end = setting.contexts.end(first.feature, first.tls_level)
        problem = end.refresh()
        if problem:
            setting.log.error(f"func=smtpc, status=TLS goes on with the files it had, reason={problem}")
        name = self._dane[0].base if self._dane else "" if hop.name.startswith("[") else hop.name.rstrip(".")
        try:
            self._netfd, facts = end.shake_hands(self._netfd, hop.ip, hop.port, name, setting.io_timeout,
                                                 shows_chain=bool(self._dane))
        except (HandshakeFailed, TimedOut) as error:
            self._log(starttls="failed", addr=hop.ip, reason=reason_of(error))
            raise NoTls from None
        self._proof = Proof(facts)
        self._log(**log_fields(self._proof.facts_for(self._dane) or facts))
        self._step("t_starttls")
        if first.cert_fp and first.cert_fp != facts.fingerprint:
            self._log(status="cert_fp does not match previous value", addr=hop.ip)
        if facts.fingerprint:
            setting.report(TlsSeen(facts.expires, self.number, facts.fingerprint))

    def _log_in(self, wanted: AuthWanted) -> object:
        """Authenticate; the event after it. Mail for a server that does not want us waits (RFC 4954 4)."""
        login = self._login
        assert login is not None
        facts = self._proof.facts_for(self._dane)
        try:
            event = login.run(wanted, self._machine, facts, self._next)
        except LoginFailed as failed:
            self._log(auth=login.mechanism or None, user=login.user, status="failed", reason=failed)
            raise SessionLost(failed.reply, Stage.AUTH) from None
        if isinstance(event, Refused):
            self._log(auth=login.mechanism, user=login.user, status="failed", reply=event.reply)
            if event.reply.code >= 500:
                raise SessionLost(LoginFailed(f"{_shown(self._hop)}: {event.reply}").reply, Stage.AUTH)
        elif isinstance(event, Ready):
            self._log(auth=login.mechanism, user=login.user, status="ok")
        return event

    # A transaction

    def _deliver(self, task: Deliver) -> None:
        """One transaction, perhaps without those of its recipients for whom TLS is not as it must be (M1 3.11.1)."""
        default = self._set.contexts.violation
        each = [self._proof.missing((self._first.conf, rcpt.conf), self._dane_of(rcpt), default) for rcpt in task.rcpts]
        stop = next((found.reply for found in each if found is not None and found.is_delayed), None)
        if stop is not None:
            each = [found if found is not None and found.is_stranger else None for found in each]
        if any(each):
            self._refuse(task, each)
            left = tuple(rcpt for rcpt, found in zip(task.rcpts, each, strict=True) if found is None)
            self._current = task = task._replace(rcpts=left)
        if task.rcpts:
            self._transact(task, stop)
        else:
            self._say(task, is_open=True)

    def _dane_of(self, rcpt: DaRcpt) -> tuple[TlsaSet, ...]:
        """Who sends all mail to one host wants that one, not the one that TLSA records are about (M1 8.6 item 1)."""
        return () if self._set.connect_only_to else rcpt.dane

    def _refuse(self, task: Deliver, each: Sequence[Missing | None]) -> None:
        """Keep the results of recipients that the server is not told of."""
        self._refused.clear()
        for rcpt, found in zip(task.rcpts, each, strict=True):
            if found is not None:
                self._refused.append(_result(rcpt.idx, found.reply.code, found.stage, found.reply, is_said=False))
                self._log_rcpt(task, rcpt.address, found.stage, found.reply.code, found.reply)

    def _transact(self, task: Deliver, stop: Reply | None) -> None:
        if self._timing is not None and self._done:
            self._timing.restart()
        try:
            envelope, pieces = fit(task, self._machine.extensions, lambda: self._set.pieces(task.ta, task.content[0]))
        except (StoreError, CorruptRecord) as error:
            raise self._unreadable(task, error) from None
        self._machine.begin(envelope if stop is None else envelope._replace(stop=stop))
        parts = chunks(pieces())
        while True:
            event = self._next()
            match event:
                case ContentWanted():
                    self._send_content(task, pieces())
                case ChunkWanted():
                    self._send_chunk(task, parts)
                case Finished():
                    self._done += 1
                    self._report(task, event, is_open=True)
                    return
                case Refused():
                    raise Refusal(event.reply, _STAGES[event.ask])

    def _send_content(self, task: Deliver, pieces: Iterable[bytes]) -> None:
        try:
            last = b""
            for piece in pieces:
                if last:
                    self._write(last)
                last = piece
            self._write(last + self._dot())
            self._step("t_msg")
        except (StoreError, CorruptRecord) as error:
            raise self._unreadable(task, error) from None

    def _send_chunk(self, task: Deliver, parts: Iterator[tuple[bytes, bool]]) -> None:
        try:
            octets, is_last = next(parts)
        except (StoreError, CorruptRecord) as error:
            raise self._unreadable(task, error) from None
        self._machine.send_chunk(octets, is_last=is_last)
        self._write(self._machine.take_output())
        if is_last:
            self._step("t_msg")

    def _unreadable(self, task: Deliver, error: Exception) -> SessionLost:
        """Without the final dot, or the last chunk, the server must forget what it got (RFC 5321 4.1.1.4)."""
        self._set.log.error(f"da_se={self._name}, ss_ta={task.ta}, where=content, status={logfmt.clean(error)}")
        code, estat = (554, "5.6.0") if isinstance(error, CorruptRecord) else (451, "4.3.0")
        return SessionLost(Reply(code, estat, "Message content could not be read"), Stage.CONTENT)

    def _dot(self) -> bytes:
        self._machine.end_content()
        return self._machine.take_output()

    # Octets

    def _next(self) -> object:
        """The machine's next event; SessionLost if the connection or the protocol breaks."""
        machine, netfd, timeout = self._machine, self._netfd, self._set.io_timeout
        assert netfd is not None
        try:
            while True:
                event = machine.next_event()
                self._note_answers()
                if event is not None:
                    return event
                output = machine.take_output()
                if output:
                    netfd.write(output, timeout)
                data = netfd.read(_READ_SIZE, timeout)
                if not data:
                    raise self._lost("connection closed by server")
                machine.feed(data)
        except TimedOut:
            raise self._lost("timeout") from None
        except OSError as error:
            raise self._lost(error.strerror or "error") from None
        except RemoteProtocolError as error:
            raise self._lost(str(error)) from None

    def _note_answers(self) -> None:
        if self._timing is not None:
            self._timing.answered(self._machine.take_answered())

    def _write(self, data: bytes) -> None:
        assert self._netfd is not None
        try:
            self._netfd.write(data, self._set.io_timeout)
        except TimedOut:
            raise self._lost("timeout") from None
        except OSError as error:
            raise self._lost(error.strerror or "error") from None

    def _lost(self, reason: str) -> SessionLost:
        awaits = self._machine.awaits
        stage = _STAGES[awaits] if awaits is not None else Stage.DATA
        return SessionLost(Reply(451, "4.4.2", f"{_shown(self._hop)}: {reason}"), stage)

    # Reports

    def _report(self, task: Deliver, finished: Finished, *, is_open: bool) -> None:
        results = []
        if self._timing is not None:
            self._log(ss_ta=task.ta, **self._timing.take(), size=task.size)
        for answered in finished.results:
            rcpt = task.rcpts[answered.at]
            reply = answered.reply
            stage = _STAGES[answered.ask]
            code = 0 if answered.ask is Ask.DOT and reply.code // 100 == 2 else _failure_code(answered)
            results.append(_result(rcpt.idx, code, stage, reply, is_said=answered.is_said))
            self._log_rcpt(task, rcpt.address, stage, code, reply)
        self._say(task, *results, is_open=is_open)

    def _say(self, task: Deliver, *results: Result, is_open: bool = False, is_host: bool = False) -> None:
        """Tell QMGR all results of a task."""
        refused, self._refused = self._refused, []
        self._set.report(Delivered(self.number, task.task, is_open, is_host, "DSN" in self._machine.extensions,
                                   (*results, *refused)))

    def _report_lost(self, lost: SessionLost) -> None:
        self._log(status="lost", where=Stage.NAMES[lost.stage], reply=lost.reply)
        task = self._current
        if task is None:
            self._report_unreachable(lost)
        elif lost.stage == Stage.MAIL and self._done and not isinstance(lost, Refusal):
            return  # the server had closed the idle connection: SessionEnded gives the task back untried
        else:
            finished = self._machine.abandon(lost.reply, is_said=isinstance(lost, Refusal))
            if finished is not None:
                self._report(task, finished, is_open=False)
            else:
                self._report_all(task, lost, is_host=False)

    def _report_unreachable(self, lost: SessionLost) -> None:
        if not self._tasks or (lost.stage > Stage.EHLO and lost.stage != Stage.AUTH):
            return
        self._report_all(self._tasks.popleft(), lost, is_host=not lost.is_ours)

    def _report_all(self, task: Deliver, lost: SessionLost, *, is_host: bool) -> None:
        """Nothing was sent, for all recipients alike."""
        reply = lost.reply
        is_said = isinstance(lost, Refusal)
        results = [_result(rcpt.idx, reply.code, lost.stage, reply, is_said=is_said) for rcpt in task.rcpts]
        for rcpt in task.rcpts:
            self._log_rcpt(task, rcpt.address, lost.stage, reply.code, reply)
        self._say(task, *results, is_host=is_host)

    def _quit(self) -> None:
        """Say QUIT; the reply matters to nobody (M1 8.6 item 3.3)."""
        if self._netfd is None:
            return
        self._machine.quit()
        try:
            self._netfd.write(self._machine.take_output(), 1.0, is_last=not self._features.reads_quit_reply)
            if self._features.reads_quit_reply:
                self._next()
        except (OSError, TimedOut, SessionLost):
            pass

    # Log

    def _log_rcpt(self, task: Deliver, address: bytes, stage: int, code: int, reply: Reply) -> None:
        self._log(ss_ta=task.ta, mail=addr.bracketed(task.mail), rcpt=addr.bracketed(address),
                  where=Stage.NAMES[stage], addr=self._hop.ip, size=task.size, stat=code, reply=reply)

    def _log(self, **named: object) -> None:
        if self._set.log.wants(SESSION):
            self._set.log.write(logfmt.fields(da_se=self._name, **named), SESSION)


def _result(idx: int, code: int, stage: int, reply: Reply, *, is_said: bool) -> Result:
    """One recipient's; a server's long speech is cut, since each recipient keeps a copy."""
    return Result(idx, code, stage, is_said, reply.estat, reply.text[:limits.REPLY_KEPT])


def _failure_code(answered: Answered) -> int:
    """4yz and 5yz as they are; anything that is no proper answer counts as temporary."""
    return answered.reply.code if answered.reply.code >= 400 else 451


def _shown(hop: Hop) -> str:
    return f"{hop.name}[{hop.ip}]" if hop.name else hop.ip or "local mailer"
