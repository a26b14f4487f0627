"""meta1g-ctl: the administrator's one handle on an instance (design 7)."""
import json
import os
import signal
import subprocess
import sys
import time
from typing import Any, Final, NoReturn

import click

from meta1g import __version__
from meta1g.cli import control, instance
from meta1g.cli.keycheck import check_keys
from meta1g.cli.layoutcheck import check_files, check_users
from meta1g.conf.errors import ConfErrors
from meta1g.conf.load import MODULES, Config, check_services, load_file
from meta1g.mcp import status as mcp_status
from meta1g.mta.errors import LinkDown

DEFAULT_CONF: Final = os.environ.get("META1G_CONF") or "/etc/meta1/meta1.conf"  # an installation elsewhere sets it
_START_TIMEOUT: Final = 60.0
_STOP_TIMEOUT: Final = 300.0  # every process has 60 s before MCP kills it
_POLL: Final = 0.02
_WORKING: Final = ("ready", "idle", "leaving")  # states in which nothing is amiss


def _fail(text: str, code: int) -> NoReturn:
    click.echo(f"meta1g-ctl: {text}", err=True)
    raise SystemExit(code)


def _load(path: str) -> Config:
    """The configuration, or the end of this program with all its mistakes."""
    try:
        config = load_file(path)
        errors = check_services(config)
    except ConfErrors as error:
        click.echo(str(error), err=True)
        raise SystemExit(os.EX_CONFIG) from None
    except OSError as error:
        _fail(f"{path}: {error.strerror}; choose a configuration with -f, or make one with meta1g-ctl init DIR",
              os.EX_NOINPUT)
    if errors:
        click.echo("\n".join(map(str, errors)), err=True)
        raise SystemExit(os.EX_CONFIG)
    return config


def _load_with_keys(path: str) -> Config:
    """As `_load`, for those who mean to run it: keys that can't be used end this program, too."""
    config = _load(path)
    errors = check_keys(config)
    if errors:
        click.echo("\n".join(f"{path}: {error}" for error in errors), err=True)
        raise SystemExit(os.EX_CONFIG)
    return config


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-f", "conf", default=DEFAULT_CONF, show_default=True, metavar="CONF", help="configuration file")
@click.version_option(__version__)
@click.pass_context
def main(context: click.Context, conf: str) -> None:
    """Set up, start, stop and watch a meta1g mail server.

    \b
    A first server of your own:
      meta1g-ctl init ./mail
      meta1g-ctl -f ./mail/etc/meta1.conf start
    """
    context.obj = os.path.abspath(conf)


@main.command()
@click.argument("directory")
@click.option("--port", default=2525, show_default=True, help="port to listen on at 127.0.0.1")
@click.option("--hostname", default=None, help="name of this server and a local domain [this host's name]")
@click.option("--user", default=None, help="as root: user for all daemons [the meta1 users, else nobody]")
@click.option("--tls/--no-tls", "has_tls", default=True, show_default=True, help="offer TLS, with a new certificate")
def init(directory: str, port: int, hostname: str | None, user: str | None, *, has_tls: bool) -> None:
    """Make an instance in DIRECTORY: configuration, maps, a certificate, spool, log folder."""
    try:
        what = instance.plan(directory, port, hostname, user, has_tls=has_tls)
        instance.make(what)
    except instance.InitError as error:
        _fail(str(error), os.EX_CANTCREAT)
    click.echo(f"instance made in {what.base}; start it with: meta1g-ctl -f {what.conf} start")


@main.command()
@click.option("-p", "users", is_flag=True, help="instead: are the users and groups of the configuration there?")
@click.option("-P", "files", is_flag=True, help="instead: are folders and files owned and guarded as they should be?")
@click.pass_obj
def check(conf: str, *, users: bool, files: bool) -> None:
    """Check the configuration and its keys; exit code 78 if something is wrong."""
    if not users and not files:
        _load_with_keys(conf)
        click.echo(f"{conf}: ok")
        return
    config = _load(conf)
    problems = (check_users(config) if users else []) + (check_files(config) if files else [])
    for problem in problems:
        click.echo(problem)
    raise SystemExit(os.EX_CONFIG if problems else 0)


@main.command()
@click.pass_obj
def start(conf: str) -> None:
    """Start all processes; returns when each is ready to work."""
    config = _load_with_keys(conf)
    folder = config.queue_directory
    running = mcp_status.read(folder)
    log = os.path.join(config.log_directory, "mcp.log")
    if running is None:
        _launch(conf, config, log)
    deadline = time.monotonic() + _START_TIMEOUT
    while time.monotonic() < deadline:
        running = mcp_status.read(folder)
        if running is not None and not running["stopping"]:
            failed = [p["name"] for p in running["processes"] if p["state"] == "failed"]
            if failed:
                _give_up(conf, config, f"{', '.join(failed)} can't be started", log)
            if _is_ready(config, running):
                return
        elif _launched is not None and _launched.poll() is not None:
            _fail(f"mcp ended with code {_launched.returncode}: {_last_line(log)}; see {log}", os.EX_UNAVAILABLE)
        time.sleep(_POLL)
    _give_up(conf, config, f"not everything was ready after {int(_START_TIMEOUT)} seconds", log)


_launched: "subprocess.Popen[bytes] | None" = None


def _launch(conf: str, config: Config, log: str) -> None:
    global _launched
    try:
        fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        _launched = subprocess.Popen(
            [instance.program_path(), "mcp", "-f", conf, "-L", config.log_directory], cwd=config.queue_directory,
            stdin=subprocess.DEVNULL, stdout=fd, stderr=fd, start_new_session=True)
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}", os.EX_CANTCREAT)
    except instance.InitError as error:
        _fail(str(error), os.EX_UNAVAILABLE)
    os.close(fd)


def _is_ready(config: Config, running: dict[str, Any]) -> bool:
    """Whether all our own programs say so; foreign ones only have to be there."""
    own = {service.label for service in config.services if service.keyword in MODULES}
    return bool(running["processes"]) and all(
        p["state"] in _WORKING or (p["state"] == "started" and p["name"] not in own)
        for p in running["processes"])


def _give_up(conf: str, config: Config, reason: str, log: str) -> NoReturn:
    running = mcp_status.read(config.queue_directory)
    lines = [reason]
    for process in (running or {}).get("processes", []):
        if process["state"] not in _WORKING:
            path = os.path.join(config.log_directory, f"{process['name']}.log")
            how = process["last_exit"] or process["state"]
            lines.append(f"{process['name']} ({how}): {_last_line(path)}; see {path}")
    _stop(config)
    _fail("\n  ".join(lines) + f"\n  see {log}", os.EX_UNAVAILABLE)


def _last_line(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = [line.strip() for line in file if line.strip()]
    except OSError as error:
        return str(error.strerror)
    return lines[-1] if lines else "nothing was logged"


@main.command()
@click.pass_obj
def stop(conf: str) -> None:
    """Stop in order: finish transactions, flush; returns when the last process is gone."""
    _stop(_load(conf))


def _stop(config: Config) -> None:
    running = mcp_status.read(config.queue_directory)
    if running is None:
        return
    pids = [running["pid"], *(p["pid"] for p in running["processes"] if p["pid"])]
    try:
        os.kill(running["pid"], signal.SIGTERM)
    except PermissionError:
        _fail(f"no right to stop mcp (pid {running['pid']}); run this as its user", os.EX_NOPERM)
    except ProcessLookupError:
        pass
    deadline = time.monotonic() + _STOP_TIMEOUT
    while time.monotonic() < deadline:
        if not any(_is_alive(pid) for pid in pids):
            return
        time.sleep(_POLL)
    _fail(f"still running after {int(_STOP_TIMEOUT)} seconds: {' '.join(str(p) for p in pids if _is_alive(p))}",
          os.EX_TEMPFAIL)


def _is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@main.command()
@click.pass_context
def restart(context: click.Context) -> None:
    """Stop, then start."""
    context.invoke(stop)
    context.invoke(start)


@main.command()
@click.pass_obj
def reload(conf: str) -> None:
    """Check the new configuration, reopen maps, apply what changed; a wrong one changes nothing."""
    config = _load_with_keys(conf)
    running = mcp_status.read(config.queue_directory)
    if running is None:
        _fail("not running; start it with meta1g-ctl start", os.EX_UNAVAILABLE)
    before = running["reloads"]
    maps_before, conf_before = _map_version(config, running), _conf_version(config, running)
    os.kill(running["pid"], signal.SIGHUP)
    deadline = time.monotonic() + _START_TIMEOUT
    while time.monotonic() < deadline:
        running = mcp_status.read(config.queue_directory)
        is_done = running is not None and running["reloads"] != before and _is_ready(config, running)
        if running is not None and is_done and _is_taken_up(_map_version(config, running), maps_before) \
                and _is_taken_up(_conf_version(config, running), conf_before):
            _say_what_is_old(config, running)
            return
        time.sleep(_POLL)
    _fail("the processes did not get ready again in time; see meta1g-ctl status", os.EX_TEMPFAIL)


def _say_what_is_old(config: Config, running: dict[str, Any]) -> None:
    """What of the new configuration is not in use, and why."""
    late = _queue_status(config).get("configuration", {}).get("after_restart")
    if late:
        click.echo(f"qmgr: these count after a restart: {' '.join(late)}")
    stale = sorted({process["name"] for process in running["processes"] if process["stale"]})
    if stale:
        lines = [f"{name}: {_last_line(os.path.join(config.log_directory, f'{name}.log'))}" for name in stale]
        _fail("new processes could not be started, the old ones go on with the old configuration\n  "
              + "\n  ".join(lines), os.EX_UNAVAILABLE)


def _is_taken_up(version: tuple[int, int], before: tuple[int, int]) -> bool:
    """Whether a process has something new; who can't be asked just now (-1) has not said so."""
    return version[1] >= 0 and version != before


def _conf_version(config: Config, running: dict[str, Any]) -> tuple[int, int]:
    """QMGR's process id and how often it has taken a configuration up."""
    reloads = _queue_status(config).get("configuration", {}).get("reloads", -1)
    return _pid_of("qmgr", running), reloads


def _pid_of(keyword: str, running: dict[str, Any]) -> int:
    return next((process["pid"] for process in running["processes"] if process["keyword"] == keyword), 0)


def _map_version(config: Config, running: dict[str, Any]) -> tuple[int, int]:
    """SMAR's process id and how often it has reopened its maps."""
    pid = _pid_of("smar", running)
    try:
        path = os.path.join(config.queue_directory, config.queue_path(config.smar_socket))
        return pid, int(control.ask_smar(path)["reopened"])
    except LinkDown:
        return pid, -1


@main.command()
@click.option("--json", "as_json", is_flag=True, help="for scripts")
@click.pass_obj
def status(conf: str, as_json: bool) -> None:
    """One line for each process; exit code 0 when all are ready, 3 when not running."""
    config = _load(conf)
    running = mcp_status.read(config.queue_directory)
    queue = _queue_status(config) if running is not None else {}
    if as_json:
        click.echo(json.dumps(_as_json(running, queue)))
    elif running is None:
        click.echo("not running")
    else:
        for line in _lines(running, queue):
            click.echo(line)
    raise SystemExit(3 if running is None else 0 if _is_ready(config, running) else 1)


def _queue_status(config: Config) -> dict[str, Any]:
    try:
        path = config.queue_path(config.module("qmgr").control_socket)
        return control.ask_qmgr(os.path.join(config.queue_directory, path), "status")
    except LinkDown as error:
        return {"error": str(error)}


def _as_json(running: dict[str, Any] | None, queue: dict[str, Any]) -> dict[str, Any]:
    if running is None:
        return {"running": False, "processes": []}
    mcp = {"name": "mcp", "number": 0, "pid": running["pid"], "state": "ready",
           "uptime": _uptime(running)}
    connections = queue.get("connections", {})
    counted = {server["pid"]: server for server in queue.get("smtps", ())}
    processes = [
        {**p, "uptime": _uptime(p), "connections": connections.get(p["keyword"], 0),
         **({"statistics": counted[p["pid"]]} if p["pid"] in counted else {})} for p in running["processes"]]
    return {"running": True, "processes": [mcp, *processes], "queue": queue}


def _uptime(process: dict[str, Any]) -> int:
    return int(time.time() - process["began"]) if process["pid"] else 0


def _lines(running: dict[str, Any], queue: dict[str, Any]) -> list[str]:
    lines = [f"{'mcp':<10} pid {running['pid']:<8} ready     up {_uptime(running)} s"]
    sizes = queue.get("queues", {})
    for process in running["processes"]:
        line = f"{process['name']:<10} pid {process['pid']:<8} {process['state']:<9} up {_uptime(process)} s"
        if process["stale"]:
            line += ", with an old configuration"
        if process["restarts"]:
            line += f", restarts {process['restarts']}"
        if process["keyword"] in ("smtps", "smtpc"):
            line += f", connections {queue.get('connections', {}).get(process['keyword'], '?')}"
        if process["keyword"] == "qmgr":
            line += f", active {sizes.get('aq', '?')}, deferred {sizes.get('deferred', '?')}"
        lines.append(line)
    holds = queue.get("holds", {})
    if holds.get("all") or holds.get("sites"):
        what = "all deliveries" if holds["all"] else " ".join(holds["sites"])
        lines.append(f"held: {what}; qmgrctl release lets them go on")
    return lines


if __name__ == "__main__":
    sys.exit(main())
