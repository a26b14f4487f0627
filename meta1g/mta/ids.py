"""Session, transaction and recipient identifiers (M1 10.3).

Ids are opaque strings everywhere but here: `S` + 64-bit counter + 8-bit process
for SMTPS, `C` + process + 32-bit counter + 32-bit thread for SMTPC, and a
transaction id, a hyphen and a six-digit base64 index for a recipient.
"""
import re
from typing import Final, NewType

SessionId = NewType("SessionId", str)
TaId = NewType("TaId", str)
RcptId = NewType("RcptId", str)

_DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz+-"
_TA: Final = re.compile(r"S[0-9A-F]{18}")
COUNTER_MAX: Final = 2**64 - 1


def ss_id(counter: int, process: int) -> str:
    """Id of a session or transaction of SMTP server `process` (0 to 255)."""
    return f"S{counter:016X}{process:02X}"


def da_id(counter: int, process: int, thread: int) -> str:
    """Id of a session or transaction of SMTP client `process`, unique within one run of QMGR."""
    return f"C{process:02X}{counter & 0xFFFFFFFF:08X}{thread & 0xFFFFFFFF:08X}"


def is_ta_id(text: str) -> bool:
    """Whether `text` has the form of a transaction id, so that it may become part of a path."""
    return _TA.fullmatch(text) is not None


def ta_counter(ta: str) -> int:
    """The 64-bit counter in a session or transaction id."""
    return int(ta[1:17], 16)


def cdb_folder(ta: str) -> str:
    """Name of the CDB folder, `0` to `F`: the last hex digit before the process id (formats.md)."""
    return ta[16]


def rcpt_id(ta: str, index: int) -> RcptId:
    """Id of the recipient with this index (0 is the first) in a transaction."""
    digits = ""
    for _ in range(6):
        index, digit = divmod(index, 64)
        digits = _DIGITS[digit] + digits
    return RcptId(f"{ta}-{digits}")


def rcpt_index(text: str) -> tuple[TaId, int]:
    """Transaction id and index of a recipient id; ValueError if it is none."""
    ta, _, digits = text.partition("-")
    if not is_ta_id(ta) or len(digits) != 6:
        raise ValueError(f"not a recipient id: {text!r}")
    index = 0
    for digit in digits:
        index = index * 64 + _DIGITS.index(digit)
    return TaId(ta), index
