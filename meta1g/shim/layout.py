"""MeTA1's files, owners and modes (M1 2.4.1): the one table that install, check, docs and tests read."""
import grp
import os
import pwd
import stat
from collections.abc import Mapping
from typing import Final, NamedTuple

from meta1g.shim import greydb, journal
from meta1g.shim.cdb import FOLDERS


class Item(NamedTuple):
    """A folder or file: `base` is `queue` or `conf`; owner and group are MeTA1's names."""

    base: str
    path: str
    owner: str
    group: str
    mode: int
    is_folder: bool = True


LAYOUT: Final = (
    *(Item("queue", name, "meta1s", "meta1q", 0o771) for name in FOLDERS),
    Item("queue", journal.FOLDER, "meta1s", "meta1q", 0o771),  # design 5
    Item("queue", "defedb", "meta1q", "meta1q", 0o700),
    Item("queue", "ibdb", "meta1q", "meta1q", 0o700),
    Item("queue", "ibdb/ibdb", "meta1q", "meta1q", 0o700),
    Item("queue", greydb.FOLDER, "meta1m", "meta1m", 0o700),  # M1 3.9.4 names no place
    Item("queue", "qmsmar", "meta1q", "meta1m", 0o2770),
    Item("queue", "qmsmtpc", "meta1q", "meta1c", 0o2770),
    Item("queue", "qmsmtps", "meta1q", "meta1s", 0o2770),
    Item("queue", "smtps", "meta1s", "meta1s", 0o750),
)

USERS: Final = ("meta1s", "meta1q", "meta1c", "meta1m", "meta1")
Owner = Mapping[str, tuple[int, int]]


def owners(user: str | None) -> dict[str, tuple[int, int]]:
    """User and group ids by MeTA1's names; `user` stands for all of them. KeyError names who is missing."""
    found = {}
    for name in USERS:
        real = user or name
        try:
            uid = pwd.getpwnam(real).pw_uid
            gid = pwd.getpwnam(real).pw_gid if user else grp.getgrnam(real).gr_gid
        except KeyError:
            raise KeyError(f"user or group {real} does not exist") from None
        found[name] = (uid, gid)
    return found


def create(base: str, folder: str, who: Owner | None) -> None:
    """Make all folders of a base below `folder`, each with its final owner and mode. OSError."""
    for item in LAYOUT:
        if item.base == base and item.is_folder:
            make_folder(os.path.join(folder, item.path), item.mode,
                        (who[item.owner][0], who[item.group][1]) if who else None)


def make_folder(path: str, mode: int, who: tuple[int, int] | None) -> None:
    """A folder with this owner and mode; one that is there is left as it is."""
    if os.path.isdir(path):
        return
    os.mkdir(path, 0o700)
    if who is not None:
        os.chown(path, *who)
    os.chmod(path, mode)


def check(base: str, folder: str, who: Owner | None) -> list[str]:
    """What differs from the table, one line each; owners are compared only if `who` is given."""
    found = []
    for item in LAYOUT:
        path = os.path.join(folder, item.path)
        if item.base != base:
            continue
        try:
            state = os.stat(path)
        except OSError as error:
            found.append(f"{path}: {error.strerror}; create it with mode {item.mode:o}")
            continue
        mode = stat.S_IMODE(state.st_mode)
        if mode != item.mode:
            found.append(f"{path}: mode is {mode:o} instead of {item.mode:o}; chmod {item.mode:o} {path}")
        if who is not None and (state.st_uid, state.st_gid) != (who[item.owner][0], who[item.group][1]):
            found.append(f"{path}: owner is {state.st_uid}:{state.st_gid}; chown {item.owner}:{item.group} {path}")
    return found
