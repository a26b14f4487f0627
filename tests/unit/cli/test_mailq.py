"""mailq: filters, counts, both stores together, and a long queue in little memory."""
import json
import tracemalloc
from pathlib import Path

import pytest
from click.testing import CliRunner

from meta1g.cli.mailq import main
from meta1g.cli.queue_filter import OTHERS, Age, Filter, count, parse_age
from meta1g.cli.queued import Queued, QueuedRcpt, deferred, merge
from meta1g.mta.errors import CorruptRecord, CorruptStore
from meta1g.mta.ids import rcpt_id, ss_id
from meta1g.mta.selection import Selection
from meta1g.proto.msg_ar import Hop
from meta1g.proto.msg_ss import Content
from meta1g.shim.btreefile import Reader
from meta1g.shim.defedb import FILE, Change, Defedb, Snapshot, Tuning
from meta1g.shim.records import DeferredRcpt, DeferredTa

NOW = 1_000_000.0
DOWN, SLOW = "451 4.4.1 Connection refused", "450 4.2.1 greylisted, come again"


def rcpt(idx: int, address: bytes, reason: str = DOWN, *hosts: str) -> QueuedRcpt:
    return QueuedRcpt(idx, address, NOW + 60, 2, reason, hosts)


def message(number: int, mail: bytes, age: float, *rcpts: QueuedRcpt, store: str = "defedb") -> Queued:
    return Queued(ss_id(number, 0), store, mail, 100, NOW - age, list(rcpts))


QUEUE = [
    message(1, b"news@a.test", 7200, rcpt(0, b"x@b.test", DOWN, "mx.b.test", "192.0.2.1"),
            rcpt(1, b"y@c.test", SLOW, "mx.c.test", "192.0.2.2")),
    message(2, b"", 60, rcpt(0, b"z@b.test", DOWN, "mx.b.test", "192.0.2.1")),
    message(3, b"you@a.test", 3600, rcpt(0, b"new@d.test", ""), store="ibdb"),
]
ALL = Selection()


def shown(selection: Selection = ALL, senders: tuple[str, ...] = (), reasons: tuple[str, ...] = (),
          ages: tuple[str, ...] = ()) -> list[bytes]:
    wanted = Filter(selection, senders, reasons, map(parse_age, ages), NOW)
    return [rcpt.address for found in map(wanted.of, QUEUE) if found for rcpt in found.rcpts]


def test_filters() -> None:
    assert len(shown()) == 4
    assert shown(Selection(sites=("MX.b.test",))) == [b"x@b.test", b"z@b.test"]
    assert shown(Selection(sites=("d.test",))) == [b"new@d.test"]
    assert shown(Selection(to=("@b.test",)), ages=("1h",)) == [b"x@b.test"]
    assert shown(senders=("<>", "you@*")) == [b"z@b.test", b"new@d.test"]
    assert shown(reasons=("GREYlist",)) == [b"y@c.test"]
    assert shown(ages=("-1h",)) == [b"z@b.test", b"new@d.test"]
    assert shown(ages=("+30m", "-1h30m")) == [b"new@d.test"]
    assert shown(Selection(ids=(ss_id(2, 0),)), reasons=("greylist",)) == []


@pytest.mark.parametrize(("text", "age"), [
    ("90", Age(90, False)), ("+2h", Age(7200, False)), ("-1d12H", Age(129600, True)), ("1w", Age(604800, False))])
def test_ages(text: str, age: Age) -> None:
    assert parse_age(text) == age


@pytest.mark.parametrize("text", ["", "h", "2x", "1h30", "--2h", "2 h"])
def test_wrong_ages(text: str) -> None:
    with pytest.raises(ValueError, match="is no age"):
        parse_age(text)


def test_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert count("site", QUEUE) == [("mx.b.test", 2), ("d.test", 1), ("mx.c.test", 1)]
    assert count("reason", QUEUE) == [(DOWN, 2), ("(not tried yet)", 1), (SLOW, 1)]
    assert count("sender", QUEUE) == [("<news@a.test>", 2), ("<>", 1), ("<you@a.test>", 1)]
    assert count("domain", QUEUE) == [("b.test", 2), ("c.test", 1), ("d.test", 1)]
    monkeypatch.setattr("meta1g.cli.queue_filter.KEYS_MAX", 1)
    assert count("domain", QUEUE) == [(OTHERS, 2), ("b.test", 2)]


def test_a_recipient_in_both_stores_is_shown_once() -> None:
    fresh = [message(n, b"a@b", 0, rcpt(0, b"old@b"), rcpt(1, b"new@b"), store="ibdb") for n in (1, 2, 5)]
    stored = [message(2, b"a@b", 0, rcpt(0, b"old@b")), message(3, b"a@b", 0, rcpt(0, b"c@d"))]
    found = [(row.ta, row.store, [entry.address for entry in row.rcpts]) for row in merge(fresh, stored)]
    assert found == [
        (ss_id(1, 0), "ibdb", [b"old@b", b"new@b"]), (ss_id(2, 0), "ibdb", [b"new@b"]),
        (ss_id(2, 0), "defedb", [b"old@b"]), (ss_id(3, 0), "defedb", [b"c@d"]),
        (ss_id(5, 0), "ibdb", [b"old@b", b"new@b"])]
    moved = message(1, b"a@b", 0, rcpt(0, b"old@b"), rcpt(1, b"new@b"))
    assert list(merge(fresh[:1], [moved])) == [moved]


def fill(home: Path, transactions: int, rcpts_each: int) -> None:
    """A DEFEDB with so many recipients, which were put in no order."""
    store = Defedb(str(home), Tuning(8 << 20))
    order = [number * 7919 % transactions for number in range(transactions)]
    for at in range(0, transactions, 500):
        store.write([Change((
            DeferredTa(NOW, 10, 9, False, False, ss_id(number, 0), "192.0.2.9", b"x@y", b"", (Content(0, 10, ""),)),
            *(DeferredRcpt(NOW, NOW, idx, 1, 0, 1, 451, False, False, False, ss_id(number, 0), b"r%d@b.test" % idx, b"",
                           b"", "4.4.1", "refused", (Hop(25, "192.0.2.1", f"mx{number % 5}"),))
              for idx in range(rcpts_each)))) for number in order[at:at + 500]])
    store.close()


def test_pairs_from_any_key_on(tmp_path: Path) -> None:
    """Through several levels of branches, and over values that have pages of their own."""
    store = Defedb(str(tmp_path), Tuning(1 << 20))
    keys = [b"K%05d" % (number * 2) for number in range(3000)]
    for key in keys[::7] + [key for nth, key in enumerate(keys) if nth % 7]:
        store._table.put(key, b"v" * (9000 if key.endswith(b"00") else 300))
    store.close()
    reader = Reader(str(tmp_path / FILE))
    reader.check()
    assert [key for key, _ in reader.pairs(b"K")] == keys
    for start, expected in ((b"K00001", 1), (b"K00002", 1), (b"K03001", 1501), (b"K05998", 2999), (b"K05999", 3000)):
        assert [key for key, _ in reader.pairs(start)] == keys[expected:], start
    assert dict(reader.pairs())[b"K01000"] == b"v" * 9000
    reader.close()


@pytest.mark.parametrize("damage", [b"", b"\0" * 4096, b"\xff" * 26])
def test_a_damaged_copy_is_refused_at_once(tmp_path: Path, damage: bytes) -> None:
    fill(tmp_path, 500, 2)
    path = tmp_path / FILE
    data = path.read_bytes()
    path.write_bytes(data[:8192] + damage + data[8192 + len(damage):] if damage else data[:-5000])
    with pytest.raises(CorruptStore):
        Snapshot(str(tmp_path), lambda error: None)


def test_a_long_queue_needs_little_memory(tmp_path: Path) -> None:
    transactions, each = 5000, 20
    fill(tmp_path, transactions, each)
    damage: list[CorruptRecord] = []
    tracemalloc.start()
    try:
        snapshot = Snapshot(str(tmp_path), damage.append)
        seen = [0, ""]
        for row in (deferred(ta, rcpts) for ta, rcpts in snapshot.messages()):
            assert row.ta > str(seen[1])
            assert len(row.rcpts) == each
            seen = [int(seen[0]) + len(row.rcpts), row.ta]
        most = tracemalloc.get_traced_memory()[1]
        snapshot.close()
    finally:
        tracemalloc.stop()
    assert seen[0] == transactions * each
    assert damage == []
    assert most < 1 << 20, f"{most} octets for {transactions * each} recipients"


def test_output(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What scripts have read until now stays: a list as JSON, MeTA1's lines as text."""
    monkeypatch.setattr("meta1g.cli.mailq.locate", lambda conf: None)
    monkeypatch.setattr("meta1g.cli.mailq.read_queue", lambda config, damage: iter(QUEUE))

    def mailq(*options: str) -> str:
        done = CliRunner().invoke(main, options)
        assert done.exit_code == 0, done.output
        return done.output

    rows = json.loads(mailq("--json"))
    assert [row["id"] for row in rows] == [row.ta for row in QUEUE]
    assert rows[0]["recipients"][1] == {
        "id": rcpt_id(QUEUE[0].ta, 1), "address": "y@c.test", "next_try": NOW + 60, "tries": 2, "reason": SLOW,
        "hosts": ["mx.c.test", "192.0.2.2"], "held": False}
    assert [json.loads(line) for line in mailq("--jsonl").splitlines()] == rows
    assert json.loads(mailq("--json", "--to", "none@x")) == []
    assert mailq("--jsonl", "--to", "none@x") == ""
    assert json.loads(mailq("--json", "--count", "domain"))[0] == {"domain": "b.test", "recipients": 2}
    assert mailq("--to", "none@x") == "No such mail in the queue\n"
    text = mailq("--from", "news@a.test").splitlines()
    assert text[0].startswith(f"{QUEUE[0].ta}       100 ")
    assert text[1:4] == [f"                 ({DOWN})", text[2], " " * 38 + "<x@b.test>"]
    assert text[2].startswith("                 (tried 2 times, next at ")
    assert text[-1] == "\t\tTotal requests: 1"
    assert mailq("--to", "new@d.test").startswith(f"{QUEUE[2].ta}*      100 ")
    assert CliRunner().invoke(main, ["--age", "old"]).exit_code == 64
