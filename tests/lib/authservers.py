"""Real programs that know passwords: Dovecot's auth server, and saslauthd in front of an IMAP server of ours."""
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from pathlib import Path

from tests.lib.wait import until

_DOVECOT = """\
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
protocols =
ssl = no
auth_mechanisms = plain login cram-md5 digest-md5 scram-sha-1 scram-sha-256
auth_failure_delay = 0
passdb {{
  driver = passwd-file
  args = scheme=plain username_format=%u {folder}/users
}}
service auth {{
  unix_listener {folder}/auth {{
    mode = 0666
  }}
}}
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
"""  # without Dovecot's own penalty for clients that failed


class Peer:
    """A program in a folder of its own; `path` is its socket."""

    def __init__(self, path: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="meta1g-auth."))
        self.folder.chmod(0o755)
        self.path = self.folder / path

    def start(self, *command: object) -> None:
        self.path.unlink(missing_ok=True)
        self.process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, start_new_session=True)
        until(self._listens, what=f"{command[0]} listens")

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as sock:
            return sock.connect_ex(str(self.path)) == 0

    def stop(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait(timeout=20)

    def __exit__(self, *exc: object) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class Dovecot(Peer):
    """Dovecot's auth server, which knows joe's password."""

    def __init__(self) -> None:
        super().__init__("auth")
        (self.folder / "dovecot.conf").write_text(_DOVECOT.format(folder=self.folder))
        (self.folder / "users").write_text("joe:{PLAIN}secret\nann@example.org:{PLAIN}pw\n")
        (self.folder / "users").chmod(0o644)

    def __enter__(self) -> "Dovecot":
        self.start("dovecot", "-F", "-c", self.folder / "dovecot.conf")
        return self


class Saslauthd(Peer):
    """saslauthd, which asks an IMAP server that knows joe's password."""

    def __init__(self) -> None:
        super().__init__("mux")
        self._imap = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> "Saslauthd":
        port = self._imap.getsockname()[1]
        self.start("saslauthd", "-d", "-n", 1, "-m", self.folder, "-a", "rimap", "-O", f"127.0.0.1/{port}")
        until(lambda: oct(self.path.stat().st_mode).endswith("777"), what="saslauthd opens its socket to all")
        return self

    def __exit__(self, *exc: object) -> None:
        super().__exit__(*exc)
        self._imap.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._imap.accept()
            except OSError:
                return
            with sock:
                sock.settimeout(10)
                self._serve(sock)

    @staticmethod
    def _serve(sock: socket.socket) -> None:
        sock.sendall(b"* OK ready\r\n")
        octets = b""
        while b"LOGIN" not in octets or not octets.endswith(b"\r\n"):
            if not (more := sock.recv(4096)):
                return
            octets += more
            if b"CAPABILITY" in octets:
                tag = octets.split()[0]
                sock.sendall(b"* CAPABILITY IMAP4rev1\r\n" + tag + b" OK\r\n")
                octets = b""
        tag = octets.split()[0]
        is_right = b'"joe' in octets and b'"secret"' in octets
        sock.sendall(tag + (b" OK\r\n" if is_right else b" NO wrong\r\n"))
