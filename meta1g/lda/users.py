"""Who has a mailbox here: the machine's users, or a table; pure but for the lookups handed in."""
import re
from collections.abc import Callable
from typing import Final

from meta1g.mta import addr

_SAFE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+\-]{0,63}")


class Users:
    """Maps a recipient address to the name of a mailbox.

    `is_user` tells whether a name is one of the machine's users or of the table, `extra`
    are names that exist without it, `delimiters` divide user and detail (M1 3.9.2 item 2).
    """

    def __init__(self, is_user: Callable[[str], bool], extra: frozenset[str], delimiters: bytes) -> None:
        self._is_user = is_user
        self._extra = extra
        self._delimiters = delimiters

    def mailbox(self, address: bytes) -> str | None:
        """The mailbox of a recipient, None if there is none; never a name that could leave its folder."""
        local = addr.unquote_local(addr.split(address)[0])
        for candidate in (local, addr.split_detail(local, self._delimiters)[0]):
            name = candidate.decode("utf-8", "replace").lower()
            if _SAFE.fullmatch(name) and (name in self._extra or self._is_user(name)):
                return name
        return None


def parse_table(text: str) -> frozenset[str]:
    """The names in a user table: one a line, `#` comments."""
    names = (line.partition("#")[0].strip().lower() for line in text.splitlines())
    return frozenset(name for name in names if name)
