"""What waits for one site, and whose turn it is; pure.

Rules
    Clients and senders' domains take turns, and so do the senders of one domain: a single message does
    not wait for all of a bulk mailing before it, nor one of many recipients for one of thousands.
    Mail of one sender goes in order of arrival. A batch is what can go in one transaction: recipients of one
    message with one envelope sender.
"""
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

Rcpts = list[Any]
Flow = dict["Batch", Rcpts]


class Batch(NamedTuple):
    """Whose mail it is: `group` and `flow` are those that take turns; the transaction, and the sender it will have."""

    group: tuple[str, bytes]
    flow: bytes
    ta: str
    sender: bytes


class Waiting:
    """Recipients by batch; `len` counts recipients."""

    __slots__ = ("_count", "_groups")

    def __init__(self) -> None:
        self._groups: dict[tuple[str, bytes], dict[bytes, Flow]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[tuple[Batch, Rcpts]]:
        """All batches in order of their turns."""
        for flows in self._groups.values():
            for flow in flows.values():
                yield from flow.items()

    def add(self, batch: Batch, rcpt: Any) -> None:
        """One more recipient."""
        flow = self._groups.setdefault(batch.group, {}).setdefault(batch.flow, {})
        flow.setdefault(batch, []).append(rcpt)
        self._count += 1

    def first(self, may_go: Callable[[Batch, Rcpts], bool]) -> Batch | None:
        """The batch whose turn it is among those that may go."""
        return next((batch for batch, rcpts in self if may_go(batch, rcpts)), None)

    def take(self, batch: Batch, most: int) -> Rcpts:
        """Take up to `most` recipients of a batch out; others have their turn before it is this one's again."""
        flows = self._groups.pop(batch.group)
        flow = flows.pop(batch.flow)
        rcpts = flow[batch]
        if len(rcpts) > most:
            part, flow[batch] = rcpts[:most], rcpts[most:]
        else:
            part = flow.pop(batch)
        if flow:
            flows[batch.flow] = flow
        if flows:
            self._groups[batch.group] = flows
        self._count -= len(part)
        return part

    def take_if(self, fits: Callable[[Batch, Any], bool]) -> list[tuple[Batch, Any]]:
        """Take out the recipients that fit."""
        found = []
        for batch, rcpts in list(self):
            if any(fits(batch, rcpt) for rcpt in rcpts):
                for rcpt in self.take(batch, len(rcpts)):
                    if fits(batch, rcpt):
                        found.append((batch, rcpt))
                    else:
                        self.add(batch, rcpt)
        return found

    def take_all(self) -> list[tuple[str, Any]]:
        """Take everything out: recipients with the names of their transactions."""
        found = [(batch.ta, rcpt) for batch, rcpts in self for rcpt in rcpts]
        self._groups.clear()
        self._count = 0
        return found
