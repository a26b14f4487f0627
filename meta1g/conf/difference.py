"""Which options differ between two configurations of a section; pure."""
from collections.abc import Iterator
from typing import Any

from meta1g.conf.spec import Sub, entries


def changed_options(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """Names of options that differ, as `DEFEDB.page_size`; of subsections that may be repeated their names alone."""
    for field, entry in entries(type(new)).values():
        before, after = getattr(old, field), getattr(new, field)
        name = f"{path}{entry.name}"
        if before == after:
            continue
        if isinstance(entry, Sub) and type(before) is type(after) is entry.cls:
            yield from changed_options(before, after, f"{name}.")
        else:
            yield name
