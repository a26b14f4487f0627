"""A complete message before its filters: each sees what the one before it has left, and may change it.

Rules
    The message lies where it was stored; what filters change is noted, and it is written anew only when all have seen
    it. That is signed and put on stable storage like any other; until then the client has no answer (design 5).
    The header is in memory, a body never beyond what `Incoming` keeps there.
    A change that can't be made is left out, with a warning; without another message in its place it is not accepted.

Diagnostics
    milter=NAME, change=...: what a filter has changed. status=change refused: which change of it makes no sense.
"""
from collections.abc import Iterator, Sequence
from typing import Final

from meta1g.mta import addr, logfmt
from meta1g.mta.errors import StoreError
from meta1g.mta.reply import Reply
from meta1g.proc.log import DETAIL
from meta1g.proto.msg_ss import Rcpt
from meta1g.proto.smtp.command import parse_params
from meta1g.proto.smtp.data import stuff, unstuff, unstuffed
from meta1g.proto.smtp.params import Params, mail_params, rcpt_params
from meta1g.smtps.filter import (
    Act,
    AddRcpt,
    Change,
    ChangeField,
    ChangeSender,
    DeleteRcpt,
    InsertField,
    Quarantine,
    ReplaceBody,
    ReplaceField,
    ReplaceMessage,
    Spool,
)
from meta1g.smtps.filters import Filters, Seat
from meta1g.smtps.header import Header
from meta1g.smtps.spool import GROWTH, ContentSpool
from meta1g.smtps.trace import HeaderScanner
from meta1g.smtps.transaction import Transaction
from meta1g.smtps.visit import Visit

_PIECE: Final = 64 * 1024  # octets of a body that filters get at once, or more
_RCPTS_MAX: Final = 10_000  # of a transaction to which filters add


class Review:
    """One message on its way through the filters."""

    def __init__(self, visit: Visit, ta: Transaction, filters: Filters) -> None:
        self._visit, self._ta, self._filters = visit, ta, filters
        self._begin(ta.header, has_end=ta.body_at > len(ta.header))
        self._stored, self._stored_at = ta.stored_body()
        self._spools: list[ContentSpool] = []
        self._body: ContentSpool | None = None  # in place of what was stored
        self._body_at = 0  # there
        self._is_changed = False
        filters.new_spool = self._new_spool

    def _begin(self, header: bytes, *, has_end: bool) -> None:
        """A header in wire form, and whether an empty line was behind it."""
        self._header = Header(self._ta.received, unstuff(header))
        rest = self._header.rest
        self._lead = stuff(rest) + b"\r\n" * has_end if rest else b""

    def run(self) -> Reply | None:
        """Ask all; the reply if the message is refused. StoreError if the disk refuses."""
        try:
            for seat in self._filters.active:
                refusal = self._pass(seat)
                if refusal is not None:
                    return refusal
            if self._is_changed and not self._filters.discards:
                setting = self._visit.set
                self._ta.rewrite(setting.store, setting.signing, self._header.parts, self._rest())
            return None
        finally:
            self._filters.end_message()
            for spool in self._spools:
                spool.abort()

    def _pass(self, seat: Seat) -> Reply | None:
        own, filters = seat.filter, self._filters
        answer = own.on_header(self._header.fields)
        for piece in self._pieces() if answer.act is Act.GO_ON else ():
            answer = own.on_body(piece)
            if answer.act is not Act.GO_ON:
                break
        changes: Sequence[Change] = ()
        if answer.act not in (Act.GO_ON, Act.SKIP):
            return filters.take(seat, "content", answer)
        answer, changes = own.on_end()
        refusal = filters.on_end(seat, answer)
        if refusal is None and not filters.discards:
            for change in changes:
                self._apply(seat, change)
        return refusal

    def _pieces(self) -> Iterator[bytes]:
        """The body as filters see it, in pieces that are not small, since each may be an answer to wait for."""
        held: list[bytes] = []
        size = 0
        for piece in unstuffed(self._rest()):
            held.append(piece)
            size += len(piece)
            if size >= _PIECE:
                yield b"".join(held)
                held, size = [], 0
        if size:
            yield b"".join(held)

    def _rest(self) -> Iterator[bytes]:
        """The body in wire form."""
        if self._lead:
            yield self._lead
        if self._body is not None:
            yield from self._body.read(self._body_at)
        else:
            yield from self._stored.read(self._stored_at)

    def _new_spool(self) -> ContentSpool:
        spool = ContentSpool(self._visit.set.store, self._ta.ta, f".{len(self._spools)}",
                             self._visit.set.options.size_max + GROWTH)
        self._spools.append(spool)
        return spool

    def _apply(self, seat: Seat, change: Change) -> None:
        log, name = self._visit.set.log, seat.server.name
        try:
            self._make(change)
        except ValueError as error:
            if isinstance(change, ReplaceMessage):  # it must not go as it was
                raise StoreError("replace", name, str(error)) from None
            log.warning(logfmt.fields(func="smtps", ss_ta=self._ta.ta, milter=name, change=_described(change),
                                      status="change refused", reason=error))
            return
        self._visit.set.counts.filtered(name, "changes")
        if log.wants(DETAIL):
            log.write(logfmt.fields(ss_se=self._visit.se, ss_ta=self._ta.ta, milter=name,
                                    change=_described(change)), DETAIL)

    def _make(self, change: Change) -> None:
        match change:
            case ChangeSender():
                self._change_sender(change)
            case AddRcpt():
                self._add_rcpt(change)
            case DeleteRcpt():
                self._delete_rcpt(change)
            case Quarantine():
                self._filters.quarantine = self._filters.quarantine or change.reason or "wanted by a filter"
            case InsertField() | ChangeField() | ReplaceField():
                self._header.apply(change)
                self._is_changed = True
            case ReplaceBody():
                spool = _finished(change.spool)
                self._body, self._body_at, self._is_changed, self._lead = spool, 0, True, b""
            case ReplaceMessage():
                self._replace_message(change.spool)

    def _replace_message(self, given: Spool) -> None:
        spool = _finished(given)
        scanner = HeaderScanner()
        for piece in spool.read(0):
            scanner.feed(piece)
            if scanner.is_over:
                break
        if scanner.is_too_large:
            raise ValueError("the header is too large")
        self._body, self._body_at, self._is_changed = spool, scanner.body_at, True
        self._begin(scanner.header, has_end=scanner.is_over)

    def _change_sender(self, change: ChangeSender) -> None:
        ta = self._ta
        address = _mailbox(change.address, is_utf8=ta.params.is_utf8) if change.address else b""
        if change.params:
            said = mail_params(_words(change.params), self._visit.offers, self._visit.set.options.size_max)
            if isinstance(said, Reply):
                raise ValueError(said.text)
            ta.params = ta.params._replace(onward=said.onward)
        ta.mail = address

    def _add_rcpt(self, change: AddRcpt) -> None:
        ta = self._ta
        if len(ta.rcpts) >= _RCPTS_MAX:
            raise ValueError("too many recipients")
        is_utf8 = ta.params.is_utf8
        address = change.address
        address = address if address.lower() == b"postmaster" else _mailbox(address, is_utf8=is_utf8)
        params = rcpt_params(_words(change.params), self._visit.offers, is_utf8=is_utf8)
        if isinstance(params, Reply):
            raise ValueError(params.text)
        ta.rcpts.append(Rcpt(max([rcpt.idx for rcpt in ta.rcpts], default=-1) + 1, self._visit.qualified(address),
                             params))

    def _delete_rcpt(self, change: DeleteRcpt) -> None:
        ta = self._ta
        gone = self._visit.qualified(change.address).lower()
        left = [rcpt for rcpt in ta.rcpts if rcpt.address.lower() != gone or change.idx not in (None, rcpt.idx)]
        if len(left) == len(ta.rcpts):
            raise ValueError("there is no such recipient")
        ta.rcpts = left


def _finished(spool: Spool) -> ContentSpool:
    assert isinstance(spool, ContentSpool)
    spool.finish()
    return spool


def _words(text: bytes) -> Params:
    found = parse_params(text.split())
    if isinstance(found, Reply):
        raise ValueError(found.text)
    return found


def _mailbox(address: bytes, *, is_utf8: bool) -> bytes:
    found = addr.parse_mailbox(address, utf8=is_utf8)
    if found is None:
        raise ValueError("not a mail address")
    return found


def _described(change: Change) -> str:
    match change:
        case ChangeSender() | AddRcpt() | DeleteRcpt():
            return f"{type(change).__name__} {addr.bracketed(change.address).decode('utf-8', 'replace')}"
        case InsertField() | ReplaceField():
            return f"{type(change).__name__} {change.octets[:60].partition(b':')[0].decode('ascii', 'replace')}"
        case ChangeField():
            return f"{type(change).__name__} {change.name[:60].decode('ascii', 'replace')} {change.nth}"
        case _:
            return type(change).__name__
