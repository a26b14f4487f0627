"""Octets that a client sent and that nobody has looked at: command lines or content; pure."""
from meta1g.mta import limits
from meta1g.mta.reply import Reply
from meta1g.proto.smtp import replies


class Input:
    """A buffer that gives lines, or so many octets; an endless line is thrown away as it comes."""

    __slots__ = ("_data", "_is_skipping")

    def __init__(self) -> None:
        self._data = b""
        self._is_skipping = False

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

    def next_line(self) -> bytes | Reply | None:
        """The next line without CRLF, a reply for an impossible one, None if it is not complete."""
        end = self._data.find(b"\n")
        if end < 0:
            if len(self._data) > limits.COMMAND_LINE_EXTENDED:
                self._is_skipping, self._data = True, self._data[-1:]
            return None
        if end == 0 or self._data[end - 1] != 13:
            # What follows a wrong line end up to the next right one may be a smuggled command.
            after = self._data.find(b"\r\n", end)
            self._data = self._data[after + 2:] if after >= 0 else b""
            self._is_skipping = False
            return replies.BAD_LINE_END
        line, self._data = self._data[: end - 1], self._data[end + 1:]
        if self._is_skipping or len(line) + 2 > limits.COMMAND_LINE_EXTENDED:
            self._is_skipping = False
            return replies.LINE_TOO_LONG
        return line
