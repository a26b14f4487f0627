"""`make bench`: messages per second of meta1g and of Postfix on the same work, in turn.

A load of smtp-source goes in, smtp-sink counts what comes out. Each server keeps its queue on the same disk.
Postfix (as root, if it is installed) gets a private configuration: DNS off, everything relayed to the sink.
"""
import argparse
import os
import pwd
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.lib.instance import Instance, free_port  # noqa: E402

os.environ["PATH"] += ":/usr/sbin:/sbin"
TICKS = os.sysconf("SC_CLK_TCK")


class Sink:
    """smtp-sink, whose running count is read."""

    def __init__(self, port: int) -> None:
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        self._process = subprocess.Popen(
            ["smtp-sink", *user, "-c", f"127.0.0.1:{port}", "1000"], stdout=subprocess.PIPE)
        self.count = 0
        threading.Thread(target=self._read, daemon=True).start()
        wait_port(port)

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


def wait_port(port: int) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    sys.exit(f"nothing listens at port {port}")


class Meta1g:
    name = "meta1g"

    def __init__(self, sink: int) -> None:
        self._instance = Instance("bench.test")
        self._instance.add("mt", f"sink.test {{ port={sink}; ip={{127.0.0.1}} }}\n")
        self._instance.add("access", "to:@sink.test relay\n")
        self._instance.start()
        self.port = self._instance.port

    def cpu(self) -> dict[str, float]:
        return {name: cpu_of(pid) for name, pid in self._instance.pids().items() if name not in ("mcp", "lda")}

    def close(self) -> None:
        self._instance.__exit__()


class Postfix:
    name = "Postfix"

    def __init__(self, sink: int) -> None:
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
            f"mynetworks = 127.0.0.0/8\ninet_interfaces = 127.0.0.1\ninet_protocols = ipv4\n"
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

    def _postfix(self, what: str) -> None:
        done = subprocess.run(["postfix", "-c", str(self._conf), what], capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"postfix {what}: {done.stderr}")

    def cpu(self) -> dict[str, float]:
        master = int((self._queue / "pid" / "master.pid").read_text())
        total = cpu_of(master, waited=True)
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and parent_of(int(entry.name)) == master:
                total += cpu_of(int(entry.name))
        return {"all": total}

    def close(self) -> None:
        self._postfix("stop")
        shutil.rmtree(self._base, ignore_errors=True)


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


def measure(server: "Meta1g | Postfix", sink: Sink, count: int, size: int, sessions: int) -> dict[str, float]:
    before, began, cpu = sink.count, time.monotonic(), server.cpu()
    subprocess.run(["smtp-source", "-s", str(sessions), "-m", str(count), "-l", str(size), "-f", "a@bench.test",
                    "-t", "x@sink.test", f"127.0.0.1:{server.port}"], check=True)
    accepted = time.monotonic()
    while sink.count < before + count and time.monotonic() < accepted + 120:
        time.sleep(0.005)
    relayed = time.monotonic()
    if sink.count != before + count:
        sys.exit(f"{server.name}: {sink.count - before} of {count} messages arrived")
    used = {name: (value - cpu.get(name, 0.0)) * 1000 / count for name, value in server.cpu().items()}
    return {"accept/s": count / (accepted - began), "relay/s": count / (relayed - began),
            "cpu ms": sum(used.values()), **{f"cpu {name}": value for name, value in used.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", type=int, default=4000, help="messages in each run")
    parser.add_argument("-l", type=int, default=1024, help="octets of each message")
    parser.add_argument("-s", type=int, default=20, help="sessions at once")
    parser.add_argument("-r", type=int, default=3, help="runs of each server")
    parser.add_argument("--only-meta1g", action="store_true", help="leave Postfix out")
    options = parser.parse_args()
    if shutil.which("smtp-source") is None:
        sys.exit("smtp-source is needed: apt-get install postfix")
    sink_port = free_port()
    sink = Sink(sink_port)
    kinds: list[type[Meta1g] | type[Postfix]] = [Meta1g]
    if not options.only_meta1g and os.geteuid() == 0 and shutil.which("postfix"):
        pwd.getpwnam("postfix")
        kinds.append(Postfix)
    results: dict[str, list[dict[str, float]]] = {kind.name: [] for kind in kinds}
    for run in range(options.r):
        for kind in kinds:
            server = kind(sink_port)
            try:
                measure(server, sink, 200, options.l, options.s)
                result = measure(server, sink, options.m, options.l, options.s)
            finally:
                server.close()
            results[kind.name].append(result)
            print(f"run {run + 1}  {kind.name:<8}" + "".join(f"  {k} {v:.2f}" for k, v in result.items()), flush=True)
    sink.close()
    medians = {name: statistics.median(r["relay/s"] for r in runs) for name, runs in results.items()}
    for name, runs in results.items():
        cpu = statistics.median(r["cpu ms"] for r in runs)
        print(f"median  {name:<8}  relay/s {medians[name]:.0f}  cpu ms {cpu:.2f}")
    if len(medians) == 2:
        print(f"ratio   {medians['meta1g'] / medians['Postfix']:.2f}")


if __name__ == "__main__":
    main()
