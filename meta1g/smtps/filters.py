"""All filters of a session, asked in the order of the configuration, and what their answers mean together.

Rules
    The first refusal counts, and who comes behind it is not asked. Who has accepted a message hears no more of it.
    A message that is discarded, or that a filter wants to be kept back, is answered with 250.
    HELO has been answered when filters hear of it: what they refuse then is refused at MAIL, for the whole session.

Diagnostics
    milter=NAME, stage=..., action=..., stat=...: what a filter has decided, unless it lets the message pass.
"""
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from meta1g.mta.reply import Reply
from meta1g.proto.smtp import replies
from meta1g.smtps.filter import REFUSALS, Act, Answer, Filter, FilterServer, Spool
from meta1g.smtps.symbols import Symbols
from meta1g.smtps.visit import Visit

_USUAL: Final = {
    Act.REJECT: replies.FILTER_REJECT, Act.TEMPFAIL: replies.FILTER_TEMPFAIL, Act.CLOSE: replies.FILTER_CLOSE,
}


class Seat:
    """A filter with what it has said."""

    __slots__ = ("filter", "is_done", "is_out", "server", "was_told")

    def __init__(self, server: FilterServer, own: Filter) -> None:
        self.server, self.filter = server, own
        self.is_done = False  # it has no more to say about the session
        self.is_out = False  # nor about this transaction
        self.was_told = False  # of the transaction, which must be ended or aborted


class _Facts:
    """A session for its filters."""

    def __init__(self, filters: "Filters", symbols: Symbols) -> None:
        self._filters = filters
        self.symbol = symbols.get

    def spool(self) -> Spool:
        return self._filters.new_spool()


class Filters:
    """Those of one session."""

    def __init__(self, servers: Sequence[FilterServer], visit: Visit, symbols: Symbols) -> None:
        facts = _Facts(self, symbols)
        self._visit = visit
        self.seats = [Seat(server, server.begin(facts)) for server in servers]
        self._helo_refusal: Reply | None = None
        self._of_session = Answer()  # DISCARD or QUARANTINE of all that it brings
        self._ta = ""
        self.new_spool: Callable[[], Spool] = _no_spool
        self.discards = False
        self.quarantine = ""  # why this message is kept back
        self.each: tuple[Reply, ...] = ()  # PRDR's replies at the end
        self.said: Reply | None = None  # instead of the usual yes
        self.discards_rcpt = False

    def on_connect(self) -> Reply | None:
        """Why the client may not stay."""
        for seat in self.seats:
            refusal = self._take_of_session(seat, "connect", seat.filter.on_connect())
            if refusal is not None:
                return refusal
        return None

    def on_helo(self, name: bytes) -> None:
        """HELO or EHLO."""
        for seat in self.seats:
            if seat.is_done or self._helo_refusal is not None:
                continue
            self._helo_refusal = self._take_of_session(seat, "helo", seat.filter.on_helo(name))

    def on_mail(self, ta: str, address: bytes, params: Sequence[bytes]) -> Reply | None:
        """Why mail may not come from this sender."""
        self.abort()
        self.said = None
        self._ta, self.each = ta, ()
        self.discards = self._of_session.act is Act.DISCARD
        self.quarantine = _reason(self._of_session) if self._of_session.act is Act.QUARANTINE else ""
        for seat in self.seats:
            seat.is_out = seat.is_done
        refusal = self._helo_refusal
        for seat in self._active():
            if refusal is not None:
                break
            seat.was_told = True
            refusal = self._weighed(self.take(seat, "mail", answer := seat.filter.on_mail(address, params)), answer)
        if refusal is not None:
            self.abort()
        return refusal

    def on_rcpt(self, address: bytes, params: Sequence[bytes], index: int, refused: Reply | None) -> Reply | None:
        """Why mail may not go to this recipient; with `refused` it may not anyway."""
        self.said, self.discards_rcpt = None, False
        for seat in self._active():
            if refused is not None and not seat.server.wants_refused:
                continue
            answer = seat.filter.on_rcpt(address, params, index, refused)
            if refused is not None and answer.act is not Act.CLOSE:
                continue
            refusal = self.take(seat, "rcpt", answer)
            if refusal is not None:
                return refusal
        return None

    def on_data(self) -> Reply | None:
        """Why content may not come."""
        self.said = None
        return self._ask("data", lambda own: own.on_data())

    def on_unknown(self, line: bytes) -> Reply | None:
        """What an unknown command is told instead of the usual."""
        for seat in self.seats:
            if not seat.is_done:
                answer = seat.filter.on_unknown(line)
                if answer.act in REFUSALS:
                    return self.take(seat, "unknown", answer)
        return None

    def on_end(self, seat: Seat, answer: Answer) -> Reply | None:
        """What one of them has said at the end; it needs no abort any more."""
        seat.was_told = False
        self.said = None
        self.each = self.each or answer.each
        return self.take(seat, "end", answer)

    def end_message(self) -> None:
        """Its review is over: nothing can be given in its place any more."""
        self.new_spool = _no_spool

    def abort(self) -> None:
        """The transaction is over for all that have not ended it."""
        for seat in self.seats:
            if seat.was_told:
                seat.was_told = False
                seat.filter.on_abort()

    def close(self) -> None:
        """The session is over."""
        self.abort()
        for seat in self.seats:
            seat.filter.on_close()
        self.seats = []

    def take(self, seat: Seat, stage: str, answer: Answer) -> Reply | None:
        """Note what a filter has said about the transaction; the reply if it refuses."""
        match answer.act:
            case Act.GO_ON:
                self.said = answer.reply or self.said
            case Act.ACCEPT:
                self.said = answer.reply or self.said
                seat.is_out = True
            case Act.DISCARD_RCPT:
                self.discards_rcpt = True
                self._note(seat, stage, answer, None)
            case Act.DISCARD:
                self.discards = True
                self._note(seat, stage, answer, None)
            case Act.QUARANTINE:
                seat.is_out = True
                self.quarantine = self.quarantine or _reason(answer)
                self._note(seat, stage, answer, None)
            case Act.REJECT | Act.TEMPFAIL | Act.CLOSE:
                return self._refusal(seat, stage, answer)
            case _:
                pass
        return None

    def _take_of_session(self, seat: Seat, stage: str, answer: Answer) -> Reply | None:
        """The same for an answer about the session."""
        if answer.act in REFUSALS:
            return self._weighed(self._refusal(seat, stage, answer), answer, is_session=True)
        self._weighed(None, answer, is_session=True)
        if answer.act is not Act.GO_ON:
            seat.is_done = True
        if answer.act in (Act.DISCARD, Act.QUARANTINE) and self._of_session.act is not Act.DISCARD:
            self._of_session = answer
            self._note(seat, stage, answer, None)
        return None

    def _weighed(self, refusal: Reply | None, answer: Answer, *, is_session: bool = False) -> Reply | None:
        """What of a refusal takes effect now, if it counts as one of the access map."""
        if answer.is_quick is None or answer.act not in (Act.GO_ON, Act.ACCEPT, Act.REJECT, Act.TEMPFAIL):
            return refusal
        return self._visit.policy.on_filter(refusal, is_quick=answer.is_quick, is_session=is_session)

    def _refusal(self, seat: Seat, stage: str, answer: Answer) -> Reply:
        reply = answer.reply or _USUAL[answer.act]
        self._note(seat, stage, answer, reply)
        return reply

    def _note(self, seat: Seat, stage: str, answer: Answer, reply: Reply | None) -> None:
        self._visit.set.counts.filtered(seat.server.name, answer.act.value)
        self._visit.log(ta=self._ta, milter=seat.server.name, stage=stage, action=answer.act.value, stat=reply)

    def _ask(self, stage: str, question: Callable[[Filter], Answer]) -> Reply | None:
        for seat in self._active():
            refusal = self.take(seat, stage, question(seat.filter))
            if refusal is not None:
                return refusal
        return None

    def _active(self) -> Iterator[Seat]:
        """Those that have a say in the transaction, as long as it is not discarded."""
        for seat in self.seats:
            if not seat.is_out and not self.discards:
                yield seat

    @property
    def active(self) -> Iterator[Seat]:
        """Those that have a say in the message."""
        return (seat for seat in self._active() if seat.was_told)


def _reason(answer: Answer) -> str:
    return (answer.reply.text if answer.reply is not None else "") or "wanted by a filter"


def _no_spool() -> Spool:
    raise ValueError("there is no message")
