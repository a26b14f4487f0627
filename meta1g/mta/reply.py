"""SMTP replies: code, enhanced status, text (RFC 5321 4.2, RFC 3463)."""
import re
from typing import Final, NamedTuple

_ENHANCED: Final = re.compile(rb"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?:[ \t]+|$)")


class Reply(NamedTuple):
    """One reply of an SMTP server.

    `code` is 200 to 599, `estat` an enhanced status such as `5.7.1` or empty,
    `text` the rest; a line break in `text` separates the lines of a multi-line reply.
    """

    code: int
    estat: str
    text: str

    @property
    def is_positive(self) -> bool:
        """The command was carried out (2yz) or may go on (3yz)."""
        return self.code < 400

    @property
    def is_temporary(self) -> bool:
        """A later try may succeed (4yz)."""
        return 400 <= self.code < 500

    def __bytes__(self) -> bytes:
        """Wire form, CRLF included; every line repeats the enhanced status (RFC 2034 4)."""
        prefix = f"{self.estat} " if self.estat else ""
        if "\n" not in self.text:
            return f"{self.code} {prefix}{self.text}\r\n".encode("utf-8", "replace")
        lines = self.text.split("\n")
        out = [f"{self.code}-{prefix}{line}" for line in lines[:-1]]
        out.append(f"{self.code} {prefix}{lines[-1]}")
        return ("\r\n".join(out) + "\r\n").encode("utf-8", "replace")

    def __str__(self) -> str:
        """One line for logs and DSNs, without a line end."""
        estat = f" {self.estat}" if self.estat else ""
        return f"{self.code}{estat} " + self.text.replace("\n", " ")

    def softened(self) -> "Reply":
        """The same as a temporary error, for `soft_bounce` (M1 3.10 item 4.13)."""
        if self.code < 500:
            return self
        estat = "4" + self.estat[1:] if self.estat.startswith("5") else self.estat
        return Reply(self.code - 100, estat, self.text)


def parse_reply_text(code: int, lines: list[bytes]) -> Reply:
    """A reply from its code and the texts of its lines, enhanced status split off.

    The status is recognised only when its class fits the code (RFC 2034 4).
    """
    match = _ENHANCED.match(lines[0]) if lines else None
    if match is None or match[1][0] != 48 + code // 100:  # ASCII digits
        return Reply(code, "", "\n".join([_printable(line) for line in lines]))
    estat = match[1]
    texts = [line[len(estat):].lstrip(b" \t") if line.startswith(estat) else line for line in lines]
    return Reply(code, estat.decode("ascii"), "\n".join([_printable(text) for text in texts]))


def parse_reply(text: str) -> Reply | None:
    """`550 5.7.1 No` as a Reply, None if it is none: the part after `error:` in a map (M1 3.9.3)."""
    raw = text.encode("utf-8", "replace").strip()
    if len(raw) < 3 or not raw[:3].isdigit() or not 200 <= int(raw[:3]) <= 599 or raw[3:4] not in (b" ", b""):
        return None
    return parse_reply_text(int(raw[:3]), [raw[4:].strip()])


def _printable(line: bytes) -> str:
    text = line.decode("utf-8", "replace")
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)
