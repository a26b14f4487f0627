"""lda: the embedded local mailer, so that a fresh machine has local delivery.

Peers
    SMTPC over the Unix socket that MCP listens on (start_action accept), or pass.

Files
    Writes below maildir_base, nothing else.
"""
import os
import pwd
import signal
import socket
from typing import Any

from meta1g.lda.maildir import Maildirs
from meta1g.lda.session import Session, Setting
from meta1g.lda.users import Users, parse_table
from meta1g.mta import logfmt
from meta1g.proc.start import Started, start
from meta1g.proc.stats import print_stats
from meta1g.proto.smtp.command import Syntax
from meta1g.proto.smtp.options import ServerOptions
from meta1g.proto.smtp.params import Offers
from meta1g.shim.safeio import Disk
from meta1g.st.block import Blocking
from meta1g.st.listen import Acceptor
from meta1g.st.netfd import NetFd
from meta1g.st.sched import Flag
from meta1g.st.signals import on_signal


def _is_passwd_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _users(started: Started) -> Users:
    conf = started.conf
    extra = frozenset(name.lower() for name in conf.extra_users)
    is_user: Any = _is_passwd_user
    if conf.users == "table":
        with open(started.config.map_path(conf.user_table), encoding="utf-8") as file:
            is_user = parse_table(file.read()).__contains__
    return Users(is_user, extra, conf.address_delimiter.encode())


def main(argv: list[str]) -> int:
    """Run the program; returns its exit code."""
    started = start("lda", argv)
    conf, log = started.conf, started.log
    offers = Offers(offers_smtputf8=True, offers_chunking=True, offers_binarymime=True)
    options = ServerOptions(started.hostname, conf.message_size_max, offers, syntax=Syntax(is_lmtp=True, utf8=True))
    setting = Setting(options, _users(started), Maildirs(Disk(), started.config.queue_path(conf.maildir_base)),
                      Blocking(), conf.io_timeout, log)

    def serve(netfd: NetFd) -> None:
        try:
            Session(netfd, setting).run()
        except Exception as error:
            # A bug must cost one session; without our reply the client keeps its message.
            log.error(logfmt.fields(func="lda", bug=repr(error)))

    stop = Flag()
    for number in (signal.SIGTERM, signal.SIGINT):
        on_signal(number, stop.raise_)
    acceptor = Acceptor([socket.socket(fileno=os.dup(0))], conf.threads_max, serve)
    on_signal(signal.SIGUSR1, lambda: print_stats("lda", {"sessions": acceptor.active, "accepted": acceptor.accepted}))
    on_signal(signal.SIGUSR2, log.rewind)
    acceptor.start()
    started.ready()
    while not stop.wait(3600.0):
        pass
    acceptor.stop()
    acceptor.wait_idle(5.0)
    return 0
