"""mailq: what is in the queue, in the look of sendmail 8 (M1 4.7.2)."""
import json
import os
import time
from collections.abc import Iterable, Iterator

import click

from meta1g import __version__
from meta1g.cli.ctl import DEFAULT_CONF
from meta1g.cli.exits import Command
from meta1g.cli.queue_files import fail, locate
from meta1g.cli.queue_filter import KINDS, Age, Filter, count, parse_age
from meta1g.cli.queued import Queued, QueuedRcpt, read_queue
from meta1g.mta import addr, logfmt
from meta1g.mta.errors import StoreError
from meta1g.mta.ids import rcpt_id
from meta1g.mta.selection import Selection


def _ages(context: click.Context, param: click.Parameter, values: tuple[str, ...]) -> tuple[Age, ...]:
    try:
        return tuple(map(parse_age, values))
    except ValueError as error:
        raise click.BadParameter(str(error), context, param) from None


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-f", "conf", default=DEFAULT_CONF, show_default=True, metavar="CONF", help="configuration file")
@click.option("--to", multiple=True, metavar="ADDRESS", help="recipients like this: user@dom, @dom, or with * and ?")
@click.option("--from", "senders", multiple=True, metavar="ADDRESS", help="senders like this; <> for bounces")
@click.option("--site", "sites", multiple=True, metavar="SITE",
              help="a host's name or IP address in the route of the recipient, or the recipient's domain")
@click.option("--age", "ages", multiple=True, callback=_ages, metavar="[+-]TIME",
              help="received that long ago or before: 90s, 15m, 2h, 1d12h; -2h: since then")
@click.option("--reason", "reasons", multiple=True, metavar="TEXT", help="the last reply has this in it")
@click.option("--id", "ids", multiple=True, metavar="ID", help="the transaction or recipient with this id")
@click.option("--held", "is_held", is_flag=True, help="held by an administrator: qmgrctl hold")
@click.option("--count", "kind", type=click.Choice(KINDS), help="only count the recipients by this, the most first")
@click.option("--json", "as_json", is_flag=True, help="for scripts: a list of messages, one in each line")
@click.option("--jsonl", "as_lines", is_flag=True, help="for scripts: an object in each line, no list around them")
@click.version_option(__version__, "-V", "--version")
def main(conf: str, to: tuple[str, ...], senders: tuple[str, ...], sites: tuple[str, ...], ages: tuple[Age, ...],
         reasons: tuple[str, ...], ids: tuple[str, ...], kind: str | None, *, is_held: bool, as_json: bool,
         as_lines: bool) -> None:
    """Show the messages in the queue: those being worked on (IBDB, marked *) and those deferred (DEFEDB).

    \b
    Examples: runas meta1q mailq -f /etc/meta1/meta1.conf
              mailq --site mx.example.net --age 2h     waits for that host for two hours or longer
              mailq --to '*@*.example.org' --reason 'timed out'
              mailq --count site                       where the queue is long
              mailq --from '<>' --count domain         to whom bounces do not get through
              mailq --jsonl | jq -r .id                for scripts

    Different options must all fit; of one that is given twice either may. Only recipients that fit are
    shown. What QMGR wrote in the last seconds may not be seen yet.
    """
    wanted = Filter(Selection(to, sites, ids), senders, reasons, ages, time.time(), is_held=is_held)
    damage: list[str] = []
    try:
        queue = filter(None, map(wanted.of, read_queue(locate(conf), damage)))
        if kind is not None:
            _show_counts(kind, count(kind, queue), is_plain=as_json or as_lines)
        elif as_json or as_lines:
            _show_json(map(_plain, queue), is_list=not as_lines)
        else:
            _show(queue, is_all=wanted.is_open)
    except StoreError as error:
        fail(f"mailq: {error}; run it as QMGR's user: runas meta1q mailq", os.EX_NOPERM)
    finally:
        for line in damage:
            click.echo(f"mailq: {line}", err=True)


def _show(queue: Iterable[Queued], *, is_all: bool) -> None:
    total = 0
    for message in queue:
        click.echo(_shown(message), nl=False)
        total += 1
    if total:
        click.echo(f"\t\tTotal requests: {total}")
    else:
        click.echo("Mail queue is empty" if is_all else "No such mail in the queue")


def _show_counts(kind: str, found: list[tuple[str, int]], *, is_plain: bool) -> None:
    if is_plain:
        click.echo(json.dumps([{kind: key, "recipients": number} for key, number in found]))
        return
    for key, number in found:
        click.echo(f"{number:>8} {_line(key)}")
    click.echo(f"{sum(number for _, number in found):>8} recipients in all")


def _show_json(rows: Iterator[dict[str, object]], *, is_list: bool) -> None:
    """A list with an element in each line, or just the lines: neither needs the whole queue in memory."""
    between = ",\n" if is_list else "\n"
    lead = "[" if is_list else ""
    for row in rows:
        click.echo(lead + json.dumps(row), nl=False)
        lead = between
    if is_list:
        click.echo("[]" if lead == "[" else "]")
    elif lead:
        click.echo()


def _line(text: str) -> str:
    """A reply may have many lines."""
    return " ".join(text.splitlines())


def _text(octets: bytes) -> str:
    return logfmt.clean(octets)


def _plain(message: Queued) -> dict[str, object]:
    return {
        "id": message.ta, "store": message.store, "sender": _text(message.mail), "size": message.size,
        "received": message.received,
        "recipients": [
            {"id": rcpt_id(message.ta, rcpt.idx), "address": _text(rcpt.address), "next_try": rcpt.next_try,
             "tries": rcpt.tries, "reason": rcpt.reason, "hosts": list(rcpt.hosts), "held": rcpt.is_held}
            for rcpt in message.rcpts
        ],
    }


def _shown(message: Queued) -> str:
    mark = "*" if message.store == "ibdb" else " "
    lines = [f"{message.ta}{mark} {message.size:>8} {_time(message.received)} {_text(addr.bracketed(message.mail))}"]
    for rcpt in message.rcpts:
        if rcpt.reason:
            lines.append(f"                 ({_line(rcpt.reason)})")
        if rcpt.is_held:
            lines.append("                 (held until qmgrctl release)")
        elif rcpt.next_try:
            lines.append(f"                 ({_tried(rcpt)}, next at {_time(rcpt.next_try, '%a %b %e %H:%M:%S')})")
        lines.append(f"{'':<38}{_text(addr.bracketed(rcpt.address))}")
    return "\n".join(lines) + "\n"


def _tried(rcpt: QueuedRcpt) -> str:
    return "tried once" if rcpt.tries == 1 else f"tried {rcpt.tries} times" if rcpt.tries else "not tried"


def _time(when: float, form: str = "%a %b %e %H:%M") -> str:
    return time.strftime(form, time.localtime(when))
