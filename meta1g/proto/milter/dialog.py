"""One connection to a filter: which packets a step of the SMTP dialog needs, and whether it is answered; pure.

Rules
    Each step gives a `Step`: octets to send, none if the filter does not want to hear of it, and whether an answer is
    to be waited for. Macros go in front of the packet that they are for, only those that the filter asked for, or
    sendmail's and Postfix' usual ones; those without a value are left out.
    Lines in the values of fields end in LF, as sendmail sends them.
"""
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from meta1g.proto.milter.wire import (
    CHUNK,
    CHUNK_1M,
    CHUNK_256K,
    Options,
    Steps,
    packet,
    text,
)

CONNECT, HELO, MAIL, RCPT, DATA, END, EOH = range(7)  # stages of macros (SMFIM_*)
USUAL: Final[dict[int, tuple[str, ...]]] = {
    CONNECT: ("j", "_", "daemon_name", "daemon_addr", "daemon_port", "if_name", "if_addr", "v", "client_addr",
              "client_name", "client_ptr", "client_port"),
    HELO: ("tls_version", "cipher", "cipher_bits", "verify", "cert_subject", "cert_issuer", "cn_subject", "cn_issuer"),
    MAIL: ("i", "auth_type", "auth_authen", "auth_author", "mail_mailer", "mail_host", "mail_addr"),
    RCPT: ("i", "rcpt_mailer", "rcpt_host", "rcpt_addr"),
    DATA: ("i", "nrcpts"),
    EOH: ("i",),
    END: ("i", "msg_id"),
}
Value = Callable[[str], bytes]


class Step(NamedTuple):
    """What to send, and whether an answer comes."""

    octets: bytes
    is_answered: bool


NOTHING: Final = Step(b"", False)
ABORT: Final = packet(b"A")
QUIT: Final = packet(b"Q")
QUIT_NEW: Final = packet(b"K")  # another session follows


class Peer(NamedTuple):
    """The client: `family` is 4, 6, L for a Unix socket (then `address` is its path) or U if it is unknown."""

    name: bytes
    family: bytes
    port: int
    address: bytes


def _nothing(name: str) -> bytes:
    return b""


class Dialog:
    """The steps for a filter that has said its options, for one session after another.

    `value` gives a macro's value in the session by its name without braces.
    """

    def __init__(self, options: Options) -> None:
        steps = self._steps = options.steps
        self._version = options.version
        self._symbols = {stage: [(name, name.encode() if len(name) == 1 else b"{%b}" % name.encode()) for name in names]
                         for stage, names in {**USUAL, **options.symbols}.items()}
        self.value: Value = _nothing
        self.chunk = CHUNK_1M if steps & Steps.MDS_1M else CHUNK_256K if steps & Steps.MDS_256K else CHUNK

    def connect(self, peer: Peer) -> Step:
        """A client is there."""
        data = text(peer.name) + peer.family
        if peer.family != b"U":
            data += peer.port.to_bytes(2, "big") + text(peer.address)
        return self._step(b"C", data, CONNECT, Steps.NO_CONNECT, Steps.NR_CONNECT)

    def helo(self, name: bytes) -> Step:
        """HELO or EHLO."""
        return self._step(b"H", text(name), HELO, Steps.NO_HELO, Steps.NR_HELO)

    def mail(self, address: bytes, params: Sequence[bytes]) -> Step:
        """MAIL."""
        return self._step(b"M", text(b"<" + address + b">", *params), MAIL, Steps.NO_MAIL, Steps.NR_MAIL)

    def rcpt(self, address: bytes, params: Sequence[bytes]) -> Step:
        """RCPT."""
        return self._step(b"R", text(b"<" + address + b">", *params), RCPT, Steps.NO_RCPT, Steps.NR_RCPT)

    def data(self) -> Step:
        """DATA; filters up to version 3 do not know of it."""
        if self._version < 4:
            return NOTHING
        return self._step(b"T", b"", DATA, Steps.NO_DATA, Steps.NR_DATA)

    def unknown(self, line: bytes, *, has_rcpts: bool = False) -> Step:
        """A command that the server does not know; filters of version 2 do not know of such.

        `has_rcpts`: the filter knows recipients. If it wants no DATA the content is next, and behind a command that is
        unknown libmilter takes none.
        """
        is_content_next = has_rcpts and not self.data().octets
        if self._version < 3 or self._steps & Steps.NO_UNKNOWN or is_content_next:
            return NOTHING
        return Step(packet(b"U", text(line)), not self._steps & Steps.NR_UNKNOWN)

    def header(self, name: bytes, value: bytes) -> Step:
        """One field: the value is what stands behind the colon, without its last line end."""
        if self._steps & Steps.NO_HEADERS:
            return NOTHING
        if b"\r" in value:
            value = value.replace(b"\r\n", b"\n")
        if not self._steps & Steps.LEADING_SPACE:
            value = value.lstrip(b" \t")
        return Step(packet(b"L", text(name, value)), not self._steps & Steps.NR_HEADER)

    def end_of_header(self) -> Step:
        """The header is over."""
        return self._step(b"N", b"", EOH, Steps.NO_EOH, Steps.NR_EOH)

    def body(self, octets: bytes) -> Iterable[Step]:
        """A piece of the body."""
        if self._steps & Steps.NO_BODY:
            return
        is_answered, size = not self._steps & Steps.NR_BODY, self.chunk
        for at in range(0, len(octets), size):
            yield Step(packet(b"B", octets[at:at + size] if len(octets) > size else octets), is_answered)

    def end(self) -> Step:
        """The message is complete; always answered."""
        return Step(self._macros(b"E", END) + packet(b"E"), True)

    def field(self, name: bytes, value: bytes) -> bytes:
        """A field that the filter gives."""
        return name + (b":" if self._steps & Steps.LEADING_SPACE else b": ") + value

    def _step(self, letter: bytes, data: bytes, stage: int, no: int, no_reply: int) -> Step:
        if self._steps & no:
            return NOTHING
        return Step(self._macros(letter, stage) + packet(letter, data), not self._steps & no_reply)

    def _macros(self, letter: bytes, stage: int) -> bytes:
        words, find = [], self.value
        for name, shown in self._symbols[stage]:
            value = find(name)
            if value:
                words += [shown, value]
        return packet(b"D", letter + text(*words)) if words else b""
