"""SQLite files with one table of keys and values: a map that any program can read and change.

Rules
    CREATE TABLE map (key BLOB PRIMARY KEY, value BLOB). Keys and values are octets.
    The file is made in memory and then written as a whole: nothing but our own new file is
    ever opened for writing.
"""
from collections.abc import Iterable
from typing import Final

from meta1g.mta.errors import StoreError
from meta1g.shim import extra
from meta1g.shim.newfile import create

TABLE: Final = "CREATE TABLE map (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID"


def write(path: str, entries: Iterable[tuple[bytes, bytes]]) -> int:
    """Make a file at `path`, which must not exist; how many entries it has. StoreError if SQLite refuses one."""
    sqlite3 = extra.load("sqlite3")
    database = sqlite3.connect(":memory:")
    try:
        database.execute(TABLE)
        count: int = database.executemany("INSERT INTO map VALUES (?, ?)", entries).rowcount
        database.commit()
        octets = database.serialize()
    except sqlite3.Error as error:
        raise StoreError("write", path, str(error)) from error
    finally:
        database.close()
    with create(path) as file:
        file.write(octets)
    return max(count, 0)
