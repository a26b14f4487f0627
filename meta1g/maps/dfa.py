"""Whether an automaton matches a key somewhere, in time that its length bounds; no I/O: pure.

Rules
    All states that the automaton may be in are one set; an octet leads from a set to the
    next. Sets and the ways between them are made when they are first needed and kept, up to
    a limit, beyond which all are forgotten: a key chosen to make many costs time, not memory.
    A key of n octets costs n steps, each at most as long as the automaton is large.
    Any thread may ask.
"""
from typing import Final

from meta1g.mta.posix import WORD, Automaton, Condition

CELLS_MAX: Final = 10_000  # states in sets and ways between sets that are kept: 2 MB; usual regexes need hundreds
_END: Final = -1  # in place of an octet: the key ends
_START, _WORD, _OTHER = range(3)  # what came before


class _Set:
    """States that the automaton may be in before it goes on without an octet; `after` is by octet."""

    __slots__ = ("after", "before", "states")

    def __init__(self, states: tuple[int, ...], before: int) -> None:
        self.states = states
        self.before = before
        self.after: dict[int, _Set] = {}


_ACCEPTED: Final = _Set((0,), _OTHER)


def _holds(condition: Condition | None, before: int, octet: int) -> bool:
    if condition is None:
        return True
    if condition is Condition.BEGIN:
        return before == _START
    if condition is Condition.END:
        return octet == _END
    left, right = before == _WORD, octet in WORD
    if condition is Condition.WORD_BEGIN:
        return right and not left
    if condition is Condition.WORD_END:
        return left and not right
    return (left is not right) is (condition is Condition.BOUNDARY)


class Matcher:
    """An automaton with the sets that have been needed so far."""

    def __init__(self, automaton: Automaton) -> None:
        self._states = automaton.states
        self._first_state = automaton.first
        self._forget()

    def _forget(self) -> None:
        self._cells = 0
        self._first = _Set((self._first_state,), _START)
        self._known: dict[tuple[tuple[int, ...], int], _Set] = {}

    def matches(self, key: bytes) -> bool:
        """Whether the automaton accepts some part of `key`."""
        now = self._first
        for octet in key:
            then = now.after.get(octet)
            if then is None:
                then = self._step(now, octet)
            if then is _ACCEPTED:
                return True
            now = then
        return (now.after.get(_END) or self._step(now, _END)) is _ACCEPTED

    def _step(self, now: _Set, octet: int) -> _Set:
        reached = self._closure(now, octet)
        if 0 in reached:
            then = _ACCEPTED
        else:
            # A match may begin behind each octet: the first state is always among those to go on with.
            targets = {self._first_state}
            for number in reached:
                state = self._states[number]
                if state.octets is not None and octet in state.octets:
                    targets.update(state.after)
            then = self._keep(tuple(sorted(targets)), _WORD if octet in WORD else _OTHER)
        now.after[octet] = then
        self._cells += 1
        return then

    def _closure(self, now: _Set, octet: int) -> set[int]:
        """What is reached without an octet when `octet` is the next one."""
        reached = set(now.states)
        todo = list(now.states)
        while todo:
            state = self._states[todo.pop()]
            if state.octets is None and _holds(state.condition, now.before, octet):
                fresh = [number for number in state.after if number not in reached]
                reached.update(fresh)
                todo += fresh
        return reached

    def _keep(self, states: tuple[int, ...], before: int) -> _Set:
        found = self._known.get((states, before))
        if found is None:
            if self._cells > CELLS_MAX:
                self._forget()
            self._cells += len(states)
            found = self._known[states, before] = _Set(states, before)
        return found
