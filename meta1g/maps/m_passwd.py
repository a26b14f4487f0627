"""Map type `passwd`: users of this machine (M1 3.9.1).

The value is `local:`, so that the map serves as local_user_map and, in a sequence, as aliases.
"""
import pwd
import re
from typing import Final

from meta1g.maps.map import NOT_FOUND, Found, Result, TempFail

_USER: Final = re.compile(rb"[a-z_0-9][a-z0-9_.\-]{0,31}")  # useradd(8), with the dots that Debian allows
_LOCAL: Final = b"local:"  # M1 4.3.2


class PasswdMap:
    """A key is there if it is the name of a user."""

    is_stable = False
    is_slow = True  # the name service may ask a directory somewhere

    def __init__(self, name: str) -> None:
        self.name = name

    def lookup(self, key: bytes) -> Result:
        """`local:` if there is such a user."""
        if not _USER.fullmatch(key):
            return NOT_FOUND
        try:
            pwd.getpwnam(key.decode("ascii"))
        except KeyError:
            return NOT_FOUND
        except OSError as error:
            return TempFail(f"map {self.name}: {error.strerror}")
        return Found(key, _LOCAL)

    def reopen(self) -> str:
        """Nothing to do: every lookup reads anew."""
        return ""
