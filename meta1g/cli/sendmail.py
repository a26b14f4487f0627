"""sendmail: submit a message, as programs expect it of a mail system (Sendmail 8's MSP; --enable-msp of MeTA1).

It has no queue of its own: a message is with the server when it ends with 0. Options are read as Sendmail's are, since
programs have them built in.
"""
import getopt
import os
import pwd
import select
import smtplib
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Final, NoReturn

from meta1g import __version__
from meta1g.cli.ctl import DEFAULT_CONF
from meta1g.cli.instance import program_path
from meta1g.cli.submission import BadMessage, Envelope, Message, Refused, exit_code, submit
from meta1g.conf.errors import ConfErrors
from meta1g.conf.load import Config, load_file

USAGE: Final = f"""usage: sendmail [options] [recipient ...]   a message is read from standard input

  -t             recipients also from To, Cc and Bcc, and Bcc goes
  -i, -oi        a line with a single dot does not end the message
  -f ADDRESS     the envelope's sender; <> or "" for none          (also -r)
  -F NAME        full name, for a From field that is missing
  -B TYPE        7BIT or 8BITMIME                                  [8BITMIME where it has to be]
  -N WHEN        reports: never, or success, failure, delay with commas between
  -R WHAT        full or hdrs: what of the message comes back with a report
  -V ID          envelope id of reports
  -bm            deliver a message (the default)
  -bs            speak SMTP on standard input and output
  -bp, mailq     show the queue
  -bi, newaliases  make the map of aliases from its text
  -q             try all mail in the queue now
  -C CONF        configuration file                                [{DEFAULT_CONF}]
  -v             show the dialog with the server
  --version, -h, --help

Exit codes are those of sysexits(3): 0 the server has the message, 64 wrong options, 65 no message, 67 unknown
recipient, 69 refused, 75 try again later.
"""

_SHORT: Final = "A:B:b:C:d:e:F:f:GhiIL:mN:no:O:p:R:r:tUV:vX:"
_IGNORED: Final = frozenset(f"-{letter}" for letter in "AdeGILmnOpUX")  # of Sendmail: no meaning here
_MODES: Final = "m s p i v t d D h H"
_BODIES: Final = ("7BIT", "8BITMIME")
_TIMEOUT: Final = 300.0  # seconds for each reply, RFC 5321 4.5.3.2
_SILENCE: Final = 600.0  # seconds: the server gives up before that
_PIECE: Final = 1 << 16


@dataclass
class Options:
    """What the command line says."""

    mode: str = "m"
    conf: str = DEFAULT_CONF
    sender: str | None = None
    full_name: str = ""
    from_header: bool = False
    ignores_dots: bool = False
    is_verbose: bool = False
    mail_words: list[str] = field(default_factory=list)
    rcpt_words: list[str] = field(default_factory=list)
    rcpts: list[str] = field(default_factory=list)


class Wrong(Exception):
    """The command line makes no sense: why."""


def parse(name: str, arguments: list[str]) -> Options:
    """Read the command line of a program with this name. Wrong."""
    found = Options(mode={"mailq": "p", "newaliases": "i"}.get(name, "m"))
    words = []
    for word in arguments:  # getopt knows no options with a value that may be left out
        if word.startswith("-q"):
            found.mode = "q"
        else:
            words.append(word)
    try:
        pairs, found.rcpts = getopt.gnu_getopt(words, _SHORT, ["help", "version"])
    except getopt.GetoptError as error:
        raise Wrong(str(error)) from None
    for option, value in pairs:
        if option not in _IGNORED:
            _take(found, option, value)
    return found


def _take(found: Options, option: str, value: str) -> None:
    match option:
        case "-h" | "--help":
            _say(USAGE)
        case "--version":
            _say(f"meta1g {__version__}\n")
        case "-b":
            if value not in _MODES.split():
                raise Wrong(f"-b{value} is unknown")
            found.mode = value
        case "-t":
            found.from_header = True
        case "-i":
            found.ignores_dots = True
        case "-o":
            found.ignores_dots = found.ignores_dots or value == "i"
        case "-f" | "-r":
            found.sender = value.strip("<>")
        case "-F":
            found.full_name = value
        case "-C":
            found.conf = value
        case "-v":
            found.is_verbose = True
        case _:
            _take_word(found, option, value)


def _take_word(found: Options, option: str, value: str) -> None:
    """Words for MAIL and RCPT (RFC 1652, 3461)."""
    upper = value.upper()
    if option == "-B" and upper in _BODIES:
        found.mail_words.append(f"BODY={upper}")
    elif option == "-R" and upper in ("FULL", "HDRS"):
        found.mail_words.append(f"RET={upper}")
    elif option == "-N" and set(upper.split(",")) <= {"NEVER", "SUCCESS", "FAILURE", "DELAY"}:
        found.rcpt_words.append(f"NOTIFY={upper}")
    elif option == "-V":
        found.mail_words.append(f"ENVID={_xtext(value)}")
    else:
        raise Wrong(f"{option} {value} is unknown")


def _xtext(text: str) -> str:
    """RFC 3461 4."""
    return "".join(char if "!" <= char <= "~" and char not in "+=" else "".join(
        f"+{octet:02X}" for octet in char.encode()) for char in text)


def main(name: str, arguments: list[str]) -> int:
    """Run the program; its exit code."""
    try:
        options = parse(name, arguments)
    except Wrong as error:
        return _complain(f"{error}; sendmail -h shows what there is", os.EX_USAGE)
    if options.mode in "dDhH":
        return _complain(f"-b{options.mode} is meta1g-ctl's matter, see meta1g-ctl --help", os.EX_USAGE)
    if options.mode in "pqi":
        return _other(options)
    try:
        config = _config(options.conf)
        return _speak(config) if options.mode == "s" else _deliver(options, config)
    except (BadMessage, Refused, OSError, smtplib.SMTPException) as error:
        return _complain(f"{error}", exit_code(error))


def _config(path: str) -> Config:
    """The configuration, the built-in one if there is none or it is not for our eyes."""
    try:
        return load_file(path)
    except ConfErrors as error:
        raise BadMessage(f"{path}: {error}; meta1g-ctl -f {path} check says more") from None
    except OSError:
        if path != DEFAULT_CONF:
            raise
        return Config()


def _where(config: Config) -> tuple[str, int]:
    """Where the first SMTP server listens."""
    for service in config.services:
        found = service.mcp.listen_socket if service.keyword == "smtps" else None
        if found is not None and found.type in ("inet", "inet6"):
            loopback = "::1" if found.type == "inet6" else "127.0.0.1"
            return found.address if found.address not in ("", "0.0.0.0", "::") else loopback, found.port or 25
    return "127.0.0.1", 25


def _deliver(options: Options, config: Config) -> int:
    user, name = _who()
    host = config.hostname or socket.getfqdn()
    with Message(sys.stdin.buffer, dots_end=not options.ignores_dots) as message:
        rcpts = [_qualified(rcpt, host) for rcpt in
                 [*options.rcpts, *(message.recipients() if options.from_header else ())]]
        if not rcpts:
            raise BadMessage("no recipients: name them, or say -t if they stand in the message")
        sender = _qualified(user if options.sender is None else options.sender, host)
        message.complete(_author(options.full_name or name, sender or f"MAILER-DAEMON@{host}"), host)
        envelope = Envelope(sender, tuple(dict.fromkeys(rcpts)), tuple(options.mail_words), tuple(options.rcpt_words))
        with smtplib.SMTP(*_where(config), host, _TIMEOUT) as smtp:
            smtp.set_debuglevel(int(options.is_verbose))
            smtp.ehlo_or_helo_if_needed()
            refused = submit(smtp, envelope, message)
    for rcpt, error in refused.items():
        sys.stderr.write(f"sendmail: {rcpt}: {error}\n")
    if any(error.code < 500 for error in refused.values()):
        return os.EX_TEMPFAIL
    return os.EX_NOUSER if refused else 0


def _who() -> tuple[str, str]:
    """Login and full name of who runs this; in a container there may be no account for the number."""
    try:
        user = pwd.getpwuid(os.getuid())
    except KeyError:
        return f"uid{os.getuid()}", ""
    return user.pw_name, user.pw_gecos.partition(",")[0].replace("&", user.pw_name.capitalize())


def _qualified(address: str, host: str) -> str:
    """With our name as its domain if it has none; BadMessage if it can't be said in SMTP."""
    address = address.strip().removeprefix("<").removesuffix(">")
    if any(char in "\r\n<>\0" or "\ud800" <= char <= "\udfff" for char in address):  # those are of octets, no text
        raise BadMessage(f"{address!r} is no address")
    return f"{address}@{host}" if address and "@" not in address else address


def _author(name: str, address: str) -> str:
    name = "".join(char for char in name if char.isprintable()).replace("\\", "").replace('"', "")
    return f'"{name}" <{address}>' if name else address


def _speak(config: Config) -> int:
    """Pass what is said on standard input on to the server, and its answers back."""
    with socket.create_connection(_where(config), _TIMEOUT) as sock:
        sources = [sys.stdin.fileno(), sock.fileno()]
        while sources:
            ready, _, _ = select.select(sources, [], [], _SILENCE)
            if not ready:
                raise TimeoutError(f"nothing was said for {_SILENCE:.0f} seconds")
            if sock.fileno() in ready:
                octets = sock.recv(_PIECE)
                if not octets:
                    break
                sys.stdout.buffer.write(octets)
                sys.stdout.buffer.flush()
            elif octets := os.read(sys.stdin.fileno(), _PIECE):
                sock.sendall(octets)
            else:
                sock.shutdown(socket.SHUT_WR)
                sources.remove(sys.stdin.fileno())
    return 0


def _other(options: Options) -> int:
    """What other programs of ours do."""
    program = program_path()
    if options.mode == "p":
        return subprocess.run([program, "mailq", "-f", options.conf], check=False).returncode
    if options.mode == "q":
        return subprocess.run([program, "qmgrctl", "-f", options.conf, "--flush"], check=False).returncode
    folder = os.path.dirname(os.path.abspath(options.conf))
    try:
        with open(os.path.join(folder, "aliases"), "rb") as text:
            made = subprocess.run([program, "createmap", "-F", f"{text.name}.db"], stdin=text, check=False)
    except OSError as error:
        return _complain(f"{error.filename}: {error.strerror}", os.EX_NOINPUT)
    return made.returncode


def _complain(text: str, code: int) -> int:
    sys.stderr.write(f"sendmail: {text}\n")
    return code


def _say(text: str) -> NoReturn:
    sys.stdout.write(text)
    raise SystemExit(0)
