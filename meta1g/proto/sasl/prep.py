"""SASLprep: names and passwords in one form (RFC 4013, 3454); pure."""
import stringprep
import unicodedata
from typing import Final

_PROHIBITED: Final = (  # RFC 4013 2.3
    stringprep.in_table_c12, stringprep.in_table_c21_c22, stringprep.in_table_c3, stringprep.in_table_c4,
    stringprep.in_table_c5, stringprep.in_table_c6, stringprep.in_table_c7, stringprep.in_table_c8,
    stringprep.in_table_c9, stringprep.in_table_a1)


class Unprepared(ValueError):
    """The octets are no UTF-8, or have characters that may not be there."""


def prepared(octets: bytes) -> str:
    """The text that SASLprep makes of UTF-8 octets; Unprepared. Unassigned code points are refused."""
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError:
        raise Unprepared from None
    if text.isascii() and text.isprintable():
        return text
    mapped = "".join(" " if stringprep.in_table_c12(char) else char for char in text
                     if not stringprep.in_table_b1(char))
    normal = unicodedata.normalize("NFKC", mapped)
    if any(is_prohibited(char) for char in normal for is_prohibited in _PROHIBITED):
        raise Unprepared
    if any(map(stringprep.in_table_d1, normal)) and not _is_right_to_left(normal):
        raise Unprepared
    return normal


def _is_right_to_left(text: str) -> bool:
    """Whether a text with characters of that direction has no others that matter (RFC 3454 6)."""
    is_mixed = any(map(stringprep.in_table_d2, text))
    return not is_mixed and stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])
