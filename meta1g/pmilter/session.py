"""The context of one SMTP session: what its calls may ask and do (M1 15.1.4 to 15.1.12).

Rules
    `own` is the author's object (sm_pmfi_set_ctx_se); `server` and `server.process` lead upwards.
    Replies may be set in each call that returns a result, changes be asked for in `eom` only. A call at a wrong time,
    or with what can't be, raises PolicyError: the client is refused for now, and the log says where.
"""
from collections.abc import Sequence
from typing import Any

from meta1g.mta.reply import Reply
from meta1g.pmilter.contexts import Server
from meta1g.pmilter.errors import PolicyError
from meta1g.pmilter.turn import Turn
from meta1g.proto.pmilter import numbers, texts
from meta1g.proto.pmilter.messages import HdrChange, MailRplc, RcptAdd, RcptDel, RcptReply, Replies
from meta1g.proto.pmilter.numbers import Fct, HdrMod, Pmm


class Session:
    """One session; attributes are there to be read, `own` belongs to the author.

    `rcpts` are the recipients of the transaction that nobody has refused, by index.
    """

    def __init__(self, server: Server, turn: Turn) -> None:
        self.server = server
        self.own: Any = None
        self.client_name = ""
        self.client_address = ""
        self.client_port = 0
        self.helo = ""
        self.sender = ""
        self.mail_params: list[str] = []
        self.rcpts: dict[int, str] = {}
        self._turn = turn

    def getmac(self, symbol: Pmm | str) -> str | None:
        """The value of a symbol, None if it has not come yet; sm_pmfi_getmac.

        PolicyError if it was not asked for in `negotiate`.
        """
        found = numbers.symbol_of(symbol) if isinstance(symbol, str) else symbol
        if found is None or not self.server.is_asked(found):
            raise PolicyError(f"getmac: {symbol} was not asked for in negotiate")
        return self._turn.symbols.get(found)

    # Replies

    def setreply(self, reply: str) -> None:
        """The whole reply, `550 5.7.1 Go away`, that goes with the result of this call; sm_pmfi_setreply.

        Lines of a longer one each have code and status, and a hyphen behind the code but in the last. CRLF at the end
        may be left out. The code must be that of the result that is returned.
        """
        if self._turn.call not in ("connect", "helo", "mail", "rcpt", "data", "unknown", "msg", "eom"):
            raise PolicyError(f"setreply: not in {self._turn.call or 'this thread'}")
        self._turn.reply = self._checked_reply("setreply", reply)

    def refuse(self, reply: str) -> int:
        """Set the reply and return its code: `return session.refuse("550 5.7.1 Go away")`."""
        self.setreply(reply)
        code = int(reply[:3])
        if code < 400:
            raise PolicyError(f"refuse: {code} refuses nothing")
        return code

    def setreplies(self, replies: Sequence[int | str]) -> None:
        """PRDR: a code, or a whole reply, for each recipient in their order, in `eom`; sm_pmfi_setreplies.

        A code is 250 or one of 400 to 599. They count if the result is not a refusal.
        """
        self._only_in_eom("setreplies", Fct.REPLIES)
        if not self.has_prdr:
            raise PolicyError("setreplies: the client has not asked for PRDR")
        if len(replies) != len(self.rcpts):
            raise PolicyError(f"setreplies: {len(replies)} replies for {len(self.rcpts)} recipients")
        self._turn.changes = [change for change in self._turn.changes if not isinstance(change, Replies)]
        self._turn.change(Replies(tuple(self._rcpt_reply(reply) for reply in replies)))

    @property
    def has_prdr(self) -> bool:
        """Whether the client gets a reply for each recipient of this transaction."""
        return self.server.has_prdr and any(param.upper() == "PRDR" for param in self.mail_params)

    def getstatus(self) -> Reply:
        """In `rcpt`: the reply so far, for instance a refusal if RCPT_ST was asked for; sm_pmfi_getstatus."""
        if self._turn.status is None:
            raise PolicyError("getstatus: only in rcpt")
        return self._turn.status

    # Envelope

    @property
    def rcpt_index(self) -> int:
        """In `rcpt`: the recipient's index; sm_pmfi_getrcpt_idx."""
        if self._turn.index is None:
            raise PolicyError("rcpt_index: only in rcpt")
        return self._turn.index

    def mail_rplc(self, address: str, params: Sequence[str] = ()) -> None:
        """Another sender, empty for the null sender; in `eom`; sm_pmfi_mail_rplc."""
        self._only_in_eom("mail_rplc", Fct.MAIL_RPLC)
        self._turn.change(MailRplc(_path("mail_rplc", address, may_be_null=True), _params("mail_rplc", params)))

    def rcpt_add(self, address: str, params: Sequence[str] = ()) -> None:
        """One more recipient; in `eom`; sm_pmfi_rcpt_add."""
        self._only_in_eom("rcpt_add", Fct.RCPT_ADD)
        self._turn.change(RcptAdd(_path("rcpt_add", address, may_be_null=False), _params("rcpt_add", params)))
        self._turn.added += 1

    def rcpt_del(self, address: str, index: int) -> None:
        """One recipient less, by the index that it had in `rcpt`; in `eom`; sm_pmfi_rcpt_del.

        Not the last one: to throw a message away return SMTP_R_DISCARD.
        """
        self._only_in_eom("rcpt_del", Fct.RCPT_DEL)
        path = _path("rcpt_del", address, may_be_null=False)
        if index not in self.rcpts or index in self._turn.deleted:
            raise PolicyError(f"rcpt_del: there is no recipient with index {index}")
        if texts.parse_path(octets(self.rcpts[index]), may_be_null=False) != path:
            raise PolicyError(f"rcpt_del: the recipient with index {index} is {self.rcpts[index]}, not {address}")
        if len(self._turn.deleted) + 1 == len(self.rcpts) and not self._turn.added:
            raise PolicyError("rcpt_del: a message needs a recipient; return SMTP_R_DISCARD to throw it away")
        self._turn.change(RcptDel(index, path))
        self._turn.deleted.add(index)

    # Header

    def hdr_mod(self, kind: HdrMod, position: int, header: str | bytes) -> None:
        """Change the header; in `eom`; sm_pmfi_hdr_mod.

        `header` is a whole field, folded with CRLF if it is long. `position` counts the fields of the original mail
        from 1, and 0 is our Received; it is for INSERT (in front of that one), REPLACE and REMOVE (which needs no
        `header`).
        """
        self._only_in_eom("hdr_mod", Fct.HDR_MOD)
        if kind not in set(HdrMod) or not 0 <= position <= 0xFFFF:
            raise PolicyError(f"hdr_mod: kind {kind} at position {position} can't be done")
        field = b"" if kind is HdrMod.REMOVE else _field(header)
        self._turn.change(HdrChange(int(kind), position, field))

    def add_header(self, name: str, value: str) -> None:
        """Append a field: `add_header("X-Spam", "yes")`."""
        self.hdr_mod(HdrMod.APPEND, 0, f"{name}: {value}")

    def prepend_header(self, name: str, value: str) -> None:
        """Put a field in front of all others."""
        self.hdr_mod(HdrMod.PREPEND, 0, f"{name}: {value}")

    # Inside

    def _only_in_eom(self, what: str, function: Fct) -> None:
        if self._turn.call != "eom":
            raise PolicyError(f"{what}: only in eom, not in {self._turn.call or 'this thread'}")
        if not self.server.wanted.functions & function:
            raise PolicyError(f"{what}: was not negotiated")

    def _rcpt_reply(self, reply: int | str) -> RcptReply:
        if isinstance(reply, str):
            whole = self._checked_reply("setreplies", reply)
            code = int(reply[:3])
        else:
            whole, code = b"", reply
        if code == numbers.SMTP_R_SSD or (code != numbers.SMTP_R_OK and not 400 <= code <= 599):
            raise PolicyError(f"setreplies: {code} is neither 250 nor 400 to 599 (421 is for sessions)")
        return RcptReply(code, whole)

    @staticmethod
    def _checked_reply(what: str, reply: str) -> bytes:
        lines = reply.replace("\r\n", "\n").removesuffix("\n")
        whole = octets(lines.replace("\n", "\r\n") + "\r\n")
        if texts.parse_reply(whole) is None:
            raise PolicyError(f"{what}: {reply!r} is not of the form XYZ D.S.N text")
        return whole


def octets(value: str) -> bytes:
    """Text as it goes to SMTPS: UTF-8, surrogates as the octets that they came from."""
    return value.encode("utf-8", "surrogateescape")


def text(value: bytes) -> str:
    """Octets from SMTPS as text."""
    return value.decode("utf-8", "surrogateescape")


def _path(what: str, address: str, *, may_be_null: bool) -> bytes:
    found = texts.parse_path(octets(address), may_be_null=may_be_null)
    if found is None:
        raise PolicyError(f"{what}: {address!r} is no address (RFC 5321 4.1.2)")
    return found


def _params(what: str, params: Sequence[str]) -> bytes:
    found = octets(" ".join(params))
    if not texts.is_params(found):
        raise PolicyError(f"{what}: parameters must be words without blanks")
    return found


def _field(header: str | bytes) -> bytes:
    found = header if isinstance(header, bytes) else octets(header)
    found = found if found.endswith(b"\r\n") else found + b"\r\n"
    if texts.field_name(found) is None:
        raise PolicyError(f"hdr_mod: {header!r} is no header field (RFC 5322 2.2)")
    return found
