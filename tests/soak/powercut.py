"""Loss of power: the file system below a running server stops at once and loses what was not flushed.

An ext4 image on a loop device is shut down by ioctl without writing its log; then everything is killed,
the image is mounted again as after a reboot, and the server started.

What got its 250 only after the cut began is not counted: the machine goes on for a moment, which one without
power would not, and Linux then tells a few writers that their fdatasync succeeded although the commit was
given up (5 of 180 files of a plain loop of write and fdatasync, none of them acknowledged before the cut).
"""
import fcntl
import os
import shutil
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.soak.rig import Figures, LawBroken, Rig, wait_for

_SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN
_NOLOGFLUSH = struct.pack("I", 2)
_SIZE = 512 * 1024 * 1024
_EATMYDATA = "libeatmydata.so"


def missing() -> str:
    """Why this part can't run here, or empty."""
    if os.geteuid() != 0:
        return "needs root, to mount an image"
    if shutil.which("mkfs.ext4") is None:
        return "needs mkfs.ext4 (e2fsprogs)"
    return ""


class Image:
    """An ext4 file system in a file, mounted."""

    def __init__(self) -> None:
        self._base = Path(tempfile.mkdtemp(prefix="meta1g-power."))
        self._base.chmod(0o755)
        self._file, self.folder = self._base / "image", self._base / "disk"
        self.folder.mkdir()
        with self._file.open("wb") as file:
            file.truncate(_SIZE)
        _do("mkfs.ext4", "-q", "-F", self._file)
        self.mount()
        self.folder.chmod(0o755)

    def mount(self) -> None:
        """Mount it; its journal is replayed, as after a reboot."""
        _do("mount", "-o", "loop", self._file, self.folder)

    def cut(self) -> None:
        """From now on nothing reaches the disk, and what was not flushed is lost."""
        fd = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, _SHUTDOWN, _NOLOGFLUSH)
        finally:
            os.close(fd)

    def unmount(self) -> None:
        """Unmount; waits for processes that are just ending."""
        command = ["umount", str(self.folder)]
        if not wait_for(lambda: subprocess.run(command, capture_output=True, check=False).returncode == 0, 10):
            _do("umount", "-l", self.folder)

    def close(self) -> None:
        """Unmount and remove it."""
        self.unmount()
        shutil.rmtree(self._base)


def _do(*command: object) -> None:
    subprocess.run([str(part) for part in command], check=True, capture_output=True)


def run(rounds: int, seed: int, tick: Callable[[], None]) -> Figures:
    """The power cut loop."""
    image = Image()
    rig = Rig("power cut", seed, image.folder)
    try:
        _loop(rig, image, rounds, tick)
        return rig.settle()
    finally:
        rig.close()
        image.close()


def control(rounds: int, seed: int, tick: Callable[[], None]) -> Figures:
    """The same with flushes switched off: mail must be lost, or the loop proves nothing."""
    image = Image()
    os.environ["LD_PRELOAD"] = _EATMYDATA
    rig = Rig("control: no flushes", seed, image.folder)
    try:
        _loop(rig, image, rounds, tick)
        figures = rig.balance(30.0)
        figures.note = "must lose mail"
        if not figures.lost:
            raise LawBroken("nothing was lost without flushes: the power cut loop proves nothing")
        return figures
    finally:
        del os.environ["LD_PRELOAD"]
        rig.close()
        image.close()


def _loop(rig: Rig, image: Image, rounds: int, tick: Callable[[], None]) -> None:
    os.sync()  # an administrator's files are older than the first cut
    rig.begin()
    for _ in range(rounds):
        time.sleep(rig.luck.uniform(0.05, 0.8))
        rig.no_power(image.cut)
        image.unmount()
        image.mount()
        rig.start()
        rig.figures.rounds += 1
        if rig.luck.random() < 0.5:
            rig.more(10)
        tick()
    rig.more(20)
