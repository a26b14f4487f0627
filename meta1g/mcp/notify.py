"""Telling systemd how it goes: sd_notify(3)'s protocol, a datagram of lines NAME=VALUE to NOTIFY_SOCKET."""
import os
import socket
from typing import Final

from meta1g.mcp.children import Children, State

_PAUSE: Final = 1.0  # seconds between two signs of life
_WORKING: Final = (State.READY, State.IDLE, State.LEAVING)


class Notifier:
    """Says nothing where nobody listens. `has_watchdog`: systemd ends who does not call `alive` in time."""

    def __init__(self) -> None:
        path = os.environ.pop("NOTIFY_SOCKET", "")  # it is not for our children
        self.has_watchdog = bool(path) and os.environ.pop("WATCHDOG_USEC", "").isdigit()
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self._told = ""
        self._alive = float("-inf")

    def tell(self, children: Children, own: frozenset[str]) -> None:
        """READY when all of our `own` programs work (by keyword; others only have to run), and how many do."""
        if not self._address:
            return
        work = sum(child.state in _WORKING or (child.state is State.STARTED and child.keyword not in own)
                   for child in children.all)
        text = f"STATUS={work} of {len(children.all)} processes work\n"
        if children.is_stopping:
            text += "STOPPING=1\n"
        elif work == len(children.all):
            text += "READY=1\n"
        if text != self._told and self._send(text):
            self._told = text

    def alive(self, now: float) -> None:
        """The loop turns; `now` in seconds of any clock."""
        if self.has_watchdog and now - self._alive >= _PAUSE:
            self._alive = now
            self._send("WATCHDOG=1\n")

    def _send(self, text: str) -> bool:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto(text.encode(), self._address)
        except OSError:
            return False  # it does not listen, or has too much to read just now
        return True
