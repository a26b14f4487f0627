"""runas: run a program as another user (M1 4.7.1)."""
import os
import shutil

import click

from meta1g.mcp.spawn import account


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False,
                                 "help_option_names": ["-h", "--help"]})
@click.argument("user")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def main(user: str, command: tuple[str, ...]) -> None:
    """Run COMMAND as USER, with that user's groups and nothing of root's.

    \b
    Example: runas meta1q mailq -V
    """
    try:
        who = account(user, "")
    except KeyError as error:
        click.echo(f"runas: {error.args[0]}", err=True)
        raise SystemExit(os.EX_NOUSER) from None
    program = shutil.which(command[0])
    if program is None:
        click.echo(f"runas: {command[0]}: not found", err=True)
        raise SystemExit(127)
    if who is not None:
        os.setgroups(list(who.groups))
        os.setgid(who.gid)
        os.setuid(who.uid)
    os.execv(program, list(command))
