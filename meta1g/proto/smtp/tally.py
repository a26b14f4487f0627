"""Counts of what a client may do only so often (M1 3.10 items 9 to 16, 23); pure."""
from typing import NamedTuple

from meta1g.mta.reply import Reply
from meta1g.proto.smtp import replies


class TallyLimits(NamedTuple):
    """The limits, by the names of their options without `_max`; the defaults are the options'."""

    bad_commands_per_session: int = 100
    bad_commands_per_transaction: int = 50
    invalid_addresses_per_session: int = 200
    invalid_addresses_per_transaction: int = 100
    nop_commands_between_transactions: int = 100
    nop_commands_in_transaction: int = 50
    recipients_per_session: int = 1_000_000
    recipients_per_transaction: int = 1000
    transactions: int = 100_000


class Tally:
    """One session's counts; each method returns the reply to end with when a limit is passed."""

    def __init__(self, limits: TallyLimits) -> None:
        self.limits = limits
        self._bad = self._bad_in_ta = 0
        self._invalid = self._invalid_in_ta = 0
        self._nops_between = self._nops_in_ta = 0
        self._rcpts = self._rcpts_in_ta = 0
        self._transactions = 0

    def bad_command(self) -> Reply | None:
        """A command that is unknown, malformed or out of order."""
        self._bad += 1
        self._bad_in_ta += 1
        limits = self.limits
        is_over = self._bad > limits.bad_commands_per_session or self._bad_in_ta > limits.bad_commands_per_transaction
        return replies.TOO_MANY_BAD if is_over else None

    def nop_command(self, *, in_transaction: bool) -> Reply | None:
        """NOOP, RSET, EHLO, HELP, VRFY: commands that move no mail."""
        if in_transaction:
            self._nops_in_ta += 1
        self._nops_between += 1
        limits = self.limits
        is_over = (
            self._nops_in_ta > limits.nop_commands_in_transaction
            or self._nops_between > limits.nop_commands_between_transactions
        )
        return replies.TOO_MANY_NOPS if is_over else None

    def transaction_began(self) -> Reply | None:
        """MAIL is about to be accepted."""
        self._bad_in_ta = self._invalid_in_ta = self._nops_in_ta = self._rcpts_in_ta = 0
        self._transactions += 1
        return replies.TOO_MANY_TAS if self._transactions > self.limits.transactions else None

    def transaction_ended(self, *, is_accepted: bool) -> None:
        """The final dot has been answered."""
        self._bad_in_ta = self._invalid_in_ta = self._nops_in_ta = self._rcpts_in_ta = 0
        if is_accepted:
            self._nops_between = 0

    def rcpt_limit(self) -> Reply | None:
        """452 when one more recipient is too many (RFC 5321 4.5.3.1.10); the session goes on."""
        if self._rcpts_in_ta >= self.limits.recipients_per_transaction:
            return replies.TOO_MANY_RCPTS
        if self._rcpts >= self.limits.recipients_per_session:
            return replies.TOO_MANY_RCPTS_SESSION
        return None

    def rcpt_accepted(self) -> None:
        """RCPT was answered with 250."""
        self._rcpts += 1
        self._rcpts_in_ta += 1

    def rcpt_refused(self) -> Reply | None:
        """RCPT was answered with 5yz."""
        self._invalid += 1
        self._invalid_in_ta += 1
        limits = self.limits
        is_over = (
            self._invalid > limits.invalid_addresses_per_session
            or self._invalid_in_ta > limits.invalid_addresses_per_transaction
        )
        return replies.TOO_MANY_INVALID if is_over else None
