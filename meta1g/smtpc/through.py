"""Connecting through smtpp (M1 3.11 item 7, 4.6)."""
import socket
from typing import NamedTuple

from meta1g.conf.load import Config
from meta1g.conf.opt_smtpc import ClientProxy
from meta1g.mta.errors import RemoteProtocolError
from meta1g.proto import smtpp
from meta1g.proto.smtpp import LINE_MAX, Wanted
from meta1g.st.head import read_head
from meta1g.st.netfd import NetFd, connect, reason_of
from meta1g.st.sched import TimedOut


class NotThrough(Exception):
    """The connection can't be had; the text says why."""


class NoProxy(NotThrough):
    """Nor could one to any other server: the proxy is to blame."""


class Proxy(NamedTuple):
    """Where smtpp is, `address` as socket.connect wants it, and the key that it knows."""

    family: int
    address: str | tuple[str, int]
    key: bytes

    def connect(self, wanted: Wanted, timeout: float) -> NetFd:
        """A connection to the server. NotThrough, NoProxy."""
        try:
            netfd = connect(self.family, self.address, timeout)
        except (OSError, TimedOut) as error:
            raise NoProxy(f"proxy: {reason_of(error)}") from None
        try:
            netfd.write(smtpp.request(wanted, self.key), timeout)
            reason = smtpp.parse_answer(read_head(netfd, LINE_MAX, timeout))
            if reason:
                raise NotThrough(f"proxy says {reason}")
        except (OSError, TimedOut, RemoteProtocolError) as error:
            netfd.close()
            raise NoProxy(f"proxy: {reason_of(error)}") from None
        except BaseException:
            netfd.close()
            raise
        return netfd


def proxy_of(conf: ClientProxy | None, config: Config) -> Proxy | None:
    """The proxy of a configuration, if there is one."""
    if conf is None:
        return None
    key = conf.proxy_key.encode("utf-8", "surrogateescape")
    if conf.type == "unix":
        return Proxy(socket.AF_UNIX, config.queue_path(conf.path or ""), key)
    loopback = "::1" if conf.type == "inet6" else "127.0.0.1"
    family = socket.AF_INET6 if conf.type == "inet6" else socket.AF_INET
    return Proxy(family, (conf.address or loopback, conf.port or 0), key)
