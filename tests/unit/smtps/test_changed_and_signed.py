"""Whatever filters change, in memory or in a file: what is stored is what they mean, and its signature fits."""
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import dkim
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meta1g.conf.load import load_text
from meta1g.mta import limits
from meta1g.mta.reply import Reply
from meta1g.proto.dkim.fields import Field, Unsignable
from meta1g.proto.msg_ss import Rcpt
from meta1g.proto.smtp.data import stuff, unstuff
from meta1g.proto.smtp.events import ContentEnd, MailAsked
from meta1g.proto.smtp.params import MailParams, Offers
from meta1g.shim.cdb import ContentDb
from meta1g.shim.journal import JournalWriter
from meta1g.smtps.filter import GO_ON, Answer, Change, ChangeField, InsertField, ReplaceBody, ReplaceField
from meta1g.smtps.filters import Filters
from meta1g.smtps.incoming import Store
from meta1g.smtps.keyfiles import read_signing
from meta1g.smtps.review import Review
from meta1g.smtps.transaction import Transaction
from meta1g.st.block import Blocking
from tests.crash.disk import FakeDisk
from tests.lib.dkimkeys import Keys

TA = "S000000000000000101"
OURS = b"Received: from x\r\n\tby y; now\r\n"
BLOCKING = Blocking()


class Own:
    """A filter that wants these changes, and notes what it has seen."""

    name, wants_refused = "own", False

    def __init__(self, changes: Sequence[Change], body: bytes | None) -> None:
        self.changes, self.other = changes, body
        self.seen = b""

    def begin(self, facts: Any) -> "Own":
        self.facts = facts
        return self

    def on_mail(self, address: bytes, params: Sequence[bytes]) -> Answer:
        return GO_ON

    def on_rcpt(self, address: bytes, params: Sequence[bytes], index: int, refused: Reply | None) -> Answer:
        return GO_ON

    def on_header(self, fields: Sequence[Field]) -> Answer:
        self.seen = b"".join(field.octets for field in fields) + b"\r\n"
        return GO_ON

    def on_body(self, octets: bytes) -> Answer:
        self.seen += octets
        return GO_ON

    def on_end(self) -> tuple[Answer, Sequence[Change]]:
        if self.other is None:
            return GO_ON, self.changes
        spool = self.facts.spool()
        for at in range(0, len(self.other), 3):
            spool.append(self.other[at:at + 3])
        return GO_ON, [*self.changes, ReplaceBody(spool)]


@pytest.fixture(scope="module")
def signing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Callable[..., bytes]]]:
    keys = Keys(tmp_path_factory.mktemp("keys"), "ed")
    config = load_text(f"smtps {{ DKIM_signing {{ {keys.section('ed')} }} }}", "f")
    yield read_signing(config.module("smtps").dkim_signing, config), keys.dns


NAMES = st.sampled_from([b"Received", b"A", b"Subject", b".x"])
VALUES = st.sampled_from([b" 1", b" 2\n\t3", b"", b" .\n .\n x", b" \xe4"])
FIELDS = st.builds(lambda name, value: name + b":" + value, NAMES, VALUES)
CHANGES = st.lists(st.one_of(
    st.builds(InsertField, st.one_of(st.none(), st.integers(0, 6)), FIELDS),
    st.builds(lambda name, nth, value: ChangeField(name, nth, name + b":" + value if value else b""),
              NAMES, st.integers(1, 3), VALUES),
    st.builds(ReplaceField, st.integers(0, 4), FIELDS)), max_size=4)
BODIES = st.text(alphabet="a.\n ", max_size=30).map(lambda text: text.replace("\n", "\r\n").encode())
HEADERS = st.lists(st.builds(lambda name: name + b": x\r\n", NAMES), max_size=4).map(
    lambda fields: b"From: a@example.org\r\n" + b"".join(fields))


@pytest.mark.parametrize("is_large", [False, True])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(header=HEADERS, body=BODIES, filters=st.lists(st.tuples(CHANGES, st.one_of(st.none(), BODIES)), max_size=3))
def test_what_is_stored(signing: Any, is_large: bool, header: bytes, body: bytes,
                        filters: list[tuple[list[Change], bytes | None]]) -> None:
    sign, dns = signing
    disk: Any = FakeDisk()
    store = Store(ContentDb(disk, ""), JournalWriter(disk, ""), BLOCKING)
    log = SimpleNamespace(warning=lambda line: None, wants=lambda level: False)
    setting = SimpleNamespace(store=store, signing=sign, log=log, options=SimpleNamespace(size_max=2_000_000),
                              counts=SimpleNamespace(filtered=lambda name, what: None, signed=0))
    visit: Any = SimpleNamespace(set=setting, se="S", log=lambda **named: None, offers=Offers(),
                                 qualified=lambda address: address)
    body += b"large\r\n" * (limits.JOURNAL_MESSAGE // 5) * is_large
    ta = Transaction(TA, MailAsked(b"a@b", MailParams()))
    ta.rcpts = [Rcpt(0, b"c@d", b"")]
    ta.begin(store, OURS, sign)
    wire = stuff(header + b"\r\n" + body)
    for at in range(0, len(wire), 50_000):
        ta.take(wire[at:at + 50_000])
    last = Own([], None)
    owns = [*(Own(*wanted) for wanted in filters), last]
    own = Filters(owns, visit, SimpleNamespace(get=lambda name: b""))  # type: ignore[arg-type]
    assert own.on_mail(TA, b"a@b", []) is None
    assert Review(visit, ta, own).run() is None
    try:
        assert ta.sign(setting, "S") is None  # type: ignore[arg-type]
    except Unsignable:
        pytest.fail("it can be signed")
    assert ta.incoming is not None
    place = ta.incoming.commit()
    store.release(place)
    assert store.held == 0
    stored = b"".join(ContentDb(disk, "").pieces(TA, place))
    assert place.length == len(stored)
    message = unstuff(stored)
    assert dkim.verify(message, dnsfunc=dns), message[:1000]
    found, _, rest = message.partition(b"\r\n\r\n")
    begin = found.index(b"DKIM-Signature:")
    end = min(at for at in (found.find(b"\r\n" + name, begin) for name in (
        b"From", b"Received", b"A:", b"Subject", b".x", b"DKIM")) if at > 0) + 2
    seen_header, _, seen_body = last.seen.partition(b"\r\n\r\n")
    assert (found[:begin] + found[end:]).replace(OURS, b"") == seen_header
    assert rest == seen_body + (b"" if seen_body.endswith(b"\r\n") or not seen_body else b"\r\n")
    said = ta.message("S", "", 0.0, ContentEnd(len(wire), not wire.isascii(), None), place)
    assert said.is_8bit == (not stored.isascii())
