"""The addresses in a From field (RFC 5322 3.4, 4.4; RFC 6532); pure."""
import re
from typing import Final

from meta1g.mta import addr

_QUOTE_OR_PAREN: Final = re.compile(rb'\\.|["()]', re.DOTALL)
_QUOTED: Final = rb'"(?:[^"\\]|\\.)*\\?"?'
_TOKEN: Final = re.compile(rb"(?P<quoted>%s)|<(?P<angle>(?:%s|[^\">])*)>?|(?P<end>[,:;])|[^\"<,:;]+"
                           % (_QUOTED, _QUOTED), re.DOTALL)
_ADDRESSES_MAX: Final = 100  # authors that are looked at; RFC 5322 sets no limit


def authors(field: bytes) -> list[bytes]:
    """The addresses of a From field, given with its name; what is none is left out. In time linear in its length."""
    value = _without_comments(field.partition(b":")[2].replace(b"\r\n", b""))
    found: list[bytes] = []
    words: list[bytes] = []
    angle: bytes | None = None
    for token in [*_TOKEN.finditer(value), None]:
        if token is None or token["end"]:
            text = b"".join(words) if angle is None else angle
            address = addr.parse_mailbox(_without_blanks(text), utf8=True) if text else None
            if address is not None and (token is None or token["end"] != b":"):  # a group's name ends in a colon
                found.append(address)
            words, angle = [], None
        elif token["angle"] is not None:
            angle = token["angle"]
        else:
            words.append(token[0])
        if len(found) == _ADDRESSES_MAX:
            break
    return found


def _without_blanks(text: bytes) -> bytes:
    """Blanks may stand around each part of an address (RFC 5322 4.4), but inside of quotes they count."""
    return text.strip() if b'"' in text else b"".join(text.split())


def _without_comments(value: bytes) -> bytes:
    """Comments nest, and quotes mean nothing in them."""
    if b"(" not in value:
        return value
    kept: list[bytes] = []
    depth, at, is_quoted = 0, 0, False
    for token in _QUOTE_OR_PAREN.finditer(value):
        mark = token[0]
        if mark == b'"' and not depth:
            is_quoted = not is_quoted
        elif mark == b"(" and not is_quoted:
            if not depth:
                kept.append(value[at:token.start()])
            depth += 1
        elif mark == b")" and depth:
            depth -= 1
            at = token.end()
    if not depth:
        kept.append(value[at:])
    return b"".join(kept)
