"""A copy of a running queue, put back elsewhere: nothing that waited is lost (M1 7.1, design 5)."""
import os
import shutil
import smtplib
import stat
import threading
from pathlib import Path

import pytest

from tests.lib.instance import BIN, Instance, other_user, run
from tests.lib.sink import Sink
from tests.lib.wait import until

pytestmark = [pytest.mark.system]


def server(port: int) -> Instance:
    made = Instance("local.test", user=other_user())
    made.edit("\nqmgr {", "\nqmgr {\n  retry_delay_min = 1s; retry_delay_max = 2s;")
    made.add("mt", f"sink.test {{ port={port}; ip={{127.0.0.1}} }}\n")
    made.add("access", "to:@sink.test relay\n")
    return made


def queue(made: Instance, *words: object, code: int = 0) -> str:
    done = run(BIN / "meta1g", "queue", "-f", made.conf, *words, check=False)
    assert done.returncode == code, done
    return done.stdout + done.stderr


class Load:
    """Sends numbered messages until it is told to stop; `accepted` are those that got 250."""

    def __init__(self, port: int) -> None:
        self.accepted: list[str] = []
        self._port = port
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with smtplib.SMTP("127.0.0.1", self._port, timeout=30) as smtp:
            while not self._is_over.is_set():
                number = str(len(self.accepted))
                lines = 1 if len(self.accepted) % 10 else 2000  # some have a file from the start
                text = f"X-Number: {number}\n\n" + ("x" * 70 + "\n") * lines
                smtp.sendmail("root@local.test", ["x@sink.test"], text)
                self.accepted.append(number)

    def stop(self) -> None:
        self._is_over.set()
        self._thread.join(60)


def test_backup_of_a_running_queue(tmp_path: Path) -> None:
    """While mail comes in and moves from IBDB to DEFEDB; what was accepted before is delivered by the other server."""
    copy, sink = tmp_path / "copy", Sink()
    port = sink.port
    sink.refuse = True
    with server(port) as first:
        load = Load(first.port)
        until(lambda: len(load.accepted) > 150, 60)
        before = set(load.accepted)
        said = queue(first, "backup", copy)
        load.stop()
        assert stat.S_IMODE(copy.stat().st_mode) == 0o700 and "recipients; 0 have ended" in said
        assert "is there already" in queue(first, "backup", copy, code=os.EX_CANTCREAT)
        assert "stop it first" in queue(first, "restore", copy, code=os.EX_TEMPFAIL)
        kept = len(list(copy.glob("[0-9A-F]/S*")))
    shutil.rmtree(first.base, ignore_errors=True)
    second = server(port)
    assert f"{kept} messages were put back" in queue(second, "restore", copy)
    assert queue(second, "check") == "The queue is whole\n"
    assert "there is mail in the queue" in queue(second, "restore", copy, code=os.EX_CANTCREAT)
    sink.refuse = False
    sink.seen.clear()
    with second:
        until(lambda: before <= set(sink.seen), 60, "all that was accepted before is delivered")
        until(second.is_empty, 30)
        assert len(sink.seen) == kept and set(sink.seen.values()) == {1}
        second.send("x@sink.test", "X-Number: new\n\nx\n", sender="root@local.test")
        until(lambda: "new" in sink.seen, 20, "ids go on")
    sink.close()


def test_backup_while_mail_leaves(tmp_path: Path) -> None:
    """What ends meanwhile is left out, or delivered twice; what is left out was delivered."""
    copy, sink = tmp_path / "copy", Sink()
    with server(sink.port) as first:
        load = Load(first.port)
        until(lambda: len(load.accepted) > 200, 60)
        before = set(load.accepted)
        queue(first, "backup", copy)
        load.stop()
        until(first.is_empty, 30)
    delivered = set(sink.seen)
    assert before <= delivered
    second = server(sink.port)
    queue(second, "restore", copy)
    assert queue(second, "check") == "The queue is whole\n"
    with second:
        until(second.is_empty, 30)
        assert "5.6.0" not in second.log("qmgr") and second.mail("root") == [], "no envelope without content"
    sink.close()
