"""A message as a server can take it that lacks 8BITMIME or SMTPUTF8 (RFC 6152 3, RFC 6531 3.2), or has CHUNKING."""
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Final

from meta1g.mta import limits
from meta1g.mta.reply import Reply
from meta1g.proto.msg_da import Deliver
from meta1g.proto.smtp.client_events import Envelope
from meta1g.proto.smtp.data import ChunkReader, unstuff, unstuffed
from meta1g.proto.smtp.seven_bit import Unconvertible, eight_bit_parts, seven_bit

_PIECE: Final = 64 * 1024  # octets sent at once
Pieces = Callable[[], Iterable[bytes]]


def fit(task: Deliver, extensions: Iterable[str], pieces: Pieces) -> tuple[Envelope, Pieces]:
    """The envelope for a server with these extensions, and what gives the content in wire form.

    `pieces` gives it as it is stored. What can't be fitted has an envelope that the client's machine refuses.
    """
    envelope = Envelope(task.mail, tuple(rcpt.address for rcpt in task.rcpts), task.size, task.is_8bit, task.is_utf8,
                        task.mail_params, tuple(rcpt.params for rcpt in task.rcpts))
    lacks_8bit = task.is_8bit and "8BITMIME" not in extensions and not envelope.is_binary
    lacks_utf8 = task.is_utf8 and "SMTPUTF8" not in extensions
    if (not lacks_8bit and not lacks_utf8) or (lacks_utf8 and not _has_ascii_addresses(envelope)):
        return envelope, pieces
    try:
        parts = eight_bit_parts(unstuffed(pieces()))
    except Unconvertible as error:
        refusal = Reply(554, "5.6.3", f"The next server does not offer 8BITMIME, and {error}")
        return (envelope if lacks_utf8 else envelope._replace(refusal=refusal)), pieces
    envelope = envelope._replace(is_utf8=False)  # nothing in it needs that
    if not lacks_8bit or not parts:
        return envelope, pieces
    return envelope._replace(is_8bit=False, size=0), lambda: _wire(seven_bit(unstuffed(pieces()), parts))


def chunks(pieces: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Content in wire form for BDAT: without transparency dots, in few chunks, and whether each is the last."""
    rest = iter(pieces)
    first, second = next(rest, b""), next(rest, b"")
    if not second:  # what lies in the journal: not worth the copies below
        yield unstuff(first), True
        return
    gathered = bytearray()
    for piece in unstuffed(chain((first, second), rest)):
        if gathered and len(gathered) + len(piece) > limits.CHUNK:
            yield bytes(gathered), False
            gathered.clear()
        gathered += piece
    yield bytes(gathered), True


def _has_ascii_addresses(envelope: Envelope) -> bool:
    return envelope.mail.isascii() and all(rcpt.isascii() for rcpt in envelope.rcpts)


def _wire(lines: Iterable[bytes]) -> Iterator[bytes]:
    """With transparency dots, in pieces that are worth a packet."""
    reader, gathered = ChunkReader(), bytearray()
    for line in lines:
        gathered += line
        if len(gathered) >= _PIECE:
            yield reader.feed(bytes(gathered))
            gathered.clear()
    yield reader.feed(bytes(gathered)) + reader.finish()
