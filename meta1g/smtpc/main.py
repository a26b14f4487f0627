"""SMTPC: takes deliveries from QMGR, one green thread for each session.

Peers
    QMGR over SMTPC_socket; SMTP servers; the local mailer over LMTP_socket.

Files
    Reads CDB and the journal, writes nothing.
"""
import signal
from typing import Any, Final

from meta1g.mta import logfmt
from meta1g.proc.link import Link
from meta1g.proc.start import Started, start
from meta1g.proc.stats import print_stats
from meta1g.proto import msg_da
from meta1g.proto.msg_da import CloseSession, Deliver, Ready, Released, SessionEnded
from meta1g.shim.cdb import ContentDb
from meta1g.shim.journal import JournalReader
from meta1g.shim.safeio import Disk
from meta1g.smtpc.login import Logins
from meta1g.smtpc.secure import Contexts
from meta1g.smtpc.session import Session
from meta1g.smtpc.setting import Setting, features_of
from meta1g.smtpc.through import proxy_of
from meta1g.st.block import Blocking
from meta1g.st.pool import Pool
from meta1g.st.sched import Flag, soon, spawn, wait_until
from meta1g.st.signals import on_signal

_LEAVE: Final = 600.0  # seconds that sessions get to end after a reload, as SMTPS gives its own
_DRAIN: Final = 10.0  # seconds that sessions get to end at an orderly stop
_DRAIN_CHECK: Final = 0.01


class Smtpc:
    """The process: its link and its sessions."""

    def __init__(self, started: Started) -> None:
        conf, config = started.conf, started.config
        self._started = started
        self._log = started.log
        self._link = Link(config.queue_path(config.smtpc_socket), msg_da.VOCABULARY, "smtpc",
                          started.process, started.log, conf.module_timeout)
        self._link.on_message = self._on_message
        self._link.on_up = self._on_up
        self._link.on_down = self._on_down
        self._sessions: dict[int, Session] = {}
        self._pool = Pool(self._serve, idle_min=min(conf.wait_threads_min, conf.threads_max),
                          idle_max=conf.wait_threads_max)
        self._sessions_max = conf.threads_max
        self._sessions_most = 0
        self._stop = Flag()
        self._leave = Flag()
        self._is_released = Flag()
        blocking = Blocking()
        self._setting = Setting(
            hostname=started.hostname, process=started.process, io_timeout=conf.io_timeout,
            remote_port=conf.remote_port, connect_only_to=conf.connect_only_to or "",
            proxy=proxy_of(conf.proxy, config),
            lmtp_socket=config.queue_path(conf.lmtp_socket),
            features=features_of(conf.flags),
            classes={features.name: features_of(features.flags) for features in conf.session_features},
            cdb=ContentDb(Disk(), config.cdb_base_directory),
            journal=JournalReader(Disk(), config.cdb_base_directory), blocking=blocking, log=started.log,
            contexts=started.or_end("tls", lambda: Contexts(conf.tls, conf.session_features, config.map_path)),
            logins=started.or_end("auth", lambda: conf.auth and Logins(
                conf.auth, config.map_path(conf.auth.password_map), blocking)),
            report=self._link.send)

    def run(self, wait_for_server: float) -> int:
        """Serve until a signal says stop."""
        on_signal(signal.SIGTERM, self._stop.raise_)
        on_signal(signal.SIGINT, self._stop.raise_)
        on_signal(signal.SIGHUP, self._leave.raise_)
        on_signal(signal.SIGUSR1, self._print_stats)
        on_signal(signal.SIGUSR2, self._log.rewind)
        self._log.gather(soon)
        self._pool.start()
        self._link.start()
        if not self._link.wait_up(wait_for_server):
            self._log.warning(f"func=smtpc, path={self._link.path}, status=QMGR is not there yet")
        while not self._link.wait_up(1.0) and not self._stop.is_up:
            pass
        self._started.ready()
        spawn(self._await_leave)
        while not self._stop.wait(3600.0):
            pass
        self._drain()
        self._log.flush()
        return 0

    def _await_leave(self) -> None:
        """After HUP a new process is there for new sessions: finish those that are here, and end."""
        while not self._leave.wait(3600.0):
            pass
        self._log.info(f"func=smtpc, status=leaving, sessions={len(self._sessions)}")
        self._link.send(Ready(0))
        wait_until(lambda: self._is_released.is_up and not self._sessions, _LEAVE, _DRAIN_CHECK)
        self._stop.raise_()

    def _on_up(self) -> None:
        self._link.send(Ready(0 if self._leave.is_up else self._sessions_max))

    def _on_down(self) -> None:
        # QMGR has forgotten these sessions; what they deliver now it will count as uncertain.
        for session in self._sessions.values():
            session.close()

    def _on_message(self, message: Any, tag: int) -> None:
        if isinstance(message, Released):
            self._is_released.raise_()
        elif isinstance(message, Deliver):
            session = self._sessions.get(message.session)
            if message.is_new:
                session = self._sessions[message.session] = Session(message, self._setting)
                self._sessions_most = max(self._sessions_most, len(self._sessions))
                self._pool.put(session)
            elif session is not None:
                session.add(message)
            else:
                self._link.send(SessionEnded(message.session, False))
        elif isinstance(message, CloseSession) and message.session in self._sessions:
            self._sessions[message.session].close()

    def _serve(self, session: Session) -> None:
        try:
            session.run()
        except Exception as error:
            # A bug must cost one session, not the process; QMGR gets SessionEnded and tries again.
            self._log.error(logfmt.fields(func="smtpc", session=session.number, bug=repr(error)))
        finally:
            if self._sessions.get(session.number) is session:
                del self._sessions[session.number]
            if not self._sessions:
                self._setting.journal.close()

    def _drain(self) -> None:
        for session in list(self._sessions.values()):
            session.close()
        wait_until(lambda: not self._sessions, _DRAIN, _DRAIN_CHECK)
        self._link.flush(1.0)  # the last reports

    def _print_stats(self) -> None:
        print_stats("smtpc", {"sessions": len(self._sessions), "sessions_most": self._sessions_most})


def main(argv: list[str]) -> int:
    """Run the program; returns its exit code."""
    started = start("smtpc", argv)
    return Smtpc(started).run(started.conf.wait_for_server)
