"""One command line in, a command or the reply to a bad one out (RFC 5321 4.1); pure.

The verb selects from a table; the text of the network selects nothing else.
"""
import re
from collections.abc import Callable
from typing import Final, NamedTuple

from meta1g.mta import addr, limits
from meta1g.mta.reply import Reply
from meta1g.proto.smtp import replies

_PARAM: Final = re.compile(rb"([A-Za-z0-9][A-Za-z0-9\-]*)(?:=([!-<>-~\x80-\xff]+))?")  # 8 bit by RFC 6531 3.4
_PATH: Final = re.compile(rb"<((?:[^<>\"]|\"(?:[^\"\\]|\\.)*\")*)>")
_VISIBLE: Final = re.compile(rb"[ -~]*")
_BDAT_DIGITS: Final = 20  # as SIZE has at most, RFC 1870 3
_HELO_LENIENT: Final = re.compile(rb"[!-~]+")


class Syntax(NamedTuple):
    """What is allowed beyond RFC 5321, by the server's flags (M1 3.10 item 4)."""

    space_after_colon: bool = False
    strict_ehlo: bool = False
    is_lmtp: bool = False
    utf8: bool = False  # SMTPUTF8 is offered


class Helo(NamedTuple):
    """EHLO or HELO with the client's name."""

    name: bytes
    is_ehlo: bool


class Mail(NamedTuple):
    """MAIL FROM: an address (empty for <>) and the parameters, keywords in upper case."""

    address: bytes
    params: tuple[tuple[bytes, bytes], ...]


class Rcpt(NamedTuple):
    """RCPT TO: an address and the parameters."""

    address: bytes
    params: tuple[tuple[bytes, bytes], ...]


class Simple(NamedTuple):
    """A command of one word, or whose argument does not matter."""

    verb: bytes
    argument: bytes


class Bdat(NamedTuple):
    """BDAT: so many octets follow, the last ones of the content if `is_last` (RFC 3030)."""

    size: int
    is_last: bool


Command = Helo | Mail | Rcpt | Bdat | Simple


def parse_command(line: bytes, syntax: Syntax) -> Command | Reply:
    """The command in a line (without its CRLF), or the reply that says what is wrong with it."""
    if not _is_readable(line, syntax):
        return replies.BAD_BDAT if line[:4].upper() == b"BDAT" else replies.BAD_CHARACTER
    line = line.rstrip(b" \t")  # RFC 5321 4.1.1: tolerate trailing white space
    word, _, argument = line.partition(b" ")
    verb = word.upper()
    parse = _VERBS.get(verb)
    if verb in _GREETINGS and (verb == b"LHLO") is not syntax.is_lmtp:  # RFC 2033 4.1
        parse = None
    if parse is None:
        return replies.NOT_IMPLEMENTED if verb in _NOT_IMPLEMENTED else replies.UNKNOWN_COMMAND
    if len(line) + 2 > limits.COMMAND_LINE and verb not in (b"MAIL", b"RCPT", b"AUTH"):
        return replies.BAD_BDAT if verb == b"BDAT" else replies.LINE_TOO_LONG
    return parse(verb, argument, syntax)


def _is_readable(line: bytes, syntax: Syntax) -> bool:
    if _VISIBLE.fullmatch(line.replace(b"\t", b" ")):
        return True
    if line.isascii() or not syntax.utf8:
        return False
    try:
        return line.decode("utf-8").replace("\t", " ").isprintable()
    except UnicodeDecodeError:
        return False


def _helo(verb: bytes, argument: bytes, syntax: Syntax) -> Command | Reply:
    name = argument.strip(b" \t")
    if not name:
        return replies.NEED_ARGUMENT
    is_lenient = _HELO_LENIENT.fullmatch(name) is not None and len(name) <= limits.DOMAIN
    if not is_lenient or (syntax.strict_ehlo and not addr.is_domain(name)):
        return replies.BAD_HELO
    return Helo(name, verb != b"HELO")


def _mail(verb: bytes, argument: bytes, syntax: Syntax) -> Command | Reply:
    parts = _path_and_params(argument, b"FROM:", syntax)
    if parts is None:
        return replies.SYNTAX_MAIL
    path, params = parts
    if isinstance(params, Reply):
        return params
    if not path:
        return Mail(b"", params)
    address = addr.parse_mailbox(path, utf8=syntax.utf8) if len(path) + 2 <= limits.PATH else None
    return replies.BAD_SENDER if address is None else Mail(address, params)


def _rcpt(verb: bytes, argument: bytes, syntax: Syntax) -> Command | Reply:
    parts = _path_and_params(argument, b"TO:", syntax)
    if parts is None:
        return replies.SYNTAX_RCPT
    path, params = parts
    if isinstance(params, Reply):
        return params
    if path.lower() == b"postmaster":  # RFC 5321 4.1.1.3: the one address without a domain
        return Rcpt(b"postmaster", params)
    address = addr.parse_mailbox(path, utf8=syntax.utf8) if len(path) + 2 <= limits.PATH else None
    return replies.BAD_RECIPIENT if address is None else Rcpt(address, params)


def _path_and_params(
    argument: bytes, keyword: bytes, syntax: Syntax
) -> tuple[bytes, tuple[tuple[bytes, bytes], ...] | Reply] | None:
    if argument[: len(keyword)].upper() != keyword:
        return None
    rest = argument[len(keyword):]
    if syntax.space_after_colon:
        rest = rest.lstrip(b" ")
    match = _PATH.match(rest)
    if match is None:
        return None
    rest = rest[match.end():]
    if not rest:
        return match[1], ()
    if not rest.startswith(b" "):
        return None
    return match[1], parse_params(rest.split())


def parse_params(words: list[bytes]) -> tuple[tuple[bytes, bytes], ...] | Reply:
    """The parameters of MAIL or RCPT, KEYWORD or KEYWORD=value each; the reply to what is none."""
    found: dict[bytes, bytes] = {}
    for word in words:
        match = _PARAM.fullmatch(word)
        if match is None:
            return replies.BAD_PARAMETER
        keyword = match[1].upper()
        if keyword in found:
            return replies.BAD_PARAMETER
        found[keyword] = match[2] or b""
    return tuple(found.items())


def _bdat(verb: bytes, argument: bytes, syntax: Syntax) -> Command | Reply:
    words = argument.upper().split()
    if not words or not words[0].isdigit() or len(words[0]) > _BDAT_DIGITS or words[1:] not in ([], [b"LAST"]):
        return replies.BAD_BDAT
    return Bdat(int(words[0]), len(words) > 1)


def _alone(verb: bytes, argument: bytes, syntax: Syntax) -> Command | Reply:
    return replies.NO_ARGUMENT if argument else Simple(verb, b"")


def _any(verb: bytes, argument: bytes, syntax: Syntax) -> Command | Reply:
    return Simple(verb, argument)


def _some(verb: bytes, argument: bytes, syntax: Syntax) -> Command | Reply:
    return Simple(verb, argument) if argument else replies.NEED_ARGUMENT


_VERBS: Final[dict[bytes, Callable[[bytes, bytes, Syntax], Command | Reply]]] = {
    b"EHLO": _helo,
    b"HELO": _helo,
    b"LHLO": _helo,
    b"MAIL": _mail,
    b"RCPT": _rcpt,
    b"DATA": _alone,
    b"RSET": _alone,
    b"QUIT": _alone,
    b"NOOP": _any,
    b"HELP": _any,
    b"VRFY": _some,
    b"BDAT": _bdat,
    b"STARTTLS": _alone,
    b"AUTH": _any,
    b"XCLIENT": _some,
    b"XFORWARD": _some,
}
_NOT_IMPLEMENTED: Final = frozenset(
    (b"EXPN", b"TURN", b"ETRN", b"SEND", b"SOML", b"SAML")
)
_GREETINGS: Final = frozenset((b"EHLO", b"HELO", b"LHLO"))
