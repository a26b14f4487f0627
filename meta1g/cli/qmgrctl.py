"""qmgrctl: ask QMGR for its state, or to do something (M1 4.7.3)."""
import json
import os
from collections.abc import Callable
from typing import Any

import click

from meta1g import __version__
from meta1g.cli import control
from meta1g.cli.ctl import DEFAULT_CONF
from meta1g.cli.exits import Group
from meta1g.cli.queue_files import fail, locate
from meta1g.mta.errors import LinkDown

_JSON = click.option("--json", "as_json", is_flag=True, help="for scripts: a JSON object")
_SITE = click.option("--site", "sites", multiple=True, metavar="SITE",
                     help="a host's name or IP address in the recipient's route, or the recipient's domain")
_TO = click.option("--to", multiple=True, metavar="ADDRESS",
                   help="recipients like this: user@dom, @dom, or with * and ?")
_ID = click.option("--id", "ids", multiple=True, metavar="ID", help="the transaction or recipient with this id")


def _selecting(command: Callable[..., None]) -> Callable[..., None]:
    """A command about some recipients: its options say which."""
    return _SITE(_TO(_ID(_JSON(click.pass_obj(command)))))


class _Asking:
    """Where QMGR is, and in which form its answer is shown."""

    def __init__(self, conf: str, *, as_json: bool) -> None:
        self._conf = conf
        self._as_json = as_json

    def do(self, command: str, show: Callable[[dict[str, Any]], str], *, as_json: bool = False,
           **arguments: tuple[str, ...]) -> None:
        """Ask QMGR and show its answer; ends the program if there is none."""
        config = locate(self._conf)
        path = os.path.join(config.queue_directory, config.queue_path(config.module("qmgr").control_socket))
        try:
            answer = control.ask_qmgr(path, command, **arguments)
        except control.Refused as error:
            fail(f"qmgrctl: {error}", os.EX_DATAERR)
        except LinkDown as error:
            fail(f"qmgrctl: {error}; does QMGR run, and may you read its socket?", os.EX_UNAVAILABLE)
        click.echo(json.dumps(answer) if as_json or self._as_json else show(answer))


@click.group(cls=Group, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-f", "conf", default=DEFAULT_CONF, show_default=True, metavar="CONF", help="configuration file")
@click.option("-r", "--reload", "is_reload", is_flag=True, help="as the command reload (M1 4.8)")
@click.option("--flush", "is_flush", is_flag=True, help="as the command flush")
@_JSON
@click.version_option(__version__, "-V", "--version")
@click.pass_context
def main(context: click.Context, conf: str, *, is_reload: bool, is_flush: bool, as_json: bool) -> None:
    """Show QMGR's state, try deferred mail now, stop deliveries and let them go on, give mail up.

    \b
    Examples: runas meta1q qmgrctl -f /etc/meta1/meta1.conf       its state
              qmgrctl flush                                       try all deferred mail now
              qmgrctl flush --site mx.example.net                 what goes to a host that is back
              qmgrctl flush --to '*@example.org'                  or to some recipients
              qmgrctl hold --site example.org                     no deliveries there for now
              qmgrctl release --site example.org                  go on, at once
              qmgrctl delete --id S00000000000000A100             a message nobody wants
              qmgrctl expire --to '@gone.example.org'             back to the senders now
              qmgrctl statistics --json                           what was done since the start

    `qmgrctl COMMAND --help` explains each. Which mail a --site stands for mailq shows: mailq --site example.org
    """
    asking = context.obj = _Asking(conf, as_json=as_json)
    if context.invoked_subcommand is None:
        if is_reload:
            asking.do("reload", _table)
        elif is_flush:
            asking.do("flush", _flushed)
        else:
            asking.do("status", _table)


@main.command()
@_JSON
@click.pass_obj
def status(asking: _Asking, as_json: bool) -> None:
    """Show the sizes of the queues, what is held, peers, limits, and counters."""
    asking.do("status", _table, as_json=as_json)


@main.command()
@_JSON
@click.pass_obj
def statistics(asking: _Asking, as_json: bool) -> None:
    """Show what QMGR and the SMTP servers have counted since they began."""
    asking.do("statistics", _table, as_json=as_json)


@main.command("reload")
@_JSON
@click.pass_obj
def reload_maps(asking: _Asking, as_json: bool) -> None:
    """Have QMGR and SMAR read their maps anew."""
    asking.do("reload", _table, as_json=as_json)


@main.command()
@_selecting
def flush(asking: _Asking, sites: tuple[str, ...], to: tuple[str, ...], ids: tuple[str, ...], as_json: bool) -> None:
    """Try deferred mail now: all, or the recipients that fit every option.

    \b
    Examples: qmgrctl flush
              qmgrctl flush --site 192.0.2.25 --site mx2.example.net
              qmgrctl flush --id S00000000000000A100

    Hosts that rest after failures are tried as well. What is held stays held.
    """
    asking.do("flush", _flushed, as_json=as_json, site=sites, to=to, id=ids)


@main.command()
@_SITE
@_JSON
@click.pass_obj
def hold(asking: _Asking, sites: tuple[str, ...], as_json: bool) -> None:
    """Begin no more deliveries, at all or to some sites, until release.

    \b
    Examples: qmgrctl hold                            nothing leaves; mail is still accepted
              qmgrctl hold --site mx.example.net

    What is under way ends. Recipients stay in the queue, it does not count as a try, and they do not expire
    meanwhile. A hold outlives QMGR: see status.
    """
    asking.do("hold", _held, as_json=as_json, site=sites)


@main.command()
@_selecting
def release(asking: _Asking, sites: tuple[str, ...], to: tuple[str, ...], ids: tuple[str, ...], as_json: bool) -> None:
    """End all holds, or those of some sites; or let messages go that a filter has put in quarantine.

    \b
    Examples: qmgrctl release --site mx.example.net         what was held is tried at once
              qmgrctl release --id S00000000000000A100      a message in quarantine: see mailq --held
    """
    asking.do("release", _given_up("released") if to or ids else _held, as_json=as_json, site=sites, to=to, id=ids)


@main.command()
@_selecting
def delete(asking: _Asking, sites: tuple[str, ...], to: tuple[str, ...], ids: tuple[str, ...], as_json: bool) -> None:
    """Delete recipients from the queue for ever; nobody is told. They must fit every option.

    \b
    Examples: qmgrctl delete --id S00000000000000A100     all recipients of a message
              qmgrctl delete --to '*@spamtrap.example.org'

    Look first: mailq with the same options shows whom it means. A delivery that is under way comes to its end
    before: who gets the message by it has it. Each deletion is in QMGR's log.
    """
    asking.do("delete", _given_up("deleted"), as_json=as_json, site=sites, to=to, id=ids)


@main.command()
@_selecting
def expire(asking: _Asking, sites: tuple[str, ...], to: tuple[str, ...], ids: tuple[str, ...], as_json: bool) -> None:
    """Give recipients up as if they had been in the queue for too long: the senders get reports.

    \b
    Example: qmgrctl expire --site mx.example.net
    """
    asking.do("expire", _given_up("given up"), as_json=as_json, site=sites, to=to, id=ids)


def _given_up(what: str) -> Callable[[dict[str, Any]], str]:
    return lambda answer: f"{_number(answer['due'])} {what}" + _rest(answer)


def _table(answer: dict[str, Any]) -> str:
    return "\n".join(_lines(answer, ""))


def _lines(values: dict[str, Any], prefix: str) -> list[str]:
    found = []
    for name, given in values.items():
        value = {str(at): part for at, part in enumerate(given)} if isinstance(given, list) else given
        if isinstance(value, dict):
            found += _lines(value, f"{prefix}{name}.")
        else:
            found.append(f"{prefix + name:<32} {value}")
    return found


def _flushed(answer: dict[str, Any]) -> str:
    if "holds" not in answer:
        return f"{_number(answer['due'])} tried now" + _rest(answer)
    return f"{_number(answer['due'])} due now, but what is held waits for its release\n{_holds(answer['holds'])}"


def _held(answer: dict[str, Any]) -> str:
    lines = [_holds(answer["holds"])]
    if "due" in answer:
        lines.append(f"{_number(answer['due'])} due now" + _rest(answer))
    return "\n".join(lines)


def _rest(answer: dict[str, Any]) -> str:
    return ", more follow when these are on their way" if answer.get("more") else ""


def _holds(holds: dict[str, Any]) -> str:
    lines = ["All deliveries are held"] if holds["all"] else []
    lines += [f"Held: {' '.join(holds['sites'])}"] if holds["sites"] else []
    return "\n".join(lines) or "Nothing is held"


def _number(count: int) -> str:
    return "1 recipient is" if count == 1 else f"{count} recipients are"
