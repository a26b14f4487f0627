"""Real milters in folders of their own: python3-milter's, rspamd, ClamAV, SpamAssassin, OpenDKIM."""
import os
import shutil
import signal
import subprocess
from pathlib import Path

from tests.lib.authservers import Peer
from tests.lib.dkimkeys import Keys
from tests.lib.wait import until

EICAR = r"X5O!P%@AP[4\PZX54(P^)7CC)7}$" + "EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
_GTUBE = "*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
GTUBE, GTUBE_MARK = "XJS" + _GTUBE, "YJS" + _GTUBE  # which rspamd rejects, or marks
_RSPAMD = """\
options {{
  pidfile = "{folder}/pid"; tempdir = "{folder}"; enable_test_patterns = true; filters = ""; disable_hyperscan = true;
  control_socket = "{folder}/control mode=0600"; url_tld = "{folder}/tlds"; dns {{ nameserver = ["127.0.0.1:9"]; }}
}}
logging {{ type = "file"; filename = "{folder}/log"; }}
actions {{ reject = 15; add_header = 6; }}
worker "rspamd_proxy" {{
  bind_socket = "{folder}/milter mode=0666"; milter = yes; count = 1;
  upstream "local" {{ default = yes; self_scan = yes; }}
}}
"""


class Milter(Peer):
    """A milter at a Unix socket; `section` declares it."""

    name = ""
    programs: tuple[str, ...] = ()

    def __init__(self) -> None:
        super().__init__("milter")
        self.folder.chmod(0o777)

    @property
    def section(self) -> str:
        return f'milter {self.name} {{ socket {{ type = unix; path = "{self.path}"; }} }}\n'

    def __enter__(self) -> "Milter":
        self.run()
        self.path.chmod(0o666)
        return self

    def run(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        """At once: libmilter looks every five seconds whether it shall end."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(timeout=20)

    @classmethod
    def is_there(cls) -> bool:
        return all(shutil.which(program) for program in cls.programs)


class Everything(Milter):
    """everyaction.py; what it was told is in `told`."""

    name = "everything"

    def run(self) -> None:
        self.start("/usr/bin/python3", Path(__file__).with_name("everyaction.py"), self.path, self.folder / "told")

    @classmethod
    def is_there(cls) -> bool:
        return os.path.exists("/usr/bin/python3") and subprocess.run(
            ["/usr/bin/python3", "-c", "import Milter"], capture_output=True, check=False).returncode == 0

    @property
    def told(self) -> str:
        path = self.folder / "told"
        return path.read_text() if path.exists() else ""


class Rspamd(Milter):
    name, programs = "rspamd", ("rspamd",)

    def run(self) -> None:
        (self.folder / "conf").write_text(_RSPAMD.format(folder=self.folder))
        (self.folder / "tlds").write_text("org\ntest\n")
        self.start("rspamd", "-f", "-i", "-c", self.folder / "conf")


class ClamAv(Milter):
    """clamav-milter, and a clamd that knows EICAR's signature only."""

    name, programs = "clamav", ("clamd", "clamav-milter")

    def run(self) -> None:
        folder, clamd = self.folder, self.folder / "clamd"
        (folder / "db").mkdir(exist_ok=True)
        (folder / "db" / "eicar.ndb").write_text(f"Eicar-Test:0:*:{EICAR.encode().hex()}\n")
        (folder / "clamd.conf").write_text(f"DatabaseDirectory {folder}/db\nLocalSocket {clamd}\nForeground yes\n")
        (folder / "milter.conf").write_text(
            f"MilterSocket unix:{self.path}\nClamdSocket unix:{clamd}\nOnInfected Reject\nRejectMsg found %v\n"
            "AddHeader Add\nForeground yes\n")
        self.scanner = subprocess.Popen(["clamd", "-c", folder / "clamd.conf"], stdout=subprocess.DEVNULL)
        until(clamd.exists, what="clamd is ready")
        self.start("clamav-milter", "-c", folder / "milter.conf")

    def stop(self) -> None:
        super().stop()
        self.scanner.terminate()
        self.scanner.wait(20)


class SpamAssassin(Milter):
    """spamass-milter, which asks spamd and refuses what is surely spam."""

    name, programs = "spamassassin", ("spamass-milter", "spamd", "spamc")

    def run(self) -> None:
        spamd = self.folder / "spamd"
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        self.scanner = subprocess.Popen(
            ["spamd", f"--socketpath={spamd}", "--socketmode=666", "-L", "-m", "1", *user, "-s", "stderr",
             "-x"], stderr=subprocess.DEVNULL)
        until(spamd.exists, what="spamd is ready")
        self.start("spamass-milter", "-p", self.path, "-m", "-r", "15", "--", "-U", spamd)

    def stop(self) -> None:
        super().stop()
        self.scanner.terminate()
        self.scanner.wait(20)


class OpenDkim(Milter):
    """Signs mail of example.org from 192.0.2.1 with the selector `od`, verifies other mail."""

    name, programs = "opendkim", ("opendkim",)

    def run(self) -> None:
        self.keys = Keys(self.folder, "od")
        (self.folder / "public").write_text(f"od._domainkey.example.org {self.keys.record('od')}\n")
        (self.folder / "internal").write_text("192.0.2.1\n")
        (self.folder / "conf").write_text(
            f"Mode sv\nSocket local:{self.path}\nDomain example.org\nSelector od\nKeyFile {self.keys.path('od')}\n"
            f"TestPublicKeys {self.folder}/public\nInternalHosts {self.folder}/internal\nAuthservID mail.test\n"
            "RequireSafeKeys false\nSignHeaders From,Subject\nUMask 0\nMinimumKeyBits 1024\n")
        self.start("opendkim", "-f", "-x", self.folder / "conf")


ALL: tuple[type[Milter], ...] = (Everything, Rspamd, ClamAv, SpamAssassin, OpenDkim)
