"""QMGR: owns every envelope (M1 3.8, 7.1).

Peers
    Listens on SMTPS_socket, SMTPC_socket and control_socket; connects to SMAR_socket.

Files
    Writes IBDB and DEFEDB; removes CDB files and journal segments.
"""
import gc
import itertools
import os
import random
import secrets
import signal
import time
from typing import Any, Final, NamedTuple

from meta1g.conf.difference import changed_options
from meta1g.conf.errors import ConfErrors
from meta1g.conf.opt_smtpc import SmtpcConf
from meta1g.mta.errors import StoreError
from meta1g.mta.logfmt import clean, fields
from meta1g.proc.accounts import uids_of
from meta1g.proc.hub import Batch, Hub
from meta1g.proc.log import Log
from meta1g.proc.start import Started, start
from meta1g.proc.stats import print_stats
from meta1g.proc.threads import block_signals, die_with_any_thread
from meta1g.proto import msg_ar, msg_ctl, msg_da, msg_ss
from meta1g.proto.dsn import Form
from meta1g.qmgr import holds
from meta1g.qmgr.decider import Decider
from meta1g.qmgr.host_conf import ENTRIES_MAX, HostConf
from meta1g.qmgr.occ import OutLimits
from meta1g.qmgr.on_ctl import status
from meta1g.qmgr.opening import open_stores
from meta1g.qmgr.reconfigure import AT_START, Configured
from meta1g.qmgr.recover import fill
from meta1g.qmgr.state import Qmgr, Settings, Verp
from meta1g.qmgr.store import DefedbThread, IbdbThread
from meta1g.shim import ibdb, smallfile
from meta1g.shim.cdb import ContentDb
from meta1g.shim.defedb import Tuning
from meta1g.shim.mapdb import MapDb
from meta1g.shim.safeio import Disk

_OWN_FDS: Final = 15  # stores, logs, sockets to listen on


def _settings(started: Started) -> Settings:
    conf = started.conf
    smtps_sessions = sum(s.conf.threads_max for s in started.config.services if s.keyword == "smtps") or 1000
    return Settings(
        hostname=started.hostname,
        aq_entries_max=conf.aq_entries_max,
        iqdb_entries_max=conf.iqdb.cache_entries_max,
        retry_delay_min=conf.retry_delay_min,
        retry_delay_max=conf.retry_delay_max,
        queue_return=conf.queue_return.default,
        double_bounce_address=(conf.double_bounce_address or f"doublebounce@{started.hostname}").encode(),
        verp=Verp(conf.verp.when, conf.verp.delimiter1.encode(), conf.verp.delimiter2.encode()),
        dsn_merge_delay=conf.dsn_handling.merge_delay_max,
        dsn_errors_max=conf.dsn_handling.errors_per_dsn_max,
        dsn_header_only="header_only" in conf.dsn_handling.flags,
        dsn_form=_form(conf.dsn_handling.flags),
        dsn_delay=conf.queue_delay.default,
        dane_return=conf.queue_return.dane_no_match,
        dane_delay=conf.queue_delay.dane_no_match,
        dsn_delay_by_lmtp="no_lmtp_delay_dsn" not in conf.dsn_handling.flags,
        out=_out_limits(conf.smtpc),
        lmtp_rcpts_max=conf.smtpc.lmtp_rcpts_per_transaction_max,
        smtp_rcpts_max=conf.smtpc.smtp_rcpts_per_transaction_max,
        reuses_connections="reuse_connection" in conf.flags,
        occ_entries_max=conf.occ_entries_max,
        in_rate_max=conf.smtps.connection_rate_max,
        in_connections_max=conf.smtps.connections_max,
        in_clients_max=conf.smtps.connection_control_cache_size,
        delivery_timeout=conf.delivery_timeout,
        scheduler_timeout=conf.scheduler_timeout,
        smar_timeout=conf.smar_timeout,
        disk_space_min=conf.disk_space_min,
        disk_space_ok=conf.disk_space_ok,
        smtps_sessions_max=smtps_sessions,
        limit_classes={limits.name: _out_limits(limits) for limits in conf.smtpc.connection_limits},
        sources={source.name: source.ips for source in conf.smtpc.source},
        wait_for_server=conf.wait_for_server,
        wait_for_client=conf.wait_for_client,
        looks_up_rcpts="lookup_rcpt_conf" in conf.smtpc.flags,
        looks_up_sessions="lookup_session_conf" in conf.smtpc.flags or bool(_features(started)),
        keeps_hosts_apart=any(client.auth is not None for client in _clients(started)),
    )


def _tuning(started: Started) -> Tuning:
    """How DEFEDB is set; the folder of its logs is made if it is not there."""
    conf = started.conf.defedb
    home = started.config.queue_path(conf.log_directory) if conf.log_directory else ""
    if home:
        os.makedirs(home, 0o700, exist_ok=True)
    return Tuning(conf.cache_size, conf.page_size, home)


def _form(flags: frozenset[str]) -> Form:
    if "rfc_format" in flags:
        return Form.RFC
    return Form.MIME if "mime_format" in flags else Form.PLAIN


def _out_limits(conf: Any) -> OutLimits:
    return OutLimits(min(conf.initial_connections, conf.connections_max), conf.connections_max,
                     conf.transactions_per_session_max)


def _clients(started: Started) -> list[SmtpcConf]:
    return [service.conf for service in started.config.services if service.keyword == "smtpc"]


def _features(started: Started) -> list[str]:
    """Names of the classes of session features that SMTP clients have."""
    return [features.name for conf in _clients(started) for features in conf.session_features]


class _InForce(NamedTuple):
    """The configuration that was taken up last; the decider may not have heard of it yet."""

    started: Started
    settings: Settings
    late: tuple[str, ...]  # options that wait for the next start


class Process:
    """The program: its stores, its threads."""

    def __init__(self, started: Started) -> None:
        """Open and recover the stores."""
        block_signals()
        self._started = started
        self._conf_at_start = started.conf
        self._log: Log = started.log
        conf, config = started.conf, started.config
        self._disk = Disk()
        self._cdb = ContentDb(self._disk, config.cdb_base_directory)
        stores = open_stores(
            self._disk, config.queue_path(conf.defedb.base_directory), _tuning(started), self._cdb, self._log,
            conf.defedb.hash_table_entries)
        self._ibdb = ibdb.Ibdb(self._disk, ibdb.FOLDER, conf.ibdb.size)
        self._ibdb.forget_before(stores.found.keep)
        self._ibdb_thread = IbdbThread(
            self._ibdb, self._log, conf.ibdb.commit_delay_max / 1000.0, conf.ibdb.open_tas_max, self._report)
        self._defedb_thread = DefedbThread(
            stores.defedb, self._cdb, self._log, self._report,
            checkpoint_delay=conf.defedb.delay_between_2_checkpoints,
            checkpoint_kbytes=conf.defedb.kbytes_written_for_checkpointing,
            removes_logs="remove_unused_logfiles" in conf.defedb.flags)
        self._in_force = _InForce(started, _settings(started), ())
        self._q = Qmgr(self._in_force.settings, time.time(), random.random, lambda: secrets.token_hex(16))
        self._q.take_hosts(self._read_hosts(started, self._q.settings))
        for line in fill(self._q, stores.found, time.time()):
            self._log.info(line.text)
        self._q.holds = self._read_holds()  # now that threads are there to carry out what follows from it
        self._decider = Decider(self._q, self._log, self._ibdb_thread, self._defedb_thread, self._reread)
        self._hub = Hub("qmgr", self._log, self._on_batch)

    def run(self) -> int:
        """Serve until a signal says stop, stop in order."""
        die_with_any_thread(self._log.error)
        started, config, hub = self._started, self._started.config, self._hub
        most = max(started.conf.fds_max - _OWN_FDS, 1)
        hub.listen(config.queue_path(config.smtps_socket), msg_ss.VOCABULARY, "smtps",
                   uids_of(config, "smtps"), peers_max=most)
        hub.listen(config.queue_path(config.smtpc_socket), msg_da.VOCABULARY, "smtpc",
                   uids_of(config, "smtpc"), peers_max=most)
        hub.listen(config.queue_path(started.conf.control_socket), msg_ctl.VOCABULARY, "control", (), peers_max=most)
        hub.connect(config.queue_path(config.smar_socket), msg_ar.VOCABULARY, "smar")
        self._ibdb_thread.start()
        self._defedb_thread.start()
        self._decider.start()
        hub.start()
        started.ready()
        started.wait({signal.SIGHUP: self._on_hup, signal.SIGUSR1: self._on_usr1, signal.SIGUSR2: self._log.rewind})
        self._decider.stop()
        hub.stop()
        self._ibdb_thread.stop()
        self._defedb_thread.stop()
        return 0

    def _report(self, items: list[Any]) -> None:
        self._decider.put(items)

    def _on_batch(self, batch: Batch) -> None:
        self._decider.put(list(batch))

    def _on_hup(self) -> None:
        """Take a changed configuration up, as far as that can be; MCP has checked it."""
        try:
            fresh = self._in_force.started.again()
            settings = _settings(fresh)
            hosts = self._read_hosts(fresh, settings)
        except (ConfErrors, OSError, StoreError) as error:
            self._log.error(f"func=qmgr, status=reload refused, reason={clean(error)}")
            return
        late = tuple(sorted(name for name in changed_options(self._conf_at_start, fresh.conf)
                            if name.partition(".")[0] in AT_START))
        self._in_force = _InForce(fresh, settings, late)
        self._report([Configured(settings, hosts, late)])

    def _on_usr1(self) -> None:
        found = self._reread()
        if found is not None:
            self._report([found])
        print_stats("qmgr", {
            **status(self._q, time.time()), "ibdb_flushes": self._ibdb_thread.flushes,
            "ibdb_records": self._ibdb_thread.records, "defedb_transactions": self._defedb_thread.transactions})

    def _read_hosts(self, started: Started, settings: Settings) -> HostConf:
        """The configuration map; without one (its name is only a default) there are no entries. StoreError."""
        conf = started.conf.conf
        path = started.config.map_path(conf)
        if not conf.is_explicit and not os.path.exists(path):
            return HostConf({})
        entries = dict(itertools.islice(MapDb(path).items(), ENTRIES_MAX + 1))
        if len(entries) > ENTRIES_MAX:
            raise StoreError("read", path, f"more than {ENTRIES_MAX} entries")
        hosts = HostConf(entries, settings.limit_classes, settings.sources, _features(started))
        for entry in hosts.wrong:
            self._log.error(f"func=qmgr_conf, {fields(entry=entry)}, status=does not count")
        return hosts

    def _read_holds(self) -> holds.Holds:
        """What is held since an earlier run; if that can't be known everything is."""
        try:
            octets = smallfile.read(self._disk, holds.FILE)
            found = holds.parse(octets.decode()) if octets else holds.Holds()
        except (StoreError, ValueError) as error:
            self._log.error(f"func=q_hold, file={holds.FILE}, reason={error}, status=all is held; "
                            "qmgrctl release when you know what should be")
            return holds.Holds(True)
        if found:
            self._log.warning(f"func=q_hold, {fields(all=found.is_all, sites=len(found.sites))}, status=held")
        return found

    def _reread(self) -> Configured | None:
        """The configuration map as it is now (M1 4.8), None if it can't be read: then the old one stays."""
        now = self._in_force
        try:
            return Configured(now.settings, self._read_hosts(now.started, now.settings), now.late)
        except StoreError as error:
            self._log.error(f"func=qmgr_conf, status={error}")
            return None


def main(argv: list[str]) -> int:
    """Run the program; returns its exit code."""
    started = start("qmgr", argv)
    os.makedirs(ibdb.FOLDER, 0o700, exist_ok=True)
    gc.disable()
    process = Process(started)
    gc.freeze()  # a long queue is there to stay
    gc.enable()
    return process.run()
