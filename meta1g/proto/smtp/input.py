"""Octets that a client sent and that nobody has looked at: command lines or content; pure."""
from typing import Final

from meta1g.mta import limits
from meta1g.mta.reply import Reply
from meta1g.proto.smtp import replies

_BDAT: Final = b"BDAT "


class Input:
    """A buffer that gives lines, or so many octets; an endless line is thrown away as it comes.

    A bad line that would have been a BDAT gets BAD_BDAT: what follows it may be a chunk.
    """

    __slots__ = ("_data", "_skipped")

    def __init__(self) -> None:
        self._data = b""
        self._skipped: Reply | None = None  # what an endless line will be answered

    def __bool__(self) -> bool:
        """Whether octets wait."""
        return bool(self._data)

    def feed(self, data: bytes) -> None:
        """More octets."""
        self._data = self._data + data if self._data else data

    def take(self, most: int) -> bytes:
        """So many octets at most."""
        taken, self._data = self._data[:most], self._data[most:]
        return taken

    def take_all(self) -> bytes:
        """All octets."""
        taken, self._data = self._data, b""
        return taken

    def begins_with(self, word: bytes) -> bool:
        """Whether that, in upper case, is the beginning of what comes, without regard to case."""
        return self._data[:len(word)].upper() == word

    def next_line(self, most: int = limits.COMMAND_LINE_EXTENDED) -> bytes | Reply | None:
        """The next line without CRLF, a reply for an impossible one, None if it is not complete.

        With its CRLF it has `most` octets at most.
        """
        end = self._data.find(b"\n")
        if end < 0:
            if len(self._data) > most:
                self._skipped, self._data = self._skipped or self._refusal(replies.LINE_TOO_LONG), self._data[-1:]
            return None
        if end == 0 or self._data[end - 1] != 13:
            # What follows a wrong line end up to the next right one may be a smuggled command.
            after = self._data.find(b"\r\n", end)
            refusal, self._skipped = self._skipped or self._refusal(replies.BAD_LINE_END), None
            self._data = self._data[after + 2:] if after >= 0 else b""
            return replies.BAD_LINE_END if refusal is replies.LINE_TOO_LONG else refusal
        too_long = self._skipped
        if too_long is None and end + 1 > most:
            too_long = self._refusal(replies.LINE_TOO_LONG)
        line, self._data, self._skipped = self._data[: end - 1], self._data[end + 1:], None
        return line if too_long is None else too_long

    def _refusal(self, reply: Reply) -> Reply:
        return replies.BAD_BDAT if self.begins_with(_BDAT) else reply
