"""Command lines of the daemons: options are processed in order, later wins (M1 3.1, 3.8.1)."""
import dataclasses
import getopt
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from meta1g.conf import kinds
from meta1g.conf.dump import version_text
from meta1g.conf.errors import ConfError, ConfErrors, Position
from meta1g.conf.load import MODULES, Config, Service, load_file


class UsageError(Exception):
    """The command line is wrong; the text says how (EX_USAGE)."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """What a command line asks for: `text` is to be printed instead of running, if not empty."""

    config: Config
    service: Service | None
    conf: Any
    text: str = ""
    log_directory: str = ""
    process: int = 0
    trusted_domains: tuple[str, ...] = ()


Letter = tuple[str, str]  # metavariable (empty for a switch), help

_COMMON: Final[dict[str, Letter]] = {
    "f": ("FILE", "read this configuration file"),
    "N": ("NAME", "use the section with this name"),
    "h": ("", "show this help"),
    "V": ("", "show the version; five times the configuration, six times all flags too"),
    "x": ("SPEC", "debug levels, as 1-3.4,5.3"),
    "i": ("ID", "number of this process"),
}
_LETTERS: Final[dict[str, dict[str, Letter]]] = {
    "mcp": {"f": _COMMON["f"], "h": _COMMON["h"], "V": _COMMON["V"], "L": ("DIR", "folder of log files")},
    "qmgr": {**_COMMON, "C": ("N", "connections to one address at most [100]"),
             "c": ("N", "connections to one address at first [10]"),
             "O": ("R=N|O=N", "connection rate, open connections of one client [100, 100]")},
    "smar": _COMMON,
    "smtps": {**_COMMON, "a": ("", "use the access map"), "T": ("DOMAIN", "allow relaying to this domain")},
    "smtpc": _COMMON,
    "lda": _COMMON,
}


def usage(program: str) -> str:
    """The help text of a daemon."""
    lines = [f"usage: {program} [options]", ""]
    for letter, (value, text) in _LETTERS[program].items():
        lines.append(f"  -{letter} {value:<10}{text}")
    return "\n".join(lines) + "\n"


def parse_args(program: str, argv: list[str]) -> Invocation:
    """Process a command line (without the program's name). UsageError, ConfErrors, OSError."""
    letters = _LETTERS[program]
    try:
        options, rest = getopt.getopt(argv, "".join(k + (":" if v[0] else "") for k, v in letters.items()))
    except getopt.GetoptError as error:
        raise UsageError(str(error)) from None
    if rest:
        raise UsageError(f"unexpected argument {rest[0]!r}")
    state = _State(program)
    for letter, value in options:
        state.take(letter[1:], value)
    return state.result()


class _State:
    def __init__(self, program: str) -> None:
        self.program = program
        self.config = Config()
        self.name = ""
        self.changes: list[Callable[[Any], Any]] = []
        self.verbose = 0
        self.is_help = False
        self.log_directory = ""
        self.process: int | None = None
        self.domains: list[str] = []

    def take(self, letter: str, value: str) -> None:
        match letter:
            case "f":
                self.config = load_file(value)
                self.changes = []  # a file overrides what came before it
            case "N":
                self.name = value
            case "h":
                self.is_help = True
            case "V":
                self.verbose += 1
            case "L":
                self.log_directory = value
            case "i":
                self.process = _number(letter, value) % 256
            case "T":
                self.domains.append(value)
            case "a":
                self.changes.append(lambda conf: dataclasses.replace(conf, flags=conf.flags | {"access"}))
            case "C":
                self._to("smtpc", "connections_max", _number(letter, value, 1))
            case "c":
                self._to("smtpc", "initial_connections", _number(letter, value, 1))
            case "O":
                self._limit(value)
            case "x":
                pass  # the debug categories of the C binaries have no counterpart; the option stays accepted

    def _limit(self, value: str) -> None:
        which, _, amount = value.partition("=")
        name = {"R": "connection_rate_max", "O": "connections_max"}.get(which)
        if name is None:
            raise UsageError(f"-O {value}: expected R=N or O=N")
        self._to("smtps", name, _number(f"O {which}=", amount, 1))

    def _to(self, part: str, name: str, value: int) -> None:
        self.changes.append(lambda conf: dataclasses.replace(
            conf, **{part: dataclasses.replace(getattr(conf, part), **{name: value})}))

    def result(self) -> Invocation:
        program = self.program
        service = self.config.section(program, self.name)
        if self.name and service is None:
            at = Position(self.config.file or "command line", 1, 1)
            raise ConfErrors([ConfError(at, f"no section {program} {self.name}")])
        conf = None
        if program in MODULES:
            conf = MODULES[program]() if service is None else service.conf
            for change in self.changes:
                conf = change(conf)
        text = ""
        if self.is_help:
            text = usage(program)
        elif self.verbose:
            text = version_text(program, self.verbose, self.config, conf)
        process = self.process if self.process is not None else getattr(conf, "id", 0)
        return Invocation(self.config, service, conf, text, self.log_directory, process, tuple(self.domains))


def _number(option: str, text: str, low: int = 0) -> int:
    shown = f"-{option}{text}" if option.endswith("=") else f"-{option} {text}"
    try:
        value = kinds.number(text)
    except kinds.BadValue as error:
        raise UsageError(f"{shown}: {error.expected}") from None
    if value < low:
        raise UsageError(f"{shown}: it must be at least {low}")
    return value
