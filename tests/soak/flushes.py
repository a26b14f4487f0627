"""SIGKILL and EIO at each flush of SMTPS and QMGR in turn, by strace's injection."""
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from tests.lib.wait import until
from tests.soak.rig import Figures, Rig

PROGRAMS = ("smtps", "qmgr")
FAULTS = {"SIGKILL": "signal=KILL", "EIO": "error=EIO"}
_FLUSHES = "fsync,fdatasync"


def missing() -> str:
    """Why this part can't run here, or empty."""
    if os.geteuid() != 0:
        return "needs root, to trace processes of other users"
    return "" if shutil.which("strace") else "needs strace"


def run(rounds: int, seed: int, tick: Callable[[], None]) -> Figures:
    """Each program and fault at its flush 1, 2, ... `rounds`."""
    with closing(Rig("kill or EIO at a flush", seed)) as rig:
        rig.begin()
        for number in range(1, rounds + 1):
            for program in PROGRAMS:
                for fault in FAULTS.values():
                    inject(rig, program, _FLUSHES, f"{fault}:when={number}")
                    rig.figures.rounds += 1
                    rig.more(5)
                    tick()
        return rig.settle()


def inject(rig: Rig, program: str, calls: str, fault: str) -> None:
    """Let `fault` happen once in the running program; returns when it has happened."""
    pid = until(lambda: next((pid for pid, name in rig.instance.running().items() if name == program), 0), 60)
    with tempfile.NamedTemporaryFile(prefix="strace.") as file:
        tracer = subprocess.Popen(
            ["strace", "-f", "-q", "-p", str(pid), "-o", file.name, "-e", f"trace={calls}",
             "-e", f"inject={calls}:{fault}"], stderr=subprocess.DEVNULL)
        until(lambda: "INJECTED" in Path(file.name).read_text() or tracer.poll() is not None, 60,
              f"{fault} in {program}")
        tracer.terminate()
        tracer.wait(30)
    rig.read_log()
