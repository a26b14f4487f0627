"""A DKIM-Signature field: drafted when the header is known, completed when the body is over (RFC 6376 3.5); pure.

Rules
    A draft has its final length: a digest and a signature have lengths that are known before. So room can be
    left for the field in front of content that is not kept in memory.
    The field ends with b=, whose value is folded and stands alone: without it, it is what is signed (RFC 6376 3.7).
"""
import base64
import hashlib
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, Protocol

from meta1g.proto.dkim.canon import canonical_field
from meta1g.proto.dkim.fields import Choice, Field, Unsignable, signed
from meta1g.proto.smtp import replies

FIELD_MAX: Final = 4096  # octets: libopendkim's DKIM_MAXHEADER. MeTA1 has 1000 (M1 8.5(3)), RSA 4096 takes 700 of them
HASHES: Final = {"rsa-sha256": "sha256", "rsa-sha1": "sha1", "ed25519-sha256": "sha256"}  # RFC 6376 3.3, RFC 8463
_LINE: Final = 72  # octets of folded lines, of the 78 that RFC 5322 2.1.1 recommends


class SigningKey(Protocol):
    """A private key: `size` is the length of its signatures in octets."""

    @property
    def size(self) -> int: ...  # noqa: D102

    def sign(self, digest: bytes, hash_name: str) -> bytes: ...  # noqa: D102


class Signatory(NamedTuple):
    """Who signs: `method` is one of HASHES, domain and selector are in ASCII (A-labels, RFC 8616 3)."""

    key: SigningKey
    method: str
    domain: str
    selector: str


class Forms(NamedTuple):
    """How header and body are canonicalised."""

    is_header_relaxed: bool = False
    is_body_relaxed: bool = False

    def __str__(self) -> str:
        """The value of c=."""
        return "/".join("relaxed" if is_relaxed else "simple" for is_relaxed in self)


class Draft:
    """A signature to be: `size` is the length of the complete field in octets."""

    __slots__ = ("_canonical", "_forms", "_head", "_who", "hash_name", "size")

    def __init__(self, who: Signatory, forms: Forms, names: Sequence[bytes], when: int) -> None:
        """Sign by `names` (see `Choice.names`) at `when`, seconds since 1970; `Unsignable` if they are too many."""
        self._who = who
        self._forms = forms
        self._canonical: list[bytes] = []
        self.hash_name = HASHES[who.method]
        self._head = (f"DKIM-Signature: v=1; a={who.method}; c={forms};\r\n\td={who.domain};\r\n"
                      f"\ts={who.selector}; t={when};\r\n").encode("ascii") + _folded_names(names)
        size_of_digest = hashlib.new(self.hash_name).digest_size
        self.size = len(self._field(bytes(size_of_digest), bytes(who.key.size)))
        if self.size > FIELD_MAX:
            raise Unsignable(replies.TOO_MANY_FIELDS)

    def complete(self, canonical_header: Iterable[bytes], body_digest: bytes) -> bytes:
        """The field with CRLF; `canonical_header` has the signed fields in their order."""
        own = canonical_field(self._field(body_digest, b""), is_relaxed=self._forms.is_header_relaxed)
        digest = hashlib.new(self.hash_name, b"".join([*canonical_header, own.removesuffix(b"\r\n")])).digest()
        return self._field(body_digest, self._who.key.sign(digest, self.hash_name))

    def _field(self, body_digest: bytes, signature: bytes) -> bytes:
        value = base64.b64encode(signature)
        first = _LINE - len("\tb=")
        lines = [value[:first], *(value[at:at + _LINE] for at in range(first, len(value), _LINE))]
        return self._head + b"\tbh=" + base64.b64encode(body_digest) + b";\r\n\tb=" + b"\r\n\t".join(lines) + b"\r\n"


def canonical_header(fields: Sequence[Field], names: Sequence[bytes], forms: Forms) -> list[bytes]:
    """What is signed of a header."""
    return [canonical_field(octets, is_relaxed=forms.is_header_relaxed) for octets in signed(fields, names)]


def names_to_sign(fields: Sequence[Field], choice: Choice) -> list[bytes]:
    """The names for h=; From is always one, there or not (RFC 6376 5.4)."""
    names = choice.names(fields)
    return names if b"from" in names else [*names, b"from"]


def _folded_names(names: Iterable[bytes]) -> bytes:
    lines: list[bytes] = []
    line = b"\th="
    for name in names:
        if len(line) + len(name) > _LINE and not line.endswith(b"="):
            lines.append(line)
            line = b"\t "
        line += name + b":"
    return b"\r\n".join([*lines, line.removesuffix(b":") + b";\r\n"])
