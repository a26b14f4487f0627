"""Replies as they come from a server (RFC 5321 4.2); pure."""
from meta1g.mta import limits
from meta1g.mta.errors import RemoteProtocolError
from meta1g.mta.reply import Reply, parse_reply_text


class ReplyReader:
    """Octets in, replies out; RemoteProtocolError if the server speaks something else."""

    def __init__(self) -> None:
        self._input = b""
        self._code = 0
        self._lines: list[bytes] = []

    def feed(self, data: bytes) -> None:
        """Octets from the server."""
        self._input = self._input + data if self._input else data

    @property
    def has_input(self) -> bool:
        """Whether octets are left that belong to no complete reply."""
        return bool(self._input)

    def next(self) -> Reply | None:
        """The next complete reply, None if there is none yet."""
        while True:
            end = self._input.find(b"\n")
            if end < 0:
                if len(self._input) > limits.REPLY_LINE:
                    raise RemoteProtocolError("reply line is too long")
                return None
            line, self._input = self._input[:end].rstrip(b"\r"), self._input[end + 1:]
            if self._add(line):
                reply = parse_reply_text(self._code, self._lines)
                self._lines = []
                return reply

    def _add(self, line: bytes) -> bool:
        code, mark = line[:3], line[3:4]
        if len(line) > limits.REPLY_LINE or not code.isdigit() or not b"200" <= code <= b"599" or mark not in b" -":
            raise RemoteProtocolError(f"malformed reply {line[:80]!r}")
        if self._lines and int(code) != self._code:
            raise RemoteProtocolError("codes differ within a multi-line reply")
        self._code = int(code)
        self._lines.append(line[4:])
        if len(self._lines) > limits.REPLY_LINES:
            raise RemoteProtocolError("reply has too many lines")
        return mark != b"-"
