"""A server under load, a sink that counts and misbehaves, and the books that must balance (design 5)."""
import random
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.lib.instance import Instance, other_user
from tests.lib.load import Load
from tests.lib.sink import Sink
from tests.lib.wait import until

_UNCERTAIN = re.compile(r"rcpt_id=(S[0-9A-F]{18})-\S+, status=uncertain")
_SOON = "retry_delay_min = 1; retry_delay_max = 2;"
_MISCHIEF = ("450", "drop", "late", "slow")


class LawBroken(Exception):
    """Mail was lost, or came twice without a reason that the log names."""


@dataclass(slots=True)
class Figures:
    """What a part of the soak test measured; times in seconds."""

    part: str
    rounds: int = 0
    accepted: int = 0
    lost: int = 0
    duplicates: int = 0
    unnamed: int = 0  # duplicates of attempts that no log line names
    restart_max: float = 0.0
    seconds: float = 0.0
    note: str = ""

    def row(self) -> list[str]:
        """The figures as text, in order."""
        return [f"{value:.1f}" if isinstance(value, float) else str(value) for value in asdict(self).values()]


class Rig:
    """An instance with its load and its sink; `where` is the folder to put it in."""

    def __init__(self, part: str, seed: int, where: Path | None = None, mischief: float = 0.02) -> None:
        self.luck = random.Random(seed)
        self.figures = Figures(part)
        self._mischief = mischief
        self.sink = Sink()
        self.sink.mischief = self._misbehave
        self.instance = Instance("mail.test", _SOON, user=other_user(), where=where)
        self.instance.add("mt", f"sink.test {{ port={self.sink.port}; ip={{127.0.0.1}} }}\n")
        self.instance.add("access", "to:@sink.test relay\n")
        self._named: set[str] = set()
        self._void: set[str] = set()  # acknowledged without power
        self._began = time.monotonic()
        self.load: Load | None = None
        self.lost: set[str] = set()
        self.unnamed: set[str] = set()

    def _misbehave(self, where: str) -> str:
        if self.luck.random() >= self._mischief:
            return ""
        return self.luck.choice(_MISCHIEF) if where == "dot" else "450"

    def begin(self, clients: int = 4) -> None:
        """Start the server and the load."""
        self.start()
        self.load = Load(self.instance.port, "x@sink.test", clients)
        self.more(20)

    def start(self) -> None:
        """Start the server; how long that takes is measured."""
        began = time.monotonic()
        self.instance.start()
        self.figures.restart_max = max(self.figures.restart_max, time.monotonic() - began)
        self.read_log()

    def more(self, count: int = 20, timeout: float = 60.0) -> None:
        """Wait until some more messages were accepted."""
        assert self.load is not None
        accepted = self.load.accepted
        goal = len(accepted) + count
        until(lambda: len(accepted) >= goal, timeout, "mail is accepted")

    def no_power(self, cut: Callable[[], None]) -> None:
        """The power goes by `cut`: everything dies, and what is acknowledged from now on was never promised."""
        assert self.load is not None
        before = set(self.load.accepted)
        cut()
        self.instance.kill_all()
        self.load.quiet()
        self._void |= self.load.accepted - before

    def read_log(self) -> None:
        """Remember whose outcome QMGR has called uncertain; a power cut may take the log's end with it."""
        self._named.update(_UNCERTAIN.findall(self.instance.log("qmgr")))

    def settle(self, timeout: float = 120.0) -> Figures:
        """End the load, let everything arrive, and draw the balance; LawBroken if it does not hold."""
        assert self.load is not None
        figures = self.balance(timeout)
        if figures.lost or figures.unnamed:
            raise LawBroken(self._evidence())
        until(self.instance.is_empty, timeout, "the queue is empty")
        until(lambda: self.instance.spool_files() == [], 30, "no content is left")
        return figures

    def _evidence(self) -> str:
        assert self.load is not None
        lost = {number: self.load.ids.get(number) for number in sorted(self.lost)}
        unnamed = {number: self.sink.ids[number] for number in sorted(self.unnamed)}
        kept = shutil.copytree(
            self.instance.base, tempfile.mkdtemp(prefix="meta1g-broken."), dirs_exist_ok=True,
            ignore=lambda folder, names: [name for name in names if (Path(folder) / name).is_socket()])
        return f"{self.figures}\nlost {lost}\nunnamed {unnamed}\nthe instance as it was is in {kept}"

    def balance(self, timeout: float) -> Figures:
        """Stop the load, wait for what was accepted, count."""
        assert self.load is not None
        self.load.stop()
        accepted, seen, figures = self.load.accepted - self._void, self.sink.seen, self.figures
        wait_for(lambda: accepted <= set(seen) or self.instance.is_empty(), timeout)
        wait_for(lambda: accepted <= set(seen), 5)
        self.read_log()
        twice = {number for number, count in seen.items() if count > 1 and number.encode() not in self.sink.unanswered}
        figures.accepted = len(accepted)
        self.lost = accepted - set(seen)
        self.unnamed = {number for number in twice if not self.sink.ids[number] & self._named}
        figures.lost, figures.duplicates, figures.unnamed = len(self.lost), len(twice), len(self.unnamed)
        figures.seconds = time.monotonic() - self._began
        return figures

    def close(self) -> None:
        """End everything and remove the instance's folder; what `_evidence` kept stays."""
        if self.load is not None:
            self.load.stop()
        self.instance.kill_all()
        self.sink.close()
        shutil.rmtree(self.instance.base, ignore_errors=True)


def wait_for(condition: Callable[[], object], timeout: float) -> bool:
    """Whether the condition comes true within `timeout` seconds."""
    try:
        until(condition, timeout)
    except AssertionError:
        return False
    return True
