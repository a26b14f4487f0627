"""How every daemon begins: command line, configuration, user, log (M1 3.1, 4.7.1).

Diagnostics
    A wrong command line ends with EX_USAGE, a wrong configuration with EX_CONFIG, root
    with EX_NOPERM: MCP does not restart what ended so (M1 4.1).
"""
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from meta1g import __version__
from meta1g.conf.cmdline import Invocation, UsageError, parse_args, usage
from meta1g.conf.errors import ConfErrors
from meta1g.conf.load import Config, moot_in_use
from meta1g.conf.opt_mcp import McpConf
from meta1g.mta.errors import MtaError
from meta1g.mta.logfmt import clean
from meta1g.proc.hostname import own_name
from meta1g.proc.log import Log, open_log
from meta1g.proc.ready import VARIABLE, tell_ready
from meta1g.proc.threads import wait_for_stop

T = TypeVar("T")
WORKER: Final = "META1G_LISTEN_FD"  # set for processes that another daemon started


@dataclass(slots=True)
class Started:
    """What a daemon has when it begins its work.

    `conf` is the configuration of its own section, `mcp` the MCP options there (None without a
    section), `process` its 8-bit number.
    """

    program: str
    config: Config
    conf: Any
    mcp: McpConf | None
    log: Log
    hostname: str
    process: int
    trusted_domains: tuple[str, ...] = ()
    argv: tuple[str, ...] = ()

    def again(self) -> "Started":
        """The same with the configuration as it is now. ConfErrors, OSError."""
        invocation = parse_args(self.program, list(self.argv))
        config, service = invocation.config, invocation.service
        self.log.level = invocation.conf.log_level
        return replace(self, config=config, conf=invocation.conf, mcp=service.mcp if service else None)

    def ready(self) -> None:
        """Tell MCP that the process works now."""
        self.log.info(f"func={self.program}, status=ready, version={__version__}")
        tell_ready()

    def wait(self, handlers: Mapping[int, Callable[[], Any]]) -> None:
        """Run signal handlers in the main thread until TERM or INT comes."""
        wait_for_stop(handlers)


    def or_end(self, option: str, make: Callable[[], T]) -> T:
        """What the files of an option make; ends the process if they can't be used, which a restart would not mend."""
        try:
            return make()
        except MtaError as error:
            self.log.error(f"func={self.program}, option={option}, status={clean(error)}")
            self.log.flush()
            raise SystemExit(os.EX_CONFIG) from None


def start(program: str, argv: list[str]) -> Started:
    """Begin; ends the process if it has nothing to do or must not run."""
    invocation = _invocation(program, argv)
    if invocation.text:
        sys.stdout.write(invocation.text)
        raise SystemExit(0)
    if os.geteuid() == 0:
        sys.stderr.write(f"{program}: must not run as root; let mcp start it, or use runas (M1 4.7.1)\n")
        raise SystemExit(os.EX_NOPERM)
    os.umask(0o027)
    gain_nothing()
    die_with_parent()
    config, conf = invocation.config, invocation.conf
    log = open_log(program, conf.log_level, conf.log, config.log_format)
    service = invocation.service
    for option in moot_in_use(config):
        if service is not None and option.startswith(f"{service.label}: "):
            log.warning(f"func={program}, option={clean(option)}, status=has no effect")
    return Started(program, config, conf, service.mcp if service else None, log,
                   config.hostname or own_name(), invocation.process, invocation.trusted_domains, tuple(argv))


def gain_nothing() -> None:
    """No program that this process may run has more rights than it (PR_SET_NO_NEW_PRIVS, prctl(2))."""
    ctypes.CDLL(None, use_errno=True).prctl(38, 1, 0, 0, 0)


def die_with_parent() -> None:
    """TERM when MCP dies: without it nobody would restart us, and a new one could not bind our port."""
    if os.environ.get(VARIABLE) or os.environ.get(WORKER):
        ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG, prctl(2)
        if os.getppid() == 1:
            raise SystemExit(os.EX_TEMPFAIL)


def _invocation(program: str, argv: list[str]) -> Invocation:
    try:
        return parse_args(program, argv)
    except UsageError as error:
        sys.stderr.write(f"{program}: {error}\n{usage(program)}")
        raise SystemExit(os.EX_USAGE) from None
    except ConfErrors as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(os.EX_CONFIG) from None
    except OSError as error:
        sys.stderr.write(f"{program}: {error}\n")
        raise SystemExit(os.EX_CONFIG) from None


def run(program: str, main: Callable[[list[str]], int], argv: list[str]) -> int:
    """Run a daemon's `main`; what it could not handle becomes one clear line and an exit code (M1 4.1)."""
    try:
        return main(argv)
    except (OSError, MtaError) as error:
        sys.stderr.write(f"{program}: {error}\n")
        return os.EX_TEMPFAIL
