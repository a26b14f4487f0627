"""What an SMTP server counts, for statistics (M1 9.4): plain numbers, so that they cost next to nothing."""
from typing import Final

from meta1g.mta.reply import Reply
from meta1g.proto.smtp import replies
from meta1g.smtps.peers import UNAVAILABLE

REASONS: Final = ("busy", "limits", "access", "check", "filter", "early_talker", "qmgr_away", "smar_away")
_BY_REPLY: Final[dict[Reply, str]] = {
    replies.NO_QMGR: "qmgr_away",
    replies.EARLY_TALKER: "early_talker",
    replies.CHECK_PERMFAIL: "check",
    replies.CHECK_TEMPFAIL: "check",
    replies.CHECK_ABORT: "check",
    Reply(UNAVAILABLE.code, UNAVAILABLE.estat, UNAVAILABLE.text): "smar_away",
}


class Counts:
    """Since the process began; `refused` holds sessions by reason, `busy` being the acceptor's own."""

    def __init__(self) -> None:
        self.sessions = 0
        self.refused = dict.fromkeys(REASONS, 0)
        self.ta_accepted = 0
        self.ta_refused = 0
        self.ta_discarded = 0
        self.rcpt_accepted = 0
        self.rcpt_refused = 0
        self.rcpt_discarded = 0
        self.octets = 0
        self.signed = 0
        self._filters: dict[str, dict[str, int]] = {}

    def refuse(self, reply: Reply, *, is_limit: bool) -> None:
        """A session ends with this greeting; `is_limit`: QMGR said so."""
        self.refused[_BY_REPLY.get(reply, "limits" if is_limit else "access")] += 1

    def refuse_by_filter(self) -> None:
        """A session that was let in ends with a filter's word."""
        self.sessions -= 1
        self.refused["filter"] += 1

    def rcpt(self, reply: Reply, *, is_discarded: bool) -> None:
        """RCPT was answered."""
        if not reply.is_positive:
            self.rcpt_refused += 1
        elif is_discarded:
            self.rcpt_discarded += 1
        else:
            self.rcpt_accepted += 1

    def filtered(self, name: str, what: str) -> None:
        """A filter has done something."""
        counts = self._filters.setdefault(name, {})
        counts[what] = counts.get(what, 0) + 1

    def as_dict(self, busy: int) -> dict[str, object]:
        """With stable names; `busy` sessions were refused as there were too many."""
        return {
            "sessions_accepted": self.sessions,
            "sessions_refused": {**self.refused, "busy": busy},
            "transactions": {
                "accepted": self.ta_accepted, "refused": self.ta_refused, "discarded": self.ta_discarded},
            "recipients": {
                "accepted": self.rcpt_accepted, "refused": self.rcpt_refused, "discarded": self.rcpt_discarded},
            "octets": self.octets,
            "signed": self.signed,
            **({"filters": self._filters} if self._filters else {}),
        }
