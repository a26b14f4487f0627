"""Installing MeTA1's layout: `python -m meta1g.cli.install`, which `make install` runs (M1 2.4).

The table of owners and modes is `shim.layout`; `meta1g-ctl check -p` and `-P` say what differs from it.
"""
import grp
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from meta1g.cli import instance
from meta1g.shim import layout

NUMBERS: Final = dict(zip(layout.USERS, (260, 261, 262, 263, 264), strict=True))  # M1 2.4, FreeBSD's port
VARIABLES: Final = {"meta1s": "MTAS", "meta1q": "MTAQ", "meta1c": "MTAC", "meta1m": "MTAM", "meta1": "MTA"}
PROGRAMS: Final = {
    "libexec": ("mcp", "qmgr", "smar", "smtps", "smtpc", "smtpp", "lda"),
    "bin": ("mailq", "qmgrctl", "createmap", "runas", "smconf"),
    "sbin": ("mcp", "greyprint", "greyrm"),
}
_AS_QMGR: Final = ("mailq", "qmgrctl")  # NAME.sh runs NAME by runas
_RECORD: Final = "lib/meta1g/installed"  # what an uninstallation removes


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Install meta1g on this machine, or remove it."""


@main.command()
@click.option("--destdir", default="", help="put everything below this folder: for packages")
@click.option("--prefix", default="/usr/local", show_default=True, help="programs go to PREFIX/bin, sbin and libexec")
@click.option("--conf-dir", default="/etc/meta1", show_default=True, help="META1CONFDIR of the original")
@click.option("--queue-dir", default="/var/spool/meta1", show_default=True, help="MTAQDIR of the original")
@click.option("--log-dir", default="/var/log/meta1", show_default=True)
@click.option("--users/--no-users", default=True, show_default=True, help="create users and groups that are missing")
@click.option("--sendmail/--no-sendmail", default=False, show_default=True,
              help="also sbin/sendmail and bin/newaliases, unless they are there")
@click.option("--man", "pages", default="", metavar="FOLDER", help="install the man pages in this folder")
def install(destdir: str, prefix: str, conf_dir: str, queue_dir: str, log_dir: str, pages: str, *,
            users: bool, sendmail: bool) -> None:
    """Create users, folders, programs, a configuration; what is there already stays.

    The environment names other accounts (MTAS MTAQ MTAC MTAM MTA) and the group of log files (MTALG).
    """
    if os.geteuid() != 0:
        _fail("only root can install; for a server of your own use meta1g-ctl init DIR", os.EX_NOPERM)
    names = {name: os.environ.get(variable) or name for name, variable in VARIABLES.items()}
    if users:
        _make_accounts(names)
    try:
        who = layout.owners(names=names)
    except KeyError as error:
        _fail(f"{error.args[0]}; create it, or run make install USERS=yes", os.EX_NOUSER)
    for folder in (conf_dir, queue_dir, log_dir):
        os.makedirs(destdir + folder, 0o755, exist_ok=True)
    _give_logs(destdir + log_dir)
    layout.create("queue", destdir + queue_dir, who)
    elsewhere = f"{conf_dir}/meta1.conf" if conf_dir != "/etc/meta1" else ""
    made = [*_programs(Path(destdir + prefix), destdir, elsewhere), *_pages(Path(pages), Path(destdir + prefix))]
    if sendmail:
        made += _sendmail(Path(destdir + prefix), destdir)
    _record(Path(destdir + prefix), made)
    is_new = instance.make_configuration(conf_dir, queue_dir, log_dir, who, names, destdir)
    click.echo(f"installed; {'configuration made in' if is_new else 'configuration kept in'} {conf_dir}")
    click.echo(f"start it with: {prefix}/bin/meta1g-ctl -f {conf_dir}/meta1.conf start")


@main.command()
@click.option("--prefix", default="/usr/local", show_default=True)
def uninstall(prefix: str) -> None:
    """Remove what was installed; mail, configuration, logs and users stay."""
    record = Path(prefix, _RECORD)
    if not record.exists():
        _fail(f"{record} is missing: nothing was installed there", os.EX_NOINPUT)
    for line in record.read_text().splitlines():
        Path(prefix, line).unlink(missing_ok=True)
    record.unlink()
    click.echo("removed; configuration, queue, logs and users stay")


def _fail(text: str, code: int) -> None:
    click.echo(f"install: {text}", err=True)
    raise SystemExit(code)


def _make_accounts(names: dict[str, str]) -> None:
    """The users of M1 2.4; numbers of the table where they are free."""
    for name, real in names.items():
        if not _has(grp.getgrnam, real):
            _run("groupadd", "--system", *_number("--gid", NUMBERS[name], grp.getgrgid), real)
        if not _has(pwd.getpwnam, real):
            _run("useradd", "--system", "--no-create-home", "--home-dir", "/nonexistent",
                 "--shell", "/usr/sbin/nologin", "--gid", real, *_number("--uid", NUMBERS[name], pwd.getpwuid),
                 "--comment", f"meta1 {name}", real)
    for group, members in layout.MEMBERS.items():
        for member in members:
            if names[member] not in grp.getgrnam(names[group]).gr_mem:
                _run("usermod", "--append", "--groups", names[group], names[member])


def _has(lookup: Callable[..., object], key: object) -> bool:
    try:
        lookup(key)
    except KeyError:
        return False
    return True


def _number(option: str, number: int, lookup: Callable[..., object]) -> list[str]:
    return [] if _has(lookup, number) else [option, str(number)]


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        _fail(f"{' '.join(command)}: {done.stderr.strip()}", os.EX_OSERR)


def _give_logs(folder: str) -> None:
    """Log files get the group of their folder (M1 2.4.1, MTALG)."""
    group = os.environ.get("MTALG")
    if group:
        try:
            shutil.chown(folder, group=group)
        except LookupError:
            _fail(f"MTALG: group {group} does not exist", os.EX_NOUSER)


def _programs(prefix: Path, destdir: str, conf: str) -> list[Path]:
    """MeTA1's names as small scripts that run the one program, for the configuration `conf` unless that is empty."""
    program = instance.program_path().removeprefix(destdir)
    first = f': "${{META1G_CONF:={conf}}}"; export META1G_CONF\n' if conf else ""
    made = [_script(prefix / folder / name, f'{first}exec {program} {name} "$@"')
            for folder, names in PROGRAMS.items() for name in names]
    made += [_script(prefix / "bin" / name, f'{first}exec {Path(program).parent / name} "$@"')
             for name in ("meta1g", "meta1g-ctl")]
    folder = str(prefix / "bin").removeprefix(destdir)
    made += [_script(prefix / "bin" / f"{name}.sh", f'exec {folder}/runas "${{MTAQ:-meta1q}}" {folder}/{name} "$@"')
             for name in _AS_QMGR]
    made.append(_script(prefix / "bin" / "rcvrenvfromlog.sh", f'exec {folder}/meta1g queue envelopes "$@"'))
    made.append(_script(prefix / "sbin" / "sm.check.sh", f'exec {folder}/meta1g-ctl check "$@"'))
    return made


def _script(path: Path, line: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)
    return path


def _sendmail(prefix: Path, destdir: str) -> list[Path]:
    """The submission program, only where there is none."""
    program = instance.program_path().removeprefix(destdir)
    wanted = {prefix / "sbin" / "sendmail": f'exec {program} sendmail "$@"',
              prefix / "bin" / "newaliases": f'exec {program} sendmail -bi "$@"'}
    made = []
    for path, line in wanted.items():
        if os.path.lexists(path):
            click.echo(f"{path} is there already, and stays")
        else:
            made.append(_script(path, line))
    return made


def _pages(source: Path, prefix: Path) -> list[Path]:
    """The man pages."""
    made = []
    for page in sorted(source.glob("*.[1-8]")) if source.name else ():
        folder = prefix / "share" / "man" / f"man{page.suffix[1:]}"
        folder.mkdir(parents=True, exist_ok=True)
        made.append(Path(shutil.copyfile(page, folder / page.name)))
        made[-1].chmod(0o644)
    return made


def _record(prefix: Path, made: list[Path]) -> None:
    record = prefix / _RECORD
    before = record.read_text().splitlines() if record.exists() else []
    record.parent.mkdir(parents=True, exist_ok=True)
    lines = dict.fromkeys([*before, *(str(path.relative_to(prefix)) for path in made)])
    record.write_text("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    sys.exit(main())
