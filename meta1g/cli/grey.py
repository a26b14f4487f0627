"""greyprint and greyrm: the greylist, while SMAR uses it or not (M1 3.9.4)."""
import fnmatch
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click

from meta1g.cli.become import become_owner_of
from meta1g.cli.ctl import DEFAULT_CONF
from meta1g.cli.exits import Command
from meta1g.cli.queue_files import fail, locate
from meta1g.mcp import status as mcp_status
from meta1g.mta import logfmt
from meta1g.mta.errors import StoreError
from meta1g.shim import greydb
from meta1g.shim.greydb import GreyDb

_TIME = "%Y-%m-%d %H:%M:%S"
_CONF = click.option("-f", "conf", default=DEFAULT_CONF, show_default=True, metavar="CONF", help="configuration file")
_NAMES = {"help_option_names": ["-h", "--help"]}


@click.command(cls=Command, context_settings=_NAMES)
@_CONF
@click.option("--json", "as_json", is_flag=True, help="for scripts: an object in each line, seconds since 1970")
@click.argument("patterns", nargs=-1, metavar="[PATTERN]...")
def greyprint(conf: str, patterns: tuple[str, ...], *, as_json: bool) -> None:
    """Print the greylist: client, with full greylisting sender and recipient, state, since when, until when.

    \b
    A PATTERN is about a client's address, with * and ? as in file names:
      greyprint '192.0.2.*'

    Run it as root or as SMAR's user: runas meta1m greyprint
    """
    with _greylist(conf) as db:
        for key, record in db.items():
            parts = [logfmt.clean(part) for part in key.split(b"\0")]
            if patterns and not any(fnmatch.fnmatchcase(parts[0], pattern) for pattern in patterns):
                continue
            state = "white" if record.is_white else "grey"
            if as_json:
                click.echo(json.dumps({"key": parts, "state": state, "since": record.since, "expires": record.expires}))
            else:
                since, expires = (time.strftime(_TIME, time.localtime(at)) for at in (record.since, record.expires))
                click.echo(f"{' '.join(parts)} {state} since {since} until {expires}")


@click.command(cls=Command, context_settings=_NAMES)
@_CONF
@click.option("-n", "--dry-run", is_flag=True, help="only say what would be removed")
@click.argument("patterns", nargs=-1, required=True, metavar="PATTERN...")
def greyrm(conf: str, patterns: tuple[str, ...], *, dry_run: bool) -> None:
    """Remove clients from the greylist: they are unknown again.

    A PATTERN is an address, or has * and ?, as greyprint shows them; '*' removes all. SMTPS may remember for a minute
    who has passed, unless it is told that maps have changed: qmgrctl -r.
    """
    with _greylist(conf) as db:
        keys = [key for key, _ in db.items()
                if any(fnmatch.fnmatchcase(key.split(b"\0")[0].decode(), pattern) for pattern in patterns)]
        removed = len(keys) if dry_run else db.remove(keys)
    click.echo(f"{removed} {'would be removed' if dry_run else 'removed'}")
    raise SystemExit(0 if removed else os.EX_DATAERR)


@contextmanager
def _greylist(conf: str) -> Iterator[GreyDb]:
    """The databases; joined if SMAR has them open."""
    config = locate(conf)
    grey = config.module("smar").greylisting
    if grey is None:
        fail(f"{conf}: section smar has no greylisting", os.EX_CONFIG)
    main, secondary = config.queue_path(grey.main_db_name), config.queue_path(grey.secondary_db_name)
    folder = os.path.join(config.queue_directory, os.path.dirname(main) or greydb.FOLDER)
    try:
        is_running = mcp_status.is_running(config.queue_directory)
        become_owner_of(folder)
        db = GreyDb(folder, os.path.basename(main), os.path.basename(secondary), joins=is_running)
        try:
            yield db
        finally:
            db.leave() if is_running else db.close()
    except OSError as error:
        fail(f"{error.filename or folder}: {error.strerror}; run this as root or as SMAR's user", os.EX_NOPERM)
    except StoreError as error:
        fail(f"{error}; run this as root or as SMAR's user", os.EX_NOPERM)
