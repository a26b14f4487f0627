"""MeTA1's files, owners and modes (M1 2.4.1): the one table that install, check, docs and tests read."""
import grp
import os
import pwd
import stat
from collections.abc import Mapping
from typing import Final, NamedTuple

from meta1g.shim import greydb, journal
from meta1g.shim.cdb import FOLDERS

# Whose account each service runs as, by its section's keyword (M1 2.4).
ACCOUNTS: Final = {"smtps": "meta1s", "qmgr": "meta1q", "smtpc": "meta1c", "smar": "meta1m", "lda": "meta1"}


class Item(NamedTuple):
    """A folder or file: `base` is `queue`, `conf` or `log`; owner and group are MeTA1's names.

    A file need not be there. Its `mode` is exact if `is_exact`, else the most that it may have: local conventions
    decide who reads maps (M1 2.4.1). An `owner` that is empty is root, or the account meta1.
    """

    base: str
    path: str
    owner: str
    group: str
    mode: int
    is_folder: bool = True
    is_exact: bool = True


def _file(base: str, path: str, owner: str, mode: int, *, is_exact: bool = False) -> Item:
    return Item(base, path, owner, "", mode, is_folder=False, is_exact=is_exact)


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
    _file("conf", "meta1.conf", "", 0o644),
    *(_file("conf", name, "meta1m", 0o644) for name in ("mt", "aliases.db", "access.db")),
    _file("conf", "qmgr_conf.db", "meta1q", 0o644),
    *(_file("log", f"{name}.log", owner, 0o644) for name, owner in (
        ("qmgr", "meta1q"), ("smar", "meta1m"), ("smtpc", "meta1c"), ("smtps", "meta1s"))),
)

USERS: Final = ("meta1s", "meta1q", "meta1c", "meta1m", "meta1")
# formats.md: further members of groups
MEMBERS: Final = {"meta1c": ("meta1s",), "meta1m": ("meta1s", "meta1q")}
Owner = Mapping[str, tuple[int, int]]


def owners(user: str | None = None, names: Mapping[str, str] | None = None) -> dict[str, tuple[int, int]]:
    """User and group ids by MeTA1's names; `user` stands for all of them, `names` are what they are called here.

    KeyError names who is missing.
    """
    found = {}
    for name in USERS:
        real = user or (names or {}).get(name, name)
        try:
            uid = pwd.getpwnam(real).pw_uid
            gid = pwd.getpwnam(real).pw_gid if user else grp.getgrnam(real).gr_gid
        except KeyError:
            raise KeyError(f"user or group {real} does not exist") from None
        found[name] = (uid, gid)
    return found


def strangers(names: Mapping[str, str]) -> list[str]:
    """Who is not a member of a group as M1 2.4 wants it, one line each; `names` as for `owners`. KeyError."""
    found = []
    for group, members in MEMBERS.items():
        there = grp.getgrnam(names[group]).gr_mem
        found += [f"user {names[member]} is not a member of group {names[group]}; "
                  f"usermod -a -G {names[group]} {names[member]}" for member in members if names[member] not in there]
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


def check(base: str, folder: str, who: Owner | None, names: Mapping[str, str] | None = None) -> list[str]:
    """What differs from the table, one line each; owners are compared only if `who` is given."""
    found = []
    for item in LAYOUT:
        path = os.path.join(folder, item.path)
        if item.base != base:
            continue
        try:
            state = os.stat(path)
        except OSError as error:
            if item.is_folder or not isinstance(error, FileNotFoundError):
                found.append(f"{path}: {error.strerror}; create it with mode {item.mode:o}")
            continue
        found += _mode_fault(item, path, stat.S_IMODE(state.st_mode))
        if who is not None:
            found += _owner_fault(item, path, state, who, names or {})
    return found


def _mode_fault(item: Item, path: str, mode: int) -> list[str]:
    if mode == item.mode or (not item.is_exact and not mode & ~item.mode):
        return []
    wanted = item.mode if item.is_exact else mode & item.mode
    return [f"{path}: mode is {mode:o} instead of {item.mode:o}; chmod {wanted:o} {path}"]


def _owner_fault(
    item: Item, path: str, state: os.stat_result, who: Owner, names: Mapping[str, str]
) -> list[str]:
    allowed = {who[item.owner][0]} if item.owner else {0, who["meta1"][0]}
    if state.st_uid in allowed and (not item.group or state.st_gid == who[item.group][1]):
        return []
    right = names.get(item.owner, item.owner) or "root"
    right += f":{names.get(item.group, item.group)}" if item.group else ""
    return [f"{path}: owner is {state.st_uid}:{state.st_gid}; chown {right} {path}"]
