"""mailq's filters and counts: which recipients are shown, and how many there are of a kind; pure (M1 4.7.2)."""
import re
from collections import Counter
from collections.abc import Iterable
from typing import Final, NamedTuple

from meta1g.cli.queued import Queued, QueuedRcpt
from meta1g.mta import addr, logfmt
from meta1g.mta.selection import Addresses, Picker, Selection

KINDS: Final = ("site", "reason", "sender", "domain")
KEYS_MAX: Final = 100_000  # different values that are counted one by one: 20 MB
OTHERS: Final = "(others)"
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "": 1}
_AGE: Final = re.compile(r"([+-]?)((?:\d+[smhdw])+|\d+)", re.IGNORECASE)
_PART: Final = re.compile(r"(\d+)([smhdw]?)", re.IGNORECASE)


class Age(NamedTuple):
    """At least so many seconds old, or at most if `is_younger`."""

    seconds: int
    is_younger: bool

    def fits(self, received: float, now: float) -> bool:
        """Whether what was received then is of this age."""
        old = now - received
        return old <= self.seconds if self.is_younger else old >= self.seconds


def parse_age(text: str) -> Age:
    """`2h` and `+2h`: two hours or older; `-1d12h`: younger. ValueError."""
    match = _AGE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no age: write 90s, 15m, 2h, 1d12h or 1w, with - in front for younger")
    seconds = sum(int(number) * _UNITS[unit.lower()] for number, unit in _PART.findall(match[2]))
    return Age(seconds, match[1] == "-")


class Filter:
    """What mailq shows: recipients that all the options given fit."""

    def __init__(self, selection: Selection, senders: Iterable[str], reasons: Iterable[str], ages: Iterable[Age],
                 now: float, *, is_held: bool = False) -> None:
        """Of several values of one option one must fit, of ages all; no value means that any will do."""
        self._is_held = is_held
        self._picker = Picker(selection)
        senders = tuple(senders)
        self._senders = Addresses(senders) if senders else None
        self._reasons = tuple(reason.lower() for reason in reasons)
        self._ages = tuple(ages)
        self._now = now
        self.is_open = not (any(selection) or senders or self._reasons or self._ages or is_held)

    def of(self, message: Queued) -> Queued | None:
        """The message with the recipients that are wanted, None without any."""
        if self.is_open:
            return message
        if self._senders is not None and not self._senders.fit(message.mail):
            return None
        if not all(age.fits(message.received, self._now) for age in self._ages):
            return None
        rcpts = [rcpt for rcpt in message.rcpts if self._wants(message.ta, rcpt)]
        return message._replace(rcpts=rcpts) if rcpts else None

    def _wants(self, ta: str, rcpt: QueuedRcpt) -> bool:
        if self._reasons and not any(reason in rcpt.reason.lower() for reason in self._reasons):
            return False
        if self._is_held and not rcpt.is_held:
            return False
        return self._picker.picks(ta, rcpt.idx, rcpt.address, rcpt.hosts)


def kind_of(kind: str, message: Queued, rcpt: QueuedRcpt) -> str:
    """Under which key a recipient counts; its site is the first host of its route, before that its domain."""
    match kind:
        case "reason":
            return rcpt.reason or "(not tried yet)"
        case "sender":
            return logfmt.clean(addr.bracketed(message.mail))
        case "site" if rcpt.hosts:
            return logfmt.clean(rcpt.hosts[0].lower())
    return logfmt.clean(addr.domain_key(addr.split(rcpt.address)[1])) or "(no domain)"


def count(kind: str, messages: Iterable[Queued]) -> list[tuple[str, int]]:
    """Recipients by key, the most first; what goes beyond KEYS_MAX keys counts as OTHERS."""
    found: Counter[str] = Counter()
    for message in messages:
        for rcpt in message.rcpts:
            key = kind_of(kind, message, rcpt)
            found[key if key in found or len(found) < KEYS_MAX else OTHERS] += 1
    return sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))
