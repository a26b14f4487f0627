"""The front door under pressure: too many clients, no descriptors, peers that are away, queues that are full."""
import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lib.instance import BIN, Instance, other_user, run
from tests.lib.raw import Raw
from tests.lib.wait import until

pytestmark = pytest.mark.system

USER = "nobody"
TO = f"{USER}@mail.test"
DESCRIPTORS = 60  # for each process
TICKS = os.sysconf("SC_CLK_TCK")


def made(smtps: str, qmgr: str = "") -> Instance:
    """An instance with more options of these sections."""
    found = Instance("mail.test", qmgr, user=other_user())
    found.edit("flags = { 8bitmime", f"{smtps}\n  flags = {{ 8bitmime")
    return found


def greeting(server: Instance) -> str:
    with Raw(server) as raw:
        return raw.read()


def submit(raw: Raw, to: str = TO) -> str:
    """One message in an open session; the first reply that is no yes, or the last one."""
    for octets in (b"MAIL FROM:<>\r\n", f"RCPT TO:<{to}>\r\n".encode(), b"DATA\r\n", b"Subject: x\r\n\r\nx\r\n.\r\n"):
        reply = raw.say(octets)
        if reply[:1] not in "23":
            raw.say(b"RSET\r\n")
            return reply
    return reply


def cpu(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """The process does nothing meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_those_who_are_too_many_are_told_at_once_and_the_others_go_on() -> None:
    with made("threads_max = 20;") as server, contextlib.ExitStack() as stack:
        held = [stack.enter_context(Raw(server)) for _ in range(20)]
        assert all(raw.read().startswith("220") for raw in held)
        assert held[0].say(b"EHLO x\r\n").startswith("250")
        before = len(server.mail(USER))
        longest = 0.0
        for _ in range(20):
            began = time.monotonic()
            late = [stack.enter_context(Raw(server)) for _ in range(10)]
            assert submit(held[0]).startswith("250")
            assert all(raw.read() == "421 4.3.2 Too many connections, try again later" for raw in late)
            longest = max(longest, time.monotonic() - began)
        assert longest < 5.0
        assert all(raw.say(b"NOOP\r\n").startswith("250") for raw in held)
        until(lambda: len(server.mail(USER)) == before + 20, 20)
        until(lambda: _refused(server, "busy") == 200, 10, "status knows of them")


def test_without_descriptors_it_waits_and_goes_on() -> None:
    server = made("threads_max = 200;")
    with contextlib.ExitStack() as stack:
        stack.push(server.__exit__)
        run("sh", "-c", f"ulimit -n {DESCRIPTORS}; exec {BIN}/meta1g-ctl -f {server.conf} start")
        pid = server.pids()["smtps"]
        used = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        first = [stack.enter_context(Raw(server)) for _ in range(DESCRIPTORS - used)]
        assert all(raw.read().startswith("220") for raw in first)
        late = [stack.enter_context(Raw(server)) for _ in range(10)]
        until(lambda: "accept=Too many open files" in server.log("smtps"), 20)
        began, before = time.monotonic(), cpu(pid)
        while time.monotonic() - began < 1.0:
            assert first[0].say(b"EHLO x\r\n").startswith("250")
            time.sleep(0.1)
        assert cpu(pid) - before < 0.5, "it spins"
        for raw in first:
            raw.say(b"QUIT\r\n")
        assert all(raw.read().startswith("220") for raw in late)
        assert late[0].say(b"EHLO x\r\n").startswith("250")
        for raw in late[1:]:
            raw.say(b"QUIT\r\n")
        assert submit(late[0]).startswith("250")
        assert server.log("smtps").count("accept=Too many open files") < 5
        assert server.pids()["smtps"] == pid


def test_who_does_not_read_replies_is_ended() -> None:
    """Its time for all replies is that for a command, though it takes an octet now and then."""
    with made("IO_timeout = 2s;") as server, Raw(server) as slow, Raw(server) as other:
        slow.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        assert slow.read().startswith("220")
        slow.say(b"EHLO x\r\n")
        slow.say(b"MAIL FROM:<>\r\n")
        slow.say(f"RCPT TO:<{TO}>\r\n".encode())
        slow.sock.setblocking(False)
        sent = 0

        def is_ended() -> bool:
            nonlocal sent
            try:
                with contextlib.suppress(BlockingIOError):
                    sent += slow.sock.send(b"BDAT 0\r\n" * 1000)
                with contextlib.suppress(BlockingIOError):
                    slow.sock.recv(1)
            except ConnectionError:
                return True
            return False

        assert other.read().startswith("220")
        until(is_ended, 20, "it is ended")
        assert sent > 10_000


def test_qmgr_away() -> None:
    with made("module_timeout = 1s;") as server, Raw(server) as old:
        old.read()
        assert old.say(b"EHLO x\r\n").startswith("250")
        with stopped(server.pids()["qmgr"]):
            assert greeting(server) == "421 4.3.0 Service not available, try again later"
            assert submit(old)[:3] == "451"
        until(lambda: greeting(server).startswith("220"), 20)
        assert submit(old).startswith("250")
        server.kill("qmgr")
        until(lambda: greeting(server).startswith("220"), 20)
        before = len(server.mail(USER))
        server.send(TO)
        until(lambda: len(server.mail(USER)) > before, 20)


def test_smar_away() -> None:
    with made("wait_for_smar = 1s;") as server, Raw(server) as old:
        old.read()
        assert old.say(b"EHLO x\r\n").startswith("250")
        with stopped(server.pids()["smar"]):
            assert greeting_from(server, "127.0.0.30").startswith("421 4.3.0 Address check not available")
            assert submit(old, "new-one@mail.test")[:3] == "451"
        until(lambda: greeting_from(server, "127.0.0.31").startswith("220"), 20)
        assert submit(old).startswith("250")
        until(lambda: _refused(server, "smar_away") == 1, 10)
        server.kill("smar")
        until(lambda: greeting_from(server, "127.0.0.32").startswith("220"), 20)


def greeting_from(server: Instance, client: str) -> str:
    with Raw(server, client) as raw:
        return raw.read()


def test_held_deliveries_throttle_and_all_is_well_when_they_go_on() -> None:
    """M1 9.1: a full AQ closes the door, the servers hold fewer sessions; room in it opens the door again."""
    options = "threads_max = 10; recipients_per_transaction_max = 10;"
    with made(options, "AQ_entries_max = 40;") as server, Raw(server) as raw:
        raw.read()
        assert raw.say(b"EHLO x\r\n").startswith("250")
        accepted = 0
        with stopped(server.pids()["smtpc"]):
            while (reply := submit(raw)).startswith("250"):
                accepted += 1
                assert accepted <= 40
            assert reply.startswith("452"), reply
            assert accepted == 40
            throttle = until(lambda: _throttle(server, "queue"), 10, "QMGR throttles")
            assert (throttle["sessions"], throttle["used"]) == (1, 1.0)
            until(lambda: raw.say(b"MAIL FROM:<>\r\n") == "452 4.3.1 Queue is full, try again later", 10)
            with Raw(server) as late:  # the kernel holds it: only one session is allowed
                late.sock.settimeout(0.5)
                with pytest.raises(TimeoutError):
                    late.sock.recv(1)
        until(lambda: _throttle(server, ""), 20, "the door is open")
        until(lambda: submit(raw).startswith("250"), 20)
        until(lambda: len(server.mail(USER)) == accepted + 1, 20)
        until(lambda: server.status()["queue"]["throttle"]["sessions"] == 10, 30, "all sessions may be there")
        assert greeting(server).startswith("220")


def _throttle(server: Instance, reason: str) -> dict[str, object] | None:
    found: dict[str, object] = server.status()["queue"]["throttle"]
    return found if found["reason"] == reason else None


def _refused(server: Instance, reason: str) -> int:
    """Sessions that smtps has refused, as status says."""
    (found,) = (p["statistics"] for p in server.status()["processes"] if p["name"] == "smtps")
    return int(found["sessions_refused"][reason])


def test_statistics() -> None:
    """M1 9.4: what status, qmgrctl and USR1 show."""
    with made("recipients_per_transaction_max = 10;") as server:
        with Raw(server) as raw:
            raw.read()
            raw.say(b"EHLO x\r\n")
            assert submit(raw).startswith("250")
            assert submit(raw, "nobody-there@mail.test").startswith("550")
            found = until(lambda: _counted(server), 10)
            assert (found["sessions"], found["sessions_accepted"], found["connections"]) == (1, 1, 1)
            assert found["transactions"] == {"accepted": 1, "refused": 0, "discarded": 0}
            assert found["recipients"] == {"accepted": 1, "refused": 1, "discarded": 0}
            assert found["octets"] == len(b"Subject: x\r\n\r\nx\r\n")
        pid = server.pids()["smtps"]
        subprocess.run(["kill", "-USR1", str(pid)], check=True)
        until(lambda: '"recipients": {"accepted": 1, "refused": 1, "discarded": 0}' in server.log("smtps"), 10)


def _counted(server: Instance) -> dict[str, object] | None:
    found = server.status()
    (smtps,) = found["queue"]["smtps"]
    (process,) = (p for p in found["processes"] if p["name"] == "smtps")
    assert process["statistics"] == smtps and process["pid"] == smtps["pid"]
    return smtps if smtps.get("recipients", {}).get("refused") else None
