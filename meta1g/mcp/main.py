"""MCP: binds ports, starts, watches and restarts the other processes (M1 3.7, 4.1, 8.2).

Rules
    One plain loop; the only program that may run as root, so the smallest. It knows
    nothing of mail.
    TERM and INT end all children in order; HUP reads the configuration again.

Files
    LOGDIR/<section>.log for each process; mcp.pid and mcp.status in the queue directory.
"""
import os
import resource
import selectors
import signal
import socket
import sys
import time
from typing import Any, Final

from meta1g.conf.cmdline import Invocation, UsageError, parse_args, usage
from meta1g.conf.errors import ConfErrors
from meta1g.conf.load import MODULES, Config, Service, check_services, load_file
from meta1g.mcp import sockets, spawn, status
from meta1g.mcp.children import Action, Child, Children, Leave, Note, Signal, Start, State
from meta1g.mcp.notify import Notifier
from meta1g.proc.log import Log

_OWN: Final = frozenset(MODULES)  # programs that say when they are ready
_PASS_RETRY: Final = 0.05  # seconds between tries to hand over a socket
_WAIT_MAX: Final = 1.0
_BIND_RETRY: Final = 0.2  # seconds between tries to bind what another process still holds
_ROLLING: Final = frozenset({"smtps", "smtpc"})  # programs that finish their sessions after HUP
_LIVE: Final = frozenset({"qmgr"})  # programs that take a new configuration up at HUP
_MAPS: Final = frozenset({"smar"})  # programs that read their maps anew at USR1


class Mcp:
    """The program."""

    def __init__(self, config: Config, folder: str, log_folder: str, log: Log) -> None:
        self._config = config
        self._folder = folder
        self._log_folder = log_folder
        self._log = log
        self._began = time.time()
        self._services = {service.label: service for service in config.services}
        self._children = Children([child for service in config.services for child in _slots(service)])
        self._listeners: dict[str, socket.socket] = {}
        self._to_pass: list[Child] = []
        self._unbound: set[str] = set()  # labels of services whose socket could not be had at a reload
        self._bind_at = 0.0
        self._ready: dict[int, Child] = {}
        self._selector = selectors.DefaultSelector()
        self._signals: list[int] = []
        self._is_dirty = True
        self._is_silenced = False  # it was said that the status can't be written
        self._reloads = 0
        self._notifier = Notifier()

    def run(self) -> int:
        """Serve until TERM or INT; the exit code."""
        self._catch_signals()
        try:
            self._bind_all()
        except (OSError, KeyError) as error:
            self._log.error(f"func=mcp, status=cannot listen, reason={error}")
            return os.EX_OSERR
        status.write_pid(self._folder)
        self._children.start_all(time.monotonic())
        while not (self._children.is_stopping and self._children.is_down):
            self._step()
        status.remove(self._folder)
        self._log.info("func=mcp, status=stopped")
        return 0

    def _step(self) -> None:
        now = time.monotonic()
        self._bind_missing(now)
        self._act(self._children.due(now))
        if self._children.is_stopping:
            self._act(self._children.stop_next(now))
        self._pass_sockets()
        if self._is_dirty:
            self._write_status()
        self._notifier.tell(self._children, _OWN)
        self._notifier.alive(now)
        for key, _ in self._selector.select(self._timeout(now)):
            if key.data is None:
                self._drain_wakeup()
            elif isinstance(key.data, Service):
                self._serve_one(key.data)
            else:
                self._read_ready(key.fd, key.data)
        self._reap()
        self._on_signals()

    def _write_status(self) -> None:
        """Say how it goes; where that can't be, on a full disk, it is tried again: mail goes on."""
        try:
            status.write(self._folder, self._children, self._began, self._reloads)
        except OSError as error:
            if not self._is_silenced:
                self._log.error(f"func=mcp, file={status.STATUS_FILE}, status=not written, reason={error}")
            self._is_silenced = True
        else:
            self._is_dirty = self._is_silenced = False

    def _timeout(self, now: float) -> float:
        if self._to_pass or self._unbound:
            return _PASS_RETRY
        at = self._children.next_time()
        return _WAIT_MAX if at is None else min(max(at - now, 0.0), _WAIT_MAX)

    # Signals

    def _catch_signals(self) -> None:
        read_end, write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        self._wakeup = read_end
        self._selector.register(read_end, selectors.EVENT_READ, None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR2):
            signal.signal(number, lambda number, frame: self._signals.append(number))

    def _drain_wakeup(self) -> None:
        try:
            os.read(self._wakeup, 4096)
        except BlockingIOError:
            pass

    def _on_signals(self) -> None:
        signals, self._signals = self._signals, []
        for number in signals:
            if number in (signal.SIGTERM, signal.SIGINT):
                if not self._children.is_stopping:
                    self._log.info("func=mcp, status=stopping")
                self._children.is_stopping = self._is_dirty = True
            elif number == signal.SIGHUP:
                self._reload()
            elif number == signal.SIGUSR2:
                self._log.rewind()

    # Children

    def _act(self, actions: list[Action]) -> None:
        for action in actions:
            self._is_dirty = True
            match action:
                case Start():
                    self._start(action.child)
                case Signal():
                    self._kill(action.child, signal.SIGKILL if action.is_kill else signal.SIGTERM)
                case Leave():
                    self._kill(action.child, signal.SIGHUP)
                case Note():
                    (self._log.error if action.is_error else self._log.info)(f"func=mcp, {action.text}")

    def _start(self, child: Child) -> None:
        service = self._services[child.label]
        if service.mcp.start_action == "accept" and child.label in self._unbound:
            child.start_at = time.monotonic() + _BIND_RETRY
            return
        stdin = self._listeners.get(child.label) if service.mcp.start_action == "accept" else None
        try:
            self._spawn(service, child, None if stdin is None else stdin.fileno())
        except (OSError, KeyError) as error:
            self._act(self._children.not_started(child, str(error), time.monotonic()))
            return
        if service.mcp.start_action == "pass":
            self._to_pass.append(child)

    def _spawn(self, service: Service, child: Child, stdin: int | None) -> None:
        mcp = service.mcp
        argv = mcp.arguments.split()
        if mcp.pass_id:
            argv.insert(1, f"{mcp.pass_id}{child.number}")
        suffix = str(child.number) if mcp.use_id_in_logfile_name else ""
        spawned = spawn.spawn(
            self._config.queue_path(mcp.path or ""), argv, who=spawn.account(mcp.user or "", mcp.group or ""),
            folder=mcp.working_directory or self._folder,
            log_path=os.path.join(self._log_folder, f"{service.label}{suffix}.log"), stdin=stdin,
            is_connection=mcp.start_action == "nostartaccept")
        self._children.started(child, spawned.pid, time.monotonic())
        self._ready[spawned.ready_fd] = child
        self._selector.register(spawned.ready_fd, selectors.EVENT_READ, child)
        self._is_dirty = True
        self._log.info(f"func=mcp, service={child.label}, number={child.number}, status=started, pid={spawned.pid}")

    def _read_ready(self, fd: int, child: Child) -> None:
        try:
            text = os.read(fd, 64)
        except OSError:
            text = b""
        if text:
            self._is_dirty = True
            self._act(self._children.ready(child, time.monotonic()))
        self._selector.unregister(fd)
        del self._ready[fd]
        os.close(fd)

    def _reap(self) -> None:
        while True:
            try:
                pid, wait_status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            child = self._children.by_pid(pid)
            if child is not None:
                if child in self._to_pass:
                    self._to_pass.remove(child)
                self._act(self._children.ended(child, os.waitstatus_to_exitcode(wait_status), time.monotonic()))
                self._is_dirty = True

    @staticmethod
    def _kill(child: Child, number: int) -> None:
        try:
            os.kill(child.pid, number)
        except ProcessLookupError:
            pass  # it is reaped next

    # Sockets

    def _bind_all(self) -> None:
        for service in self._services.values():
            self._bind(service)

    def _bind(self, service: Service) -> None:
        spec = service.mcp.listen_socket
        if spec is None or service.mcp.start_action == "wait":
            return
        path = self._config.queue_path(spec.path) if spec.path else ""
        try:
            sock = sockets.bind(spec, path)
        except OSError as error:
            where = path or f"{spec.address or '*'} port {spec.port}"
            raise OSError(error.errno, f"section {service.label}: {where}: {error.strerror}") from None
        self._listeners[service.label] = sock
        if service.mcp.start_action == "nostartaccept":
            self._selector.register(sock, selectors.EVENT_READ, service)
            for child in self._children.all:
                if child.label == service.label:
                    child.state = State.IDLE

    def _serve_one(self, service: Service) -> None:
        """A connection for a service that is started for each (as procmail in LMTP mode, M1 4.3.1)."""
        free = [c for c in self._children.all if c.label == service.label and not c.pid and c.state is not State.FAILED]
        if not free:
            time.sleep(_PASS_RETRY)  # the kernel's queue holds the connection until a slot is free
            return
        try:
            connection, _ = self._listeners[service.label].accept()
        except OSError:
            return
        with connection:
            free[0].is_wanted = False  # it ends with its connection
            try:
                self._spawn(service, free[0], connection.fileno())
            except (OSError, KeyError) as error:
                self._log.error(f"func=mcp, service={service.label}, status=not started, reason={error}")

    def _pass_sockets(self) -> None:
        for child in list(self._to_pass):
            service = self._services[child.label]
            path = self._config.queue_path(service.mcp.pass_fd_socket) if service.mcp.pass_fd_socket else ""
            sock = self._listeners.get(child.label)
            if sock is None and child.label in self._unbound:
                continue
            if sock is None or sockets.pass_to(path, sock):
                self._to_pass.remove(child)

    # Reload

    def _reload(self) -> None:
        """Take over a changed configuration: changed services start again, the others read their maps anew."""
        self._reloads += 1
        self._is_dirty = True
        try:
            config = load_file(self._config.file)
            errors = check_services(config)
        except (ConfErrors, OSError) as error:
            self._log.error(f"func=mcp, status=reload refused, reason={error}")
            return
        if errors:
            self._log.error(f"func=mcp, status=reload refused, reason={errors[0]}")
            return
        changed = _changed(self._config, config)
        before, self._config = self._services, config
        self._services = {service.label: service for service in config.services}
        self._bind_changed(before)
        self._change_children(changed, self._in_the_way(before))
        self._log.info(f"func=mcp, status=reloaded, restarted={' '.join(sorted(changed)) or 'none'}")

    def _bind_changed(self, before: dict[str, Service]) -> None:
        for label, old in before.items():
            new = self._services.get(label)
            if new is not None and (new.mcp.listen_socket, new.mcp.start_action) == (
                    old.mcp.listen_socket, old.mcp.start_action):
                continue
            sock = self._listeners.pop(label, None)
            if sock is not None:
                if old.mcp.start_action == "nostartaccept":
                    self._selector.unregister(sock)
                sock.close()
        self._unbound.clear()
        for service in self._services.values():
            if service.label not in self._listeners:
                try:
                    self._bind(service)
                except (OSError, KeyError) as error:
                    self._unbound.add(service.label)
                    self._log.error(f"func=mcp, status=cannot listen yet, reason={error}")

    def _bind_missing(self, now: float) -> None:
        """Try again for who could not be had: a process of the former configuration may still listen there."""
        if not self._unbound or now < self._bind_at or self._children.is_stopping:
            return
        self._bind_at = now + _BIND_RETRY
        for label in sorted(self._unbound):
            try:
                self._bind(self._services[label])
            except (OSError, KeyError):
                continue
            self._unbound.remove(label)
            self._log.info(f"func=mcp, service={label}, status=listens")

    def _in_the_way(self, before: dict[str, Service]) -> set[str]:
        """Labels of services whose former socket may be what keeps others from theirs."""
        wanted = {_port(self._services[label]) for label in self._unbound}
        return {label for label, old in before.items() if _port(old) in wanted - {None}}

    def _change_children(self, changed: set[str], in_the_way: set[str]) -> None:
        """Those `in_the_way` can't stay until their successors work."""
        now = time.monotonic()
        wanted = {(c.label, c.number): c for service in self._services.values() for c in _slots(service)}
        for child in list(self._children.all):
            if child.is_retired or child.replaces is not None:
                continue
            slot = wanted.pop((child.label, child.number), None)
            if slot is None:
                if child in self._to_pass:
                    self._to_pass.remove(child)
                self._act(self._children.retire(child, now))
                continue
            child.dependencies, child.failure_max = slot.dependencies, slot.failure_max
            if child.label in changed or child.is_stale:
                can_roll = _can_roll(self._services[child.label]) and child.label not in in_the_way
                self._act((self._children.roll if can_roll else self._children.restart)(child, now))
            elif child.pid and child.keyword in _LIVE | _MAPS:
                self._kill(child, signal.SIGHUP if child.keyword in _LIVE else signal.SIGUSR1)
        for slot in wanted.values():
            self._children.all.append(slot)
            if self._services[slot.label].mcp.start_action == "nostartaccept":
                slot.state = State.IDLE
            else:
                slot.start_at = now


def _port(service: Service) -> int | None:
    """Where it listens, None if that is no port."""
    spec = service.mcp.listen_socket
    return None if spec is None or spec.type == "unix" else spec.port


def _slots(service: Service) -> list[Child]:
    mcp = service.mcp
    count = mcp.processes_max if mcp.start_action == "nostartaccept" else max(mcp.processes_min, 1)
    return [
        Child(service.label, number, tuple(mcp.restart_dependencies), mcp.failure_max, service.keyword)
        for number in range(count)
    ]


def _changed(old: Config, new: Config) -> set[str]:
    """Labels of services that must start again (or roll over); all of them when a global option differs."""
    if old.global_values() != new.global_values():
        return {service.label for service in new.services}
    before = {service.label: service for service in old.services}
    changed = {service.label for service in new.services if not _goes_on(before.get(service.label), service)}
    if _read_by_smar(old) != _read_by_smar(new):
        changed |= {service.label for service in new.services if service.keyword == "smar"}
    return changed


def _goes_on(old: Service | None, new: Service) -> bool:
    """Whether a process can go on with its section: it has not changed, or the process takes it up at HUP."""
    return old == new or (old is not None and new.keyword in _LIVE and old.mcp == new.mcp)


def _can_roll(service: Service) -> bool:
    """Whether two processes of this section may run side by side: the socket, if there is one, is passed to both."""
    return service.keyword in _ROLLING and service.mcp.start_action in ("pass", "wait")


def _read_by_smar(config: Config) -> list[Any]:
    """What SMAR knows of the sections of others."""
    return [service.conf.remote_port if service.keyword == "smtpc" else service.conf.smtpc.rcpt_conf_lookup_flags
            for service in config.services if service.keyword in ("smtpc", "qmgr")]


def main(argv: list[str]) -> int:
    """Run the program; returns its exit code."""
    log = Log("mcp")
    try:
        invocation: Invocation = parse_args("mcp", argv)
    except UsageError as error:
        sys.stderr.write(f"mcp: {error}\n{usage('mcp')}")
        return os.EX_USAGE
    except (ConfErrors, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return os.EX_CONFIG
    if invocation.text:
        sys.stdout.write(invocation.text)
        return 0
    log.is_json = invocation.config.log_format == "json"
    errors = check_services(invocation.config)
    if errors:
        sys.stderr.write("\n".join(map(str, errors)) + "\n")
        return os.EX_CONFIG
    folder = os.getcwd()
    if status.lock(folder) is None:
        sys.stderr.write(f"mcp: another mcp runs in {folder}\n")
        return os.EX_TEMPFAIL
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # sessions need descriptors; 1024 is a shell's limit
    return Mcp(invocation.config, folder, invocation.log_directory or folder, log).run()
