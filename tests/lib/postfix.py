"""A private Postfix that relays all it gets to one port of this machine; needs root."""
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.lib.instance import free_port
from tests.lib.wait import until

CONF = """\
compatibility_level = 3.6
queue_directory = {base}/queue
data_directory = {base}/data
mail_owner = postfix
setgid_group = postdrop
myhostname = postfix.test
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
disable_dns_lookups = yes
relayhost = [127.0.0.1]:{to}
alias_maps =
smtpd_peername_lookup = no
maillog_file =
message_size_limit = 0
mailbox_size_limit = 0
smtputf8_enable = yes
smtp_discard_ehlo_keywords = {discards}
"""


def needs_postfix() -> None:
    """Skip the test unless a Postfix of our own can be run."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    if shutil.which("postfix") is None:
        pytest.skip("needs postfix")
    if os.geteuid() != 0:
        pytest.skip("needs root, as Postfix does")


class Postfix:
    """Use it as a context manager; `discards` are words of EHLO that it shall not see (smtp_discard_ehlo_keywords),
    `extra` more lines of main.cf."""

    def __init__(self, to: int, discards: str = "", extra: str = "") -> None:
        self.port = free_port()
        self._base = Path(tempfile.mkdtemp(prefix="postfix."))
        self._base.chmod(0o755)
        conf = self._base / "conf"
        for folder in (conf, self._base / "queue", self._base / "data"):
            folder.mkdir()
        shutil.chown(self._base / "data", "postfix")
        (conf / "main.cf").write_text(CONF.format(base=self._base, to=to, discards=discards) + extra)
        (conf / "master.cf").write_text(self._services())
        (conf / "dynamicmaps.cf").write_text("")

    def _services(self) -> str:
        """The distributed master.cf with our port, and nothing in a chroot."""
        master = Path("/usr/share/postfix/master.cf.dist")
        text = (master if master.exists() else Path("/etc/postfix/master.cf")).read_text()
        text = re.sub(r"(?m)^smtp\s+inet\s.*$", f"127.0.0.1:{self.port} inet n - n - - smtpd", text)
        return re.sub(r"(?m)^(\S+\s+(?:inet|unix|unix-dgram)\s+\S+\s+\S+\s+)y", r"\1n", text)

    def _command(self, what: str) -> None:
        with (self._base / "said").open("w") as said:  # not a pipe: master keeps it open
            subprocess.run(["postfix", "-c", str(self._base / "conf"), what], stdout=said, stderr=said, check=True,
                           timeout=60)

    def queue(self) -> str:
        """What it still has, with the reasons."""
        return subprocess.run(["postqueue", "-c", str(self._base / "conf"), "-p"], capture_output=True, text=True,
                              check=False, timeout=60).stdout

    def __enter__(self) -> "Postfix":
        self._command("start")
        until(lambda: "Mail queue is empty" in self.queue(), 20, "Postfix runs")
        return self

    def __exit__(self, *unused: object) -> None:
        self._command("stop")
        shutil.rmtree(self._base, ignore_errors=True)
