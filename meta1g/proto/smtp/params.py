"""Parameters of MAIL and RCPT: which are offered, what they say, what goes on with the mail; pure.

RFC 1870 (SIZE), 6152 and 3030 (BODY), 6531 (SMTPUTF8), 3461 (RET, ENVID, NOTIFY, ORCPT); XVERP (M1 3.10 item 4.16).
"""
import re
from typing import Final, NamedTuple

from meta1g.mta import addr, limits
from meta1g.mta.reply import Reply
from meta1g.proto.smtp import replies

Params = tuple[tuple[bytes, bytes], ...]

_SIZE_DIGITS: Final = 20  # RFC 1870 3
_ENVID_MAX: Final = 100  # RFC 3461 4.4
_ORCPT_MAX: Final = 500  # RFC 3461 4.2
_AUTHOR_MAX: Final = 494  # RFC 4954 5: the line gets longer by 500 octets, with the keyword
_XTEXT: Final = re.compile(rb"(?:[!-*,-<>-~]|\+(?:[2-6][0-9A-F]|7[0-9A-E]))*")  # RFC 3461 4; printable: 4.2, 4.4
_UTF8_TEXT: Final = re.compile(rb"(?:[!-*,-<>-\[\]-~]|\\x\{[0-9A-F]{2,6}\}|[\x80-\xff])*")  # RFC 6533 3
_NOTIFY: Final = frozenset({b"SUCCESS", b"FAILURE", b"DELAY"})
_UNLESS_TOLD: Final = frozenset({b"FAILURE", b"DELAY"})
_REPORTS: Final = b"REPORTS"
_QUARANTINE: Final = b"QUARANTINE="
_REASON_MAX: Final = 200  # octets of why a recipient is kept back
_DSN: Final = (b"RET", b"ENVID")
_BODIES: Final = {b"7BIT": "offers_8bitmime", b"8BITMIME": "offers_8bitmime", b"BINARYMIME": "offers_binarymime"}


class Offers(NamedTuple):
    """Extensions that the server offers beyond PIPELINING, SIZE and ENHANCEDSTATUSCODES."""

    offers_8bitmime: bool = True
    offers_smtputf8: bool = False
    offers_chunking: bool = False
    offers_binarymime: bool = False
    offers_dsn: bool = False
    offers_xverp: bool = False
    offers_starttls: bool = False
    offers_auth: bool = False
    offers_prdr: bool = False


class MailParams(NamedTuple):
    """What MAIL said: `size` in octets, 0 if it was not given; `onward` is the text of what goes on with the mail.

    `author` is who submitted it first, by AUTH=, empty if that is not known (RFC 4954 5). `is_prdr`: the client wants
    an answer for each recipient after the content (draft-hall-prdr).
    """

    size: int = 0
    body: bytes = b""
    is_utf8: bool = False
    onward: bytes = b""
    author: bytes = b""
    is_prdr: bool = False


def mail_params(params: Params, offers: Offers, size_max: int) -> MailParams | Reply:
    """The parameters of MAIL, or the reply to a wrong one."""
    found = MailParams()
    onward = []
    for keyword, value in params:
        if keyword == b"SIZE":
            if not value.isdigit() or len(value) > _SIZE_DIGITS:
                return replies.BAD_PARAMETER
            if int(value) > size_max:
                return replies.TOO_LARGE
            found = found._replace(size=int(value))
        elif keyword == b"BODY" and (offers.offers_8bitmime or offers.offers_binarymime):
            body = value.upper()
            if body not in _BODIES or not getattr(offers, _BODIES[body]):
                return replies.BAD_PARAMETER
            found = found._replace(body=body)
            if body == b"BINARYMIME":
                onward.append(b"BODY=BINARYMIME")
        elif keyword == b"SMTPUTF8" and offers.offers_smtputf8:
            if value:
                return replies.BAD_PARAMETER
            found = found._replace(is_utf8=True)
        elif keyword == b"PRDR" and offers.offers_prdr:
            if value:
                return replies.BAD_PARAMETER
            found = found._replace(is_prdr=True)
        elif keyword == b"AUTH" and offers.offers_auth:
            author = _author(value)
            if author is None:
                return replies.BAD_PARAMETER
            found = found._replace(author=author)
        elif _is_onward(keyword, offers):
            if not _is_good(keyword, value):
                return replies.BAD_PARAMETER
            onward.append(keyword + (b"=" + value if value else b""))
        else:
            return replies.UNKNOWN_PARAMETER
    return found._replace(onward=b" ".join(onward))


def _author(value: bytes) -> bytes | None:
    """The mailbox that AUTH= names, empty for `<>`; None if it is neither."""
    if value == b"<>":
        return b""
    is_xtext = 0 < len(value) <= _AUTHOR_MAX and _XTEXT.fullmatch(value) is not None
    return addr.parse_mailbox(decode_xtext(value)) if is_xtext else None


def _is_onward(keyword: bytes, offers: Offers) -> bool:
    return (offers.offers_dsn and keyword in _DSN) or (offers.offers_xverp and keyword == b"XVERP")


def _is_good(keyword: bytes, value: bytes) -> bool:
    if keyword == b"RET":
        return value.upper() in (b"FULL", b"HDRS")
    if keyword == b"ENVID":
        return 0 < len(value) <= _ENVID_MAX and _XTEXT.fullmatch(value) is not None
    return not value or keyword != b"XVERP"


def rcpt_params(params: Params, offers: Offers, *, is_utf8: bool) -> bytes | Reply:
    """The text of RCPT's parameters that goes on with the mail, or the reply to a wrong one."""
    onward = []
    for keyword, value in params:
        if not offers.offers_dsn or keyword not in (b"NOTIFY", b"ORCPT"):
            return replies.UNKNOWN_PARAMETER
        is_good = _is_notify(value) if keyword == b"NOTIFY" else _is_orcpt(value, is_utf8=is_utf8)
        if not is_good:
            return replies.BAD_PARAMETER
        onward.append(keyword + b"=" + value)
    return b" ".join(onward)


def _is_notify(value: bytes) -> bool:
    words = value.upper().split(b",")
    return words == [b"NEVER"] or (_NOTIFY.issuperset(words) and len(set(words)) == len(words))


def _is_orcpt(value: bytes, *, is_utf8: bool) -> bool:
    kind, semicolon, address = value.partition(b";")
    if not kind or not semicolon or not address or len(value) > _ORCPT_MAX:
        return False
    if kind.lower() == b"utf-8" and is_utf8:
        return _UTF8_TEXT.fullmatch(address) is not None
    return value.isascii() and _XTEXT.fullmatch(address) is not None


def split_onward(text: bytes) -> dict[bytes, bytes]:
    """The text of parameters that came with the mail, by keyword in upper case."""
    found = {}
    for word in text.split():
        keyword, _, value = word.partition(b"=")
        found[keyword.upper()] = value
    return found


def dsn_of_mail(text: bytes) -> bytes:
    """The parameters of MAIL that a server with DSN is told, each after a space (RFC 3461 5.2)."""
    return b"".join(b" " + word for word in text.split() if word.partition(b"=")[0].upper() in _DSN)


def with_author(onward: bytes, author: bytes) -> bytes:
    """The parameters that go on with a mail, and who wrote it, if that is known (RFC 4954 5)."""
    return b" ".join(filter(None, (onward, author and b"AUTH=" + encode_xtext(author))))


def author_of_mail(text: bytes) -> bytes:
    """The parameter of MAIL for a server at which we are logged in: who wrote the mail, if that was proved to us
    (RFC 4954 5)."""
    return b" AUTH=" + (split_onward(text).get(b"AUTH") or b"<>")


def notifies(params: bytes) -> frozenset[bytes]:
    """When the sender wants a report of a recipient: of SUCCESS, FAILURE, DELAY, by the text of its parameters.

    Without NOTIFY the server decides: failures, and delays if it does so at all (RFC 3461 4.1).
    """
    if not params:
        return _UNLESS_TOLD
    value = split_onward(params).get(b"NOTIFY")
    return _UNLESS_TOLD if value is None else frozenset(value.upper().split(b",")) - {b"NEVER"}


def reporting(params: bytes, action: str) -> bytes:
    """The parameters of what stands in an alias' place once it was expanded, only to report this action.

    No client can give them: the keyword is ours.
    """
    return b"%b=%b %b" % (_REPORTS, action.encode(), params)


def reports(params: bytes) -> str:
    """What `reporting` put there, empty if it did not."""
    return split_onward(params).get(_REPORTS, b"").decode() if params.startswith(_REPORTS) else ""


def quarantining(params: bytes, reason: str) -> bytes:
    """The parameters of a recipient who is kept back until somebody releases the message, and why.

    No client can give them: the keyword is ours.
    """
    text = reason.encode("utf-8", "replace")[:_REASON_MAX]
    return _QUARANTINE + re.sub(rb"[^!-*,-<>-~]", lambda found: b"+%02X" % found[0][0], text) + b" " + params


def quarantine(params: bytes) -> str | None:
    """Why a recipient is kept back, None if it is not."""
    if not params.startswith(_QUARANTINE):
        return None
    return decode_xtext(params.partition(b" ")[0][len(_QUARANTINE):]).decode("utf-8", "replace")


def released(params: bytes) -> bytes:
    """The parameters of a recipient who is not kept back any more."""
    return params.partition(b" ")[2] if params.startswith(_QUARANTINE) else params


def for_members(params: bytes) -> bytes:
    """The parameters of a recipient for an alias' members, whose success is not reported (RFC 3461 5.2.7)."""
    found = split_onward(params)
    if b"NOTIFY" in found:
        found[b"NOTIFY"] = b",".join(sorted(notifies(params) - {b"SUCCESS"})) or b"NEVER"
    return b" ".join(keyword + b"=" + value for keyword, value in found.items())


def encode_xtext(octets: bytes) -> bytes:
    """Octets as xtext (RFC 3461 4)."""
    return re.sub(rb"[^!-*,-<>-~]", lambda match: b"+%02X" % match[0][0], octets)


def decode_xtext(value: bytes) -> bytes:
    """The octets that xtext stands for (RFC 3461 4)."""
    return re.sub(rb"\+([0-9A-F]{2})", lambda match: bytes([int(match[1], 16)]), value)


def ehlo_words(offers: Offers, size_max: int, *, rcpts_max: int, mails_max: int, is_tls: bool = False,
               mechanisms: tuple[str, ...] = ()) -> list[str]:
    """The extensions as EHLO lists them; the limits are RFC 9422's RCPTMAX and MAILMAX."""
    words = ["PIPELINING", f"SIZE {size_max}"]
    if offers.offers_8bitmime:
        words.append("8BITMIME")
    if offers.offers_smtputf8:
        words.append("SMTPUTF8")
    if offers.offers_chunking:
        words.append("CHUNKING")
    if offers.offers_binarymime:
        words.append("BINARYMIME")
    if offers.offers_dsn:
        words.append("DSN")
    if offers.offers_xverp:
        words.append("XVERP")
    if offers.offers_prdr:
        words.append("PRDR")
    if offers.offers_starttls and not is_tls:
        words.append("STARTTLS")
    if mechanisms:
        words.append(f"AUTH {' '.join(mechanisms)}")
    # RFC 9422 3.1: at most six digits
    limited = [f"{name}={value}" for name, value in (("MAILMAX", mails_max), ("RCPTMAX", rcpts_max))
               if value <= limits.LIMITS_VALUE]
    if limited:
        words.append(f"LIMITS {' '.join(limited)}")
    return [*words, "ENHANCEDSTATUSCODES", "HELP"]
