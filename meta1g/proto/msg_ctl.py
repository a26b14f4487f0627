"""Messages on the control sockets: a command with JSON arguments, a JSON answer (M1 4.7.3)."""
from typing import Final, NamedTuple

from meta1g.proto.rcb import Vocabulary


class Command(NamedTuple):
    """Do this: `status`, `reload` ...; `arguments` is a JSON object."""

    name: str
    arguments: str


class Answer(NamedTuple):
    """What came of it: `text` is JSON; `is_error` means that its `error` says why not."""

    is_error: bool
    text: str


VOCABULARY: Final = Vocabulary({1: Command, 2: Answer})
