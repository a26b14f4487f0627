"""smtpp: passes SMTP connections between MeTA1 and the world, from a host that has an address (M1 4.6).

Peers
    SMTPC, which names servers; SMTP clients, which go to SMTPS; both prove by a shared key who they are.

Files
    None; it works on a host without MeTA1's configuration.
"""
import dataclasses
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from meta1g import __version__
from meta1g.conf.cmdline import UsageError
from meta1g.mta import logfmt
from meta1g.mta.limits import LISTEN_BACKLOG
from meta1g.proc.log import Log, open_log
from meta1g.proc.ready import tell_ready
from meta1g.proc.start import die_with_parent
from meta1g.proc.stats import print_stats
from meta1g.proto import smtpp
from meta1g.proto.smtp import replies
from meta1g.smtpp.cmdline import Options, Where, parse_args
from meta1g.smtpp.session import Sessions
from meta1g.st.bind import listen_inet, listen_unix
from meta1g.st.listen import Acceptor
from meta1g.st.netfd import NetFd
from meta1g.st.sched import Flag, now, soon
from meta1g.st.signals import on_signal

_DRAIN: Final = 10.0  # seconds that connections get to end at an orderly stop
_BUSY: Final = smtpp.answer("too many connections through the proxy")


class Smtpp:
    """The process: its listening sockets and its sessions."""

    def __init__(self, options: Options, log: Log) -> None:
        self._log = log
        self._sessions = sessions = Sessions(options, log)
        self._stop = Flag()
        self._acceptors = [
            self._acceptor([_listen(where) for where in places], options.connections_max, serve, refusal)
            for places, serve, refusal in (
                (options.requests, sessions.serve_request, _BUSY),
                (options.clients, sessions.serve_client, bytes(replies.BUSY)))
            if places]

    def run(self) -> int:
        """Serve until a signal says stop."""
        on_signal(signal.SIGTERM, self._stop.raise_)
        on_signal(signal.SIGINT, self._stop.raise_)
        on_signal(signal.SIGUSR1, lambda: print_stats("smtpp", self._statistics()))
        on_signal(signal.SIGUSR2, self._log.rewind)
        self._log.gather(soon)
        for acceptor in self._acceptors:
            acceptor.start()
        self._log.info(f"func=smtpp, status=ready, version={__version__}")
        tell_ready()
        while not self._stop.wait(3600.0):
            pass
        for acceptor in self._acceptors:
            acceptor.stop()
        end = now() + _DRAIN
        for acceptor in self._acceptors:
            acceptor.wait_idle(max(end - now(), 0.0))
        self._log.flush()
        return 0

    def _acceptor(self, socks: list[socket.socket], limit: int, serve: Callable[[NetFd], Any],
                  refusal: bytes) -> Acceptor:
        def guarded(netfd: NetFd) -> None:
            try:
                serve(netfd)
            except Exception as error:
                # A bug must cost one connection, not the process.
                self._log.error(logfmt.fields(func="smtpp", bug=repr(error)))

        acceptor = Acceptor(socks, limit, guarded, refusal)
        acceptor.on_trouble = lambda error: self._log.error(f"func=smtpp, accept={error.strerror}")
        return acceptor

    def _statistics(self) -> dict[str, object]:
        return {
            "connections": sum(acceptor.active for acceptor in self._acceptors),
            "connections_most": sum(acceptor.active_max for acceptor in self._acceptors),
            "too_many": sum(acceptor.refused for acceptor in self._acceptors),
            **dataclasses.asdict(self._sessions.counts),
        }


def _listen(where: Where) -> socket.socket:
    if where.path:
        return listen_unix(where.path, LISTEN_BACKLOG)
    if where.port:
        return listen_inet(where.host, where.port, LISTEN_BACKLOG)
    return socket.socket(fileno=os.dup(0))


def main(argv: list[str]) -> int:
    """Run the program; returns its exit code."""
    try:
        options = parse_args(argv, lambda path: Path(path).read_bytes())
    except UsageError as error:
        sys.stderr.write(f"smtpp: {error}; smtpp --help explains\n")
        return os.EX_USAGE
    except OSError as error:
        sys.stderr.write(f"smtpp: {error}\n")
        return os.EX_CONFIG
    if options.text:
        sys.stdout.write(options.text)
        return 0
    if os.geteuid() == 0:
        sys.stderr.write("smtpp: must not run as root; let mcp start it, or use runas (M1 4.7.1)\n")
        return os.EX_NOPERM
    die_with_parent()
    return Smtpp(options, open_log("smtpp", options.log_level, options.syslog)).run()
