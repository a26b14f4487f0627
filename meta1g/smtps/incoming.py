"""Content on its way to stable storage: small messages share a flush, large ones get their file.

Rules
    A message up to JOURNAL_MESSAGE octets stays in memory until its final dot and is then
    appended to the journal with all others that wait: one write, one flush (design 5).
    A larger one streams into its CDB file, and so does one that is still to come while those in memory
    take CONTENT_IN_MEMORY octets together: slow clients shall not hold more.
    Room may be left for what is known only when the content is over, a signature: its size must be said before
    anything can go to the file, where the room is then written over. Until then the content stays in memory.
    What was stored can be read again before it is committed, for filters and what they change.
"""
from collections.abc import Callable, Iterator
from typing import Final

from meta1g.mta import limits
from meta1g.mta.errors import StoreError
from meta1g.proto.msg_ss import Content
from meta1g.shim.cdb import ContentDb, ContentWriter
from meta1g.shim.journal import Entry, JournalWriter
from meta1g.st.block import Blocking
from meta1g.st.sched import Slot, TimedOut, spawn

_SMALL: Final = 4096  # octets; one by one, each as an object of its own, they would take forty times as much
_FLUSH_TIMEOUT: Final = 120.0  # seconds for the disk to take a batch


class Store:
    """Where this process puts content."""

    def __init__(self, cdb: ContentDb, journal: JournalWriter | None, blocking: Blocking) -> None:
        self.cdb = cdb
        self.blocking = blocking
        self._journal = journal
        self._waiting: list[tuple[Entry, Slot]] = []
        self._is_writing = False
        self._uncommitted: dict[str, int] = {}
        self.on_segments: Callable[[], None] = lambda: None
        self.segment = ""
        self.held = 0  # octets of content in memory
        self.batches = 0
        self.entries = 0

    @property
    def has_journal(self) -> bool:
        """Whether small messages share a journal (option CDB_journal)."""
        return self._journal is not None

    def put(self, entry: Entry) -> Content:
        """Append a message to the journal; returns when it is on stable storage. StoreError if it is not."""
        slot = Slot()
        self._waiting.append((entry, slot))
        if not self._is_writing:
            self._is_writing = True
            spawn(self._write_all)
        try:
            place: Content = slot.get(_FLUSH_TIMEOUT)
        except TimedOut:
            raise StoreError("flush", self.segment, "the disk does not answer in time") from None
        return place

    def release(self, content: Content) -> None:
        """QMGR has answered about this content: it is no longer ours to look after."""
        if not content.segment:
            return
        self._uncommitted[content.segment] -= 1
        if not self._uncommitted[content.segment] and content.segment != self.segment:
            del self._uncommitted[content.segment]
            self.on_segments()

    @property
    def open_segments(self) -> list[str]:
        """Segments that get content or hold some that QMGR does not know yet."""
        return sorted({*self._uncommitted, self.segment} - {""})

    def rotate(self, segment: str) -> None:
        """Leave `segment`, so that QMGR may remove it; not while something in it is under way."""
        if self._journal is None or segment != self.segment or self._is_writing or self._uncommitted.get(segment):
            return
        self._journal.end_segment()
        self._uncommitted.pop(segment, None)
        self.segment = ""
        self.on_segments()

    def _write_all(self) -> None:
        journal = self._journal
        assert journal is not None
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                places = self.blocking.run(journal.write, [entry for entry, _ in batch])
            except StoreError as error:
                for _, slot in batch:
                    slot.fail(error)
                continue
            self.batches += 1
            self.entries += len(batch)
            self._uncommitted[journal.segment] = self._uncommitted.get(journal.segment, 0) + len(batch)
            if journal.segment != self.segment:
                if not self._uncommitted.get(self.segment, 1):
                    del self._uncommitted[self.segment]
                self.segment = journal.segment
                self.on_segments()
            for (_, slot), place in zip(batch, places, strict=True):
                slot.put(place)
        self._is_writing = False


class Incoming:
    """One message's content as it arrives."""

    def __init__(self, store: Store, ta: str, mark: str = "") -> None:
        """`mark` is as in `ContentDb.writer`."""
        self._store = store
        self._ta = ta
        self._mark = mark
        self._pieces: list[bytes] = []
        self._small = bytearray()  # pieces too small to be kept each for itself
        self._held = 0
        self._file: ContentWriter | None = None
        self._room = -1  # which piece it is
        self._room_offset = 0
        self._has_open_room = False
        self.size = 0

    def leave_room(self) -> None:
        """Here comes something that `set_room` and `fill_room` will tell of; once in a message."""
        self._gather()
        self._room, self._room_offset, self._has_open_room = len(self._pieces), self.size, True
        self._pieces.append(b"")

    def set_room(self, size: int) -> None:
        """The room gets so many octets."""
        self._pieces[self._room] = bytes(size)
        self._has_open_room = False
        self._count(size)

    def fill_room(self, octets: bytes) -> None:
        """What stands in the room, as many octets as it has. StoreError if the disk refuses."""
        if self._file is None:
            self._pieces[self._room] = octets
        else:
            self._store.blocking.run(self._file.fill, self._room_offset, octets)

    def append(self, piece: bytes) -> None:
        """The next piece; StoreError if the disk refuses."""
        size = len(piece)
        if size < _SMALL:
            self._small += piece
        else:
            self._gather()
            self._pieces.append(piece)
        self._count(size)
        is_much = self._held > limits.JOURNAL_MESSAGE
        is_full = self._store.held > limits.CONTENT_IN_MEMORY
        if self._has_open_room:
            if is_much and is_full:
                raise StoreError("hold", self._ta, "too much content in memory", is_full=True)
        elif is_much or (self._held >= _SMALL and is_full):
            self._spill()

    def read(self, start: int) -> Iterator[bytes]:
        """What came so far, from this offset on, piece by piece. StoreError if the disk refuses."""
        at = 0
        if self._file is not None:
            at = self._file.size
            while start < at and (piece := self._store.blocking.run(self._file.read, start)):
                start += len(piece)
                yield piece
        self._gather()
        for piece in self._pieces:
            if start < at + len(piece):
                yield piece[max(start - at, 0):]
            at += len(piece)

    def commit(self) -> Content:
        """Put all of it on stable storage; where it lies. StoreError if that fails."""
        if self._file is None and self._store.has_journal:
            self._gather()
            place = self._store.put(Entry(self._ta, self._pieces))
            self._let_go()
            return place
        self._spill()
        assert self._file is not None
        self._store.blocking.run(self._file.commit)
        return Content(0, self.size, "")

    def abort(self) -> None:
        """Throw away what came."""
        if self._file is not None:
            self._store.blocking.run(self._file.abort)
            self._file = None
        self._let_go()

    def _count(self, size: int) -> None:
        self._held += size
        self._store.held += size
        self.size += size

    def _gather(self) -> None:
        if self._small:
            self._pieces.append(bytes(self._small))
            self._small.clear()

    def _let_go(self) -> None:
        self._pieces = []
        self._small.clear()
        self._store.held -= self._held
        self._held = 0

    def _spill(self) -> None:
        run = self._store.blocking.run
        if self._file is None:
            self._file = run(self._store.cdb.writer, self._ta, self._mark)
        self._gather()
        data = b"".join(self._pieces)
        self._let_go()
        run(self._file.append, data)
