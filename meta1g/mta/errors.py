"""Errors as types: whose fault it is, and the facts.

`RemoteProtocolError` is the peer's fault, `LocalProtocolError` a bug of ours;
`StoreError` is the disk's, `FrameError` another meta1g process's.
"""


class MtaError(Exception):
    """Root of every error that meta1g raises on purpose."""


class RemoteProtocolError(MtaError):
    """The peer broke the protocol; the text says how."""


class LocalProtocolError(MtaError):
    """Our own code asked a machine for a step that its state does not allow."""


class FrameError(MtaError):
    """Octets between two of our processes are not a valid message; the link must be dropped."""


class LinkDown(MtaError):
    """The other process is not there, or went away before it answered."""


class StoreError(MtaError):
    """The disk refused: what was done to which path, and the system's reason.

    `is_full` tells a lack of space (452 to clients) from other trouble (451).
    """

    def __init__(self, action: str, path: str, reason: str, *, is_full: bool = False) -> None:
        super().__init__(f"{action} {path}: {reason}")
        self.action = action
        self.path = path
        self.reason = reason
        self.is_full = is_full


class CorruptStore(StoreError):
    """A file is damaged so that the library can't read it; `offset` is where it was seen."""

    def __init__(self, action: str, path: str, reason: str, offset: int = 0) -> None:
        super().__init__(action, path, reason)
        self.offset = offset


class CorruptRecord(MtaError):
    """A record on disk is damaged: file, offset, what is wrong."""

    def __init__(self, path: str, offset: int, reason: str) -> None:
        super().__init__(f"{path}: offset {offset}: {reason}")
        self.path = path
        self.offset = offset
        self.reason = reason


class TornTail(CorruptRecord):
    """Something is missing in what a log was given last. A crash before the flush leaves that, but so does damage."""


class MissingExtra(MtaError):
    """A package that is needed only for what was asked is not installed; the text has the command that does it."""
