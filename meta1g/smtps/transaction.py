"""A transaction while it is being received: its envelope, and where its content goes."""
from meta1g.mta import limits, logfmt
from meta1g.mta.reply import Reply
from meta1g.proc.log import DETAIL, SESSION
from meta1g.proto.dkim.fields import Unsignable
from meta1g.proto.msg_ss import Content, Rcpt, TaCommit
from meta1g.proto.smtp import replies
from meta1g.proto.smtp.events import ContentEnd, MailAsked
from meta1g.proto.smtp.params import with_author
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
        self._onward = with_author(asked.params.onward, author)
        self.rcpts: list[Rcpt] = []
        self.incoming: Incoming | None = None
        self.signer: MessageSigner | None = None
        self.error: Reply | None = None
        self.greylisted: Reply | None = None  # to be said at DATA
        self._scanner = HeaderScanner()

    def begin(self, store: Store, received: bytes, signing: Signing | None) -> None:
        """Content comes behind our own field Received."""
        self.incoming = Incoming(store, self.ta)
        self.incoming.append(received)
        if signing is not None:
            self.signer = MessageSigner(signing, self.incoming)
            self._scanner = HeaderScanner(max(limits.HEADER_SECTION, signing.header_max))

    def take(self, octets: bytes) -> None:
        """A piece of content; StoreError."""
        assert self.incoming is not None
        body = self._scanner.feed(octets)
        if self.signer is not None:
            self.signer.take(self._scanner, body)
        self.incoming.append(octets)

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
        is_ascii = facts.is_ascii and self.mail.isascii() and all(rcpt.address.isascii() for rcpt in self.rcpts)
        return TaCommit(
            now, facts.hops, content.length, end.is_8bit, self.params.is_utf8 and not is_ascii, se, self.ta, client_ip,
            self.mail, self._onward, tuple(self.rcpts), (content,))

    def abort(self) -> None:
        """Forget the content unless it was committed."""
        if self.incoming is not None:
            self.incoming.abort()
