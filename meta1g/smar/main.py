"""SMAR: the address resolver (M1 1.1.1, 3.9).

Files
    mt, aliases.db, access.db and declared maps in the configuration folder; read only.
    greylist/ in the queue directory, with greylisting only.

Peers
    SMTPS and QMGR, over SMAR_socket; nameservers over UDP and TCP.

Diagnostics
    USR1 reads all maps anew, the text mailertable too, and prints statistics; USR2 rewinds
    the log file; TERM and INT end.
"""
import gc
import os
import random
import signal
import sys
import time
from typing import Any, Final

from meta1g.maps.open import MapError
from meta1g.mta.errors import StoreError
from meta1g.mta.logfmt import fields
from meta1g.proc.accounts import uids_of
from meta1g.proc.hub import Hub
from meta1g.proc.start import Started, run, start
from meta1g.proc.stats import print_stats
from meta1g.proc.threads import block_signals, die_with_any_thread
from meta1g.proto.msg_ar import VOCABULARY
from meta1g.smar import descriptors
from meta1g.smar.ask import DnsAnswer
from meta1g.smar.cache import TtlCache
from meta1g.smar.dnsq import DnsThread
from meta1g.smar.engine import Engine
from meta1g.smar.on_request import Requests
from meta1g.smar.open import Maps, dns_conf, make_setup, of_others, open_greylist
from meta1g.smar.setup import Setup

DNS_CACHE: Final = 100_000  # answers: about 100 MB at worst; one day of a busy server knows fewer domains
GC_YOUNG: Final = 20_000  # new objects until the collector looks: with Python's 700 it takes 40 % of SMAR's time
PEERS: Final = ("smtps", "qmgr", "smtpc")  # sections whose users may ask


class Smar:
    """All parts of the process."""

    def __init__(self, started: Started) -> None:
        conf = started.conf
        self._started = started
        self._maps = Maps(started.config, conf, started.log)
        self._cache: TtlCache[DnsAnswer] = TtlCache(DNS_CACHE)
        resolver = dns_conf(conf.dns)
        if resolver.untrusted:
            names = " ".join(resolver.untrusted)
            started.log.warning(f"func=smar, {fields(nameservers=names)}, status=DNSSEC not believed, "
                                "reason=only resolv.conf names them and they are not on this host")
        self._dns = DnsThread(resolver, self._cache, time.monotonic, random.SystemRandom())
        self._nameservers = len(resolver.nameservers)
        self._greylist = (
            None if conf.greylisting is None else open_greylist(started.config, conf.greylisting, started.log))
        self._engine = Engine(self._maps.by_role, self._dns, self._cache, started.log, threads=conf.threads_max,
                              threads_min=conf.threads_min, greylist=self._greylist)
        self._requests = Requests(
            self._engine, self._setup(), started.log, more_counts=self._counts,
            reopen=self.reopen)
        self._hub = Hub("smar", started.log, self._requests.on_batch)

    def _setup(self) -> Setup:
        started = self._started
        return make_setup(started.hostname, started.conf, self._maps, of_others(started.config))

    def _counts(self) -> dict[str, Any]:
        dns = self._dns.counts
        return {
            "dns": {name: getattr(dns, name) for name in dns.__slots__},
            "dns_cache": self._cache.counts()._asdict(),
            "threads": self._engine.threads,
            **({} if self._greylist is None else {"greylist": self._greylist.statistics}),
        }

    def serve(self) -> None:
        """Work until TERM or INT comes."""
        config = self._started.config
        self._hub.listen(config.queue_path(config.smar_socket), VOCABULARY, "client", uids_of(config, *PEERS),
                         peers_max=self._limit_descriptors())
        self._dns.start()
        if self._greylist is not None:
            self._greylist.start()
        self._engine.start()
        self._hub.start()
        self._started.ready()
        self._started.wait({signal.SIGUSR1: self.reopen, signal.SIGUSR2: self._started.log.rewind})
        self._hub.stop()
        self._dns.stop()
        self._engine.stop()
        if self._greylist is not None:
            self._greylist.stop()

    def _limit_descriptors(self) -> int:
        """Apply fds_max (M1 8.4 item 2); how many clients may connect."""
        wanted, log = self._started.conf.fds_max, self._started.log
        slow = sum(source.is_slow for source in self._maps.by_role.values())
        own = descriptors.needed(descriptors.open_now(), self._nameservers, slow)
        limit, clients = descriptors.apply(wanted, own)
        if limit != wanted:
            log.warning(f"func=smar, {fields(fds_max=wanted, used=limit, own=own)}, status=fds_max cannot be kept")
        log.info(f"func=smar, {fields(fds_max=limit, own=own, clients_max=clients)}")
        return clients

    def reopen(self) -> None:
        """USR1, or QMGR's word: read the maps anew (M1 4.8) and print statistics (M1 9.4)."""
        self._maps.reopen()
        self._requests.reopened(self._setup())
        print_stats("smar", self._requests.counts())


def main(argv: list[str]) -> int:
    """Entry point; the exit code tells MCP whether to try again (M1 4.1)."""
    return run("smar", _main, argv)


def _main(argv: list[str]) -> int:
    started = start("smar", argv)
    gc.set_threshold(GC_YOUNG)
    block_signals()
    die_with_any_thread(started.log.error)
    try:
        smar = Smar(started)
    except (StoreError, MapError) as error:
        started.log.error(f"func=smar, status=cannot start, reason={error}")
        sys.stderr.write(f"smar: {error}\n")
        return os.EX_CONFIG
    smar.serve()
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
