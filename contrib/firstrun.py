"""`make run`: an instance under ./run, a first message through it, and how to go on."""
import getpass
import os
import smtplib
import subprocess
import sys
import time
from email.message import EmailMessage
from pathlib import Path

from meta1g.conf.load import load_file

PORT = int(os.environ.get("PORT", "2525"))
BASE = Path("run")
CONF = BASE / "etc" / "meta1.conf"
CTL = [".venv/bin/meta1g-ctl", "-f", str(CONF)]
MAIL = [".venv/bin/meta1g", "mailq", "-f", str(CONF)]
HOST = "meta1g.localhost"
DEADLINE = 15.0


def main() -> int:
    if not CONF.exists():
        call([".venv/bin/meta1g-ctl", "init", str(BASE.resolve()), "--port", str(PORT), "--hostname", HOST])
    call([*CTL, "start"])
    user = getpass.getuser()
    to = f"{user}@{HOST}"
    port = read_port()
    before = messages(user)
    send(port, to)
    new = wait_for_message(user, before)
    print(f"A message to {to} went in by SMTP at 127.0.0.1:{port} and lies in\n  {new}\n")
    print("Queue (mailq):")
    call(MAIL)
    print(f"""
Send another:   swaks --server 127.0.0.1:{port} --to {to}
Look at it:     {' '.join(CTL)} status;  {' '.join(MAIL)}
Stop:           {' '.join(CTL)} stop
Configuration:  {CONF}, maps beside it, logs in {BASE}/log""")
    return 0


def call(command: list[str]) -> None:
    code = subprocess.run(command, check=False).returncode
    if code:
        sys.exit(f"failed with code {code}: {' '.join(command)}")


def read_port() -> int:
    return load_file(str(CONF)).section("smtps").mcp.listen_socket.port


def messages(user: str) -> set[Path]:
    try:
        return set((BASE / "maildir" / user / "new").iterdir())
    except OSError:
        return set()


def send(port: int, to: str) -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = to, to, "The first message"
    message.set_content("It works.\n")
    with smtplib.SMTP("127.0.0.1", port, timeout=30) as smtp:
        smtp.send_message(message)


def wait_for_message(user: str, before: set[Path]) -> Path:
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        new = messages(user) - before
        if new:
            return new.pop()
        time.sleep(0.02)
    sys.exit(f"the message did not arrive within {DEADLINE:.0f} s; see {BASE}/log")


if __name__ == "__main__":
    sys.exit(main())
