"""Nothing that a client says can forge a line or a field of a log (M1 10.4)."""
import re
import socket
from collections.abc import Iterator
from typing import Final

import pytest

from meta1g.mta import logfmt
from tests.lib.instance import Instance
from tests.lib.wait import until

pytestmark = pytest.mark.system

FORGED: Final = b", stat=0, forged=1"
TEXTS = {
    "CR": b"a\rb", "LF": b"a\nforged=1", "CR LF": b"a\r\nforged=1", "NUL": b"a\0b", "percent": b"a%0Ab%",
    "comma": b"a" + FORGED, "escape": b"a\x1b[2J\x1b]0;x\x07", "DEL": b"a\x7f", "8 bit": b"a\x9b\xe4\xff",
    "UTF-8": "a\xe4\u4f60\U0001f4e7".encode(), "C1": b"a\xc2\x9b\xc2\x85", "separator": b"a\xe2\x80\xa8b",
    "equals": b"forged=1", "quotes": b"a\"'\\", "brackets": b"a<>[]b", "format": b"%s%d{0}{x}$(id)`id`",
}
STAMP = r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3} "
VALUE = r"(?:[ -$&-+\--~]|%[0-9A-F]{2})*"  # printable ASCII without commas, and whole %XX
LINE = re.compile(rf"{STAMP}\w+={VALUE}(?:, \w+={VALUE})*")


@pytest.fixture(scope="module")
def server() -> Iterator[Instance]:
    made = Instance("local.test")
    made.edit("flags = { 8bitmime", "log_level = 14; XCLIENT_peers = { 127.0.0.1 }; "
              "PROXY_protocol_peers = { 127.0.0.20 };\n  check eom { action = permfail; "
              "condition == 1 / (hops - hops) == 0 || mail =~ rcpt; }\n  flags = { 8bitmime")
    for section in ("qmgr", "smar", "smtpc", "lda"):
        made.edit(f"{section} {{", f"{section} {{ log_level = 14;")
    made.edit("map passwd { type = passwd; }", "map passwd { type = passwd; }\n  DNS { timeout = 1; retries = 0; "
              "nameservers = { 127.0.0.1 }; port = 9; }")
    with made:
        yield made


def xtext(octets: bytes) -> bytes:
    return b"".join(b"+%02X" % octet for octet in octets)


def say(server: Instance, *parts: bytes, client: str = "127.0.0.1") -> bytes:
    """Send the parts, each when the one before is answered, the first one when greeted; all answers."""
    with socket.create_connection(("127.0.0.1", server.port), 20, source_address=(client, 0)) as sock:
        answers = sock.recv(65536) if client == "127.0.0.1" else b""  # a proxy comes before the greeting
        try:
            for part in parts:
                sock.sendall(part)
                answers += sock.recv(65536)
            sock.shutdown(socket.SHUT_WR)
            while octets := sock.recv(65536):
                answers += octets
        except OSError:  # it has seen enough
            pass
    return answers


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_no_field_is_forged(server: Instance, text: bytes) -> None:
    quoted = b'"' + text.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
    mail, rcpt = b"MAIL FROM:<" + quoted + b"@x.test>", b"RCPT TO:<" + quoted + b"@local.test>"
    content = b"Message-ID: <" + text.replace(b">", b"") + b"@x>\r\nReceived: " + text + b"\r\n\r\nx\r\n"
    chunk = b"BDAT %d LAST\r\n%b" % (len(content), content)
    for word in (b"EHLO " + text, b"EHLO x" + FORGED.replace(b" ", b"") + text, b"HELO local.test\r\n" + mail, mail):
        say(server, word + b"\r\n")
    coded = xtext(text)
    say(server, b"XCLIENT NAME=%b HELO=%b ADDR=192.0.2.1\r\n" % (coded, coded), b"EHLO local.test\r\n")
    say(server, b"XCLIENT NAME=" + text + b"\r\n")
    say(server, b"XFORWARD NAME=%b IDENT=%b\r\n" % (coded, coded))
    for extra in (b"", b" SMTPUTF8"):
        say(server, b"EHLO x\r\n", mail + extra + b"\r\n", rcpt + b"\r\n", b"RCPT TO:<root@local.test>\r\n", chunk)
    say(server, b"EHLO x\r\n", b"MAIL FROM:<>\r\n", b"RCPT TO:<root@local.test>\r\n", b"DATA\r\n",
        content.replace(b"\0", b"") + b"\r\n.\r\n")
    for header in (b"PROXY " + text + b"\r\n", b"PROXY TCP6 ::1%" + text + b" ::1 1 2\r\n", text * 30):
        say(server, header, client="127.0.0.20")
    check_logs(server)


def check_logs(server: Instance) -> None:
    """All lines so far, of all processes."""
    say(server, b"EHLO x\r\n", b"NOOP last\r\n")
    for path in (server.base / "log").glob("*.log"):
        for line in path.read_bytes().decode("latin-1").split("\n")[:-1]:
            assert LINE.fullmatch(line), f"{path.name}: {line!r}"
            assert "forged" not in logfmt.parse(line[24:]), f"{path.name}: {line!r}"


def test_they_were_logged_at_all(server: Instance) -> None:
    """The tests above look at something: each text that may be in an address, an id or a name is in a line."""
    def has_all() -> bool:
        log = server.log("smtps")
        return all(words in log for words in (
            'mail=<"a%2C stat=0%2C forged=1"@x.test>', "msgid=<a%2C stat=0%2C forged=1@x>", "mail=<a%250Ab%25@x.test>",
            "NAME=a%2C stat=0%2C forged=1", "%C3%A4%E4%BD%A0", "status=Identity_Theft", "status=division by zero"))
    until(has_all, 10)
    check_logs(server)
