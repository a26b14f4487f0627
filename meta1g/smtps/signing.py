"""DKIM: which section `sign` a message gets its signature from, and the signature itself (M1 3.10 item 3, 8.5 item 3).

Rules
    Fields are signed as the client sent them; the signature stands between them and our Received field.
    One section signs, the one whose `from` is the first key of M1 3.12.1 for an author's address, else the one
    without `from`. Sections with the same `from` and different methods sign together (RFC 8463 3).
    Mail that no section is for goes on without a signature, and that is no error.
"""
import hashlib
import time
from collections.abc import Iterable, Sequence
from typing import Final

import idna

from meta1g.conf.opt_smtps import DkimConf
from meta1g.maps.order import Order, address_keys
from meta1g.mta import addr
from meta1g.proto.dkim.author import authors
from meta1g.proto.dkim.canon import CanonicalBody
from meta1g.proto.dkim.fields import Choice, Field, Unsignable, check, fields_of
from meta1g.proto.dkim.signature import Draft, Forms, Signatory, canonical_header, names_to_sign
from meta1g.proto.smtp import replies
from meta1g.proto.smtp.data import unstuff
from meta1g.smtps.incoming import Incoming
from meta1g.smtps.trace import HeaderScanner

_ORDER: Final = Order(full_address=True, domain=True, dotsubdomain=True, has_at=False)  # M1 3.10(3.8.4)
_LINES_MAX: Final = 10_000  # of a header: 20 ms in which nobody else has a turn
Signatories = tuple[Signatory, ...]


class Signing:
    """What a section DKIM_signing says, with its keys."""

    def __init__(self, conf: DkimConf, by_from: dict[str, Signatories]) -> None:
        self._by_from: dict[str, Signatories] = {}
        for key, found in by_from.items():
            self._by_from[_normal(key)] = self._by_from.get(_normal(key), ()) + found
        self.forms = Forms(conf.header_canonicalization == "relaxed", conf.body_canonicalization == "relaxed")
        self.choice = Choice(
            sign=frozenset(_names(conf.sign_header)),
            skip=tuple(name.lower() for name in _octets(conf.skip_header)),
            over=tuple(dict.fromkeys(_names(conf.over_sign_headers))))
        self.ignores_errors = conf.ignore_errors
        self.header_max = conf.total_header_len
        self.value_max = conf.header_val_len_max

    def signatories(self, fields: Iterable[Field]) -> Signatories:
        """Who signs a message with this header; nobody if no section is for it."""
        value = next((field.octets for field in fields if field.name == b"from"), b"")
        for address in authors(value) if len(value) <= self.value_max else ():  # a longer one can't be signed
            for key in address_keys(_in_ascii(address), b"", _ORDER):
                found = self._by_from.get(key.decode("utf-8", "replace"))
                if found:
                    return found
        return self._by_from.get("", ())


class MessageSigner:
    """Signs one message while it passes by; its signatures get the place where `content` is now."""

    def __init__(self, signing: Signing, content: Incoming) -> None:
        self._signing = signing
        self._content = content
        self._is_drafted = False
        self._drafts: list[Draft] = []
        self._signed: list[bytes] = []
        self._hashes: dict[str, hashlib._Hash] = {}
        self._body = CanonicalBody(self._update, is_relaxed=signing.forms.is_body_relaxed)
        self.who: Signatories = ()
        self.error: Unsignable | None = None
        content.leave_room()

    def take(self, header: HeaderScanner, body: bytes) -> None:
        """The scanner has seen a piece, and what of it belongs to the body; before the content gets the piece."""
        end = self._signing.header_max + 1  # CR of the empty line may have come alone
        if not self._is_drafted and (header.is_over or header.size > end):
            self._draft(header)
        if self._hashes:
            self._body.feed(body)

    def finish(self, header: HeaderScanner) -> None:
        """The content is over: write its signatures. Unsignable; StoreError if the disk refuses."""
        if not self._is_drafted:
            self._draft(header)
        if self.error is not None:
            raise self.error
        if not self._drafts:
            return
        self._body.finish()
        self._content.fill_room(b"".join(
            draft.complete(self._signed, self._hashes[draft.hash_name].digest()) for draft in self._drafts))

    def _draft(self, header: HeaderScanner) -> None:
        self._is_drafted = True
        try:
            if header.is_too_large or header.size > self._signing.header_max:
                raise Unsignable(replies.HEADER_TOO_LARGE)
            octets = unstuff(header.header)
            if octets.count(b"\r\n") > _LINES_MAX:
                raise Unsignable(replies.TOO_MANY_FIELDS)
            self._draft_for(fields_of(octets))
        except Unsignable as error:
            self.error, self._drafts = error, []
        self._content.set_room(sum(draft.size for draft in self._drafts))
        self._hashes = {draft.hash_name: hashlib.new(draft.hash_name) for draft in self._drafts}

    def _draft_for(self, fields: Sequence[Field]) -> None:
        self.who = self._signing.signatories(fields)
        if not self.who:
            return
        check(fields, self._signing.value_max)
        names = names_to_sign(fields, self._signing.choice)
        when = int(time.time())
        self._drafts = [Draft(who, self._signing.forms, names, when) for who in self.who]
        self._signed = canonical_header(fields, names, self._signing.forms)

    def _update(self, octets: bytes) -> None:
        for found in self._hashes.values():
            found.update(octets)


def _octets(names: Iterable[str]) -> list[bytes]:
    return [name.encode("utf-8", "replace") for name in names]


def _names(names: Iterable[str]) -> list[bytes]:
    """Names of fields in lower case; a colon at the end says nothing."""
    return [name.lower().removesuffix(b":") for name in _octets(names)]


def _normal(key: str) -> str:
    """A `from` as it is looked up: in lower case, a domain in ASCII."""
    local, at, domain = key.lower().strip("<>").rpartition("@")
    return f"{local}{at}{_label_form(domain)}"


def _in_ascii(address: bytes) -> bytes:
    """An address with its domain in ASCII; the local part stays."""
    if address.isascii():
        return address
    local, domain = addr.split(address)
    return local + b"@" + _label_form(domain.decode("utf-8", "replace")).encode("utf-8")


def _label_form(domain: str) -> str:
    """A domain in A-labels (RFC 5890); as it is if it has none."""
    if domain.isascii():
        return domain
    dot = "." if domain.startswith(".") else ""
    try:
        return dot + idna.encode(domain.removeprefix("."), uts46=True).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        return domain
