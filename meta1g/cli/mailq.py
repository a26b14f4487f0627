"""mailq: what is in the queue, in the look of sendmail 8 (M1 4.7.2)."""
import json
import os
import time

import click

from meta1g import __version__
from meta1g.cli.ctl import DEFAULT_CONF
from meta1g.cli.queue_files import Queued, fail, locate, read_queue
from meta1g.mta import addr, logfmt
from meta1g.mta.errors import StoreError


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-f", "conf", default=DEFAULT_CONF, show_default=True, metavar="CONF", help="configuration file")
@click.option("--json", "as_json", is_flag=True, help="for scripts: a list of messages")
@click.version_option(__version__, "-V", "--version")
def main(conf: str, as_json: bool) -> None:
    """Show the messages in the queue: those being worked on (IBDB) and those deferred (DEFEDB).

    \b
    Example: runas meta1q mailq -f /etc/meta1/meta1.conf

    What QMGR wrote in the last seconds may not be seen yet.
    """
    damage: list[str] = []
    try:
        queue = read_queue(locate(conf), damage)
    except StoreError as error:
        fail(f"mailq: {error}; run it as QMGR's user: runas meta1q mailq", os.EX_NOPERM)
    for line in damage:
        click.echo(f"mailq: {line}", err=True)
    if as_json:
        click.echo(json.dumps([_plain(message) for message in queue]))
        return
    if not queue:
        click.echo("Mail queue is empty")
        return
    click.echo("".join(_shown(message) for message in queue), nl=False)
    click.echo(f"\t\tTotal requests: {len(queue)}")


def _text(octets: bytes) -> str:
    return logfmt.clean(octets)


def _plain(message: Queued) -> dict[str, object]:
    return {
        "id": message.ta, "store": message.store, "sender": _text(message.mail), "size": message.size,
        "received": message.received,
        "recipients": [
            {"address": _text(rcpt.address), "next_try": rcpt.next_try, "tries": rcpt.tries, "reason": rcpt.reason}
            for rcpt in message.rcpts
        ],
    }


def _shown(message: Queued) -> str:
    mark = "*" if message.store == "ibdb" else " "
    when = time.strftime("%a %b %e %H:%M", time.localtime(message.received))
    lines = [f"{message.ta}{mark} {message.size:>8} {when} {_text(addr.bracketed(message.mail))}"]
    for rcpt in message.rcpts:
        if rcpt.reason:
            lines.append(f"                 ({rcpt.reason})")
        lines.append(f"{'':<38}{_text(addr.bracketed(rcpt.address))}")
    return "\n".join(lines) + "\n"
