"""A dialog by one of this server's own mechanisms: its questions go to who knows passwords and tokens."""
from typing import Any

from meta1g.proto.sasl.step import (
    AuthFailed,
    Challenge,
    CheckPassword,
    CheckToken,
    Dialog,
    GetPassword,
    GetScram,
    Success,
)
from meta1g.smtps.keeper import Keeper, KeeperAway, Owners


class OwnExchange:
    """Runs a mechanism's dialog."""

    def __init__(self, dialog: Dialog, keeper: Keeper | None, owners: Owners | None) -> None:
        self._dialog = dialog
        self._keeper, self._owners = keeper, owners

    def begin(self) -> bytes | Success:
        """The first challenge, or the end. AuthFailed, KeeperAway."""
        return self._run(None)

    def respond(self, octets: bytes) -> bytes | Success:
        """The next one. AuthFailed, KeeperAway."""
        return self._run(octets)

    def end(self) -> None:
        """It is not wanted any more."""
        self._dialog.close()

    def _run(self, answer: Any) -> bytes | Success:
        try:
            while True:
                step = self._dialog.send(answer)
                if isinstance(step, Challenge):
                    return step.octets
                answer = self._answer(step)
        except StopIteration as end:
            found = end.value
            assert isinstance(found, Success)
            return found

    def _answer(self, step: CheckPassword | GetPassword | GetScram | CheckToken) -> Any:
        keeper = self._keeper
        if isinstance(step, CheckToken):
            if self._owners is None:
                raise AuthFailed("no tokens are taken")
            return self._owners.owner(step.token)
        if keeper is None:
            raise KeeperAway("there are no passwords")
        match step:
            case CheckPassword():
                return keeper.check(step.user, step.password)
            case GetPassword():
                return keeper.password(step.user)
            case GetScram():
                return keeper.scram(step.user, step.hash)
