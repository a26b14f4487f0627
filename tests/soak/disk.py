"""A disk that is full, has no inodes left, fails or is closed to us: 4yz to clients, nothing lost, work again after."""
import os
import smtplib
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.lib.load import LARGE
from tests.lib.wait import until
from tests.soak.flushes import inject
from tests.soak.rig import Figures, LawBroken, Rig

_SIZE = "64m"
_INODES = 400


class Tmpfs:
    """A small file system in memory."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="meta1g-small."))
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_SIZE},nr_inodes={_INODES},mode=755", "tmpfs",
                        str(self.folder)], check=True)

    def fill(self) -> None:
        """Leave no space."""
        with (self.folder / "ballast").open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"\0" * 65536)
            except OSError:
                pass

    def use_inodes(self) -> None:
        """Leave no inode."""
        try:
            for number in range(10 * _INODES):
                (self.folder / f"inode{number}").touch()
        except OSError:
            pass

    def free(self) -> None:
        """Give space and inodes back."""
        for path in self.folder.glob("inode*"):
            path.unlink()
        (self.folder / "ballast").unlink(missing_ok=True)

    def close(self) -> None:
        """Unmount."""
        subprocess.run(["umount", "-l", str(self.folder)], check=True)
        self.folder.rmdir()


def reply(rig: Rig, size: int = LARGE) -> int:
    """The code that a message of `size` octets gets; 0 if it is accepted, then it counts as load."""
    assert rig.load is not None
    number = f"disk-{len(rig.load.accepted)}"
    text = f"X-Number: {number}\n\n" + ("x" * 70 + "\n") * (size // 71)
    try:
        with smtplib.SMTP("127.0.0.1", rig.instance.port, timeout=30) as smtp:
            smtp.sendmail("load@mail.test", ["x@sink.test"], text)
    except smtplib.SMTPResponseException as error:
        return error.smtp_code
    except smtplib.SMTPRecipientsRefused as error:
        return next(iter(error.recipients.values()))[0]
    except OSError:
        return -1
    rig.load.accepted.add(number)
    return 0


def refused(rig: Rig, what: str) -> None:
    """New mail is refused for now, and nothing but that happens."""
    code = until(lambda: reply(rig), 30, f"{what}: mail is refused")
    if not 400 <= code < 500:
        raise LawBroken(f"{what}: reply {code} instead of 4yz")


def run(rounds: int, seed: int, tick: Callable[[], None]) -> Figures:
    """Each trouble `rounds` times, with load before, during and after."""
    disk = Tmpfs()
    rig = Rig("disk trouble", seed, disk.folder)
    try:
        rig.begin(clients=2)
        for _ in range(rounds):
            for trouble in (_full, _no_inodes, _closed, _write_error):
                trouble(rig, disk)
                until(lambda: reply(rig) == 0, 60, f"mail is taken again after {trouble.__name__}")
                rig.more(10)
                rig.figures.rounds += 1
                tick()
        return rig.settle()
    finally:
        rig.close()
        disk.close()


def _full(rig: Rig, disk: Tmpfs) -> None:
    disk.fill()
    refused(rig, "no space")
    disk.free()


def _no_inodes(rig: Rig, disk: Tmpfs) -> None:
    disk.use_inodes()
    refused(rig, "no inodes")
    disk.free()


def _closed(rig: Rig, disk: Tmpfs) -> None:
    folders = [rig.instance.base / "spool" / name for name in "0123456789ABCDEF"]
    mode = folders[0].stat().st_mode
    for folder in folders:
        os.chmod(folder, 0)
    refused(rig, "EACCES")
    for folder in folders:
        os.chmod(folder, mode)


def _write_error(rig: Rig, disk: Tmpfs) -> None:
    for program in ("smtps", "qmgr"):
        inject(rig, program, "writev", "error=EIO:when=2")
        inject(rig, program, "writev", "error=ENOSPC:when=2")
