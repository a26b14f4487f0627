"""What all sessions of one SMTP client process share."""
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from meta1g.mta.errors import CorruptRecord, StoreError
from meta1g.proc.log import Log
from meta1g.proto.msg_ss import Content
from meta1g.shim.cdb import ContentDb
from meta1g.shim.journal import JournalReader
from meta1g.smtpc.login import Logins
from meta1g.smtpc.secure import Contexts
from meta1g.smtpc.through import Proxy
from meta1g.st.block import Blocking


class Features(NamedTuple):
    """How a session talks (M1 3.11 item 5, 8.6 item 3); it `ignores` these words of the answer to EHLO."""

    talks_to_itself: bool
    reads_quit_reply: bool
    is_timed: bool
    ignores: frozenset[str]
    begins_with_tls: bool = False


def features_of(flags: frozenset[str]) -> Features:
    """The features that flags of smtpc or of a class of session features stand for."""
    words = ("CHUNKING" if "chunking" not in flags else "", "STARTTLS" if "starttls" not in flags else "")
    return Features("talk_to_myself" in flags, "read_quit_reply" in flags, "timing" in flags,
                    frozenset(filter(None, words)), "smtps" in flags)


@dataclass(slots=True)
class Setting:
    """Configuration (M1 3.11, 8.6), content and the way back to QMGR.

    `io_timeout` in seconds; `connect_only_to` empty unless set; `report` sends a message to QMGR;
    `features` are those of sessions that are of none of the `classes`.
    """

    hostname: str
    process: int
    io_timeout: float
    remote_port: int
    connect_only_to: str
    proxy: Proxy | None
    lmtp_socket: str
    features: Features
    classes: Mapping[str, Features]
    cdb: ContentDb
    journal: JournalReader
    blocking: Blocking
    contexts: Contexts
    logins: Logins | None
    log: Log
    report: Callable[[Any], Any]

    def pieces(self, ta: str, content: Content) -> Iterator[bytes]:
        """The content piece by piece; a file's are read on a native thread, since they may not be in the page cache.

        What lies in the journal may have its own file meanwhile; either will do.
        """
        if content.segment:
            try:
                yield self.journal.read(ta, content)
                return
            except (StoreError, CorruptRecord):
                pass
        pieces = self.cdb.pieces(ta, content)
        while (piece := self.blocking.run(next, pieces, b"")) != b"":
            yield piece
