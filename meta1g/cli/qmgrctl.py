"""qmgrctl: ask QMGR for its state, or to do something (M1 4.7.3)."""
import json
import os
from typing import Any

import click

from meta1g import __version__
from meta1g.cli import control
from meta1g.cli.ctl import DEFAULT_CONF
from meta1g.cli.queue_files import locate
from meta1g.mta.errors import LinkDown


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-f", "conf", default=DEFAULT_CONF, show_default=True, metavar="CONF", help="configuration file")
@click.option("-r", "--reload", "reload", is_flag=True, help="have QMGR and SMAR read their maps anew (M1 4.8)")
@click.option("--flush", is_flag=True, help="try everything that is deferred now")
@click.option("--json", "as_json", is_flag=True, help="for scripts")
@click.version_option(__version__, "-V", "--version")
def main(conf: str, reload: bool, flush: bool, as_json: bool) -> None:
    """Show QMGR's state, or make it reload or flush.

    \b
    Example: runas meta1q qmgrctl -f /etc/meta1/meta1.conf
    """
    config = locate(conf)
    path = os.path.join(config.queue_directory, config.queue_path(config.module("qmgr").control_socket))
    command = "reload" if reload else "flush" if flush else "status"
    try:
        answer = control.ask_qmgr(path, command)
    except LinkDown as error:
        click.echo(f"qmgrctl: {error}; does QMGR run, and may you read its socket?", err=True)
        raise SystemExit(os.EX_UNAVAILABLE) from None
    if as_json:
        click.echo(json.dumps(answer))
        return
    for line in _lines(answer, ""):
        click.echo(line)


def _lines(values: dict[str, Any], prefix: str) -> list[str]:
    found = []
    for name, given in values.items():
        value = {str(at): part for at, part in enumerate(given)} if isinstance(given, list) else given
        if isinstance(value, dict):
            found += _lines(value, f"{prefix}{name}.")
        else:
            found.append(f"{prefix + name:<32} {value}")
    return found
