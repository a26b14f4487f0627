"""Several filters together, and what they change in a message, with a disk in memory."""
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from meta1g.mta import limits
from meta1g.mta.errors import StoreError
from meta1g.mta.reply import Reply
from meta1g.proto.dkim.fields import Field
from meta1g.proto.msg_ss import Content, Rcpt
from meta1g.proto.smtp.data import stuff
from meta1g.proto.smtp.events import ContentEnd, MailAsked
from meta1g.proto.smtp.params import MailParams, Offers
from meta1g.shim.cdb import ContentDb
from meta1g.shim.journal import JournalWriter
from meta1g.smtps.filter import (
    GO_ON,
    Act,
    AddRcpt,
    Answer,
    Change,
    ChangeField,
    ChangeSender,
    DeleteRcpt,
    Facts,
    InsertField,
    Quarantine,
    ReplaceBody,
    ReplaceMessage,
)
from meta1g.smtps.filters import Filters
from meta1g.smtps.incoming import Store
from meta1g.smtps.review import Review
from meta1g.smtps.transaction import Transaction
from meta1g.st.block import Blocking
from tests.crash.disk import FakeDisk

TA = "S000000000000000101"
OURS = b"Received: by us\r\n"
GIVEN = b"A: 1\r\nB: 2\r\n\r\nbody\r\n"
NO = Reply(550, "5.7.1", "no")


class Own:
    """A filter by script: `says` are its answers by step, `changes` what it wants at the end."""

    def __init__(self, name: str, wants_refused: bool = False, **says: Answer) -> None:
        self.name, self.wants_refused, self.says = name, wants_refused, says
        self.changes: Callable[[Facts], Sequence[Change]] = lambda facts: ()
        self.heard: list[str] = []
        self.header, self.body = b"", b""

    def begin(self, facts: Facts) -> "Own":
        self.facts = facts
        return self

    def _hear(self, step: str) -> Answer:
        self.heard.append(step)
        return self.says.get(step, GO_ON)

    def on_connect(self) -> Answer:
        return self._hear("connect")

    def on_helo(self, name: bytes) -> Answer:
        return self._hear("helo")

    def on_mail(self, address: bytes, params: Sequence[bytes]) -> Answer:
        return self._hear("mail")

    def on_rcpt(self, address: bytes, params: Sequence[bytes], index: int, refused: Reply | None) -> Answer:
        return self._hear("rcpt" if refused is None else "refused")

    def on_data(self) -> Answer:
        return self._hear("data")

    def on_unknown(self, line: bytes) -> Answer:
        return self._hear("unknown")

    def on_header(self, fields: Sequence[Field]) -> Answer:
        self.header = b"".join(field.octets for field in fields)
        return self._hear("header")

    def on_body(self, octets: bytes) -> Answer:
        self.body += octets
        return self._hear("body")

    def on_end(self) -> tuple[Answer, Sequence[Change]]:
        return self._hear("end"), self.changes(self.facts)

    def on_abort(self) -> None:
        self._hear("abort")

    def on_close(self) -> None:
        self._hear("close")


def act(which: Act, reply: Reply | None = None) -> Answer:
    return Answer(which, reply)


@pytest.fixture
def disk() -> FakeDisk:
    return FakeDisk()


class Lines:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.warning = self.lines.append

    def wants(self, level: int) -> bool:
        return False


@pytest.fixture
def visit(disk: Any) -> Any:
    store = Store(ContentDb(disk, ""), JournalWriter(disk, ""), Blocking())
    setting = SimpleNamespace(
        store=store, signing=None, log=Lines(), options=SimpleNamespace(size_max=2_000_000),
        counts=SimpleNamespace(filtered=lambda name, what: None))
    return SimpleNamespace(set=setting, se="S", log=lambda **named: None, offers=Offers(offers_dsn=True),
                           qualified=lambda address: address if b"@" in address else address + b"@host.test")


def began(visit: Any, *own: Own) -> Filters:
    """All have heard of a transaction up to its content."""
    filters = Filters(own, visit, SimpleNamespace(get=lambda name: b""))  # type: ignore[arg-type]
    assert filters.on_connect() is None
    filters.on_helo(b"x")
    assert filters.on_mail(TA, b"a@b", []) is None
    assert filters.on_rcpt(b"c@d", [], 0, None) is None
    assert filters.on_data() is None
    return filters


def received(visit: Any, wire: bytes = GIVEN, piece: int = 10_000) -> Transaction:
    ta = Transaction(TA, MailAsked(b"a@b", MailParams()))
    ta.rcpts = [Rcpt(0, b"c@d", b""), Rcpt(1, b"e@f", b""), Rcpt(2, b"C@d", b"")]
    ta.begin(visit.set.store, OURS, None)
    for at in range(0, len(wire), piece):
        ta.take(wire[at:at + piece])
    return ta


def stored(visit: Any, ta: Transaction, disk: Any) -> bytes:
    assert ta.incoming is not None
    place = ta.incoming.commit()
    visit.set.store.release(place)
    assert visit.set.store.held == 0
    return b"".join(ContentDb(disk, "").pieces(TA, place))


# What they say together


def test_all_are_asked_in_order_and_told_of_the_end(visit: Any) -> None:
    one, two = Own("1"), Own("2", wants_refused=True)
    filters = began(visit, one, two)
    assert filters.on_rcpt(b"x", [], 1, NO) is None
    assert Review(visit, received(visit), filters).run() is None
    filters.abort()
    filters.close()
    steps = ["connect", "helo", "mail", "rcpt", "data", "header", "body", "end", "close"]
    assert one.heard == steps
    assert two.heard == [*steps[:5], "refused", *steps[5:]]
    assert (one.header, one.body) == (b"A: 1\r\nB: 2\r\n", b"body\r\n")


def test_the_first_refusal_counts(visit: Any) -> None:
    one, two, three = Own("1"), Own("2", mail=act(Act.REJECT, NO)), Own("3")
    filters = Filters([one, two, three], visit, SimpleNamespace(get=None))  # type: ignore[arg-type]
    assert filters.on_mail(TA, b"", []) is NO
    assert (one.heard, two.heard, three.heard) == (["mail", "abort"], ["mail", "abort"], [])


def test_usual_replies(visit: Any) -> None:
    for which, code in ((Act.REJECT, 550), (Act.TEMPFAIL, 451), (Act.CLOSE, 421)):
        filters = Filters([Own("1", connect=act(which))], visit, SimpleNamespace(get=None))  # type: ignore[arg-type]
        reply = filters.on_connect()
        assert reply is not None
        assert reply.code == code


def test_who_accepts_the_session_is_asked_no_more(visit: Any) -> None:
    one, two = Own("1", connect=act(Act.ACCEPT)), Own("2", helo=act(Act.ACCEPT))
    filters = began(visit, one, two)
    assert Review(visit, received(visit), filters).run() is None
    assert filters.on_unknown(b"x") is None
    assert (one.heard, two.heard) == (["connect"], ["connect", "helo"])


@pytest.mark.parametrize("step", ["mail", "rcpt", "data", "header", "body"])
def test_who_accepts_a_message_hears_of_the_next(visit: Any, step: str) -> None:
    one, two = Own("1", **{step: act(Act.ACCEPT)}), Own("2")
    filters = began(visit, one, two)
    assert Review(visit, received(visit), filters).run() is None
    assert one.heard[-1] == step
    assert two.heard[-1] == "end"
    filters.abort()
    assert one.heard[-1] == "abort"
    filters.on_mail(TA, b"", [])
    assert one.heard[-1] == "mail"


@pytest.mark.parametrize("step", ["mail", "rcpt", "data", "header", "body", "end"])
def test_what_is_discarded_nobody_hears_of(visit: Any, step: str) -> None:
    one, two = Own("1", **{step: act(Act.DISCARD)}), Own("2")
    filters = began(visit, one, two)
    assert Review(visit, received(visit), filters).run() is None
    assert filters.discards
    assert "end" not in two.heard
    filters.on_mail(TA, b"", [])
    assert filters.discards is (step == "mail")


def test_a_session_whose_mail_is_discarded_or_kept_back(visit: Any) -> None:
    filters = began(visit, Own("1", helo=act(Act.QUARANTINE, Reply(250, "", "odd"))))
    assert (filters.quarantine, filters.discards) == ("odd", False)
    assert began(visit, Own("1", connect=act(Act.DISCARD))).discards


def test_helo_is_refused_at_mail(visit: Any) -> None:
    one = Own("1", helo=act(Act.REJECT, NO))
    filters = Filters([one], visit, SimpleNamespace(get=None))  # type: ignore[arg-type]
    filters.on_helo(b"x")
    assert filters.on_mail(TA, b"", []) is filters.on_mail(TA, b"", []) is NO
    assert one.heard == ["helo"]


def test_unknown_commands(visit: Any) -> None:
    filters = began(visit, Own("1"), Own("2", unknown=act(Act.REJECT, NO)))
    assert filters.on_unknown(b"FOO") is NO


@pytest.mark.parametrize("step", ["header", "body", "end"])
def test_refused_at_the_end(visit: Any, step: str) -> None:
    one, two, three = Own("1"), Own("2", **{step: act(Act.REJECT, NO)}), Own("3")
    one.changes = lambda facts: [InsertField(0, b"X: y")]
    filters = began(visit, one, two, three)
    ta = received(visit)
    assert Review(visit, ta, filters).run() is NO
    ta.abort()
    filters.abort()
    assert three.heard[-1] == "abort"
    assert visit.set.store.held == 0


# What they change


def changed(visit: Any, disk: Any, wire: bytes, *wanted: Callable[[Facts], Sequence[Change]], piece: int = 10_000
            ) -> tuple[Transaction, bytes, list[Own]]:
    """A message after filters that want these changes: what is stored, and what each has seen."""
    own = [Own(str(number)) for number in range(len(wanted))]
    for one, changes in zip(own, wanted, strict=True):
        one.changes = changes
    ta = received(visit, wire, piece)
    assert Review(visit, ta, began(visit, *own)).run() is None
    return ta, stored(visit, ta, disk), own


def test_the_next_one_sees_what_was_changed(visit: Any, disk: Any) -> None:
    def body(facts: Facts) -> Sequence[Change]:
        spool = facts.spool()
        for piece in (b".new", b"\nbody\r", b"\n.\n"):
            spool.append(piece)
        return [ReplaceBody(spool), InsertField(0, b"X: y")]

    _, content, own = changed(visit, disk, GIVEN, body, lambda facts: [ChangeField(b"X", 1, b"X: z")], lambda facts: ())
    assert content == b"X: z\r\n" + OURS + b"A: 1\r\nB: 2\r\n\r\n..new\r\nbody\r\n..\r\n"
    assert (own[1].header, own[1].body) == (b"X: y\r\nA: 1\r\nB: 2\r\n", b".new\r\nbody\r\n.\r\n")
    assert own[2].header.startswith(b"X: z\r\n")


@pytest.mark.parametrize("piece", [1, 7, 100_000])
@pytest.mark.parametrize("wire", [
    GIVEN, b"A: 1\r\n\r\n", b"A: 1\r\n", b"\r\nbody\r\n", b"\r\n", b"A: 1\r\n\r\n..dot\r\n..\r\n",
    b"A: 1\r\nno field\r\nB: 2\r\n\r\nbody\r\n", b"no field\r\nat all\r\n", b"..A: 1\r\n\r\nx\r\n"])
def test_a_body_stays_as_it_was(visit: Any, disk: Any, wire: bytes, piece: int) -> None:
    """Whatever the message is like; where the header has lines that are no fields the body begins there."""
    _, content, own = changed(visit, disk, wire, lambda facts: [InsertField(None, b"X: y")], lambda facts: (),
                              piece=piece)
    header, _, body = wire.partition(b"\r\n\r\n") if not wire.startswith(b"\r\n") else (b"", b"", wire[2:])
    fields = [line + b"\r\n" for line in header.split(b"\r\n") if b":" in line and b"no" not in header]
    if b"no field" in wire:
        fields, body = ([b"A: 1\r\n"], wire[6:]) if wire.startswith(b"A") else ([], wire)
    assert content == OURS + b"".join(fields) + b"X: y\r\n\r\n" + body
    assert stuff(own[1].body) == body
    assert own[0].body == own[1].body


def large(size: int) -> bytes:
    return b"A: 1\r\n\r\n" + b"".join(b"%07d......\r\n" % number for number in range(size // 15))


@pytest.mark.parametrize("size", [1000, limits.JOURNAL_MESSAGE + 1, 3 * limits.JOURNAL_MESSAGE])
def test_bodies_large_and_small(visit: Any, disk: Any, size: int) -> None:
    wire = large(size)
    _, content, own = changed(visit, disk, wire, lambda facts: [InsertField(1, b"X: y")])
    assert content == OURS + b"X: y\r\n" + wire
    assert own[0].body == wire[8:]
    assert not [name for name in disk.names("1") if name.endswith(".new")]


@pytest.mark.parametrize("size", [1000, 3 * limits.JOURNAL_MESSAGE])
def test_another_message(visit: Any, disk: Any, size: int) -> None:
    def replaced(facts: Facts) -> Sequence[Change]:
        spool = facts.spool()
        spool.append(b"N: 1\nM: 2\n\n" + large(size)[8:])
        return [ReplaceMessage(spool)]

    _, content, own = changed(visit, disk, large(size), replaced, lambda facts: [ChangeField(b"M", 1, b"")])
    assert content == OURS + b"N: 1\r\n\r\n" + large(size)[8:]
    assert own[1].header == b"N: 1\r\nM: 2\r\n"


def test_envelope(visit: Any, disk: Any) -> None:
    ta, content, _ = changed(visit, disk, GIVEN, lambda facts: [
        ChangeSender(b"new@b", b"ENVID=1"), AddRcpt(b"g@h", b"NOTIFY=NEVER"), DeleteRcpt(b"C@D"), Quarantine("odd"),
        AddRcpt(b"postmaster")])
    assert (ta.mail, ta.params.onward) == (b"new@b", b"ENVID=1")
    assert content == OURS + GIVEN
    ta.quarantine = "odd"
    end = ContentEnd(1, False, None)
    message = ta.message("S", "ip", 1.0, end, Content(0, 1, ""))
    assert [(rcpt.idx, rcpt.address, rcpt.params) for rcpt in message.rcpts] == [
        (0, b"e@f", b"QUARANTINE=odd "), (1, b"g@h", b"QUARANTINE=odd NOTIFY=NEVER"),
        (2, b"postmaster@host.test", b"QUARANTINE=odd ")]


def test_one_of_equal_recipients(visit: Any, disk: Any) -> None:
    ta, _, _ = changed(visit, disk, GIVEN, lambda facts: [DeleteRcpt(b"c@d", 2), DeleteRcpt(b"c@d", 1)])
    assert [rcpt.address for rcpt in ta.rcpts] == [b"c@d", b"e@f"]


@pytest.mark.parametrize("change", [
    ChangeSender(b"no@ad@dress"), ChangeSender(b"a@b", b"FOO=1"), ChangeSender(b"a@b", b"=="), AddRcpt(b""),
    AddRcpt(b"a b@c"), AddRcpt(b"a@b", b"NOTIFY=X"), AddRcpt(b"\xc3\xa4@b"), DeleteRcpt(b"not@there"),
    InsertField(0, b"no field"), ChangeField(b"A", 1, b"x y: z")])
def test_changes_that_make_no_sense_are_left_out(visit: Any, disk: Any, change: Change) -> None:
    ta, content, _ = changed(visit, disk, GIVEN, lambda facts: [change])
    assert content == OURS + GIVEN
    assert (ta.mail, len(ta.rcpts)) == (b"a@b", 3)
    (line,) = visit.set.log.lines
    assert "status=change refused" in line


@pytest.mark.parametrize("octets", [b"a\0b", b"x" * 70_000])
def test_bodies_that_no_message_may_have(visit: Any, disk: Any, octets: bytes) -> None:
    def body(facts: Facts) -> Sequence[Change]:
        spool = facts.spool()
        spool.append(octets)
        return [ReplaceBody(spool)]

    _, content, _ = changed(visit, disk, GIVEN, body)
    assert content == OURS + GIVEN
    assert len(visit.set.log.lines) == 1


def test_8bit_is_known_anew(visit: Any, disk: Any) -> None:
    ta, _, _ = changed(visit, disk, GIVEN, lambda facts: [InsertField(1, b"X: \xe4")])
    assert ta.message("S", "", 1.0, ContentEnd(1, False, None), Content(0, 1, "")).is_8bit
    ta = received(visit, GIVEN)
    assert not ta.message("S", "", 1.0, ContentEnd(1, False, None), Content(0, 1, "")).is_8bit
    ta.abort()


def test_a_disk_that_refuses(visit: Any, disk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client hears of it, and nothing is left behind."""
    def fails(*unused: object) -> Iterator[bytes]:
        raise StoreError("write", "x", "full", is_full=True)

    one = Own("1")
    one.changes = lambda facts: [InsertField(0, b"X: y")]
    filters = began(visit, one)
    ta = received(visit, large(3 * limits.JOURNAL_MESSAGE))
    monkeypatch.setattr(disk, "append", fails)
    with pytest.raises(StoreError):
        Review(visit, ta, filters).run()
    ta.abort()
    filters.abort()
    assert visit.set.store.held == 0
    assert disk.names("1") == []


def test_data_that_was_refused_stays_refused(visit: Any) -> None:
    """A client that says DATA again gets no other answer, and none from a milter that hears DATA out of order."""
    one = Own("1", data=act(Act.REJECT, NO))
    filters = Filters([one], visit, SimpleNamespace(get=None))  # type: ignore[arg-type]
    for _ in range(2):
        assert filters.on_mail(TA, b"", []) is None
        assert filters.on_rcpt(b"c@d", [], 0, None) is None
        assert filters.on_data() is NO
        one.says = {}
        assert filters.on_data() is filters.on_rcpt(b"e@f", [], 1, None) is NO
        assert filters.on_unknown(b"x") is None
        one.says = {"data": act(Act.REJECT, NO)}
    assert one.heard == ["mail", "rcpt", "data", "abort", "mail", "rcpt", "data"]


def test_another_sender_with_parameters_does_not_make_binary_content_text(visit: Any, disk: Any) -> None:
    filters = began(visit, own := Own("1"))
    own.changes = lambda facts: [ChangeSender(b"x@y", b"RET=HDRS")]
    ta = received(visit)
    ta.params = ta.params._replace(body=b"BINARYMIME", onward=b"BODY=BINARYMIME ENVID=1")
    assert Review(visit, ta, filters).run() is None
    assert ta.params.onward == b"BODY=BINARYMIME RET=HDRS"
    own.changes = lambda facts: [ChangeSender(b"x@y", b"BODY=BINARYMIME")]
    visit.offers = visit.offers._replace(offers_binarymime=True)
    ta.params = ta.params._replace(onward=b"")
    assert Review(visit, ta, filters).run() is None
    assert ta.params.onward == b""


def test_a_recipient_who_is_added_is_nobody_else_and_there_once(visit: Any) -> None:
    """What PRDR says of the recipient with the last index is not about one that is added in its place."""
    filters = began(visit, own := Own("1"))
    own.changes = lambda facts: [
        DeleteRcpt(b"C@d", 2), AddRcpt(b"new@x"), AddRcpt(b"new@X"), AddRcpt(b"e@F"), AddRcpt(b"E@f")]
    ta = received(visit)
    ta.accepted = [0, 1, 2]
    assert Review(visit, ta, filters).run() is None
    assert [(rcpt.idx, rcpt.address) for rcpt in ta.rcpts] == [
        (0, b"c@d"), (1, b"e@f"), (3, b"new@x"), (4, b"E@f")]
