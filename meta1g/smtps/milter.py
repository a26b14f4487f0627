"""Sendmail's milter, as a filter of sessions (proto/milter).

Rules
    Packets that are not answered wait for one that is, so that a message is a few writes.
    The content goes in one piece, of a large body up to the second part of it, and then the answers are read: all is
    there when filters see it. If one of them ends that, before the last, nobody knows what libmilter makes of the
    rest: the connection is given up, and the session's next transaction begins on another one.
    When it can't be asked, or answers what makes no sense, `default_action` counts for the rest of the session.
    What it changes without having asked for the right is done all the same, as sendmail does.
"""
from collections.abc import Sequence
from typing import Final

from meta1g.mta import addr
from meta1g.mta.errors import RemoteProtocolError, StoreError
from meta1g.mta.reply import Reply
from meta1g.proto.dkim.fields import Field
from meta1g.proto.milter import dialog, replies
from meta1g.proto.milter.dialog import Dialog, Peer, Step
from meta1g.proto.milter.replies import Code, Verb
from meta1g.proto.milter.wire import Actions
from meta1g.smtps.filter import (
    GO_ON,
    Act,
    AddRcpt,
    Answer,
    Change,
    ChangeField,
    ChangeSender,
    DeleteRcpt,
    Facts,
    Filter,
    InsertField,
    Quarantine,
    ReplaceBody,
    Spool,
)
from meta1g.smtps.milter_host import LONGEST, Away, Line, MilterHost
from meta1g.st.sched import TimedOut, now

_WRITE: Final = 64 * 1024  # octets that wait for more
_CHANGES_OCTETS: Final = 2 << 20  # of all changes of a message, bodies not counted: twice the largest header
_CHANGE: Final = 200  # of each besides its strings: so there are no more than 10,000
_ACTS: Final = {
    Verb.ACCEPT: Act.ACCEPT, Verb.CONTINUE: Act.GO_ON, Verb.DISCARD: Act.DISCARD, Verb.REJECT: Act.REJECT,
    Verb.SHUTDOWN: Act.CLOSE, Verb.SKIP: Act.SKIP, Verb.TEMPFAIL: Act.TEMPFAIL,
}
# Macros by the names that the session has for what they say.
_MACROS: Final = {
    "j": "hostname", "i": "transaction_id", "v": "version", "if_name": "hostname", "if_addr": "daemon_addr",
    "client_addr": "client_ip", "client_port": "client_port",
    "verify": "tls_verify", "msg_id": "message_id", "nrcpts": "transaction_rcpts_ok",
    **{name: name for name in (
        "daemon_name", "daemon_addr", "daemon_port", "tls_version", "cipher", "cipher_bits", "alg_bits", "cert_subject",
        "cert_issuer", "cn_subject", "cn_issuer", "auth_type", "auth_authen", "auth_author")},
}
_RESOLVED: Final = {b"ok": b"OK", b"no": b"FAIL", b"tempptr": b"TEMP", b"tempa": b"TEMP"}  # as sendmail calls it
_RIGHTS: Final[dict[type, int]] = {
    replies.AddHeader: Actions.ADD_HEADERS, replies.InsertHeader: Actions.ADD_HEADERS | Actions.CHANGE_HEADERS,
    replies.ChangeHeader: Actions.CHANGE_HEADERS, replies.ReplaceBody: Actions.CHANGE_BODY,
    replies.AddRcpt: Actions.ADD_RCPT | Actions.ADD_RCPT_PARAMS, replies.DeleteRcpt: Actions.DELETE_RCPT,
    replies.ChangeFrom: Actions.CHANGE_FROM, replies.Quarantine: Actions.QUARANTINE,
}


class Milter:
    """The filters of one section `milter`."""

    def __init__(self, host: MilterHost) -> None:
        self._host = host

    @property
    def name(self) -> str:
        """As the log and the statistics call it."""
        return self._host.name

    @property
    def wants_refused(self) -> bool:
        """Whether it is told of recipients that were refused."""
        return self._host.wants_refused

    def begin(self, facts: Facts) -> Filter:
        """A filter for one session."""
        return MilterFilter(self._host, facts)


class MilterFilter:
    """One session at one milter."""

    def __init__(self, host: MilterHost, facts: Facts) -> None:
        self._host, self._facts = host, facts
        self._line: Line | None = None
        self._dialog: Dialog | None = None
        self._waiting: list[bytes] = []  # to be sent
        self._waiting_size = 0
        self._is_between = True  # nothing is outstanding
        self._has_answered = False
        self._is_at_end = False  # of a message that it lets go on: only there libmilter lets another session follow
        self._has_begun = False  # it knows of a transaction
        self._has_rcpts = False  # of that
        self._owed = 0  # answers that it has not read
        self._has_body = False  # some of it was sent
        self._is_lost = False  # its connection was given up
        self._fallback: Answer | None = None
        self._said: dict[str, bytes] = {}  # macros of this transaction
        self._helo = b""

    # What the session says

    def on_connect(self) -> Answer:
        """A client is there."""
        try:
            return self._introduce()
        except Away as error:
            return self._fail(error)

    def _introduce(self) -> Answer:
        """Begin the session on a connection: one that an earlier session has left, if it has not ended. Away."""
        self._open()
        step = self._steps.connect(self._peer())
        if self._used.is_used and step.is_answered:
            try:
                self._waiting.append(step.octets)
                return self._exchange(self._host.timeouts.connect)
            except (OSError, TimedOut, RemoteProtocolError) as error:
                self._used.close()
                self._host.drop_idle(error)
                self._is_between = True
                self._open()
        answer = self._ask(step)
        if self._fallback is None and step.is_answered:
            self._host.is_there()
        return answer

    def on_helo(self, name: bytes) -> Answer:
        """HELO or EHLO."""
        self._helo = name
        if self._is_lost:
            return GO_ON  # it hears of it with the next MAIL
        return self._fallback or self._ask(self._steps.helo(name))

    def on_mail(self, address: bytes, params: Sequence[bytes]) -> Answer:
        """A transaction begins."""
        if self._fallback is not None:
            return self._fallback
        domain = addr.split(address)[1]
        self._said = {"mail_addr": address, "mail_host": domain, "mail_mailer": b"esmtp"}
        if self._is_lost:
            answer = self._begin_again()
            if answer.act is not Act.GO_ON:
                return answer
        self._has_begun, self._has_rcpts = True, False
        return self._ask(self._steps.mail(address, params))

    def _begin_again(self) -> Answer:
        """The session on another connection; what it says to that is its answer to MAIL, and to the next one."""
        self._is_lost = False
        try:
            answer = self._introduce()
        except Away as error:
            return self._fail(error)
        if answer.act is Act.GO_ON and self._helo:
            answer = self._ask(self._steps.helo(self._helo))
        if answer.act is not Act.GO_ON and self._fallback is None:
            self._give_up()
        return self._fallback or answer

    def on_rcpt(self, address: bytes, params: Sequence[bytes], index: int, refused: Reply | None) -> Answer:
        """A recipient, or one that was refused."""
        if self._fallback is not None:
            return self._fallback
        if refused is not None:
            about = b"error", refused.estat.encode(), refused.text.replace("\n", " ").encode("utf-8", "replace")
        else:
            about = b"esmtp", addr.split(address)[1], address
        self._said["rcpt_mailer"], self._said["rcpt_host"], self._said["rcpt_addr"] = about
        self._has_rcpts = True
        return self._ask(self._steps.rcpt(address, params))

    def on_data(self) -> Answer:
        """DATA."""
        return self._fallback or self._ask(self._steps.data())

    def on_unknown(self, line: bytes) -> Answer:
        """A command that nobody knows."""
        if self._fallback is not None or self._is_lost:
            return GO_ON
        return self._ask(self._steps.unknown(line, has_rcpts=self._has_begun and self._has_rcpts))

    def on_header(self, fields: Sequence[Field]) -> Answer:
        """The header, field by field."""
        if self._fallback is not None:
            return self._fallback
        steps, self._has_body = self._steps, False
        for field in fields:
            name, _, value = field.octets.partition(b":")
            answer = self._part(steps.header(name.rstrip(b" \t"), value[:-2]))
            if answer.act not in (Act.GO_ON, Act.SKIP):
                return answer
        return self._part(steps.end_of_header())

    def on_body(self, octets: bytes) -> Answer:
        """A piece of the body."""
        if self._fallback is not None:
            return self._fallback
        for step in self._steps.body(octets):
            answer = self._settle() if self._has_body and self._owed else GO_ON  # it may want no more
            if answer.act is Act.GO_ON:
                self._has_body = True
                answer = self._part(step)
            if answer.act is not Act.GO_ON:
                return answer
        return GO_ON

    def _part(self, step: Step) -> Answer:
        """A part of the content; its answer may be read later."""
        if not self._host.pipelines:
            return self._ask(step, self._host.timeouts.content)
        if step.octets:
            self._waiting.append(step.octets)
            self._waiting_size += len(step.octets)
            self._owed += step.is_answered
        return self._settle() if self._waiting_size > _WRITE else GO_ON

    def _settle(self) -> Answer:
        """Send what waits, and read what is owed."""
        try:
            self._flush(self._host.timeouts.content)
            return self._read_owed()
        except (OSError, TimedOut, RemoteProtocolError) as error:
            return self._fail(error)

    def _read_owed(self, *, more: int = 0) -> Answer:
        """The answers that are owed, before `more` that follow: the first that ends the content, else SKIP or GO_ON.

        OSError, TimedOut, RemoteProtocolError.
        """
        found, until = GO_ON, now() + LONGEST
        while self._owed:
            self._is_between = False
            said = _verdict(self._used.answer(self._host.timeouts.content, until))
            self._owed -= 1
            if said.act is Act.SKIP:
                found = said
            elif said.act is not Act.GO_ON:
                if self._owed or more:
                    self._give_up()
                self._is_between = True
                return said
            self._is_between = self._has_answered = True
        return found

    def _give_up(self) -> None:
        """Answers are outstanding, or not: the connection is of no use any more."""
        self._used.close()
        self._waiting.clear()
        self._waiting_size = 0
        self._line, self._owed, self._is_lost = None, 0, True

    def on_end(self) -> tuple[Answer, Sequence[Change]]:
        """The message is complete. StoreError if a new body can't be stored."""
        if self._fallback is not None:
            return self._fallback, ()
        self._has_begun = False
        changes: list[Change] = []
        try:
            answer = self._conclude(changes)
        except (OSError, TimedOut, RemoteProtocolError, ValueError) as error:
            return self._fail(error), ()
        except StoreError:
            self._drop(Answer(Act.TEMPFAIL))  # what it still says can't be told from later answers
            raise
        self._host.succeeded()
        return answer, changes

    def on_abort(self) -> None:
        """The transaction will not be completed."""
        if not self._has_begun or self._fallback is not None or not self._is_between or self._is_lost:
            return
        self._has_begun = False
        if self._owed:  # the content was broken off: what it still says to that is no answer to the next transaction
            self._give_up()
        else:
            self._ask(Step(dialog.ABORT, is_answered=False), is_urgent=True)

    def on_close(self) -> None:
        """The session is over."""
        line, self._line = self._line, None
        if line is None:
            return
        if not self._is_between:
            line.close()
            return
        if self._has_answered:
            self._host.succeeded()
        if self._is_at_end and not self._waiting:
            self._host.give_back(line)
        else:
            line.close(b"".join([*self._waiting, dialog.QUIT]))

    # What the milter says

    def _open(self) -> None:
        self._line = self._host.line()
        self._dialog = self._line.dialog
        self._dialog.value = self._macro

    @property
    def _used(self) -> Line:
        assert self._line is not None
        return self._line

    @property
    def _steps(self) -> Dialog:
        assert self._dialog is not None
        return self._dialog

    def _ask(self, step: Step, timeout: float | None = None, *, is_urgent: bool = False) -> Answer:
        """What it answers to a step; what needs no answer may wait."""
        if step.octets:
            self._waiting.append(step.octets)
            self._waiting_size += len(step.octets)
        is_enough = is_urgent or self._waiting_size > _WRITE
        if not step.octets or not (step.is_answered or is_enough):
            return GO_ON
        if timeout is None:
            timeout = self._host.timeouts.command
        try:
            if step.is_answered:
                return self._exchange(timeout)
            self._flush(timeout)
            return GO_ON
        except (OSError, TimedOut, RemoteProtocolError) as error:
            return self._fail(error)

    def _exchange(self, timeout: float) -> Answer:
        self._flush(timeout)
        self._is_between = False
        said = self._used.answer(timeout, now() + LONGEST)
        self._is_between = self._has_answered = True
        return _verdict(said)

    def _flush(self, timeout: float) -> None:
        octets = b"".join(self._waiting)
        self._waiting.clear()
        self._waiting_size = 0
        self._is_between = self._is_at_end = False
        self._used.write(octets, timeout)
        self._is_between = True

    def _conclude(self, changes: list[Change]) -> Answer:
        """What it says to the end of a message: first what it changes."""
        step, timeout = self._steps.end(), self._host.timeouts.content
        self._waiting.append(step.octets)
        self._flush(timeout)
        earlier = self._read_owed(more=1)
        if earlier.act not in (Act.GO_ON, Act.SKIP):
            return earlier
        self._is_between = False
        line, until = self._used, now() + LONGEST
        size, body = 0, None
        while size <= _CHANGES_OCTETS:
            said = line.answer(timeout, until)
            if isinstance(said, Verb | Code):
                self._is_between, self._is_at_end = True, said is Verb.CONTINUE
                return _verdict(said)
            if not line.options.actions & _RIGHTS[type(said)]:
                self._host.lied(type(said).__name__)
            size += _CHANGE
            if isinstance(said, replies.ReplaceBody):  # all pieces are one body; the spool bounds it
                body = self._append(body, said.octets, changes)
                size -= _CHANGE if said.octets else 0  # pieces of nothing have no other bound
                continue
            size += sum(len(part) for part in said if isinstance(part, bytes | str))
            changes.append(self._change(said))
        raise RemoteProtocolError("changes without an end")

    def _append(self, spool: Spool | None, octets: bytes, changes: list[Change]) -> Spool:
        if spool is None:
            spool = self._facts.spool()
            changes.append(ReplaceBody(spool))
        spool.append(octets)
        return spool

    def _change(self, said: replies.Edit) -> Change:
        field = self._steps.field
        match said:
            case replies.AddRcpt():
                return AddRcpt(said.address, said.params)
            case replies.DeleteRcpt():
                return DeleteRcpt(said.address)
            case replies.ChangeFrom():
                return ChangeSender(said.address, said.params)
            case replies.AddHeader():
                return InsertField(None, field(said.name, said.value))
            case replies.InsertHeader():
                return InsertField(said.position, field(said.name, said.value))
            case replies.ChangeHeader():
                return ChangeField(said.name, said.nth, field(said.name, said.value) if said.value else b"")
            case replies.Quarantine():
                return Quarantine(said.reason)

    def _fail(self, error: Exception) -> Answer:
        """It can't be asked any more in this session."""
        if not isinstance(error, Away):  # which the host knows
            self._host.failed(error)
        answer = self._host.default
        if answer.act is Act.QUARANTINE:
            answer = answer._replace(reply=Reply(250, "", f"milter {self._host.name} is away"))
        return self._drop(answer)

    def _drop(self, answer: Answer) -> Answer:
        """Its answer for the rest of the session."""
        line, self._line, self._owed = self._line, None, 0
        if line is not None:
            line.close()
        self._fallback = answer
        return answer

    # What it may know

    def _peer(self) -> Peer:
        symbol = self._facts.symbol
        ip = symbol("client_ip")
        name = self._macro("client_name")
        if ip == b"local":
            return Peer(b"localhost", b"L", 0, b"")
        port = int(symbol("client_port") or b"0")
        return Peer(name, b"6" if b":" in ip else b"4", port, ip)

    def _macro(self, name: str) -> bytes:
        """A macro's value, by its name without braces."""
        symbol = self._facts.symbol
        known = _MACROS.get(name)
        if known is not None:
            return symbol(known)
        if name in ("client_name", "client_ptr", "_"):
            ip, host = symbol("client_ip"), symbol("client_name")
            literal = b"[" + ip + b"]"
            if name == "_":
                return host + b" " + literal if host else literal
            return host or literal
        if name == "client_resolve":
            return _RESOLVED.get(symbol("client_resolve"), b"")
        if name == "s":
            return self._helo
        return self._said.get(name, b"")


def _verdict(said: replies.Answer) -> Answer:
    """An answer that ends a step. RemoteProtocolError if it is none, or if it says that all is lost."""
    if isinstance(said, Code):
        code = said.reply.code
        return Answer(Act.CLOSE if code == 421 else Act.TEMPFAIL if code < 500 else Act.REJECT, said.reply)
    if not isinstance(said, Verb) or said not in _ACTS:
        raise RemoteProtocolError(f"{said.name if isinstance(said, Verb) else type(said).__name__} out of place")
    return _PLAIN[said]


_PLAIN: Final = {verb: Answer(act) for verb, act in _ACTS.items()}
