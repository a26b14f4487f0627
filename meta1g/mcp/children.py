"""Which processes run, and what to do when one ends: a pure machine (M1 3.7, 4.1, 8.2).

Rules
    An exit is fatal, hard, soft, ok or killed. Fatal: never restarted. The others are
    restarted unless they happen too often (LIMITS); each failure in a row doubles the
    pause before the next start.
    When a process is restarted after it ended, the components in its restart_dependencies
    are stopped and started too; that does not spread further.
    A process that is rolled over serves until its successor is ready; then it is told to leave: it takes
    nothing new, and has LEAVE_TIMEOUT to finish. If the successor does not get ready it stays.
"""
import os
from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NamedTuple


class Exit(Enum):
    """Classes of process ends (M1 4.1)."""

    FATAL = "fatal"
    HARD = "hard"
    SOFT = "soft"
    OK = "ok"
    KILLED = "killed"


FATAL_CODES: Final = frozenset({os.EX_USAGE, os.EX_CONFIG, os.EX_NOPERM, os.EX_NOUSER, os.EX_NOHOST, 126, 127})
SOFT_CODES: Final = frozenset({os.EX_TEMPFAIL, os.EX_IOERR, os.EX_OSERR, os.EX_PROTOCOL})


class Limit(NamedTuple):
    """At most `most` ends of this class in `seconds`."""

    most: int
    seconds: float


# The manual names the classes, not the numbers (formats.md). A kill comes from outside and says
# nothing about the program, so it is treated as patiently as an orderly end.
LIMITS: Final = {
    Exit.FATAL: Limit(0, 1.0),
    Exit.HARD: Limit(5, 600.0),
    Exit.SOFT: Limit(20, 600.0),
    Exit.OK: Limit(60, 60.0),
    Exit.KILLED: Limit(60, 60.0),
}
PAUSE_MIN: Final = 0.1  # seconds before the second start in a row
PAUSE_MAX: Final = 10.0
STEADY: Final = 30.0  # seconds of life after which a process does not count as failing in a row
LEAVE_TIMEOUT: Final = 660.0  # seconds from HUP to KILL; SMTPS lets sessions finish for 600
STOP_TIMEOUT: Final = 60.0  # seconds from TERM to KILL; SMTPS lets transactions end for 30


def classify(status: int) -> Exit:
    """The class of a wait status: negative is a signal's number, else an exit code."""
    if status < 0:
        return Exit.KILLED
    if status == 0:
        return Exit.OK
    if status in FATAL_CODES:
        return Exit.FATAL
    return Exit.SOFT if status in SOFT_CODES else Exit.HARD


class State(Enum):
    """Where a child is."""

    DOWN = "down"  # waits for its start
    STARTED = "started"
    READY = "ready"
    STOPPING = "stopping"
    LEAVING = "leaving"  # finishes what it has, while its successor works
    FAILED = "failed"  # given up
    IDLE = "idle"  # started only for each connection (nostartaccept)


@dataclass(slots=True, eq=False)
class Child:
    """One process slot: `number` tells the processes of one service apart."""

    label: str
    number: int
    dependencies: tuple[str, ...] = ()
    failure_max: int | None = None
    keyword: str = ""
    state: State = State.DOWN
    pid: int = 0
    since: float = 0.0
    start_at: float | None = None
    kill_at: float | None = None
    is_wanted: bool = True
    is_retired: bool = False  # its section has gone from the configuration, or a successor has its place
    replaces: "Child | None" = None  # whose successor it is, until it is ready
    is_stale: bool = False  # its configuration has changed, but no successor got ready
    in_a_row: int = 0
    restarts: int = 0
    last_exit: str = ""
    ends: dict[Exit, deque[float]] = field(default_factory=dict)


class Start(NamedTuple):
    """Start this child now."""

    child: Child


class Signal(NamedTuple):
    """Send TERM, or KILL, to this child."""

    child: Child
    is_kill: bool


class Leave(NamedTuple):
    """Send HUP to this child: it shall finish and end."""

    child: Child


class Note(NamedTuple):
    """Log this line; an error if so."""

    text: str
    is_error: bool = False


Action = Start | Signal | Leave | Note


class Children:
    """All slots, in the order of the configuration."""

    def __init__(self, children: list[Child]) -> None:
        self.all = children
        self.is_stopping = False

    def by_pid(self, pid: int) -> Child | None:
        """The child with this process id."""
        return next((child for child in self.all if child.pid == pid and pid), None)

    def start_all(self, now: float) -> None:
        """Want every child to run."""
        for child in self.all:
            if child.state is State.DOWN:
                child.start_at = now

    def started(self, child: Child, pid: int, now: float) -> None:
        """The process is there."""
        child.state, child.pid, child.since, child.start_at = State.STARTED, pid, now, None

    def not_started(self, child: Child, reason: str, now: float) -> list[Action]:
        """It could not be started at all: that counts as a soft failure."""
        child.pid = 0
        return [Note(f"service={child.label}, status=not started, reason={reason}", True),
                *self._ended(child, Exit.SOFT, reason, now)]

    def ready(self, child: Child, now: float) -> list[Action]:
        """The process says that it works; whom it replaces may leave."""
        if child.state is not State.STARTED:
            return []
        child.state = State.READY
        old, child.replaces = child.replaces, None
        if old is None:
            return []
        old.is_retired, old.is_wanted = True, False
        if not old.pid:
            self.all.remove(old)
            return []
        old.state, old.kill_at = State.LEAVING, now + LEAVE_TIMEOUT
        return [Leave(old)]

    def ended(self, child: Child, status: int, now: float) -> list[Action]:
        """The process has ended with this wait status (negative: a signal)."""
        kind = classify(status)
        how = f"signal={-status}" if status < 0 else f"exit={status}"
        actions: list[Action] = []
        is_asked = child.state in (State.STOPPING, State.LEAVING)
        child.pid, child.kill_at = 0, None
        if is_asked:
            child.state = State.DOWN
            child.last_exit = how
            if child.is_wanted and not self.is_stopping:
                child.start_at = now
            if child.is_retired:
                self.all.remove(child)
            return [Note(f"service={child.label}, number={child.number}, status=stopped, {how}")]
        actions.append(Note(f"service={child.label}, number={child.number}, status=ended, {how}, class={kind.value}",
                            kind is not Exit.OK))
        if child.replaces is not None:
            self.all.remove(child)
            child.replaces.is_stale = True
            actions.append(Note(f"service={child.label}, number={child.number}, status=the old process stays", True))
            return actions
        return actions + self._ended(child, kind, how, now)

    def _ended(self, child: Child, kind: Exit, how: str, now: float) -> list[Action]:
        child.last_exit = how
        if self.is_stopping or not child.is_wanted:
            child.state = State.DOWN
            return []
        limit = LIMITS[kind]
        if child.failure_max is not None and kind is not Exit.FATAL:
            limit = Limit(child.failure_max or 1 << 30, limit.seconds)
        ends = child.ends.setdefault(kind, deque())
        ends.append(now)
        while ends and ends[0] <= now - limit.seconds:
            ends.popleft()
        if len(ends) > limit.most:
            child.state = State.FAILED
            return [Note(f"service={child.label}, number={child.number}, status=given up, {how}, "
                         f"reason={len(ends)} {kind.value} ends in {int(limit.seconds)} seconds", True)]
        child.in_a_row = child.in_a_row + 1 if now - child.since < STEADY else 1
        child.state, child.restarts = State.DOWN, child.restarts + 1
        child.start_at = now + self._pause(child.in_a_row)
        return self._restart_dependants(child, now)

    @staticmethod
    def _pause(in_a_row: int) -> float:
        return 0.0 if in_a_row <= 1 else min(PAUSE_MIN * 2.0 ** (in_a_row - 2), PAUSE_MAX)

    def _restart_dependants(self, child: Child, now: float) -> list[Action]:
        actions: list[Action] = []
        for other in self.all:
            if other.pid and (other.label in child.dependencies or other.keyword in child.dependencies):
                actions += self.stop(other, now)
        return actions

    def stop(self, child: Child, now: float) -> list[Action]:
        """End this child; it starts again afterwards if it is still wanted."""
        child.start_at = None
        if not child.pid:
            child.state = State.DOWN if child.state is not State.FAILED else child.state
            return []
        if child.state is State.STOPPING:
            return []
        child.replaces = None
        child.state, child.kill_at = State.STOPPING, now + STOP_TIMEOUT
        return [Signal(child, False)]

    def restart(self, child: Child, now: float) -> list[Action]:
        """Its configuration has changed: start it again, also if it was given up or just pauses."""
        child.ends.clear()
        child.in_a_row = 0
        child.is_stale = False
        if child.pid:
            return self.stop(child, now)
        if child.state is not State.IDLE:
            child.state, child.start_at = State.DOWN, now
        return []

    def roll(self, child: Child, now: float) -> list[Action]:
        """Its configuration has changed: start a successor, and let this one go when that is ready."""
        child.is_stale = False
        if child.state is not State.READY or any(other.replaces is child for other in self.all):
            return self.restart(child, now)
        fresh = Child(child.label, child.number, child.dependencies, child.failure_max, child.keyword, start_at=now,
                      replaces=child)
        self.all.insert(self.all.index(child) + 1, fresh)
        return []

    def retire(self, child: Child, now: float) -> list[Action]:
        """It is no longer in the configuration: end it for good."""
        child.is_wanted, child.is_retired = False, True
        actions = self.stop(child, now)
        if not child.pid:
            self.all.remove(child)
        return actions

    def stop_next(self, now: float) -> list[Action]:
        """Stop everything in reverse order of the start, one after the other; call it until `is_down`."""
        self.is_stopping = True
        for child in self.all:
            child.start_at = None
        for child in reversed(self.all):
            if child.pid:
                return self.stop(child, now)
        return []

    @property
    def is_down(self) -> bool:
        """Whether no process is left."""
        return not any(child.pid for child in self.all)

    def due(self, now: float) -> list[Action]:
        """What time demands: starts, and KILL for who does not end."""
        actions: list[Action] = []
        for child in self.all:
            if child.start_at is not None and now >= child.start_at and not child.pid:
                child.start_at = None
                actions.append(Start(child))
            if child.kill_at is not None and now >= child.kill_at:
                child.kill_at = now + STOP_TIMEOUT
                actions.append(Signal(child, True))
        return actions

    def next_time(self) -> float | None:
        """When `due` has something to do."""
        times = [at for child in self.all for at in (child.start_at, child.kill_at) if at is not None]
        return min(times, default=None)
