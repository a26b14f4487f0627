"""meta1g queue: is the queue whole, what is uncertain, and how to mend it (design 5, M1 4.11.2)."""
import json
import os
import sys
import time
from collections.abc import Iterator
from typing import NoReturn

import click

from meta1g import __version__
from meta1g.cli.become import become_owner_of
from meta1g.cli.ctl import DEFAULT_CONF
from meta1g.cli.queue_audit import Survey, content_db, journal_content, problems, survey, unreadable
from meta1g.cli.queue_backup import backup, is_empty, restore
from meta1g.cli.queue_files import fail, locate
from meta1g.cli.queue_repair import Envelope, envelopes, record
from meta1g.conf.load import Config
from meta1g.mcp import status as mcp_status
from meta1g.mta import logfmt
from meta1g.mta.errors import StoreError
from meta1g.mta.ids import rcpt_id
from meta1g.proto.msg_ss import Content
from meta1g.qmgr.recover import DAMAGED
from meta1g.shim import ibdb
from meta1g.shim.records import TaNew
from meta1g.shim.safeio import Disk

_SETTLES = 7.0  # seconds after which a running server's files agree: DEFEDB's checkpoints are 5 apart


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-f", "conf", default=DEFAULT_CONF, show_default=True, metavar="CONF", help="configuration file")
@click.version_option(__version__, "-V", "--version")
@click.pass_context
def main(context: click.Context, conf: str) -> None:
    """Look after the queue's files: IBDB, DEFEDB and CDB.

    \b
    Examples: meta1g queue -f /etc/meta1/meta1.conf check
              meta1g queue -f /etc/meta1/meta1.conf uncertain --json

    Run it as root, or as the user who owns an instance of his own: only they may read all of it.
    """
    context.obj = locate(conf)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="for scripts: a list of problems")
@click.pass_obj
def check(config: Config, as_json: bool) -> None:
    """Compare CDB, IBDB and DEFEDB; exit code 65 if something does not fit.

    While the server runs it looks twice, and tells only what both looks found.
    """
    found = _problems(config)
    if mcp_status.is_running(config.queue_directory) and found:
        time.sleep(_SETTLES)
        again = set(_problems(config))
        found = [line for line in found if line in again]
    if as_json:
        click.echo(json.dumps(found))
    else:
        click.echo("\n".join(found) if found else "The queue is whole")
    raise SystemExit(os.EX_DATAERR if found else 0)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="for scripts")
@click.pass_obj
def uncertain(config: Config, as_json: bool) -> None:
    """Name the recipients whose last attempt was cut off by a crash: they may get a second copy."""
    found = _survey(config)
    running = mcp_status.is_running(config.queue_directory)
    addresses = _addresses(found)
    keys = sorted(key for key, was_cut_off in found.replayed.tried.items()
                  if key in addresses and (was_cut_off or not running))
    rows = [{"rcpt_id": rcpt_id(*key), "recipient": logfmt.clean(addresses[key])} for key in keys]
    if as_json:
        click.echo(json.dumps(rows))
        return
    for row in rows:
        click.echo(f"{row['rcpt_id']}  <{row['recipient']}>")
    if not rows:
        click.echo("No recipient's outcome is uncertain")


@main.command()
@click.option("--dry-run", "-n", is_flag=True, help="only tell what would be done")
@click.option("--log", "logs", multiple=True, type=click.Path(exists=True), metavar="FILE",
              help="log to search; default: smtps.log and qmgr.log of the configuration's log directory")
@click.pass_obj
def repair(config: Config, dry_run: bool, logs: tuple[str, ...]) -> None:
    """Put messages back into the queue whose envelopes were lost, from their content and the logs.

    The server must be stopped. What was accepted according to the logs and has not ended comes back;
    other content is told of and left alone.
    """
    if mcp_status.is_running(config.queue_directory):
        fail("queue repair: the server runs; stop it first (meta1g-ctl stop)", os.EX_TEMPFAIL)
    found, contents = _survey(config), content_db(config)
    lost = {ta: Content(0, os.path.getsize(contents.path(ta)), "") for ta in found.files}
    lost = {ta: place for ta, place in (journal_content(contents) | lost).items() if ta not in found.places()}
    known = envelopes(_lines(config, logs), set(lost))
    records = []
    for ta, place in sorted(lost.items()):
        envelope, trouble = known[ta], unreadable(contents, ta, place)
        click.echo(_verdict(ta, envelope, trouble))
        if envelope.is_accepted and envelope.open and not trouble:
            records.append(record(ta, envelope, place, time.time()))
    if not dry_run:
        _append(config, records)
    click.echo(f"{len(records)} messages {'would be' if dry_run else 'were'} put back; "
               "the next start of the server delivers them" if records else "Nothing to put back")


@main.command("envelopes")
@click.option("--log", "logs", multiple=True, type=click.Path(exists=True), metavar="FILE",
              help="log to search; default: smtps.log and qmgr.log of the configuration's log directory")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.pass_obj
def show_envelopes(config: Config, logs: tuple[str, ...], ids: tuple[str, ...]) -> None:
    """Print sender and recipients of messages as the logs have them: all in CDB, or only these (M1 4.11.2)."""
    wanted = set(ids)
    if not ids:
        contents = content_db(config)
        wanted = set(journal_content(contents)) | set(_survey(config).files)
    for ta, envelope in sorted(envelopes(_lines(config, logs), wanted).items()):
        click.echo(f"{ta}: mail=<{logfmt.clean(envelope.mail or b'')}>" if envelope.mail is not None else
                   f"{ta}: not in the logs")
        for idx, rcpt in sorted(envelope.rcpts.items()):
            click.echo(f"{ta}: rcpt=<{logfmt.clean(rcpt)}>{', ended' if idx in envelope.ended else ''}")


@main.command("backup")
@click.argument("folder", type=click.Path())
@click.pass_obj
def make_backup(config: Config, folder: str) -> None:
    """Copy the queue into FOLDER, which must not be there, while the server runs or not.

    \b
    FOLDER is a queue of its own. Configuration, maps and mailboxes are not in it: copy them as files.
    Example: meta1g queue backup /backup/queue-$(date +%F)
    """
    try:
        copied = backup(config, folder, _show)
    except FileExistsError:
        fail(f"queue backup: {folder} is there already; name another folder", os.EX_CANTCREAT)
    except StoreError as error:
        _no_access(error)
    except OSError as error:
        fail(f"queue backup: {error.filename or folder}: {error.strerror}", os.EX_CANTCREAT)
    for line in copied.damaged:
        click.echo(f"damaged: {line}", err=True)
    click.echo(f"{copied.messages} messages, {copied.rcpts} recipients; {copied.ended} have ended meanwhile")
    raise SystemExit(os.EX_DATAERR if copied.damaged else 0)


def _show(done: int) -> None:
    """How far it is, for who watches."""
    if sys.stderr.isatty() and done % 100 == 0:
        sys.stderr.write(f"\r{done} messages ")
        sys.stderr.flush()


@main.command("restore")
@click.argument("folder", type=click.Path(exists=True, file_okay=False))
@click.pass_obj
def put_back(config: Config, folder: str) -> None:
    """Put a copy that `backup` has made into the queue, which must be empty; the server must be stopped.

    What was delivered after the copy was made is delivered again.
    """
    if mcp_status.is_running(config.queue_directory):
        fail("queue restore: the server runs; stop it first (meta1g-ctl stop)", os.EX_TEMPFAIL)
    try:
        if not is_empty(config):
            fail("queue restore: there is mail in the queue; deliver it, or move the queue's folders away",
                 os.EX_CANTCREAT)
        count = restore(config, folder, getattr(config.module("smtps"), "cdb_gid", None) or -1)
    except StoreError as error:
        _no_access(error)
    except OSError as error:
        fail(f"queue restore: {error.filename}: {error.strerror}", os.EX_CANTCREAT)
    click.echo(f"{count} messages were put back; the next start of the server delivers them")


def _verdict(ta: str, envelope: Envelope, trouble: str) -> str:
    if trouble:
        return f"{ta}: content can't be read: {trouble}"
    if not envelope.is_accepted:
        return f"{ta}: no log says that it was accepted"
    if not envelope.open:
        return f"{ta}: all its recipients have ended"
    return f"{ta}: from <{logfmt.clean(envelope.mail or b'')}> to " + ", ".join(
        f"<{logfmt.clean(rcpt)}>" for rcpt in envelope.open.values())


def _append(config: Config, records: list[TaNew]) -> None:
    """Write them as QMGR would, as the owner of its folder."""
    folder = os.path.join(config.queue_directory, ibdb.FOLDER)
    become_owner_of(folder)
    try:
        if records:
            ibdb.Ibdb(Disk(), folder, 1 << 30).write(records)
        Disk().unlink(os.path.join(folder, DAMAGED))
    except StoreError as error:
        _no_access(error)


def _lines(config: Config, logs: tuple[str, ...]) -> Iterator[str]:
    paths = logs or [os.path.join(config.log_directory, f"{name}.log") for name in ("smtps", "qmgr")]
    for path in paths:
        try:
            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                yield from file
        except FileNotFoundError:
            click.echo(f"queue repair: {path} is not there; name logs with --log", err=True)
        except OSError as error:
            fail(f"queue repair: {path}: {error.strerror}", os.EX_NOPERM)


def _survey(config: Config) -> Survey:
    try:
        return survey(config)
    except StoreError as error:
        _no_access(error)


def _problems(config: Config) -> list[str]:
    return problems(_survey(config), content_db(config))


def _no_access(error: StoreError) -> NoReturn:
    fail(f"queue: {error}; run it as root", os.EX_NOPERM)


def _addresses(found: Survey) -> dict[tuple[str, int], bytes]:
    named = {(rcpt.ta, rcpt.idx): rcpt.address for rcpt in found.rcpts}
    for ta, fresh in found.replayed.fresh.items():
        named.update({(ta, idx): rcpt.address for idx, rcpt in fresh.rcpts.items()})
    return named
