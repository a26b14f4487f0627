"""Records of IBDB and DEFEDB: every value comes back; damage is found, told and costs one record."""
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta1g.mta.errors import CorruptRecord, FrameError, StoreError, TornTail
from meta1g.mta.ids import ss_id
from meta1g.proto.msg_ss import Content
from meta1g.shim import ibdb
from meta1g.shim.defedb import Change, Defedb, Tuning
from meta1g.shim.records import (
    DEFEDB_CODEC,
    IBDB_CODEC,
    IBDB_TYPES,
    DeferredRcpt,
    DeferredTa,
    IdsGiven,
    Outcome,
    RcptEnd,
    TaNew,
)
from meta1g.shim.safeio import Disk
from tests.crash.disk import FakeDisk
from tests.unit.shim.test_stores import deferred, transaction

SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(-(2**63), 2**63 - 1), float: st.floats(allow_nan=False), bool: st.booleans(), bytes: st.binary(),
    str: st.text(st.characters(exclude_categories=["Cs"])),
}


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of a field's type, or any record of a class."""
    if kind in SCALARS:
        return SCALARS[kind]
    if get_origin(kind) is tuple:
        return st.lists(values(get_args(kind)[0]), max_size=3).map(tuple)
    return st.builds(kind, *(values(hint) for hint in get_type_hints(kind).values()))


IBDB_RECORDS = st.one_of([values(cls) for cls in IBDB_TYPES.values()])
DEFEDB_RECORDS = values(DeferredTa) | values(DeferredRcpt)
FILE = "ibdb/00000001.ibdb"


@given(IBDB_RECORDS)
def test_ibdb_record_comes_back(record: Any) -> None:
    assert IBDB_CODEC.decode(IBDB_CODEC.encode(record)) == record


@given(DEFEDB_RECORDS)
def test_defedb_record_comes_back(record: Any) -> None:
    assert DEFEDB_CODEC.decode(DEFEDB_CODEC.encode(record)) == record


@given(st.binary())
def test_anything_else_is_refused_or_a_record(octets: bytes) -> None:
    for codec in (IBDB_CODEC, DEFEDB_CODEC):
        try:
            record = codec.decode(octets)
        except FrameError:
            continue
        # repr, since a NaN is not equal to itself
        assert repr(codec.decode(codec.encode(record))) == repr(record)


@given(st.lists(st.lists(IBDB_RECORDS, max_size=4), max_size=4), st.integers(50, 500))
def test_ibdb_gives_back_what_was_written(batches: list[list[Any]], size_max: int) -> None:
    disk = FakeDisk()
    log = ibdb.Ibdb(disk, "ibdb", size_max)  # type: ignore[arg-type]
    for batch in batches:
        log.write(batch)
    damage: list[CorruptRecord] = []
    found = list(ibdb.read(disk, "ibdb", damage.append))  # type: ignore[arg-type]
    assert damage == []
    assert [r for r in found if not isinstance(r, IdsGiven)] == [
        r for batch in batches for r in batch if not isinstance(r, IdsGiven)]


@given(st.data())
def test_one_wrong_octet_costs_one_record(data: st.DataObject) -> None:
    disk = FakeDisk()
    log = ibdb.Ibdb(disk, "ibdb", 1 << 20)  # type: ignore[arg-type]
    records = [RcptEnd(n, Outcome.DELIVERED, False, ss_id(n, 0)) for n in range(5)]
    log.write(records[:3])
    log.write(records[3:])
    octets = disk.data[disk.entries[FILE]]
    sizes = [len(ibdb.encode(record)) for record in records]
    begin = len(octets) - sum(sizes)
    which = data.draw(st.integers(0, 4))
    at = begin + sum(sizes[:which]) + data.draw(st.integers(0, sizes[which] - 1))
    octets[at] ^= data.draw(st.integers(1, 255))
    damage: list[CorruptRecord] = []
    found = [r for r in ibdb.read(disk, "ibdb", damage.append) if isinstance(r, RcptEnd)]  # type: ignore[arg-type]
    assert found == records[:which] + records[which + 1:]
    assert [(error.path, error.offset, isinstance(error, TornTail)) for error in damage] == [
        (FILE, begin + sum(sizes[:which]), which >= 3)]


def test_damaged_header_of_a_file_costs_nothing_else() -> None:
    disk = FakeDisk()
    log = ibdb.Ibdb(disk, "ibdb", 1 << 20)  # type: ignore[arg-type]
    log.write([IdsGiven(5)])
    disk.data[disk.entries[FILE]][0] = 0
    damage: list[CorruptRecord] = []
    assert IdsGiven(5) in list(ibdb.read(disk, "ibdb", damage.append))  # type: ignore[arg-type]
    assert [(type(error), error.offset) for error in damage] == [(CorruptRecord, 0)]


@given(st.integers(0, 200))
def test_torn_tail_is_told(cut: int) -> None:
    disk = FakeDisk()
    log = ibdb.Ibdb(disk, "ibdb", 1 << 20)  # type: ignore[arg-type]
    records = [RcptEnd(n, Outcome.DELIVERED, False, ss_id(n, 0)) for n in range(5)]
    log.write(records)
    octets = disk.data[disk.entries[FILE]]
    del octets[max(len(octets) - cut, 0):]
    damage: list[CorruptRecord] = []
    found = [r for r in ibdb.read(disk, "ibdb", damage.append) if isinstance(r, RcptEnd)]  # type: ignore[arg-type]
    size = len(ibdb.encode(records[0]))
    is_torn = cut > 5 * size or cut % size > 0
    assert [type(error) for error in damage] == [TornTail] * is_torn
    assert found == records[: len(found)]
    assert len(found) == max(5 - (cut + size - 1) // size, 0)


def test_ibdb_on_a_real_disk(tmp_path: Path) -> None:
    """Files go when all that began in them and before them has ended; ids are not forgotten with them."""
    folder, disk = str(tmp_path), Disk()
    log = ibdb.Ibdb(disk, folder, 100)
    log.write([IdsGiven(77)])
    for number in range(1, 6):
        log.write([TaNew(1.0, 1, False, False, ss_id(number, 0), "", b"", b"", "", (), (Content(0, 1, ""),), ())])
    assert log.live == 5
    assert log.remove_old() == 0
    for number in range(1, 6):
        log.write([RcptEnd(0, Outcome.DELIVERED, True, ss_id(number, 0))])
    assert log.remove_old() > 2
    assert log.live == 0
    names = ibdb.files(disk, folder)
    assert (tmp_path / names[0][1]).stat().st_mode & 0o777 == ibdb.MODE
    damage: list[CorruptRecord] = []
    assert max(r.last for r in ibdb.read(disk, folder, damage.append) if isinstance(r, IdsGiven)) == 77
    again = ibdb.Ibdb(disk, folder, 100)
    again.forget_before([IdsGiven(78)])
    assert [r.last for r in ibdb.read(disk, folder, damage.append) if isinstance(r, IdsGiven)] == [0, 78]
    (tmp_path / "README").write_text("not ours")
    assert len(ibdb.files(disk, folder)) == 1


def test_closed_log_keeps_what_lives_and_nothing_else() -> None:
    disk, damage = FakeDisk(), list[CorruptRecord]()
    log = ibdb.Ibdb(disk, "ibdb", 1 << 20)  # type: ignore[arg-type]
    ta = ss_id(1, 0)
    begin = TaNew(1.0, 1, False, False, ta, "", b"", b"", "", (), (Content(0, 1, ""),), ())
    log.write([IdsGiven(77), begin])
    log.close()
    assert begin in ibdb.read(disk, "ibdb", damage.append)  # type: ignore[arg-type]
    log.write([RcptEnd(0, Outcome.DELIVERED, True, ta)])
    log.close()
    assert list(ibdb.read(disk.lose_power(0.0), "ibdb", damage.append)) == [IdsGiven(77)]  # type: ignore[arg-type]
    assert damage == []


def test_file_that_can_not_be_begun_leaves_nothing() -> None:
    disk = FakeDisk()
    log = ibdb.Ibdb(disk, "ibdb", 100)  # type: ignore[arg-type]
    for fail_at in (2, 3, 4):  # the header, its flush, the folder
        disk.calls, disk.fail_at = 0, fail_at
        with pytest.raises(StoreError):
            log.write([IdsGiven(1)])
        assert disk.names("ibdb") == []
    log.write([IdsGiven(1)])
    assert len(disk.names("ibdb")) == 1


def test_damaged_recipient_does_not_keep_the_others_back(tmp_path: Path) -> None:
    ta = ss_id(5, 0)
    store = Defedb(str(tmp_path), Tuning(1 << 20))
    store.write([Change((transaction(ta), deferred(ta, 0), deferred(ta, 1)))])
    store._table.put(b"R" + f"{ta}-000000".encode(), b"\x01\x02junk")
    assert store.load(ta, [0, 1]) == (transaction(ta), [deferred(ta, 1)], [0], 2)
    store._table.put(b"T" + ta.encode(), b"\x01\x01junk")
    with pytest.raises(CorruptRecord):
        store.load(ta, [1])
    store.close()
