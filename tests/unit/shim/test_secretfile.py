"""A secret is read only if it is one."""
import os
from pathlib import Path

import pytest

from meta1g.shim.secretfile import SecretError, read_secret


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_bytes(b"text")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o440, 0o640])
def test_read(secret: Path, mode: int) -> None:
    secret.chmod(mode)
    assert read_secret(str(secret)) == b"text"


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o666, 0o660, 0o641, 0o620])
def test_it_must_be_one(secret: Path, mode: int) -> None:
    secret.chmod(mode)
    with pytest.raises(SecretError, match=f"^{secret}: mode {mode:o} makes it no secret; chmod") as caught:
        read_secret(str(secret))
    secret.chmod(int(str(caught.value).split()[-2], 8))
    assert read_secret(str(secret)) == b"text"


def test_only_regular_files(secret: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    for name in ("fifo", "."):
        with pytest.raises(SecretError, match="not a regular file"):
            read_secret(str(tmp_path / name))
    with pytest.raises(SecretError, match="none: No such file or directory"):
        read_secret(str(tmp_path / "none"))
    (tmp_path / "link").symlink_to(secret)
    assert read_secret(str(tmp_path / "link")) == b"text"
    secret.write_bytes(b"x" * 70_000)
    with pytest.raises(SecretError, match="more than 65536 octets"):
        read_secret(str(secret))


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_owner_and_reader(secret: Path) -> None:
    secret.chmod(0o640)
    os.chmod(secret.parent, 0o755)
    groups = os.getgroups()
    os.chown(secret, 12345, 4321)
    assert read_secret(str(secret)) == b"text"
    os.setgroups([])
    os.setegid(4321)
    os.seteuid(4321)
    try:
        with pytest.raises(SecretError, match=f"belongs to user 12345; chown 4321 {secret}"):
            read_secret(str(secret))
        os.seteuid(0)
        os.chown(secret, 0, 0)
        os.seteuid(4321)
        with pytest.raises(SecretError, match=r"user 4321 can't read it; chgrp 4321 .*; chmod 640"):
            read_secret(str(secret))
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)
