"""A private Dovecot that takes mail by LMTP on a port of this machine; needs root."""
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.lib.instance import free_port
from tests.lib.wait import until

_LMTP = Path("/usr/lib/dovecot/lmtp")
_CONF = """\
base_dir = {base}/run
state_dir = {base}/state
log_path = {base}/log
protocols = lmtp
ssl = no
first_valid_uid = 1
mail_location = maildir:~/Maildir
mail_plugins = quota
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {port}
  }}
  unix_listener {base}/lmtp {{
    mode = 0666
  }}
}}
userdb {{
  driver = passwd-file
  args = username_format=%n {base}/users
}}
passdb {{
  driver = passwd-file
  args = username_format=%n {base}/users
}}
plugin {{
  quota = maildir:User quota
}}
"""


def needs_dovecot() -> None:
    """Skip the test unless a Dovecot of our own can be run."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    if shutil.which("dovecot") is None or not _LMTP.exists():
        pytest.skip("needs dovecot-lmtpd")
    if os.geteuid() != 0:
        pytest.skip("needs root, as Dovecot does")


class Dovecot:
    """Use it as a context manager; it has users `good` and, without any room, `full`."""

    def __init__(self) -> None:
        self.port = free_port()
        self._base = Path(tempfile.mkdtemp(prefix="dovecot."))
        self._base.chmod(0o755)
        self.socket = self._base / "lmtp"
        (self._base / "conf").write_text(_CONF.format(base=self._base, port=self.port))
        users = []
        owner = pwd.getpwnam("nobody")
        for name, rule in (("good", "*:bytes=10M"), ("full", "*:bytes=10")):
            home = self._base / name
            home.mkdir()
            os.chown(home, owner.pw_uid, owner.pw_gid)
            users.append(f"{name}:{{PLAIN}}x:{owner.pw_uid}:{owner.pw_gid}::{home}::userdb_quota_rule={rule}\n")
        (self._base / "users").write_text("".join(users))

    @property
    def log(self) -> str:
        """What it says."""
        path = self._base / "log"
        return path.read_text() if path.exists() else ""

    def mail(self, user: str) -> list[str]:
        """What a user has got."""
        return [path.read_text() for path in (self._base / user / "Maildir" / "new").glob("*")]

    def __enter__(self) -> "Dovecot":
        self._process = subprocess.Popen(["dovecot", "-F", "-c", str(self._base / "conf")])
        until(lambda: "starting up" in self.log, 20, "Dovecot runs")
        return self

    def __exit__(self, *unused: object) -> None:
        self._process.terminate()
        self._process.wait(20)
        shutil.rmtree(self._base, ignore_errors=True)
