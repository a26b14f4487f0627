"""The dialogs of this folder against the server's machine alone."""
import pytest

from tests.lib import transcript
from tests.lib.dialog import Client
from tests.lib.transcript import Dialog

DIALOGS = transcript.dialogs()


@pytest.mark.parametrize("dialog", DIALOGS, ids=lambda dialog: dialog.name)
def test_in_memory(dialog: Dialog) -> None:
    client = Client.of(dialog.settings)
    transcript.play(dialog, client.send, client.read_line)
    client.run()
    assert client.lines == [], f"{dialog.name}: answers that nobody expects"
    if dialog.messages is not None:
        assert b"".join(client.messages) == dialog.messages


def test_there_are_many_and_each_has_its_name() -> None:
    assert len(DIALOGS) >= 300
    assert len({dialog.name for dialog in DIALOGS}) == len(DIALOGS)
