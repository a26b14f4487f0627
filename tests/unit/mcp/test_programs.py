"""MCP with foreign programs: starts, numbers, passing of sockets, reload (M1 3.7, 8.2)."""
import os
import pwd
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from meta1g.conf.opt_mcp import ListenSocket
from meta1g.mcp import sockets, spawn, status
from tests.lib.instance import BIN, free_port
from tests.lib.wait import until

PASSED = """
import os, socket, sys
with socket.socket(socket.AF_UNIX) as own:
    own.bind(sys.argv[1])
    own.listen()
    link, _ = own.accept()
    _, (fd,), _, _ = socket.recv_fds(link, 100, 1)
listener = socket.socket(fileno=fd)
while True:
    sock, _ = listener.accept()
    sock.sendall(b"passed\\n")
    sock.close()
"""


class Mcp:
    """MCP in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.conf = folder / "meta1.conf"
        self.process: subprocess.Popen[bytes] | None = None

    def write(self, text: str) -> None:
        self.conf.write_text(f'queue_directory = "{self.folder}"; log_directory = "{self.folder}";\n' + text)

    def start(self, text: str) -> None:
        self.write(text)
        log = (self.folder / "mcp.log").open("ab")
        with log:
            self.process = subprocess.Popen(
                [BIN / "meta1g", "mcp", "-f", self.conf, "-L", self.folder], cwd=self.folder, stdout=log, stderr=log)
        until(lambda: self.status() is not None)

    def reload(self, text: str) -> None:
        """HUP with another configuration; returns when it was heard."""
        assert self.process is not None
        before = self.state()["reloads"]
        self.write(text)
        self.process.send_signal(signal.SIGHUP)
        until(lambda: self.state()["reloads"] > before)

    def status(self) -> dict[str, Any] | None:
        return status.read(str(self.folder))

    def state(self) -> dict[str, Any]:
        return until(self.status)  # type: ignore[return-value]

    def pids(self) -> dict[str, int]:
        return {f"{p['name']}{p['number']}": p["pid"] for p in self.state()["processes"]}

    def log(self) -> str:
        return (self.folder / "mcp.log").read_text()

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            assert self.process.wait(20) == 0


@pytest.fixture
def mcp(tmp_path: Path) -> Iterator[Mcp]:
    found = Mcp(tmp_path)
    yield found
    found.stop()


def sleeper(name: str, extra: str = "", seconds: int = 1000) -> str:
    return f'{name} {{ start_action = wait; path = /bin/sleep; arguments = "sleep {seconds}"; {extra} }}\n'


def answers(port: int) -> bytes:
    try:
        with socket.create_connection(("127.0.0.1", port), 2) as sock:
            sock.settimeout(5)
            sock.sendall(b"hello\n")
            return sock.recv(100)
    except OSError:
        return b""


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_numbers_and_logs(mcp: Mcp) -> None:
    mcp.start('many { start_action = wait; pass_id = "-i"; processes_min = 2; processes_max = 2;\n'
              '  use_id_in_logfile_name = on; path = /bin/echo; arguments = "echo -f x"; failure_max = 0; }\n')
    for number in range(2):
        path = mcp.folder / f"many{number}.log"
        assert until(lambda path=path: path.exists() and path.read_text()).splitlines()[0] == f"-i{number} -f x"  # type: ignore[misc]


def test_socket_is_passed(mcp: Mcp) -> None:
    script, port = mcp.folder / "passed.py", free_port()
    script.write_text(PASSED)
    mcp.start(f"""taker {{ start_action = pass; pass_fd_socket = "{mcp.folder}/fd";
      listen_socket {{ type = inet; address = 127.0.0.1; port = {port}; }}
      path = "{sys.executable}"; arguments = "python {script} {mcp.folder}/fd"; }}\n""")
    assert until(lambda: answers(port)) == b"passed\n"


def test_reload_starts_ends_and_restarts(mcp: Mcp) -> None:
    """A section that went away must end, and its later death must not harm MCP."""
    mcp.start(sleeper("stays") + sleeper("goes") + sleeper("changes"))
    before = until(lambda: all(mcp.pids().values()) and mcp.pids())
    mcp.reload(sleeper("stays") + sleeper("changes", seconds=999) + sleeper("comes"))
    after = until(lambda: set(mcp.pids()) == {"stays0", "changes0", "comes0"} and all(mcp.pids().values())
                  and mcp.pids()["changes0"] != before["changes0"] and mcp.pids())
    assert after["stays0"] == before["stays0"]
    until(lambda: is_gone(before["goes0"]))
    os.kill(after["stays0"], signal.SIGKILL)
    until(lambda: mcp.pids()["stays0"] not in (0, after["stays0"]))


def test_wrong_configuration_changes_nothing(mcp: Mcp) -> None:
    mcp.start(sleeper("stays"))
    before = until(lambda: all(mcp.pids().values()) and mcp.pids())
    mcp.reload("stays { start_action = never; }\n")
    mcp.reload("stays { start_action = wait; }\n")
    assert until(lambda: mcp.log().count("reload refused") == 2)
    assert mcp.pids() == before


def test_reload_gives_another_chance_to_what_was_given_up(mcp: Mcp) -> None:
    mcp.start('tries { start_action = wait; path = /bin/sh; arguments = "sh /nonexistent/script"; }\n')
    until(lambda: mcp.state()["processes"][0]["state"] == "failed")
    mcp.reload(sleeper("tries"))
    until(lambda: mcp.pids()["tries0"])


def test_number_of_processes_changes(mcp: Mcp) -> None:
    mcp.start(sleeper("many", "processes_min = 3; processes_max = 3;"))
    until(lambda: sum(map(bool, mcp.pids().values())) == 3)
    mcp.reload(sleeper("many", "processes_min = 1; processes_max = 1;"))
    until(lambda: set(mcp.pids()) == {"many0"} and mcp.pids()["many0"])
    mcp.reload(sleeper("many", "processes_min = 2; processes_max = 2;"))
    until(lambda: set(mcp.pids()) == {"many0", "many1"} and all(mcp.pids().values()))


def test_sockets_follow_a_reload(mcp: Mcp) -> None:
    first, second = free_port(), free_port()
    text = """echo {{ start_action = nostartaccept; listen_socket {{ type = inet; address = 127.0.0.1; port = {}; }}
      path = /bin/cat; arguments = "cat"; }}\n"""
    mcp.start(text.format(first))
    assert answers(first) == b"hello\n"
    mcp.reload(text.format(second))
    assert until(lambda: answers(second)) == b"hello\n"
    assert answers(first) == b""
    mcp.reload(sleeper("other"))
    assert answers(second) == b""
    mcp.reload(sleeper("other") + text.format(first))
    assert until(lambda: answers(first)) == b"hello\n"


def taker(name: str, folder: Path, address: str, port: int) -> str:
    """A program to which the socket is passed, and which needs a moment to end."""
    script = folder / "passed.py"
    script.write_text(PASSED)
    return f"""{name} {{ start_action = pass; pass_fd_socket = "{folder}/{name}.fd";
      listen_socket {{ type = inet; address = {address}; port = {port}; }}
      path = "{sys.executable}"; arguments = "python {script} {folder}/{name}.fd"; }}\n"""


def test_sockets_that_others_leave_by_the_same_reload(mcp: Mcp) -> None:
    """A section with another name or address, and two that change places."""
    ports = free_port(), free_port()
    mcp.start(taker("a", mcp.folder, "127.0.0.1", ports[0]) + taker("b", mcp.folder, "127.0.0.1", ports[1]))
    for text in (taker("c", mcp.folder, "127.0.0.1", ports[0]) + taker("d", mcp.folder, "127.0.0.1", ports[1]),
                 taker("e", mcp.folder, "0.0.0.0", ports[0]) + taker("f", mcp.folder, "127.0.0.1", ports[1]),
                 taker("g", mcp.folder, "127.0.0.1", ports[1]) + taker("h", mcp.folder, "127.0.0.1", ports[0])):
        before = until(lambda: all(map(answers, ports)) and all(mcp.pids().values()) and mcp.pids())
        mcp.reload(text)
        until(lambda before=before: all(map(is_gone, before.values())))  # type: ignore[misc]
        assert until(lambda: all(answers(port) == b"passed\n" for port in ports))


def test_a_status_that_can_not_be_written(mcp: Mcp) -> None:
    """As on a full disk: MCP goes on, and says it when it can again."""
    mcp.start(sleeper("x"))
    before = until(lambda: mcp.pids()["x0"])
    in_the_way = mcp.folder / f"{status.STATUS_FILE}.new"
    in_the_way.mkdir()
    os.kill(before, signal.SIGKILL)
    until(lambda: "mcp.status, status=not written" in mcp.log())
    assert mcp.process is not None and mcp.process.poll() is None
    in_the_way.rmdir()
    until(lambda: mcp.pids()["x0"] not in (0, before))


def test_unknown_user_is_named(mcp: Mcp) -> None:
    mcp.start(sleeper("x", "user = nobodyknows;") + sleeper("y", "group = nobodyknows;"))
    assert until(lambda: "user nobodyknows does not exist" in mcp.log())
    assert until(lambda: "group nobodyknows does not exist" in mcp.log())


def test_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        conf = tmp_path / "meta1.conf"
        conf.write_text(f"""queue_directory = "{tmp_path}"; log_directory = "{tmp_path}";
        x {{ start_action = accept; listen_socket {{ type = inet; address = 127.0.0.1; port = {port}; }}
        path = /bin/cat; arguments = "cat"; }}\n""")
        done = subprocess.run([BIN / "meta1g", "mcp", "-f", conf, "-L", tmp_path], cwd=tmp_path, capture_output=True,
                              text=True, timeout=30, check=False)
    assert done.returncode == os.EX_OSERR
    assert f"section x: 127.0.0.1 port {port}: Address already in use" in done.stdout


def test_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "sock")
    me = pwd.getpwuid(os.getuid()).pw_name
    for umask, mode in ((None, 0o770), (0o77, 0o700), (0o27, 0o750)):
        sock = sockets.bind(ListenSocket(type="unix", umask=umask, user=me), path)
        assert os.stat(path).st_mode & 0o777 == mode
        sock.close()
    with pytest.raises(KeyError):
        sockets.bind(ListenSocket(type="unix", group="nobodyknows"), path)
    assert not sockets.pass_to(str(tmp_path / "nothing"), sock)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_account_of_another_user(tmp_path: Path) -> None:
    who = spawn.account("nobody", "")
    entry = pwd.getpwnam("nobody")
    assert who is not None
    assert (who.uid, who.gid) == (entry.pw_uid, entry.pw_gid)
    assert spawn.account("", "") is None
    assert spawn.account(str(entry.pw_uid), str(entry.pw_gid)) == who
    fd = spawn.open_log(str(tmp_path / "x.log"), who)
    found = os.fstat(fd)
    assert (found.st_uid, found.st_mode & 0o777) == (who.uid, spawn.LOG_MODE)
    os.close(fd)


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "x.log").symlink_to("/dev/null")
    with pytest.raises(OSError, match="Too many levels"):
        spawn.open_log(str(tmp_path / "x.log"), None)


def test_program_that_is_not_there(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError):
        spawn.spawn("/nonexistent", ["x"], who=None, folder=None, log_path=str(tmp_path / "x.log"), stdin=None,
                    is_connection=False)
    assert len(os.listdir("/proc/self/fd")) == before
