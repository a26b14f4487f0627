"""The numbers that SMTPS and policy milters agree on, by the names that M1 15.1 gives them.

Where the manual's text has a name but no number, the number is ours: it is fixed by VERSION.
"""
from enum import IntEnum, IntFlag
from typing import Final

VERSION: Final = 1  # of the protocol; both sides must speak the same one
LIBRARY: Final = (1, 0, 0)  # major, minor, patch level of the library (M1 15.1.12)

CHUNK_SIZE: Final = 64 * 1024  # PMILTER_CHUNK_SIZE: octets of a piece of a message
FRAME_MAX: Final = CHUNK_SIZE + 16 * 1024  # octets of a message of the protocol; parameters, reply and such fit as well
WINDOW: Final = 4 * CHUNK_SIZE  # octets of a message that may be under way before the milter must say that it had them
MACROS_MAX: Final = 32  # PM_MACROS_MAX: symbols asked for at one stage; there are 18
VALUE_MAX: Final = 1024  # octets of a symbol's value: the name of a certificate, say
NAME_MAX: Final = 255  # octets of a host's or program's name
PARAMS_MAX: Final = 64  # parameters of MAIL or RCPT; a command line holds less
CHANGES_MAX: Final = 10_000  # changes of one message; as many recipients fit into ten transactions
CHANGES_OCTETS: Final = 4 * 1024 * 1024  # of all changes of one message together
FIELD_MAX: Final = 64 * 1024  # octets of a header field: what DKIM signs at most by default
REPLY_MAX: Final = 8 * 1024  # octets of a reply with all its lines
SESSIONS_MAX: Final = 65_536  # SMTP sessions of one connection
WORD_MAX: Final = 0xFFFFFFFF  # a set of bits

SMTP_R_CONT: Final = 0  # go on; the message: more of it, please
SMTP_R_ACCEPT: Final = 1  # go on, and ask no more about this session or transaction
SMTP_R_DISCARD: Final = 2  # accept and throw away
SMTP_R_RPLCMSG: Final = 3  # at the end of the message: another one takes its place
SMTP_R_OK: Final = 250  # this command is accepted
SMTP_R_SSD: Final = 421  # end the session
SMTP_R_TEMP: Final = 451  # refuse for now; any other 4yz may be returned as well
SMTP_R_PERM: Final = 550  # refuse; so may any other 5yz
SMTP_R_REJECT: Final = SMTP_R_PERM
QUICK: Final = 0x10000  # SMTP_R_SET_QUICK adds it
SPECIAL: Final = (SMTP_R_CONT, SMTP_R_ACCEPT, SMTP_R_DISCARD, SMTP_R_RPLCMSG)


class Cap(IntFlag):
    """Capabilities, SM_SCAP_PM_*: what is passed to a milter (M1 15.1.3, 15.1.11).

    The word `misc` of what a milter wants has those of CONNECT to EOM that it wants to be told and never answers.
    """

    CONNECT = 0x1
    EHLO = 0x2
    MAIL = 0x4
    RCPT = 0x8
    DATA = 0x10
    UNKNOWN = 0x20
    MSG = 0x40
    EOM = 0x80
    RCPT_ST = 0x10000  # recipients that were refused, too
    MSG_RC = 0x20000  # an answer to each piece of a message


class Fct(IntFlag):
    """Functions, SM_SFCT_PM_*: what a milter may change (M1 15.1.7 to 15.1.10, 15.1.12)."""

    MAIL_RPLC = 0x1
    RCPT_ADD = 0x2
    RCPT_DEL = 0x4
    HDR_MOD = 0x8
    MSG_RPLC = 0x10
    REPLIES = 0x20


class Feat(IntFlag):
    """Features of the server, SM_SFEAT_PM_*."""

    PRDR = 0x1  # offered to clients (M1 3.10 item 4.17)


class Stage(IntEnum):
    """Stages at which symbols are sent, PM_SMST_* (M1 15.1.6)."""

    CONNECT = 0
    EHLO = 1
    MAIL = 2
    RCPT = 3
    DATA = 4
    DOT = 5


class Pmm(IntEnum):
    """Symbols, PMM_*; the name in lower case is the one for sm_pmfi_addmaclistbyname (M1 15.1.6)."""

    END = 0
    SRVHOSTNAME = 1
    SEID = 2
    CLIENT_RESOLVE = 3
    MAIL_TAID = 4
    DOT_MSGID = 5
    TLS_VERSION = 6
    TLS_CIPHER_SUITE = 7
    TLS_CIPHER_BITS = 8
    TLS_ALG_BITS = 9
    TLS_VRFY = 10
    TLS_CERT_SUBJECT = 11
    TLS_CERT_ISSUER = 12
    TLS_CN_SUBJECT = 13
    TLS_CN_ISSUER = 14
    AUTH_TYPE = 15
    AUTH_AUTHEN = 16
    AUTH_AUTHOR = 17
    HOPS = 18  # beyond the manual: Received fields, at DOT


class HdrMod(IntEnum):
    """Kinds of header modification, SM_HDRMOD_T_* (M1 15.1.9)."""

    PREPEND = 1
    INSERT = 2
    REPLACE = 3
    REMOVE = 4
    APPEND = 5


class Step(IntEnum):
    """What SMTPS tells without any more words."""

    DATA = 1
    EOM = 2
    MORE = 3  # the next piece of the message that replaces the other
    ABORT = 4
    CLOSE = 5


EVERYTHING: Final = Cap(sum(Cap))
TELLABLE: Final = EVERYTHING & ~(Cap.MSG | Cap.RCPT_ST | Cap.MSG_RC)
EVERY_FUNCTION: Final = Fct(sum(Fct))
_NAMES: Final = {symbol.name.lower(): symbol for symbol in Pmm if symbol is not Pmm.END}


def symbol_of(name: str) -> Pmm | None:
    """The symbol with this lower-case name, with or without `pmm_` in front; None if there is none."""
    return _NAMES.get(name.lower().removeprefix("pmm_"))
