"""Targets: what DKIM reads of content, against dkimpy."""
import dkim
from dkim.canonicalization import Relaxed, Simple

from meta1g.mta import addr
from meta1g.proto.dkim.author import authors
from meta1g.proto.dkim.canon import CanonicalBody, canonical_field
from meta1g.proto.dkim.fields import fields_of
from meta1g.proto.smtp.data import stuff, unstuff
from meta1g.smtps.trace import HeaderScanner
from tests.fuzz.source import Source, pieces


def signed(data: bytes) -> None:
    """Header and body come out of any pieces as of a whole, and in dkimpy's canonical form."""
    source = Source(data)
    most, is_relaxed, text = source.number(9), source.flag(), stuff(source.rest())
    form = Relaxed if is_relaxed else Simple
    scanner, out = HeaderScanner(), []
    body = CanonicalBody(out.append, is_relaxed=is_relaxed)
    for piece in pieces(text, most):
        body.feed(scanner.feed(piece))
    body.finish()
    _, _, rest = (b"\r\n" + text).partition(b"\r\n\r\n")
    assert b"".join(out) == form.canonicalize_body(unstuff(rest)) or (not rest and not is_relaxed)
    fields = fields_of(unstuff(scanner.header))
    assert b"".join(field.octets for field in fields) == unstuff(scanner.header)
    if text and all(field.name for field in fields) and b"\r" not in text.replace(b"\r\n", b"") and \
            b"\n" not in text.replace(b"\r\n", b""):
        parsed, _ = dkim.rfc822_parse(unstuff(text))
        assert [canonical_field(field.octets, is_relaxed=is_relaxed) for field in fields] == [
            name + b":" + value for name, value in form.canonicalize_headers(parsed)]


def author(data: bytes) -> None:
    """Authors are addresses."""
    for address in authors(b"From:" + data):
        assert addr.parse_mailbox(address, utf8=True) == address
