"""What one session's calls have said so far: kept by the caller, filled by the session's methods."""
from dataclasses import dataclass, field
from typing import Final

from meta1g.mta.reply import Reply
from meta1g.pmilter.errors import PolicyError
from meta1g.proto.pmilter import numbers
from meta1g.proto.pmilter.messages import Change
from meta1g.proto.pmilter.numbers import Pmm

_OF_TRANSACTION: Final = (Pmm.MAIL_TAID, Pmm.DOT_MSGID, Pmm.HOPS, Pmm.AUTH_AUTHOR)


@dataclass(slots=True)
class Turn:
    """`call` is the method that is running, `reply` what it has set; the rest is about the transaction."""

    call: str = ""
    reply: bytes = b""
    symbols: dict[Pmm, str] = field(default_factory=dict)
    status: Reply | None = None  # in rcpt
    index: int | None = None
    changes: list[Change] = field(default_factory=list)
    deleted: set[int] = field(default_factory=set)  # indexes of recipients
    added: int = 0
    octets: int = 0

    def change(self, change: Change) -> None:
        """One change more; PolicyError if there are too many."""
        self.octets += sum(len(part) for part in change if isinstance(part, bytes))
        if len(self.changes) == numbers.CHANGES_MAX or self.octets > numbers.CHANGES_OCTETS:
            raise PolicyError("too many changes of one message")
        self.changes.append(change)

    def forget(self) -> None:
        """Changes of an earlier transaction."""
        self.changes, self.deleted, self.added, self.octets = [], set(), 0, 0

    def end_transaction(self) -> None:
        """Symbols that were the transaction's have not come yet."""
        for symbol in _OF_TRANSACTION:
            self.symbols.pop(symbol, None)
        self.forget()
