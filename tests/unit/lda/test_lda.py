"""The local mailer: whose mailbox, and what lies in it."""
from pathlib import Path

import pytest

from meta1g.lda.maildir import Maildirs, to_local
from meta1g.lda.users import Users, parse_table
from meta1g.mta.errors import StoreError
from meta1g.shim.safeio import Disk

USERS = Users({"user", "a-b"}.__contains__, frozenset({"postmaster"}), b"+")


@pytest.mark.parametrize(("address", "name"), [
    (b"user@x", "user"), (b"USER@x", "user"), (b"user+detail@x", "user"), (b"postmaster@x", "postmaster"),
    (b'"user"@x', "user"), (b"a-b@x", "a-b"), (b"other@x", None), (b"@x", None), (b"+x@x", None),
    (b"../user@x", None), (b'"../../etc"@x', None), (b".@x", None), (b"user/x@x", None),
])
def test_mailbox(address: bytes, name: str | None) -> None:
    assert USERS.mailbox(address) == name


def test_names_can_not_leave_the_folder() -> None:
    anybody = Users(lambda name: True, frozenset(), b"+")
    for local in (b"..", b".", b"a/b", b"/etc", b"a\0b", b"-", b"", b"\xff"):
        assert anybody.mailbox(local + b"@x") is None


def test_table() -> None:
    assert parse_table("User # me\n\n# x\nother\n") == {"user", "other"}


def test_wire_form_becomes_local_form() -> None:
    assert to_local(b"..a\r\n..\r\nb\r\n") == b".a\n.\nb\n"


def test_delivery(tmp_path: Path) -> None:
    maildirs = Maildirs(Disk(), str(tmp_path / "mail"))
    names = {maildirs.deliver("user", b"H: x\n", b"\nbody\n") for _ in range(3)}
    folder = tmp_path / "mail" / "user"
    assert {path.name for path in (folder / "new").iterdir()} == names
    assert len(names) == 3
    path = folder / "new" / names.pop()
    assert path.read_bytes() == b"H: x\n\nbody\n"
    assert (oct(path.stat().st_mode & 0o777), oct(folder.stat().st_mode & 0o777)) == ("0o600", "0o700")
    assert list((folder / "tmp").iterdir()) == []


def test_failed_delivery_leaves_nothing(tmp_path: Path) -> None:
    class Full(Disk):
        def flush(self, fd: int, path: str) -> None:
            raise StoreError("flush", path, "No space left on device", is_full=True)

    maildirs = Maildirs(Full(), str(tmp_path))
    with pytest.raises(StoreError):
        maildirs.deliver("user", b"", b"x")
    assert list((tmp_path / "user" / "tmp").iterdir()) == []
    assert list((tmp_path / "user" / "new").iterdir()) == []
