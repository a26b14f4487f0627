"""A policy as a program: `run(MyPolicy(), "unix:/run/policy.sock")` at the end of its file.

Rules
    The command line may say another socket, how much is logged, and more; -h shows it.
    Lines go to standard error. USR1 and USR2 call the policy's `signal`, TERM and INT end the program.
"""
import argparse
import logging
import signal
import sys
import traceback
from typing import Any, Final

from meta1g.mta import logfmt
from meta1g.mta.errors import MtaError
from meta1g.pmilter.contexts import Process
from meta1g.pmilter.errors import PolicyError
from meta1g.pmilter.hub import Hub
from meta1g.pmilter.policy import PolicyMilter

_LOG: Final = logging.getLogger("pmilter")
_MODE: Final = 0o660  # SMTPS needs to be of the socket's group
_ENDS: Final = {signal.SIGTERM, signal.SIGINT}
_TOLD: Final = {signal.SIGUSR1, signal.SIGUSR2}


def run(policy: PolicyMilter, where: str | argparse.Namespace, own: Any = None) -> int:
    """Serve until a signal says stop; the exit code: 0, or 1 if the socket can't be had.

    `where` is the socket unless the command line says another one, or what a `parser` has found there. `own` is the
    author's object for the global context.
    """
    found = parser(type(policy).__doc__ or "A policy milter.", where).parse_args() if isinstance(where, str) else where
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    process = Process(own)
    try:
        process.setconn(found.socket)
        process.setdbg(found.debug)
        process.settimeout(found.timeout)
        process.setthreads(min(process.threads_soft, found.threads), found.threads)
    except PolicyError as error:
        _LOG.error("%s", logfmt.fields(status=error))
        return 1
    return start(policy, process, mode=found.mode)


def parser(about: str, where: str) -> argparse.ArgumentParser:
    """The command line of a policy, to which its author may add options."""
    made = argparse.ArgumentParser(prog=sys.argv[0].rpartition("/")[2], description=about.partition("\n")[0])
    made.add_argument("-p", "--socket", default=where, help="a path, or inet:port@host (default: %(default)s)")
    made.add_argument("-d", "--debug", type=int, default=0, metavar="LEVEL",
                      help="1 logs connections, 2 sessions, 3 each call")
    made.add_argument("-m", "--mode", type=lambda text: int(text, 8), default=_MODE,
                      help=f"mode of a Unix socket (default: {_MODE:o})")
    made.add_argument("-n", "--threads", type=int, default=Process().threads_hard,
                      help="calls at the same time, at most (default: %(default)s)")
    made.add_argument("-t", "--timeout", type=float, default=Process().timeout, metavar="SECONDS",
                      help="wait for an SMTP server (default: %(default)s)")
    return made


def start(policy: PolicyMilter, process: Process, mode: int = _MODE) -> int:
    """Serve with these options until TERM or INT comes; the exit code as of `run`; sm_pmfi_start.

    Only the main thread can do that; `Hub` is for programs with other plans.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {*_ENDS, *_TOLD})
    try:
        hub = Hub(policy, process, mode)
    except (OSError, MtaError) as error:
        _LOG.error("%s", logfmt.fields(socket=process.connection, status=error))
        return 1
    hub.start()
    _LOG.info("%s", logfmt.fields(policy=type(policy).__name__, status="ready", socket=process.connection))
    while (number := signal.sigwait({*_ENDS, *_TOLD})) in _TOLD:
        try:
            policy.signal(process, number)
        except Exception:
            _LOG.error("%s", logfmt.fields(call="signal", error=traceback.format_exc(limit=-1)))
    hub.stop()
    return 0
