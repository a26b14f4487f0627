"""What MCP starts, in all its ways; LMTP over inet; IPv6; foreign programs (M1 3.7, 4.3.1, 8.2)."""
import os
import signal
import smtplib
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lib.instance import BIN, Instance, free_port, run
from tests.lib.sink import Sink
from tests.lib.wait import until

pytestmark = pytest.mark.system


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_lmtp_over_inet() -> None:
    """A mailertable entry with protocol=lmtp and a port reaches another machine's local mailer."""
    port = free_port()
    remote = Instance("remote.test")
    old = "listen_socket { type = unix; path = lmtpsock; umask = 007; "
    text = remote.conf.read_text()
    begin = text.index(old)
    remote.conf.write_text(text[:begin] + f"listen_socket {{ type = inet; address = 127.0.0.1; port = {port}; }}"
                           + text[text.index("\n", begin):])
    with remote:
        near = Instance("near.test")
        near.add("mt", f"lmtp.test {{ protocol=lmtp; port={port}; ip={{127.0.0.1}} }}\n")
        near.add("aliases", "root: local:\n")
        with near:
            near.send("root@lmtp.test", "Subject: by LMTP\n\nx\n")
            path = until(lambda: remote.mail("root"))[0]
            assert "Delivered-To: root@lmtp.test" in path.read_text()


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 loopback here")
def test_ipv6_in_and_out() -> None:
    instance = Instance("six.test")
    instance.edit("type = inet; address = 127.0.0.1;", 'type = inet6; address = "::1";')
    other = Instance("other.six.test")
    other.edit("type = inet; address = 127.0.0.1;", 'type = inet6; address = "::1";')
    instance.add("mt", f"other.six.test {{ port={other.port}; ip={{::1}} }}\n")
    instance.add("access", "to:@other.six.test relay\n")
    with instance, other:
        with smtplib.SMTP("::1", instance.port) as smtp:
            smtp.sendmail("root@six.test", ["root@other.six.test"], "Subject: six\n\nx\n")
        path = until(lambda: other.mail("root"))[0]
        assert "[IPv6:::1]" in path.read_text()


def test_several_smtp_clients_with_their_own_numbers() -> None:
    sink = Sink()
    instance = Instance("clients.test")
    instance.edit("smtpc {\n", 'smtpc {\n  pass_id = "-i"; processes_min = 3; processes_max = 3; '
                               "use_id_in_logfile_name = on;\n")
    instance.add("mt", f"sink.test {{ port={sink.port}; ip={{127.0.0.1}} }}\n")
    instance.add("access", "to:@sink.test relay\n")
    done = instance.ctl("start", check=False)
    try:
        assert done.returncode == 0, done.stderr
        assert sum(process["name"] == "smtpc" for process in instance.status()["processes"]) == 3
        for number in range(5):
            instance.send("x@sink.test", f"X-Number: {number}\n\nx\n")
        until(lambda: len(sink.seen) == 5)
        logs = sorted(path.name for path in (instance.base / "log").glob("smtpc*.log"))
        assert logs == ["smtpc0.log", "smtpc1.log", "smtpc2.log"]
    finally:
        instance.__exit__()
        sink.close()


FOREIGN = """
queue_directory = "{base}"; log_directory = "{base}";
echo {{ start_action = nostartaccept; processes_max = 2;
  listen_socket {{ type = unix; path = "{base}/echo.sock"; umask = 077; }}
  path = /bin/cat; arguments = "cat"; failure_max = 0; }}
listener {{ start_action = accept; listen_socket {{ type = inet; address = 127.0.0.1; port = {port}; }}
  path = "{python}"; arguments = "python {script}"; }}
wrong {{ start_action = wait; path = /bin/false; arguments = "false"; failure_max = 2; }}
usage {{ start_action = wait; path = /bin/sh; arguments = "sh {script}.sh"; }}
sleeper {{ start_action = wait; path = /bin/sleep; arguments = "sleep 1000"; working_directory = /; }}
"""
LISTENER = """
import os, socket
listener = socket.socket(fileno=0)
while True:
    sock, _ = listener.accept()
    sock.sendall(b"pid %d\\n" % os.getpid())
    sock.close()
"""


def test_foreign_programs(tmp_path: Path) -> None:
    """MCP knows nothing of what it starts: sockets, restarts, giving up, and a clean end."""
    script, port = tmp_path / "listener.py", free_port()
    script.write_text(LISTENER)
    (tmp_path / "listener.py.sh").write_text("exit 64\n")
    conf = tmp_path / "meta1.conf"
    conf.write_text(FOREIGN.format(base=tmp_path, port=port, python=sys.executable, script=script))
    log = (tmp_path / "mcp.log").open("wb")
    command = [BIN / "meta1g", "mcp", "-f", conf, "-L", tmp_path]
    with subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log) as mcp:
        try:
            until((tmp_path / "echo.sock").exists)
            assert oct((tmp_path / "echo.sock").stat().st_mode & 0o777) == "0o700"
            for _ in range(3):  # one process for each connection
                with socket.socket(socket.AF_UNIX) as sock:
                    sock.settimeout(10)
                    sock.connect(str(tmp_path / "echo.sock"))
                    sock.sendall(b"hello\n")
                    assert sock.recv(100) == b"hello\n"
            first = until(lambda: listener_pid(port))
            os.kill(first, 9)
            assert until(lambda: (listener_pid(port) or first) != first)
            text = until(lambda: _settled((tmp_path / "mcp.log").read_text()))
            assert "service=usage, number=0, status=given up, exit=64, reason=1 fatal ends" in text
            assert "service=wrong, number=0, status=given up, exit=1, reason=3 hard ends" in text
            second = run(*command, cwd=tmp_path, check=False)
            assert (second.returncode, "another mcp runs" in second.stderr) == (os.EX_TEMPFAIL, True)
            if os.geteuid() == 0:
                assert os.readlink(f"/proc/{sleeper_pid(mcp.pid)}/cwd") == "/"
        finally:
            mcp.terminate()
            assert mcp.wait(20) == 0
    assert not (tmp_path / "mcp.pid").exists()
    with socket.socket() as sock:
        assert sock.connect_ex(("127.0.0.1", port)) != 0


def listener_pid(port: int) -> int:
    try:
        with socket.create_connection(("127.0.0.1", port), 2) as sock:
            return int(sock.recv(100).split()[1])
    except (OSError, IndexError):
        return 0


def sleeper_pid(parent: int) -> int:
    for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        if b"sleep" in Path(f"/proc/{child}/cmdline").read_bytes():
            return int(child)
    raise AssertionError("sleep does not run")


def _settled(text: str) -> str:
    return text if text.count("status=given up") >= 2 else ""


@pytest.mark.parametrize("name", ["smtps", "smtpc", "smar"])
def test_term_while_qmgr_is_away(name: str) -> None:
    """Who waits for QMGR ends all the same when it is told to."""
    with Instance("mail.test") as instance:
        pids = instance.pids()
        os.kill(pids["mcp"], signal.SIGSTOP)  # so that nothing is started again
        os.kill(pids["qmgr"], signal.SIGKILL)
        until(lambda: pids["qmgr"] not in instance.running(), 10)
        os.kill(pids[name], signal.SIGTERM)
        until(lambda: pids[name] not in instance.running(), 40)
        os.kill(pids["mcp"], signal.SIGCONT)
        until(instance.is_ready, 60)
