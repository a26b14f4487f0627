"""A transaction while it is being received: its envelope, and where its content goes."""
from collections.abc import Iterator

from meta1g.mta import limits, logfmt
from meta1g.mta.reply import Reply
from meta1g.proc.log import DETAIL, SESSION
from meta1g.proto.dkim.fields import Unsignable
from meta1g.proto.msg_ss import Content, Rcpt, TaCommit
from meta1g.proto.smtp import replies
from meta1g.proto.smtp.events import ContentEnd, MailAsked
from meta1g.proto.smtp.params import quarantining, with_author
from meta1g.smtps.incoming import Incoming, Store
from meta1g.smtps.setting import Setting
from meta1g.smtps.signing import MessageSigner, Signing
from meta1g.smtps.trace import HeaderFacts, HeaderScanner


class Transaction:
    """The envelope so far; `error` is what the content is answered with if it could not be stored.

    `author` is whom an authenticated client names in AUTH= (RFC 4954 5).
    """

    def __init__(self, ta: str, asked: MailAsked, author: bytes = b"") -> None:
        self.ta = ta
        self.mail = asked.address
        self.params = asked.params
        self._author = author
        self.rcpts: list[Rcpt] = []
        self.accepted: list[int | None] = []  # indexes of recipients that the client thinks accepted, None: discarded
        self.each: tuple[Reply, ...] = ()  # PRDR: what is said of each of them at the end
        self.incoming: Incoming | None = None
        self.signer: MessageSigner | None = None
        self.error: Reply | None = None
        self.greylisted: Reply | None = None  # to be said at DATA
        self.received = b""
        self.quarantine = ""  # why it is kept back
        self._is_8bit: bool | None = None  # if it was written anew
        self._taken = 0
        self._scanner = HeaderScanner()

    def add(self, rcpt: Rcpt, *, is_discarded: bool) -> None:
        """One recipient more, who was accepted, and is silently left out if `is_discarded`."""
        self.accepted.append(None if is_discarded else rcpt.idx)
        if not is_discarded:
            self.rcpts.append(rcpt)

    def begin(self, store: Store, received: bytes, signing: Signing | None) -> None:
        """Content comes behind our own field Received."""
        self.received = received
        self._begin(Incoming(store, self.ta), received, signing)

    def _begin(self, incoming: Incoming, front: bytes, signing: Signing | None) -> None:
        self.incoming = incoming
        incoming.append(front)
        self._scanner = HeaderScanner(max(limits.HEADER_SECTION, signing.header_max if signing is not None else 0))
        self.signer = MessageSigner(signing, incoming) if signing is not None else None

    def take(self, octets: bytes) -> None:
        """A piece of content; StoreError."""
        assert self.incoming is not None
        body = self._scanner.feed(octets)
        if self.signer is not None:
            self.signer.take(self._scanner, body)
        self.incoming.append(octets)
        self._taken += len(octets)

    @property
    def header(self) -> bytes:
        """The header in wire form, without our Received and without the empty line."""
        return self._scanner.header

    @property
    def body_at(self) -> int:
        """Where in `header` and what follows it the body begins: there is none if that is where the header ends."""
        return self._scanner.body_at

    def stored_body(self) -> tuple[Incoming, int]:
        """Where the body is stored, and the offset there at which it begins."""
        assert self.incoming is not None
        return self.incoming, self.incoming.size - self._taken + self.body_at

    def rewrite(self, store: Store, signing: Signing | None, parts: tuple[bytes, bytes, bytes],
                body: Iterator[bytes]) -> None:
        """Store the message anew: fields in front of our Received, it, the others, and the body; all in wire form.

        StoreError if the disk refuses; what there was counts then.
        """
        old, (front, ours, behind) = self.incoming, parts
        assert old is not None
        new = Incoming(store, self.ta, ".w")
        try:
            self._begin(new, front + ours, signing)
            self._scanner.feed(front)  # it is signed, too
            self._taken = 0
            self.take(behind + b"\r\n")
            is_ascii = True
            for piece in body:
                is_ascii = is_ascii and piece.isascii()
                self.take(piece)
        except BaseException:
            self.incoming = old
            new.abort()
            raise
        self._is_8bit = not (is_ascii and front.isascii() and behind.isascii())
        old.abort()

    def facts(self) -> HeaderFacts:
        """What the header said."""
        return self._scanner.facts()

    def fault(self, end: ContentEnd, facts: HeaderFacts, hops_max: int) -> Reply | None:
        """Why the content can't be accepted."""
        if end.fault is not None or self.error is not None:
            return end.fault or self.error
        if self._scanner.is_too_large:
            return replies.HEADER_TOO_LARGE
        return replies.TOO_MANY_HOPS if facts.hops > hops_max else None

    def sign(self, setting: Setting, se: str) -> Reply | None:
        """Put the signatures in front; the reply if the mail can't be signed and must be (M1 3.10(3.4)). StoreError."""
        signer, log = self.signer, setting.log
        if signer is None:
            return None
        try:
            signer.finish(self._scanner)
        except Unsignable as error:
            if log.wants(SESSION):
                log.write(logfmt.fields(ss_se=se, ss_ta=self.ta, status="not signed", reason=error), SESSION)
            return None if setting.signing is None or setting.signing.ignores_errors else error.reply
        setting.counts.signed += bool(signer.who)
        for who in signer.who if log.wants(DETAIL) else ():
            log.write(logfmt.fields(
                ss_se=se, ss_ta=self.ta, dkim=who.method, domain=who.domain, selector=who.selector), DETAIL)
        return None

    def message(self, se: str, client_ip: str, now: float, end: ContentEnd, content: Content) -> TaCommit:
        """What QMGR is told of it; `now` in seconds since 1970."""
        facts = self.facts()
        rcpts = [rcpt._replace(idx=idx) for idx, rcpt in enumerate(self.rcpts)]  # a filter may have taken some away
        if self.quarantine:
            rcpts = [rcpt._replace(params=quarantining(rcpt.params, self.quarantine)) for rcpt in rcpts]
        is_8bit = end.is_8bit if self._is_8bit is None else self._is_8bit
        is_ascii = facts.is_ascii and self.mail.isascii() and all(rcpt.address.isascii() for rcpt in self.rcpts)
        return TaCommit(
            now, facts.hops, content.length, is_8bit, self.params.is_utf8 and not is_ascii, se, self.ta, client_ip,
            self.mail, with_author(self.params.onward, self._author), tuple(rcpts), (content,))

    def abort(self) -> None:
        """Forget the content unless it was committed."""
        if self.incoming is not None:
            self.incoming.abort()
