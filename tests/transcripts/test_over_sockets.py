"""The dialogs of this folder against real processes: one instance, an SMTP server for each group of settings."""
import socket
from collections.abc import Iterator

import pytest

from tests.lib import transcript
from tests.lib.instance import Instance, free_port, more_smtps
from tests.lib.transcript import Dialog

pytestmark = pytest.mark.system

DIALOGS = transcript.dialogs()
NO_DNS = "map passwd { type = passwd; }\n  DNS { timeout = 1; retries = 0; nameservers = { 127.0.0.1 }; port = 9; }"


@pytest.fixture(scope="module")
def ports() -> Iterator[dict[str, int]]:
    """The port for each group of settings. Every local part exists, but `nobody`."""
    instance = Instance("local.test")
    instance.edit("local_user_map { name = passwd; flags = { implicitly_match_detail } }", "")
    instance.edit("map passwd { type = passwd; }", NO_DNS)
    for name in ("aliases", "aliases.db"):
        (instance.base / "etc" / name).unlink()
    instance.add("access", "to:nobody@local.test error:550 5.1.1 User unknown\n")
    text = instance.conf.read_text()
    base = text[text.index("\nsmtps {"):]
    found = {"": instance.port}
    for settings in sorted({dialog.settings for dialog in DIALOGS} - {""}):
        found[settings] = free_port()
        text += more_smtps(base, f"group{len(found)}", len(found), found[settings], settings)
    instance.conf.write_text(text)
    with instance:
        yield found


@pytest.mark.parametrize("dialog", DIALOGS, ids=lambda dialog: dialog.name)
def test_over_a_socket(ports: dict[str, int], dialog: Dialog) -> None:
    with socket.create_connection(("127.0.0.1", ports[dialog.settings]), 10) as sock, sock.makefile("rb") as stream:

        def read_line() -> bytes | None:
            try:
                line = stream.readline()
            except ConnectionResetError:  # it has closed while we were sending
                return None
            return line.removesuffix(b"\r\n") if line else None

        transcript.play(dialog, sock.sendall, read_line)
        if dialog.steps[-1].mark != "S!":
            sock.shutdown(socket.SHUT_WR)
            assert read_line() is None, f"{dialog.name}: answers that nobody expects"
