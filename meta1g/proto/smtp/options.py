"""How one SMTP server behaves."""
from typing import NamedTuple

from meta1g.proto.smtp.command import Syntax
from meta1g.proto.smtp.params import Offers


class ServerOptions(NamedTuple):
    """What the server offers and allows, to all sessions that nothing else is said about."""

    hostname: str
    size_max: int
    offers: Offers = Offers()
    require_helo: bool = False
    soft_bounce: bool = False
    normalises: bool = False  # bare line ends in content; otherwise they are refused
    answers_vrfy: bool = True  # with 252 or by asking; otherwise 502
    syntax: Syntax = Syntax()
    asks_unknown: bool = False  # what unknown commands are told
