"""SMTPS: receives mail, writes content to CDB (M1 3.10).

Peers
    Clients; QMGR over SMTPS_socket and SMAR over SMAR_socket; MCP, which passes the
    listening socket over pass_fd_socket.

Files
    Writes CDB and the journal; nobody else does.
"""
import ipaddress
import json
import os
import signal
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from meta1g import __version__
from meta1g.conf.opt_smtps import SmtpsConf
from meta1g.mta import logfmt
from meta1g.proc.start import WORKER, Started, start
from meta1g.proc.stats import print_stats
from meta1g.proto.msg_ss import (
    DISK_SPACE,
    QUEUE_FULL,
    Compose,
    JournalOpen,
    Leaving,
    Left,
    Names,
    Rotate,
    Segment,
    Settle,
    Statistics,
    Throttle,
    Welcome,
)
from meta1g.proto.smtp import replies
from meta1g.proto.smtp.command import Syntax
from meta1g.proto.smtp.options import ServerOptions
from meta1g.proto.smtp.params import Offers
from meta1g.proto.smtp.tally import TallyLimits
from meta1g.shim.cdb import ContentDb
from meta1g.shim.journal import JournalWriter
from meta1g.shim.safeio import Disk
from meta1g.smtps import orders
from meta1g.smtps.behind import gate_of
from meta1g.smtps.check import read_checks
from meta1g.smtps.filter import FilterServer
from meta1g.smtps.incoming import Store
from meta1g.smtps.listening import listening_sockets
from meta1g.smtps.milter import Milter
from meta1g.smtps.milter_host import MilterHost
from meta1g.smtps.peers import Ids, Qmgr, Smar
from meta1g.smtps.pmilter import Pmilter
from meta1g.smtps.policy import PolicyFlags
from meta1g.smtps.session import Session
from meta1g.smtps.session_conf import Features
from meta1g.smtps.setting import Setting, greeting_octets
from meta1g.smtps.signing import Signing
from meta1g.smtps.wants import wants_of
from meta1g.smtps.workers import Workers, inherited_sockets
from meta1g.st.block import Blocking
from meta1g.st.listen import Acceptor
from meta1g.st.netfd import NetFd
from meta1g.st.sched import Flag, Thread, current, every, soon, spawn
from meta1g.st.signals import on_signal

if TYPE_CHECKING:
    from meta1g.smtps.auth import Auth
    from meta1g.tls.ends import ServerEnd
    from meta1g.tls.setup import Ends

_TURN_FILE: Final = "smtps/accept.lock"  # in the queue directory, in a folder of this process's user
_TELL: Final = 1.0  # seconds between two looks at what QMGR does not know yet of our counts
_REFUSALS: Final = {DISK_SPACE: replies.NO_SPACE, QUEUE_FULL: replies.QUEUE_FULL}
_TEND: Final = 1.0  # seconds between two looks at connections to filters
_EXPIRY: Final = 86400.0  # seconds between two looks at the ends of certificates
_SETTLE: Final = 20.0  # seconds that content gets to settle at an orderly stop
_LEAVE: Final = 600.0  # seconds that sessions get after HUP; MCP waits longer
_DRAIN: Final = 30.0  # seconds that transactions get to end at an orderly stop; MCP waits longer


class Smtps:
    """The process: its links, its store and its sessions."""

    def __init__(self, started: Started) -> None:
        self._started = started
        self._log = started.log
        config, conf = started.config, started.conf
        socket_path = config.queue_path(config.smtps_socket)
        self._qmgr = Qmgr(socket_path, started.process, conf.module_timeout, started.log)
        self._smar = Smar(config.queue_path(config.smar_socket), started.process, conf.wait_for_smar, started.log)
        self._ids = Ids(started.process)
        self._store = _store(started)
        self._store.on_segments = self._announce
        self._setting = setting_of(started, self._ids, self._qmgr, self._smar, self._store)
        self._sessions: dict[Session, Thread] = {}
        self._stop = Flag()
        self._leave = Flag()
        self._has_left = Flag()
        self._has_ids = Flag()
        self._limit = self._allowed = conf.threads_max
        self._sessions_max = 0  # of all servers, as QMGR says
        self._told = ""
        self._acceptor: Acceptor | None = None
        self._qmgr.link.on_message = self._on_qmgr
        self._qmgr.link.on_up = self._announce
        self._qmgr.link.on_down = self._has_left.raise_  # without QMGR nothing can be settled

    def run(self, socks: list[socket.socket], workers: Workers | None) -> int:
        """Serve until a signal says stop; `workers` serve the same sockets."""
        on_signal(signal.SIGTERM, self._stop.raise_)
        on_signal(signal.SIGINT, self._stop.raise_)
        on_signal(signal.SIGHUP, self._leave.raise_)
        on_signal(signal.SIGUSR1, lambda: print_stats("smtps", self._statistics()))
        on_signal(signal.SIGUSR2, self._log.rewind)
        self._log.gather(soon)
        self._smar.link.start()
        self._qmgr.link.start()
        while not (self._has_ids.wait(1.0) and self._smar.link.wait_up(1.0)) and not self._stop.is_up:
            pass
        conf = self._started.conf
        self._acceptor = Acceptor(
            socks, self._limit, self._serve, bytes(replies.BUSY), idle_min=min(conf.wait_threads_min, self._limit),
            idle_max=conf.wait_threads_max, turn_file=_TURN_FILE if "serialize_accept" in conf.flags else "")
        self._acceptor.on_trouble = lambda error: self._log.error(f"func=smtps, accept={error.strerror}")
        self._acceptor.start()
        if workers is not None:
            workers.start()
        self._started.ready()
        spawn(self._await_leave, workers)
        every(_TELL, self._tell_statistics)
        while not self._stop.wait(3600.0):
            pass
        self._drain()
        self._log.flush()
        if workers is not None:
            workers.stop(_DRAIN)
        return 0

    def _serve(self, netfd: NetFd) -> None:
        session = Session(netfd, self._setting)
        self._sessions[session] = current()
        try:
            session.run()
        except Exception as error:
            # A bug must cost one session, not the process; the client gets no 250, so nothing is lost.
            self._log.error(logfmt.fields(func="smtps", bug=repr(error)))
        finally:
            del self._sessions[session]

    def _await_leave(self, workers: Workers | None) -> None:
        """HUP: a successor serves the socket now; let sessions finish as they like, then stop."""
        while not self._leave.wait(3600.0):
            pass
        assert self._acceptor is not None
        self._acceptor.stop()
        if workers is not None:
            workers.leave()
        self._log.info(f"func=smtps, status=leaving, sessions={len(self._sessions)}")
        self._acceptor.wait_idle(_LEAVE)
        self._stop.raise_()

    def _drain(self) -> None:
        assert self._acceptor is not None
        self._acceptor.stop()
        self._setting.is_stopping = True
        for session, thread in list(self._sessions.items()):
            if not session.is_in_content:
                thread.interrupt()
        self._acceptor.wait_idle(_DRAIN)
        self._has_left.lower()
        if self._qmgr.link.send(Leaving(os.getpid())):
            self._has_left.wait(_SETTLE)

    def _announce(self) -> None:
        self._qmgr.link.send(JournalOpen(tuple(Segment(name) for name in self._store.open_segments)))

    def _on_qmgr(self, message: Any, tag: int) -> None:
        match message:
            case Welcome():
                self._qmgr.wants_names = False  # unless it says so next
                self._sessions_max = message.sessions_max
                self._told = ""
                self._ids.allot(message.id_first, message.id_last)
                self._has_ids.raise_()
                self._tell_statistics()
            case Throttle():
                self._throttle(message)
            case Names():
                self._qmgr.wants_names = message.are_wanted
            case Compose():
                spawn(self._answer, orders.compose, message)
            case Settle():
                spawn(self._answer, orders.settle, message)
            case Left():
                self._has_left.raise_()
            case Rotate():
                self._store.rotate(message.segment)

    def _answer(self, carry_out: Callable[[Store, Any], Any], order: Any) -> None:
        self._qmgr.link.send(carry_out(self._store, order))

    def _throttle(self, message: Throttle) -> None:
        """QMGR counts the sessions of all servers together: each takes its share (M1 9.1)."""
        self._setting.refusal = _REFUSALS.get(message.text, replies.QUEUE_FULL) if message.text else None
        self._allowed = max(self._limit * message.sessions_max // max(self._sessions_max, message.sessions_max, 1), 1)
        if self._acceptor is not None:
            self._acceptor.set_limit(self._allowed)

    def _statistics(self) -> dict[str, object]:
        acceptor, store = self._acceptor, self._store
        return {
            "sessions": len(self._sessions),
            "sessions_most": acceptor.active_max if acceptor else 0,
            "sessions_max": self._allowed,
            **self._setting.counts.as_dict(acceptor.refused if acceptor else 0),
            "content_held": store.held,
            "journal_flushes": store.batches,
            "journal_messages": store.entries,
            "smar_cache_hits": self._smar.hits,
            "smar_cache_misses": self._smar.misses,
        }

    def _tell_statistics(self) -> None:
        """Tell QMGR, whom meta1g-ctl asks, what has changed (M1 9.4)."""
        text = json.dumps(self._statistics())
        if text != self._told and self._qmgr.link.send(Statistics(text)):
            self._told = text


def _store(started: Started) -> Store:
    config, conf = started.config, started.conf
    disk, base = Disk(), config.cdb_base_directory
    gid = -1 if conf.cdb_gid is None else conf.cdb_gid
    journal = JournalWriter(disk, base, gid) if config.cdb_journal else None
    return Store(ContentDb(disk, base, gid), journal, Blocking())


def setting_of(started: Started, ids: Ids, qmgr: Qmgr, smar: Smar, store: Store) -> Setting:
    """What the sessions need of the configuration and of this process."""
    conf, flags = started.conf, started.conf.flags
    ends = _tls_ends(started)
    end = ends.of_all if ends is not None else None
    offers = _offers(conf, flags, end)
    options = ServerOptions(
        hostname=started.hostname,
        size_max=conf.message_size_max,
        offers=offers,
        answers_vrfy=conf.vrfy != "off",
        require_helo="require_ehlo_before_mail" in flags,
        soft_bounce="soft_bounce" in flags,
        normalises=conf.bare_line_ends == "normalise",
        asks_unknown=bool(conf.milter) or conf.policy_milter is not None,
        syntax=Syntax("allow_space_after_colon_for_mail_and_rcpt" in flags, "strict_ehlo_checks" in flags,
                      utf8=offers.offers_smtputf8),
    )
    policy = PolicyFlags(
        use_access="access" in flags,
        delay_checks="delay_checks" in flags,
        lmtp_is_local="lmtp_does_not_imply_relaying" not in flags,
        greylists="greylisting" in flags or "fullgreylisting" in flags,
        fullgreylisting="fullgreylisting" in flags,
        delay_greylisting="delay_greylisting_error_until_data" in flags,
        wants=wants_of(conf),
        trusted_domains=frozenset(domain.lower() for domain in started.trusted_domains),
    )
    return Setting(
        options=options,
        tally_limits=TallyLimits(*(getattr(conf, f"{name}_max") for name in TallyLimits._fields)),
        policy_flags=policy,
        greeting=greeting_octets(conf.greeting or "", started.hostname, __version__),
        io_timeout=conf.io_timeout,
        hops_max=conf.hops_max,
        allows_early_data="allow_data_before_greeting" in flags,
        log=started.log, ids=ids, qmgr=qmgr, smar=smar, store=store,
        session_time_max=conf.session_time_max, data_rate_min=conf.data_rate_min, vrfy=conf.vrfy,
        proxies=tuple(map(ipaddress.ip_network, conf.proxy_protocol_peers)),
        gate=gate_of(conf.proxy, started.config),
        xclient_peers=tuple(map(ipaddress.ip_network, conf.xclient_peers)),
        classes={features.name: Features(
                     _offers(conf, flags & features.flags, end if "starttls" in features.flags else None),
                     ends.of_class.get(features.name) if ends is not None else None)
                 for features in conf.session_features},
        tls=end, is_tls_first="smtps" in flags,
        tls_violation=conf.tls.violation if conf.tls is not None else "permfail",
        checks=read_checks(conf.check),
        auth=_auth(started), signing=_signing(started), name=conf.name or "smtps",
        filters=_filters(started, offers),
    )


def _tls_ends(started: Started) -> "Ends | None":
    conf = started.conf
    if conf.tls is None:
        return None
    from meta1g.tls.setup import server_ends  # noqa: PLC0415 - loads OpenSSL

    ends = started.or_end("tls", lambda: server_ends(conf.tls, conf.session_features, started.config.map_path))
    every(_EXPIRY, lambda: _warn_of_expiry(started, ends))
    _warn_of_expiry(started, ends)
    return ends


def _warn_of_expiry(started: Started, ends: "Ends") -> None:
    for path in ends.expiring():
        started.log.warning(f"func=smtps, option=tls, file={path}, status=certificate ends soon or has ended")


def _auth(started: Started) -> "Auth | None":
    conf = started.conf
    if conf.auth is None:
        return None
    from meta1g.smtps.auth_setup import auth_of  # noqa: PLC0415 - loads what only AUTH needs

    waiting_max = max(conf.threads_max // 4, 1)  # the others serve who does not guess
    return started.or_end("auth", lambda: auth_of(
        conf.auth, started.config, started.hostname, started.log, waiting_max))


def _filters(started: Started, offers: Offers) -> tuple[FilterServer, ...]:
    """In the order in which they are asked: who judges by policy has the last word."""
    conf, found = started.conf, list[FilterServer]()
    for section in conf.milter:
        host = MilterHost(section, started.config.queue_path(section.socket.path or ""), started.log)
        every(_TEND, host.tend)
        found.append(Milter(host))
    if conf.policy_milter is not None:
        pmilter = Pmilter(conf.policy_milter, started.config, started.hostname, started.log,
                          offers_prdr=offers.offers_prdr)
        pmilter.start()
        found.append(pmilter)
    return tuple(found)


def _signing(started: Started) -> Signing | None:
    conf = started.conf.dkim_signing
    if conf is None:
        return None
    from meta1g.smtps.keyfiles import read_signing  # noqa: PLC0415 - loads OpenSSL

    if "rsa-sha1" in {conf.signature_method, *(section.signature_method for section in conf.sign)}:
        started.log.warning("func=smtps, option=signature_method rsa-sha1, status=no verifier accepts it (RFC 8301)")
    return started.or_end("DKIM_signing", lambda: read_signing(conf, started.config))


def _offers(conf: SmtpsConf, flags: frozenset[str], end: "ServerEnd | None") -> Offers:
    return Offers(
        offers_8bitmime="8bitmime" in flags,
        offers_smtputf8="smtputf8" in flags and "8bitmime" in flags,  # RFC 6531 3.1(8)
        offers_chunking="chunking" in flags,
        offers_binarymime="binarymime" in flags and "chunking" in flags,
        offers_dsn="dsn" in flags, offers_xverp="xverp" in flags, offers_starttls=end is not None,
        offers_auth=conf.auth is not None, offers_prdr="prdr" in flags and conf.policy_milter is not None)


def main(argv: list[str]) -> int:
    """Run the program; returns its exit code."""
    started = start("smtps", argv)
    if "background" in started.conf.flags and WORKER not in os.environ:  # M1 8.5 item 2.1
        if os.fork():
            os._exit(0)
        os.setsid()
    inherited = inherited_sockets()
    if inherited:
        return Smtps(started).run(inherited, None)
    socks = listening_sockets(started, started.conf.listen_queue)
    more = started.conf.processes - 1
    return Smtps(started).run(socks, Workers(argv, socks, started.process, more, started.log) if more else None)
