"""The command line of smtpp; pure, but for the file that holds the key, which `read` reads."""
import getopt
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from meta1g import __version__
from meta1g.conf.cmdline import UsageError
from meta1g.conf.opt_global import FACILITIES, SYSLOG_OPTIONS, LogConf
from meta1g.mta import addr
from meta1g.proc.log import SESSION

USAGE: Final = """\
usage: smtpp -l WHERE -K FILE [options]            mail out: SMTPC's connections, to the servers it names
       smtpp -i WHERE -s WHERE -K FILE [options]   mail in: clients' connections, to SMTPS

For a mail server without an address of its own: smtpp runs on a host that has one and passes connections on.
Both ways can be had at once; a second smtpp allows keys and limits of their own.

  -l WHERE    take requests of SMTPC here; its section says proxy { ... proxy_key = KEY; }
  -i WHERE    take SMTP clients here
  -s WHERE    where SMTPS is; its section says proxy { ... client_key = KEY; }
  -K FILE     the first line of FILE is the shared key
  -k KEY      the shared key itself; everybody on this host can read it in the list of processes
  -n N        connections at once, for each of -l and -i [500]
  -t SECONDS  end connections on which nothing moves for so long [600]
  -v LEVEL    how much is logged, to standard output, which mcp keeps in a file [9]; below 9 no connections
  -L FACILITY[:IDENT[:OPTION,...]]  log to syslog instead, as mail:smtpp-in:pid,ndelay
  -f          stay in the foreground, which it always does
  -h, --help  show this help
  -V          show the version

WHERE is :PORT, ADDRESS:PORT, [IPV6]:PORT or the path of a Unix socket (with a slash). For -l and -i it may be
- (hyphen): standard input is a listening socket, as mcp passes it by start_action = accept.

Signals: TERM ends it, after 10 seconds for what is under way; USR1 prints statistics, USR2 rewinds the log.

example, on the host with the address:
  smtpp -l :2525 -i :25 -s 192.0.2.7:25 -K /etc/meta1/smtpp.key
and in meta1.conf on 192.0.2.7, where 198.51.100.1 is that host:
  smtpc { proxy { type = inet; address = 198.51.100.1; port = 2525; proxy_key = ...; } }
  smtps { proxy { type = inet; address = 198.51.100.1; client_key = ...; } }
"""
_STDIN: Final = "-"


@dataclass(frozen=True, slots=True)
class Where:
    """A socket: a Unix socket's `path`, or `host` (empty: all) and `port`; standard input if all are empty."""

    host: str = ""
    port: int = 0
    path: str = ""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says; `text` is to be printed instead of running, if not empty. Times in seconds."""

    requests: tuple[Where, ...] = ()
    clients: tuple[Where, ...] = ()
    smtps: Where | None = None
    key: bytes = b""
    connections_max: int = 500
    idle_timeout: int = 600
    log_level: int = SESSION
    syslog: LogConf | None = None
    text: str = ""


def parse_args(argv: list[str], read: Callable[[str], bytes]) -> Options:
    """The options of a command line without the program's name. UsageError; OSError of `read`, which reads a file."""
    try:
        given, rest = getopt.getopt(argv, "l:i:s:K:k:n:t:v:L:fhV", ["help"])
    except getopt.GetoptError as error:
        raise UsageError(str(error)) from None
    if rest:
        raise UsageError(f"unexpected argument {rest[0]!r}")
    said: dict[str, list[str]] = {}
    for option, value in given:
        said.setdefault(option, []).append(value)
    if "-h" in said or "--help" in said:
        return Options(text=USAGE)
    if "-V" in said:
        return Options(text=f"smtpp: meta1g {__version__}\n")
    options = Options(
        requests=tuple(_where("-l", text) for text in said.get("-l", [])),
        clients=tuple(_where("-i", text) for text in said.get("-i", [])),
        smtps=_where("-s", said["-s"][-1]) if "-s" in said else None,
        key=_key(said, read),
        connections_max=_number("-n", said.get("-n", ["500"])[-1]),
        idle_timeout=_number("-t", said.get("-t", ["600"])[-1]),
        log_level=_number("-v", said.get("-v", [str(SESSION)])[-1], 0),
        syslog=_syslog(said["-L"][-1]) if "-L" in said else None)
    _check(options)
    return options


def _check(options: Options) -> None:
    if not options.requests and not options.clients:
        raise UsageError("nothing to do: give -l or -i")
    if bool(options.clients) is not (options.smtps is not None):
        raise UsageError("-i and -s belong together")
    if options.smtps == Where():
        raise UsageError("-s -: standard input can't be SMTPS")
    if (*options.requests, *options.clients).count(Where()) > 1:
        raise UsageError("standard input is one socket only")
    if not options.key:
        raise UsageError("a key is needed, else anybody could use this proxy: give -K FILE")


def _key(said: dict[str, list[str]], read: Callable[[str], bytes]) -> bytes:
    if "-K" in said and "-k" in said:
        raise UsageError("-K and -k can't be used together")
    if "-K" in said:
        return (read(said["-K"][-1]).splitlines() or [b""])[0].strip()
    return said.get("-k", [""])[-1].encode("utf-8", "surrogateescape")


def _syslog(text: str) -> LogConf:
    facility, _, more = text.partition(":")
    ident, _, listed = more.partition(":")
    options = frozenset(listed.lower().split(",")) if listed else frozenset()
    if facility.lower() not in FACILITIES:
        raise UsageError(f"-L {text}: facilities are {', '.join(FACILITIES)}")
    if not options <= set(SYSLOG_OPTIONS):
        raise UsageError(f"-L {text}: options are {', '.join(SYSLOG_OPTIONS)}")
    return LogConf(facility.lower(), ident, options)


def _where(option: str, text: str) -> Where:
    if text == _STDIN:
        return Where()
    if "/" in text:
        return Where(path=text)
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    number = int(port) if port.isascii() and port.isdigit() and len(port) < 6 else 0
    if not colon or not 0 < number < 65536 or (host and addr.plain_ip(host) is None):
        raise UsageError(f"{option} {text}: expected ADDRESS:PORT, :PORT or a path")
    if option == "-s" and not host:
        raise UsageError(f"-s {text}: an address is needed")
    return Where(host, number)


def _number(option: str, text: str, least: int = 1) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 7 or int(text) < least:
        raise UsageError(f"{option} {text}: expected a number from {least} on")
    return int(text)
