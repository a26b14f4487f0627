"""The mechanisms that there are, and what they are worth; pure."""
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from meta1g.proto.sasl import bearer, cram, digest, external, passwords, scram
from meta1g.proto.sasl.step import Dialog, Scene


class Virtues(NamedTuple):
    """Cyrus SASL's security flags (sasl.h, SASL_SEC_*): what a mechanism has, or what is demanded."""

    noplaintext: bool = False  # the password can't be read on the line
    noactive: bool = False  # nor got by who changes what is said
    nodictionary: bool = False  # nor guessed from what was said
    forward_secrecy: bool = False
    noanonymous: bool = False
    pass_credentials: bool = False
    mutual_auth: bool = False

    def has_all_of(self, demanded: "Virtues") -> bool:
        """Whether nothing is missing."""
        return all(has or not wants for has, wants in zip(self, demanded, strict=True))


class Mechanism(NamedTuple):
    """One mechanism; `begin` makes its dialog of the scene and the initial response, if there is one."""

    name: str
    virtues: Virtues
    begin: Callable[[Scene, bytes | None], Dialog]
    is_client_first: bool = True


_CLEAR: Final = Virtues(noanonymous=True, pass_credentials=True)
_SCRAM: Final = Virtues(noplaintext=True, noactive=True, noanonymous=True, mutual_auth=True)

MECHANISMS: Final = {mechanism.name: mechanism for mechanism in (
    # The best first: some clients take the first that they know.
    Mechanism("EXTERNAL", Virtues(noplaintext=True, nodictionary=True, noanonymous=True), external.external),
    Mechanism("SCRAM-SHA-256", _SCRAM, partial(scram.scram, name="sha256")),
    Mechanism("SCRAM-SHA-1", _SCRAM, partial(scram.scram, name="sha1")),
    Mechanism("DIGEST-MD5", Virtues(noplaintext=True, noanonymous=True, mutual_auth=True),
              lambda scene, _: digest.digest_md5(scene), is_client_first=False),
    Mechanism("CRAM-MD5", Virtues(noplaintext=True, noanonymous=True), lambda scene, _: cram.cram_md5(scene),
              is_client_first=False),
    Mechanism("OAUTHBEARER", _CLEAR, lambda _, initial: bearer.oauthbearer(initial)),
    Mechanism("XOAUTH2", _CLEAR, lambda _, initial: bearer.xoauth2(initial)),
    Mechanism("PLAIN", _CLEAR, lambda _, initial: passwords.plain(initial)),
    Mechanism("LOGIN", _CLEAR, lambda _, initial: passwords.login(initial)),
)}
