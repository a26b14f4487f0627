"""Where log lines go: syslog, or standard output, which MCP redirects to PROG.log (M1 3.5, 4.9).

Rules
    A line is fields as `mta.logfmt` makes them. Its severity stands in front as `sev=`
    when it is an error, so that the search of M1 4.10 finds it.
    `level` follows M1 3.5: 9 is normal operation, 12 to 14 are for tests. The classes
    below name the level from which a line is written.
    A process with an event loop writes a turn's lines at once, errors without delay (`gather`).
"""
import json
import os
import re
import syslog
import threading
import time
from collections.abc import Callable
from typing import Final

from meta1g.conf.opt_global import LogConf
from meta1g.mta import logfmt

SESSION: Final = 9  # sessions and transactions: what a postmaster wants to see
DETAIL: Final = 12  # commands, lookups, scheduling
DEBUG: Final = 14

_UNPRINTABLE: Final = re.compile(r"[^ -~]")
_FACILITIES: Final = {
    name[4:].lower(): value for name, value in vars(syslog).items()
    if name.startswith("LOG_") and name[4:] in {
        "AUTH", "CRON", "DAEMON", "LPR", "MAIL", "NEWS", "USER", "UUCP",
        "LOCAL0", "LOCAL1", "LOCAL2", "LOCAL3", "LOCAL4", "LOCAL5", "LOCAL6", "LOCAL7"}
}
_OPTIONS: Final = {
    name: getattr(syslog, f"LOG_{name.upper()}") for name in ("pid", "ndelay", "cons", "nowait", "perror")
}


class Log:
    """A process's log: a severity and a level decide whether a line is written."""

    def __init__(self, ident: str, level: int = SESSION, fd: int = 1) -> None:
        self.level = level
        self._ident = ident
        self._fd = fd
        self._is_syslog = False
        self.is_json = False
        self._second = -1
        self._stamp = ""
        self._later: Callable[[Callable[[], None]], object] | None = None
        self._lines: list[bytes] = []
        self._lock = threading.Lock()

    def use_syslog(self, facility: str, ident: str, options: tuple[str, ...]) -> None:
        """Send lines to syslog from now on (M1 3.5); unknown names of options are the configuration's to refuse."""
        flags = 0
        for option in options:
            flags |= _OPTIONS[option.lower()]
        syslog.openlog(ident or self._ident, flags, _FACILITIES[facility.lower()])
        self._is_syslog = True

    def gather(self, later: Callable[[Callable[[], None]], object]) -> None:
        """Write lines of normal operation together: `later(f)` calls f at the end of the event loop's turn."""
        self._later = later

    def flush(self) -> None:
        """Write what was gathered."""
        with self._lock:
            lines, self._lines = self._lines, []
        if lines:
            self._write_out(b"".join(lines))

    def wants(self, level: int) -> bool:
        """Whether lines of this level are written: ask before formatting costly ones."""
        return level <= self.level

    def write(self, line: str, level: int = SESSION) -> None:
        """A line of normal operation."""
        if level <= self.level:
            self._put(syslog.LOG_INFO, line)

    def info(self, line: str) -> None:
        """A line about this process itself, written at every level."""
        self._put(syslog.LOG_NOTICE, line)

    def warning(self, line: str) -> None:
        """Something to look at that does not stop mail."""
        self._put(syslog.LOG_WARNING, "sev=WARN, " + line)

    def error(self, line: str) -> None:
        """Something failed (`sev=ERR`, M1 4.10)."""
        self._put(syslog.LOG_ERR, "sev=ERR, " + line)

    def rewind(self) -> None:
        """Empty the log file after a copy was taken (USR2, M1 4.9.1)."""
        if not self._is_syslog:
            try:
                os.ftruncate(self._fd, 0)
                os.lseek(self._fd, 0, os.SEEK_SET)
            except OSError:
                pass  # a terminal or a pipe has no beginning

    def _put(self, priority: int, line: str) -> None:
        if not line.isprintable():  # an error's text, say; what comes from outside is encoded before
            line = _UNPRINTABLE.sub(lambda match: logfmt.clean(match[0].encode("utf-8", "backslashreplace")), line)
        if self._is_syslog:
            syslog.syslog(priority, self._as_json(line, time.time()) if self.is_json else line)
            return
        now = time.time()
        text = self._as_json(line, now) if self.is_json else f"{self._time(now)} {line}"
        octets = f"{text}\n".encode("utf-8", "replace")
        if self._later is None or priority < syslog.LOG_INFO:
            self.flush()
            self._write_out(octets)
            return
        with self._lock:
            self._lines.append(octets)
            is_first = len(self._lines) == 1
        if is_first:
            self._later(self.flush)

    def _time(self, now: float) -> str:
        """Local time with milliseconds."""
        second = int(now)
        if second != self._second:
            self._second = second
            self._stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
        return f"{self._stamp}.{int((now - second) * 1000):03d}"

    def _as_json(self, line: str, now: float) -> str:
        """The same as an object: its fields decoded, what is no field as `text`."""
        found = logfmt.parse(line) or {"text": line}
        return json.dumps({"time": round(now, 3), "prog": self._ident} | found)

    def _write_out(self, octets: bytes) -> None:
        try:
            os.write(self._fd, octets)
        except OSError:
            pass  # a full disk must not stop mail; there is nowhere left to say it


def open_log(program: str, level: int, syslog_as: LogConf | None, log_format: str = "fields") -> Log:
    """A program's log: standard output, or syslog if a facility is named (M1 3.5); in one of LOG_FORMATS."""
    log = Log(program, level)
    log.is_json = log_format == "json"
    if syslog_as is not None and syslog_as.facility:
        log.use_syslog(syslog_as.facility, syslog_as.ident, tuple(syslog_as.options))
    return log
