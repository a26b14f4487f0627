"""Installing and checking MeTA1's layout: `python -m meta1g.cli.install` (M1 2.4).

The table of owners and modes is `shim.layout`; this creates it or says what differs.
"""
import grp
import os
import pwd
import subprocess
import sys
from pathlib import Path
from typing import Final

import click

from meta1g.cli import instance
from meta1g.shim import layout

# formats.md: users and groups with the numbers of FreeBSD's port; further members of groups
ACCOUNTS: Final = {"meta1s": 260, "meta1q": 261, "meta1c": 262, "meta1m": 263, "meta1": 264}
MEMBERS: Final = {"meta1c": ("meta1s",), "meta1m": ("meta1s", "meta1q")}
LIBEXEC: Final = ("mcp", "qmgr", "smar", "smtps", "smtpc", "smtpp", "lda")
BIN: Final = ("mailq", "qmgrctl", "createmap", "runas", "smconf")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Install meta1g on this machine, or check an installation."""


@main.command()
@click.option("--prefix", default="/usr/local", show_default=True, help="programs go to PREFIX/bin and PREFIX/libexec")
@click.option("--conf-dir", default="/etc/meta1", show_default=True, help="META1CONFDIR of the original")
@click.option("--queue-dir", default="/var/spool/meta1", show_default=True, help="MTAQDIR of the original")
@click.option("--log-dir", default="/var/log/meta1", show_default=True)
def install(prefix: str, conf_dir: str, queue_dir: str, log_dir: str) -> None:
    """Create users, folders, programs, a configuration; what is there already stays."""
    if os.geteuid() != 0:
        _fail("only root can install; for a server of your own use meta1g-ctl init DIR", os.EX_NOPERM)
    _make_accounts()
    who = layout.owners(None)
    for folder in (conf_dir, queue_dir, log_dir):
        os.makedirs(folder, 0o755, exist_ok=True)
    layout.create("queue", queue_dir, who)
    _link_programs(Path(prefix))
    made = instance.make_configuration(conf_dir, queue_dir, log_dir, who)
    click.echo(f"installed; {'configuration made in' if made else 'configuration kept in'} {conf_dir}")
    click.echo(f"start it with: {prefix}/bin/meta1g-ctl -f {conf_dir}/meta1.conf start")


@main.command()
@click.option("-p", "users", is_flag=True, help="check users and groups")
@click.option("-P", "files", is_flag=True, help="check owners and modes of files")
@click.option("--queue-dir", default="/var/spool/meta1", show_default=True)
def check(users: bool, files: bool, queue_dir: str) -> None:
    """Check users (-p) and files (-P) as the original's sm.check.sh; both without an option."""
    problems = []
    try:
        who = layout.owners(None)
    except KeyError as error:
        who = None
        problems.append(f"{error.args[0]}; create it, or run the installation")
    if who is not None and (users or not files):
        problems += _missing_members()
    if files or not users:
        problems += layout.check("queue", queue_dir, who)
    for problem in problems:
        click.echo(problem)
    raise SystemExit(1 if problems else 0)


@main.command()
@click.option("--prefix", default="/usr/local", show_default=True)
def uninstall(prefix: str) -> None:
    """Remove the programs; mail, configuration and users stay."""
    for path in [*(Path(prefix, "libexec", name) for name in LIBEXEC),
                 *(Path(prefix, "bin", name) for name in (*BIN, "meta1g", "meta1g-ctl"))]:
        if path.is_symlink() or _is_ours(path):
            path.unlink(missing_ok=True)


def _fail(text: str, code: int) -> None:
    click.echo(f"install: {text}", err=True)
    raise SystemExit(code)


def _make_accounts() -> None:
    """The users of M1 2.4; numbers of the table where they are free."""
    for name, number in ACCOUNTS.items():
        if not _has(grp.getgrnam, name):
            _run("groupadd", "--system", *_number("--gid", number, grp.getgrgid), name)
        if not _has(pwd.getpwnam, name):
            _run("useradd", "--system", "--no-create-home", "--home-dir", "/nonexistent",
                 "--shell", "/usr/sbin/nologin",
                 "--gid", name, *_number("--uid", number, pwd.getpwuid), "--comment", f"meta1 {name}", name)
    for group, members in MEMBERS.items():
        for member in members:
            if member not in grp.getgrnam(group).gr_mem:
                _run("usermod", "--append", "--groups", group, member)


def _has(lookup: object, key: object) -> bool:
    try:
        lookup(key)  # type: ignore[operator]
    except KeyError:
        return False
    return True


def _number(option: str, number: int, lookup: object) -> list[str]:
    return [] if _has(lookup, number) else [option, str(number)]


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        _fail(f"{' '.join(command)}: {done.stderr.strip()}", os.EX_OSERR)


def _missing_members() -> list[str]:
    return [
        f"user {member} is not a member of group {group}; usermod -a -G {group} {member}"
        for group, members in MEMBERS.items() for member in members
        if member not in grp.getgrnam(group).gr_mem
    ]


def _is_ours(path: Path) -> bool:
    try:
        return "meta1g" in path.read_text(errors="replace")
    except OSError:
        return False


def _link_programs(prefix: Path) -> None:
    """MeTA1's names as small scripts that run the one program."""
    program = instance.program_path()
    for folder, names in (("libexec", LIBEXEC), ("bin", BIN)):
        (prefix / folder).mkdir(parents=True, exist_ok=True)
        for name in names:
            path = prefix / folder / name
            path.write_text(f'#!/bin/sh\nexec {program} {name} "$@"\n')
            path.chmod(0o755)
    for name in ("meta1g", "meta1g-ctl"):
        link = prefix / "bin" / name
        link.unlink(missing_ok=True)
        link.symlink_to(Path(program).parent / name)


if __name__ == "__main__":
    sys.exit(main())
