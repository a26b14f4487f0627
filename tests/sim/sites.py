"""Modelled servers: how long they take, what they refuse, and what they saw of us."""
import random
from collections import deque
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from meta1g.proto.msg_da import Stage

KINDS: Final = {  # share of all sites
    "fast": 0.6, "slow": 0.15, "limited": 0.08, "grey": 0.08, "tarpit": 0.03, "outage": 0.04, "dead": 0.02,
}
_CONNECT_TIMEOUT: Final = 30.0
_GREY: Final = 300.0  # seconds until a greylisting server takes a recipient


class Answer(NamedTuple):
    """After `delay` seconds: a code for each recipient, or `is_host` if the server was not to be had at all."""

    delay: float
    is_host: bool
    codes: tuple[int, ...]
    stage: int


@dataclass(slots=True)
class ModelSite:
    """A server; `most` connections are allowed it by our limits, `rate` a minute (0 for any)."""

    ip: str
    kind: str
    most: int
    rate: int = 0
    down: tuple[float, float] = (0.0, 0.0)
    open: int = 0
    began: deque[float] = field(default_factory=deque)
    tries_while_down: int = 0
    seen: dict[bytes, float] = field(default_factory=dict)

    def connects(self, now: float) -> None:
        """One more connection; AssertionError if it is one too many."""
        self.open += 1
        assert self.open <= self.most, f"{self.ip}: {self.open} connections, {self.most} are allowed"
        while self.began and now - self.began[0] >= 60.0:
            self.began.popleft()
        self.began.append(now)
        assert not self.rate or len(self.began) <= self.rate, f"{self.ip}: {len(self.began)} connections in a minute"

    def answer(self, rcpts: list[bytes], now: float, luck: random.Random) -> Answer:
        """What becomes of a transaction."""
        if self.kind == "dead" or self.down[0] <= now < self.down[1]:
            self.tries_while_down += 1
            return Answer(_CONNECT_TIMEOUT, True, tuple(451 for _ in rcpts), Stage.CONNECT)
        if self.kind == "limited" and self.open > 2:
            return Answer(0.1, True, tuple(421 for _ in rcpts), Stage.GREETING)
        pace = {"slow": 20.0, "tarpit": 120.0}.get(self.kind, 0.2)
        codes = tuple(self._code(rcpt, now) for rcpt in rcpts)
        return Answer(pace * luck.uniform(0.5, 1.5) + 0.01 * len(rcpts), False, codes, Stage.DOT)

    def _code(self, rcpt: bytes, now: float) -> int:
        if self.kind == "grey" and now - self.seen.setdefault(rcpt, now) < _GREY:
            return 450
        return 0


def make_sites(count: int, most: int, luck: random.Random) -> dict[str, ModelSite]:
    """So many servers, of all kinds, by address."""
    kinds = luck.choices(list(KINDS), list(KINDS.values()), k=count)
    sites = {}
    for number, kind in enumerate(kinds):
        ip = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        began = luck.uniform(0, 3600)
        sites[ip] = ModelSite(ip, kind, 3 if number % 10 == 0 else most, 30 if number % 7 == 0 else 0,
                              (began, began + 3600) if kind == "outage" else (0.0, 0.0))
    return sites
