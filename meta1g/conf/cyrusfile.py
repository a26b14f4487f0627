"""Cyrus SASL's configuration file of an application, as far as it counts here; pure (M1 3.10 item 1).

A line is `option: value`; other lines, and other options, say nothing here.
"""
from typing import NamedTuple


class CyrusFile(NamedTuple):
    """`mech_list` in capitals, None if it is not there; `pwcheck_method` empty if it is not."""

    mech_list: tuple[str, ...] | None = None
    pwcheck_method: str = ""


def parse_cyrus(text: str) -> CyrusFile:
    """What a file says; of two lines for one option the last counts."""
    found = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon and not name.lstrip().startswith("#"):
            found[name.strip().lower()] = value.strip()
    words = found.get("mech_list")
    return CyrusFile(None if words is None else tuple(words.upper().split()), found.get("pwcheck_method", "").lower())
