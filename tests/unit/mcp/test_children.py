"""MCP's machine: classes of exits, limits, pauses, dependencies, order of stopping (M1 3.7, 4.1)."""
import os

import pytest

from meta1g.mcp.children import (
    LEAVE_TIMEOUT,
    LIMITS,
    STOP_TIMEOUT,
    Child,
    Children,
    Exit,
    Leave,
    Note,
    Signal,
    Start,
    State,
    classify,
)


@pytest.mark.parametrize(("status", "kind"), [
    (0, Exit.OK), (os.EX_USAGE, Exit.FATAL), (os.EX_CONFIG, Exit.FATAL), (os.EX_NOPERM, Exit.FATAL), (127, Exit.FATAL),
    (os.EX_UNAVAILABLE, Exit.HARD), (1, Exit.HARD), (os.EX_SOFTWARE, Exit.HARD),
    (os.EX_TEMPFAIL, Exit.SOFT), (os.EX_OSERR, Exit.SOFT), (-9, Exit.KILLED), (-15, Exit.KILLED),
])
def test_classes(status: int, kind: Exit) -> None:
    assert classify(status) is kind


def running(*children: Child) -> Children:
    """A family that runs, with pids 1, 2, ..."""
    family = Children(list(children))
    family.start_all(0.0)
    for pid, action in enumerate(family.due(0.0), 1):
        assert isinstance(action, Start)
        family.started(action.child, pid, 0.0)
        family.ready(action.child, 0.0)
    return family


def end(family: Children, child: Child, status: int, now: float) -> float | None:
    """One end and, if it comes, the next start; when that was due."""
    family.ended(child, status, now)
    due = child.start_at
    if due is not None:
        assert [a.child for a in family.due(due) if isinstance(a, Start)] == [child]
        family.started(child, int(now * 10) + 1000, due)
    return due


@pytest.mark.parametrize(("status", "kind"), [(1, Exit.HARD), (75, Exit.SOFT), (0, Exit.OK), (-9, Exit.KILLED)])
def test_too_often_is_given_up(status: int, kind: Exit) -> None:
    child = Child("x", 0)
    family = running(child)
    for count in range(LIMITS[kind].most):
        assert end(family, child, status, 0.01 * count) is not None, count
    assert end(family, child, status, 0.9) is None
    assert child.state is State.FAILED
    assert child.restarts == LIMITS[kind].most


def test_fatal_is_never_restarted() -> None:
    child = Child("x", 0)
    family = running(child)
    notes = family.ended(child, os.EX_CONFIG, 1.0)
    assert child.state is State.FAILED
    assert any(isinstance(note, Note) and note.is_error and "given up" in note.text for note in notes)


def test_old_ends_are_forgotten() -> None:
    child = Child("x", 0)
    family = running(child)
    for count in range(50):
        assert end(family, child, 1, count * 200.0) is not None


def test_failure_max_overrides() -> None:
    once, ever = Child("x", 0, failure_max=1), Child("y", 0, failure_max=0)
    family = running(once, ever)
    assert end(family, once, 1, 1.0) is not None
    assert end(family, once, 1, 2.0) is None
    for count in range(200):
        assert end(family, ever, 1, 1.0 + count * 0.01) is not None


def test_pause_grows_with_failures_in_a_row_and_is_forgotten() -> None:
    child = Child("x", 0, failure_max=0)
    family = running(child)
    now, pauses = 0.0, []
    for _ in range(12):
        now += 0.1
        due = end(family, child, 1, now)
        assert due is not None
        pauses.append(round(due - now, 3))
        now = due
    assert pauses[:5] == [0.0, 0.1, 0.2, 0.4, 0.8]
    assert pauses[-1] == 10.0
    assert end(family, child, 1, now + 100.0) == now + 100.0


def test_dependencies_are_stopped_and_started_but_it_does_not_spread() -> None:
    qmgr = Child("qmgr", 0, ("smtps", "smar"), keyword="qmgr")
    smar = Child("smar", 0, ("qmgr",), keyword="smar")
    mta = Child("MTA", 0, keyword="smtps")
    other = Child("lda", 0, keyword="lda")
    family = running(qmgr, smar, mta, other)
    stopped = [a.child.label for a in family.ended(qmgr, -9, 1.0) if isinstance(a, Signal)]
    assert stopped == ["smar", "MTA"]
    assert not [a for a in family.ended(smar, 0, 1.1) if isinstance(a, Signal)]
    assert smar.start_at == 1.1
    family.ended(mta, -15, 1.2)
    assert {a.child.label for a in family.due(2.0) if isinstance(a, Start)} == {"qmgr", "smar", "MTA"}
    assert other.pid


def test_stop_goes_backwards_one_by_one_and_kills_who_stays() -> None:
    first, second = Child("a", 0), Child("b", 0)
    family = running(first, second)
    assert family.stop_next(0.0) == [Signal(second, False)]
    assert family.stop_next(1.0) == []
    assert family.due(STOP_TIMEOUT) == [Signal(second, True)]
    family.ended(second, -9, STOP_TIMEOUT + 1)
    assert family.stop_next(100.0) == [Signal(first, False)]
    assert not family.is_down
    family.ended(first, 0, 101.0)
    assert family.is_down
    assert family.stop_next(102.0) == []
    assert family.next_time() is None
    assert family.due(1000.0) == []


def test_what_can_not_be_started_counts_as_a_failure() -> None:
    child = Child("x", 0)
    family = Children([child])
    family.start_all(0.0)
    family.due(0.0)
    notes = family.not_started(child, "No such file", 0.0)
    assert "No such file" in str(notes[0])
    assert child.start_at is not None
    assert family.by_pid(0) is None
    assert family.by_pid(5) is None
    family.started(child, 5, 1.0)
    assert family.by_pid(5) is child
    assert child.state is State.STARTED


def test_changed_service_starts_again_whatever_it_was_doing() -> None:
    runs, pauses, given_up, idle = (Child(name, 0) for name in "abcd")
    family = running(runs, pauses, given_up, idle)
    family.ended(pauses, 1, 1.0)
    family.ended(given_up, os.EX_USAGE, 1.0)
    idle.state, idle.pid = State.IDLE, 0
    assert family.restart(runs, 2.0) == [Signal(runs, False)]
    assert family.restart(runs, 2.0) == []  # it is stopping already
    for child in (pauses, given_up, idle):
        assert family.restart(child, 2.0) == []
    assert (pauses.start_at, given_up.start_at, idle.start_at) == (2.0, 2.0, None)
    assert given_up.state is State.DOWN
    family.ended(runs, 0, 3.0)
    assert runs.start_at == 3.0


def test_service_that_is_no_longer_configured_ends_for_good() -> None:
    runs, given_up = Child("a", 0), Child("b", 0)
    family = running(runs, given_up)
    family.ended(given_up, os.EX_USAGE, 1.0)
    assert family.retire(given_up, 2.0) == []
    assert family.retire(runs, 2.0) == [Signal(runs, False)]
    assert family.all == [runs]
    family.ended(runs, 0, 3.0)
    assert family.all == []
    assert family.is_down


def test_service_that_dies_while_everything_stops_stays_down() -> None:
    first, second = Child("a", 0), Child("b", 0)
    family = running(first, second)
    family.stop_next(0.0)
    family.ended(first, 1, 1.0)
    assert (first.start_at, first.state) == (None, State.DOWN)


def rolling(family: Children, old: Child) -> Child:
    """The successor of `old`, started at 10.0."""
    family.roll(old, 10.0)
    fresh = family.all[1]
    family.due(10.0)
    family.started(fresh, 77, 10.0)
    return fresh


def test_rolling_over() -> None:
    """The old process serves until the new one is ready, then it leaves and is not started again."""
    old = Child("smtps", 0)
    family = running(old)
    assert family.roll(old, 10.0) == []
    fresh = family.all[1]
    assert family.due(10.0) == [Start(fresh)]
    family.started(fresh, 77, 10.0)
    assert old.state is State.READY
    assert family.ready(fresh, 11.0) == [Leave(old)]
    assert (old.state, fresh.state) == (State.LEAVING, State.READY)
    assert family.due(12.0) == []
    assert [type(action) for action in family.ended(old, 0, 20.0)] == [Note]
    assert family.all == [fresh]
    assert fresh.start_at is None


def test_old_process_stays_if_the_new_one_does_not_come_up() -> None:
    old = Child("smtps", 0)
    family = running(old)
    family.roll(old, 10.0)
    fresh = family.all[1]
    family.started(fresh, 77, 10.0)
    family.ended(fresh, 78, 10.1)
    assert family.all == [old]
    assert old.state is State.READY
    family.roll(old, 20.0)
    again = family.all[1]
    family.due(20.0)
    family.started(again, 78, 20.0)
    assert family.roll(old, 21.0)[0] == Signal(old, False)  # a second reload meanwhile: no time for manners


def test_who_does_not_leave_is_killed() -> None:
    old = Child("smtps", 0)
    family = running(old)
    fresh = rolling(family, old)
    family.ready(fresh, 10.0)
    assert family.due(10.0 + LEAVE_TIMEOUT) == [Signal(old, True)]
    assert family.next_time() == 10.0 + LEAVE_TIMEOUT + STOP_TIMEOUT


def test_successor_of_who_died_meanwhile() -> None:
    old = Child("smtps", 0)
    family = running(old)
    fresh = rolling(family, old)
    family.ended(old, -9, 10.1)
    assert family.ready(fresh, 11.0) == []
    assert family.all == [fresh]
