"""ICC: open connections and connection rate of each client (M1 3.8 item 17, 3.8.1); pure."""
import itertools
from dataclasses import dataclass, field
from typing import Final

_WINDOW: Final = 60.0  # seconds: rates are per minute (M1 3.8 item 17.1)
_PARTS: Final = 6  # the window moves in steps of ten seconds


@dataclass(slots=True)
class _Client:
    open: int = 0
    counts: list[int] = field(default_factory=lambda: [0] * _PARTS)
    part: int = 0


class Icc:
    """Counts by client address, the latest last."""

    def __init__(self) -> None:
        self._clients: dict[str, _Client] = {}

    def __len__(self) -> int:
        return len(self._clients)

    def open(self, ip: str, now: float, rate_max: int, open_max: int) -> str:
        """Count a new connection; why it must go (`rate`, `open`), or empty."""
        client = self._clients.get(ip)
        part = int(now / (_WINDOW / _PARTS))
        if client is None:
            client = _Client(part=part)
        else:
            del self._clients[ip]
        self._clients[ip] = client
        self._move(client, part)
        if client.open >= open_max:
            return "open"
        if sum(client.counts) >= rate_max:
            return "rate"
        client.counts[part % _PARTS] += 1
        client.open += 1
        return ""

    def close(self, ip: str) -> None:
        """A connection that `open` let in is over."""
        client = self._clients.get(ip)
        if client is not None and client.open:
            client.open -= 1

    def trim(self, now: float, clients_max: int) -> None:
        """Forget clients that have been away for a whole window, and if there are more than `clients_max` those
        without a connection that came longest ago (M1 8.3 item 10.1)."""
        part = int(now / (_WINDOW / _PARTS))
        for ip in [ip for ip, c in self._clients.items() if not c.open and part - c.part >= _PARTS]:
            del self._clients[ip]
        over = len(self._clients) - clients_max
        if over > 0:
            for ip in list(itertools.islice((ip for ip, c in self._clients.items() if not c.open), over)):
                del self._clients[ip]

    @staticmethod
    def _move(client: _Client, part: int) -> None:
        for passed in range(min(part - client.part, _PARTS)):
            client.counts[(part - passed) % _PARTS] = 0
        client.part = part
