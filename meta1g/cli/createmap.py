"""createmap: makes a map of a text (M1 4.8): Berkeley DB hash, and meta1g's cdb, lmdb and sqlite.

Rules
    A line is LHS, white space, RHS. One colon at the end of the LHS is dropped. A line that
    begins with white space continues the one before; empty lines and lines that begin
    with # are skipped. Keys are lower-cased.
    Nothing is written if the text has errors; each is named with its line.
"""
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import click

from meta1g.mta.errors import MissingExtra, StoreError
from meta1g.shim.mapfile import WRITERS, kind_of, write_map

VERSION: Final = "createmap (meta1g) 0.1.0"
_MODE: Final = 0o644  # M1 2.4.1 shows maps as readable by all; the umask narrows it

HELP: Final = """Make a map from the text on standard input.

\b
  createmap -F access.db < access
  createmap -F aliases.db < aliases && kill -USR1 `pgrep -x smar`
  createmap -F users.cdb < users

Each line has a key, white space and a value; one colon after the key is dropped:

\b
  # comment
  to:user1@my.domain   relay
  cltaddr:10.          quick:relay
  mylist: <user1@my.dom>
          <user2@my.dom>

The type is that of the extension: cdb, lmdb or sqlite; with any other it is a Berkeley DB hash.
Keys are changed to lower case, since they are looked up so. A line that begins with white space
continues the one before. The map is replaced at once: programs see the old or the new one, and
nothing is changed if the text has errors. Running programs read the new map after the signal USR1.
Run by root, the map keeps the owner of the old one, or gets that of its folder.
"""


class Entry(NamedTuple):
    """One entry of the text, with the number of its first line."""

    line: int
    key: bytes
    value: bytes


class Problem(NamedTuple):
    """What is wrong with a line."""

    line: int
    reason: str


def logical_lines(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Lines with their continuations joined by one blank, numbered by their first."""
    first, text = 0, b""
    for number, raw in enumerate(lines, 1):
        line = raw.rstrip()
        if not line or line.startswith(b"#"):
            continue
        if line[:1] in b" \t":
            text = text + b" " + line.strip() if first else line
            first = first or number
            continue
        if first:
            yield first, text
        first, text = number, line
    if first:
        yield first, text


def read_entries(lines: Iterable[bytes]) -> Iterator[Entry | Problem]:
    """The entries of a text, and what is wrong with the rest."""
    for number, text in logical_lines(lines):
        words = text.split(None, 1)
        key = words[0].removesuffix(b":").lower()
        if text[:1] in b" \t":
            yield Problem(number, "continues a line, but there is none above")
        elif b"\0" in text:
            yield Problem(number, "contains a NUL")
        elif not key:
            yield Problem(number, "the key is missing")
        elif len(words) < 2:
            yield Problem(number, f"`{_show(key)}` has no value")
        else:
            yield Entry(number, key, words[1])


def _show(octets: bytes) -> str:
    return octets.decode("utf-8", "replace")


def merge(found: Iterable[Entry | Problem], *, warn: bool, replace: bool) -> tuple[dict[bytes, bytes], list[str], bool]:
    """Entries by key, messages, and whether the map may be written.

    With `warn` the first of two entries for a key counts, with `replace` the last.
    """
    entries: dict[bytes, Entry] = {}
    messages: list[str] = []
    is_good = True
    for item in found:
        if isinstance(item, Problem):
            messages.append(f"line {item.line}: {item.reason}")
            is_good = is_good and warn
            continue
        before = entries.get(item.key)
        if before is not None and not replace:
            messages.append(f"line {item.line}: `{_show(item.key)}` stands already in line {before.line}")
            is_good = is_good and warn
            continue
        entries[item.key] = item
    return {key: entry.value for key, entry in entries.items()}, messages, is_good


@click.command(help=HELP, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("-F", "--file", "path", required=True, metavar="FILE", help="The map to write, with its extension.")
@click.option("-t", "--type", "kind", type=click.Choice(list(WRITERS)), help="Its type, by default its extension's.")
@click.option("-w", "--warn", is_flag=True, help="Only warn of bad lines and duplicates; the first entry counts.")
@click.option("-r", "--replace", is_flag=True, help="A later entry replaces an earlier one with the same key.")
@click.option("-n", "--nul", is_flag=True, help="End keys and values with a NUL, as sendmail and Postfix do in a hash.")
@click.option("-q", "--quiet", is_flag=True, help="Don't say how many entries were written.")
@click.version_option(None, "-V", "--version", message=VERSION)
def main(path: str, kind: str | None, warn: bool, replace: bool, nul: bool, quiet: bool) -> None:
    """Command line."""
    kind = kind or kind_of(path)
    if nul and kind == "sqlite":
        raise click.UsageError("-n is for other types than sqlite, whose keys have lengths for everybody")
    entries, messages, is_good = merge(read_entries(sys.stdin.buffer), warn=warn, replace=replace)
    for message in messages:
        click.echo(f"createmap: {message}", err=True)
    if not is_good:
        _fail(os.EX_DATAERR, f"{path} is unchanged; -w writes it without the lines above, -r lets later entries win")
    try:
        mode, owner = _look_of(path)
        count = write_map(path, entries.items(), kind=kind, mode=mode, nul=nul, owner=owner)
    except MissingExtra as error:
        _fail(os.EX_UNAVAILABLE, str(error))
    except StoreError as error:
        _fail(os.EX_TEMPFAIL if error.is_full else os.EX_CANTCREAT, str(error))
    if not quiet:
        click.echo(f"{path}: {count} entries")


def _look_of(path: str) -> tuple[int, tuple[int, int] | None]:
    """Mode for the new file and, for root, whose it shall be."""
    folder = os.path.dirname(path) or "."
    for known in (path, folder):
        try:
            found = os.stat(known)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise StoreError("look at", known, error.strerror or str(error)) from error
        mode = found.st_mode & 0o777 if known == path else _MODE & ~_umask()
        return mode, (found.st_uid, found.st_gid) if os.getuid() == 0 else None
    raise StoreError("create", path, "the folder does not exist")


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _fail(code: int, text: str) -> None:
    click.echo(f"createmap: {text}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
