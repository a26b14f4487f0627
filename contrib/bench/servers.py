"""The servers that are measured, and the sink that counts what they deliver."""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from meta1g.cli import selfsigned
from tests.lib.instance import BIN, Instance, free_port, run
from tests.lib.wait import until

os.environ["PATH"] += ":/usr/sbin:/sbin"
TICKS = os.sysconf("SC_CLK_TCK")
DEAD, SILENT, SLOW = "127.0.0.3", "127.0.0.2", "127.0.0.4"  # addresses where nothing listens unless a scenario does
DESTINATIONS = 1000


class Counter:
    """A sink, whose running count is read."""

    def __init__(self, command: list[str], port: int, ip: str = "127.0.0.1") -> None:
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        self.port = port
        self.count = 0
        threading.Thread(target=self._read, daemon=True).start()
        wait_port(port, ip)

    def _read(self) -> None:
        assert self._process.stdout is not None
        tail = b""
        while data := os.read(self._process.stdout.fileno(), 4096):
            tail = (tail + data)[-200:]
            found = re.findall(rb"mesg=(\d+)", tail)
            if found:
                self.count = int(found[-1])

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()


class Sink(Counter):
    """smtp-sink."""

    def __init__(self, port: int, ip: str = "127.0.0.1", *options: str) -> None:
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        super().__init__(["smtp-sink", *user, *options, "-m", "2000", "-c", f"{ip}:{port}", "1000"], port, ip)


class TlsSink(Counter):
    """One that offers STARTTLS; its certificate is in `folder`."""

    def __init__(self, folder: str) -> None:
        selfsigned.write(folder, "sink.test", None)
        port = free_port()
        super().__init__([sys.executable, "-m", "contrib.bench.tlssink", str(port), f"{folder}/cert.pem",
                          f"{folder}/key.pem"], port)


def wait_port(port: int, ip: str = "127.0.0.1") -> None:
    """Wait until something listens there."""
    until(lambda: _listens(ip, port), 20, f"something listens at {ip}:{port}")


def _listens(ip: str, port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex((ip, port)) == 0


class Meta1g:
    name = "meta1g"

    def __init__(self, sink: int, dead: int) -> None:
        self._instance = Instance("bench.test", "retry_delay_min = 4000;")
        routes = [("sink", sink, "127.0.0.1"), ("dead", dead, DEAD), ("silent", dead, SILENT), ("slow", dead, SLOW)]
        routes += [(f"d{n}.many", sink, f"127.1.{n // 250}.{n % 250 + 1}") for n in range(DESTINATIONS)]
        self._instance.add("mt", "".join(f"{name}.test {{ port={port}; ip={{{ip}}} }}\n" for name, port, ip in routes))
        self._instance.add("access", "to:@.test relay\n")
        self._instance.edit("smtps {\n  flags", "smtps {\n  threads_max = 12000;\n  flags")
        self._instance.start()
        self.port = self._instance.port

    def offer_tls(self) -> None:
        """With a P-256 key, from now on."""
        etc = self._instance.base / "etc"
        state = (self._instance.base / "spool" / "smtps").stat()
        selfsigned.write(str(etc), "bench.test", (state.st_uid, state.st_gid))
        self._instance.edit("smtps {\n  threads_max", f"smtps {{\n  tls {{ cert_file = {etc}/cert.pem; "
                            f"key_file = {etc}/key.pem; }}\n  threads_max")
        self._instance.ctl("restart")

    def ask_milter(self, path: str) -> None:
        """Ask the milter at this socket from now on, or none."""
        text = re.sub(r"  milter noop .*\n", "", self._instance.conf.read_text())
        section = f'  milter noop {{ socket {{ type = unix; path = "{path}"; }} }}\n' if path else ""
        self._instance.conf.write_text(text.replace("smtps {\n", f"smtps {{\n{section}", 1))
        self._instance.ctl("restart")

    def send_to(self, port: int) -> None:
        """Send all mail for tls.test to this port, in TLS if that is offered there."""
        self._instance.add("mt", f"tls.test {{ port={port}; ip={{127.0.0.1}} }}\n")
        self._instance.ctl("restart")

    def cpu(self) -> dict[str, float]:
        return {name: cpu_of(pid) for name, pid in self._passed().items()}

    def _passed(self) -> dict[str, int]:
        return {name: pid for name, pid in self._instance.pids().items() if name not in ("mcp", "lda")}

    def pids(self) -> list[int]:
        """The processes that a message passes."""
        return list(self._passed().values())

    def hold(self) -> None:
        """Deliver nothing from now on."""
        os.kill(self._instance.pids()["smtpc"], signal.SIGSTOP)

    def park(self) -> None:
        """Take mail, and deliver none until `release`."""
        self._qmgrctl("hold")

    def release(self) -> None:
        """Deliver what was parked."""
        self._qmgrctl("release")

    def _qmgrctl(self, word: str) -> None:
        run(BIN / "meta1g", "qmgrctl", "-f", self._instance.conf, word)

    def queue_manager(self) -> int:
        """QMGR's process id."""
        return self._instance.pids()["qmgr"]

    def log_sizes(self) -> dict[str, int]:
        """Octets of the logs of who takes mail and who passes it on."""
        return {name: len(self._instance.log(name)) for name in ("smtps", "smtpc")}

    def log(self, name: str, since: int) -> str:
        """What a process has logged after these octets."""
        return self._instance.log(name)[since:]

    def deferred(self) -> int:
        """Recipients that wait."""
        return int(self._instance.status()["queue"]["queues"]["deferred"])

    def restart(self) -> None:
        """Stop and start; returns when mail is taken."""
        self._instance.ctl("restart")

    def flush(self) -> None:
        """Try all that is deferred now."""
        self._instance.flush()

    def close(self) -> None:
        """Stop it and remove its files."""
        for pid, name in self._instance.running().items():
            if name == "smtpc":
                os.kill(pid, signal.SIGCONT)
        self._instance.__exit__()


class Postfix:
    name = "Postfix"

    def __init__(self, sink: int, dead: int) -> None:
        self._base = Path(tempfile.mkdtemp(prefix="bench-postfix."))
        self._base.chmod(0o755)
        self.port = free_port()
        self._conf, self._queue, data = self._base / "conf", self._base / "queue", self._base / "data"
        for folder in (self._conf, self._queue, data):
            folder.mkdir()
        shutil.chown(data, "postfix")
        (self._conf / "main.cf").write_text(
            f"compatibility_level = 3.6\nqueue_directory = {self._queue}\ndata_directory = {data}\n"
            "mail_owner = postfix\nsetgid_group = postdrop\nmyhostname = bench.test\nmydestination =\n"
            "mynetworks = 127.0.0.0/8\ninet_interfaces = 127.0.0.1\ninet_protocols = ipv4\n"
            f"smtpd_client_connection_rate_limit = 0\ntransport_maps = inline:{{dead.test=smtp:[{DEAD}]:{dead}}}\n"
            f"disable_dns_lookups = yes\nrelayhost = [127.0.0.1]:{sink}\nalias_maps =\nsmtpd_peername_lookup = no\n"
            "maillog_file =\nsmtpd_client_connection_count_limit = 0\n")
        master = Path("/usr/share/postfix/master.cf.dist")
        master = master if master.exists() else Path("/etc/postfix/master.cf")
        text = re.sub(r"(?m)^smtp\s+inet\s.*$", f"127.0.0.1:{self.port} inet n - n - - smtpd", master.read_text())
        text = re.sub(r"(?m)^(\S+\s+(?:inet|unix|unix-dgram)\s+\S+\s+\S+\s+)y", r"\1n", text)
        (self._conf / "master.cf").write_text(text)
        (self._conf / "dynamicmaps.cf").write_text("")
        self._postfix("start")
        wait_port(self.port)

    def ask_milter(self, path: str) -> None:
        """Ask the milter at this socket from now on, or none."""
        self._postconf(f"smtpd_milters = {'unix:' + path if path else ''}")
        self.restart()
        wait_port(self.port)

    def offer_tls(self) -> None:
        """With a P-256 key, from now on."""
        selfsigned.write(str(self._conf), "bench.test", None)
        self._postconf(f"smtpd_tls_cert_file = {self._conf}/cert.pem")
        self._postconf(f"smtpd_tls_key_file = {self._conf}/key.pem")
        self._postconf("smtpd_tls_security_level = may")

    def send_to(self, port: int) -> None:
        """Send all mail to this port, in TLS if that is offered there."""
        self._postconf(f"relayhost = [127.0.0.1]:{port}")
        self._postconf("smtp_tls_security_level = may")

    def _postfix(self, what: str) -> None:
        with (self._base / "said").open("w") as said:  # not a pipe: master keeps it open
            done = subprocess.run(["postfix", "-c", str(self._conf), what], stdout=said, stderr=said, check=False)
        if done.returncode:
            sys.exit(f"postfix {what}: {(self._base / 'said').read_text()}")

    def cpu(self) -> dict[str, float]:
        master, *children = self.pids()
        return {"all": cpu_of(master, waited=True) + sum(map(cpu_of, children))}

    def pids(self) -> list[int]:
        """Master and its children."""
        master = int((self._queue / "pid" / "master.pid").read_text())
        children = [int(entry.name) for entry in Path("/proc").iterdir()
                    if entry.name.isdigit() and parent_of(int(entry.name)) == master]
        return [master, *children]

    def hold(self) -> None:
        """Put all mail into the hold queue from now on."""
        self._postconf("smtpd_client_restrictions = check_client_access static:HOLD")

    def park(self) -> None:
        """Take mail, and deliver none until `release`."""
        self._postconf("defer_transports = smtp")

    def release(self) -> None:
        """Deliver what was parked."""
        self._postconf("defer_transports =")
        self.flush()

    def queue_manager(self) -> int:
        """The process id of its qmgr."""
        return until(lambda: next((pid for pid in self.pids() if name_of(pid) == "qmgr"), 0), 20, "qmgr runs")

    def _postconf(self, line: str) -> None:
        subprocess.run(["postconf", "-c", str(self._conf), "-e", line], check=True)
        self._postfix("reload")

    def deferred(self) -> int:
        """Recipients that wait."""
        listed = subprocess.run(["postqueue", "-c", str(self._conf), "-j"], capture_output=True, text=True, check=True)
        return sum(len(json.loads(line)["recipients"]) for line in listed.stdout.splitlines()
                   if '"deferred"' in line)

    def restart(self) -> None:
        """Stop and start; returns when mail is taken."""
        self._postfix("stop")
        self._postfix("start")
        wait_port(self.port)

    def flush(self) -> None:
        """Try all that is deferred now."""
        subprocess.run(["postqueue", "-c", str(self._conf), "-f"], check=True)

    def close(self) -> None:
        """Stop it and remove its files."""
        self._postfix("stop")
        shutil.rmtree(self._base, ignore_errors=True)


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def stat_of(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def parent_of(pid: int) -> int:
    fields = stat_of(pid)
    return int(fields[1]) if fields else 0


def cpu_of(pid: int, *, waited: bool = False) -> float:
    fields = stat_of(pid)
    if not fields:
        return 0.0
    return sum(map(int, fields[11:15] if waited else fields[11:13])) / TICKS


def memory_of(pids: list[int]) -> float:
    """Megabytes that these processes have for themselves, shared pages in part (PSS)."""
    total = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += int(re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE)[1])  # type: ignore[index]
    return total / 1024
